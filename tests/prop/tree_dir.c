#include "tests/prop/tree_dir.h"

#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/io.h"
#include "ptc/safetensors.h"
#include "store/copy.h"
#include "store/source.h"
#include "tests/prop/file_bytes.h"

#define MAX_FILE ((size_t)64 << 20)

static char *join(const char *dir, const char *name)
{
    char *path = base_path("%s/%s", dir, name);

    assert_non_null(path);
    return path;
}

static void make_dir(const char *path)
{
    assert_int_equal(mkdir(path, 0777), 0);
}

char *tree_dir_temp(void)
{
    static const char *const fast = "/dev/shm"; /* memory: files cost little */
    const char *parent = getenv("TMPDIR");
    char *root;

    if (parent == NULL || parent[0] == '\0') {
        parent = access(fast, W_OK | X_OK) == 0 ? fast : "/tmp";
    }
    root = base_path("%s/retile-prop-XXXXXX", parent);
    assert_non_null(root);
    assert_non_null(mkdtemp(root));
    return root;
}

void tree_dir_put(const char *dir, const char *name, struct base_str bytes)
{
    BASE_AUTO_MEM char *path = join(dir, name);
    struct base_err err = {0};

    assert_ok(base_file_write(AT_FDCWD, path, bytes, &err), &err);
}

static void put_layout(const char *dir, const struct ptc_layout *layout)
{
    struct base_err err = {0};
    BASE_AUTO_BUF text;

    base_buf_init(&text, MAX_FILE);
    assert_ok(ptc_spec_format(ptc_layout_spec(layout), &text, &err), &err);
    tree_dir_put(dir, "layout.yaml", base_buf_str(&text));
}

void tree_dir_write(const char *dir, const struct ptc_layout *layout)
{
    struct file_set set;
    struct base_err err = {0};
    BASE_AUTO_MEM char *ranks = join(dir, "ranks");

    make_dir(dir);
    make_dir(ranks);
    put_layout(dir, layout);
    tree_dir_put(dir, "note.txt", BASE_STR("a job's object"));
    for (ptc_rank rank = 0; rank < ptc_layout_n_ranks(layout); rank++) {
        char name[16], text[24];
        BASE_AUTO_MEM char *path = NULL;

        (void)snprintf(name, sizeof(name), "%03u", rank);
        (void)snprintf(text, sizeof(text), "rank %u", rank);
        path = join(ranks, name);
        make_dir(path);
        tree_dir_put(path, "rng.txt", base_str_of(text));
    }
    assert_ok(file_set_ranks(layout, &set, &err), &err);
    assert_ok(file_set_fill(&set, &err), &err);
    for (uint32_t i = 0; i < set.n; i++) {
        const struct ptc_file *file = set.files[i];
        struct base_str group = ptc_file_n_entries(file) == 0
                                    ? BASE_STR("model")
                                    : ptc_file_entry(file, 0)->shown.group;
        BASE_AUTO_MEM char *name = base_path(
            "%03u/%.*s.safetensors", ptc_file_rank(file), BASE_STR_FMT(group));

        assert_non_null(name);
        tree_dir_put(ranks, name,
                     (struct base_str){(const char *)set.bytes[i],
                                       ptc_file_n_bytes(file)});
    }
    file_set_done(&set);
}

/* --- thinning ----------------------------------------------------------- */

/* `"step":"S"` into the metadata of a file's header. */
static void add_step(struct base_buf *bytes, const char *step)
{
    static const char at[] = "\"__metadata__\":{";
    BASE_AUTO_BUF more;
    const char *found;
    uint64_t n;

    base_buf_init(&more, MAX_FILE);
    found = memmem(bytes->ptr, bytes->len, at, sizeof(at) - 1);
    assert_non_null(found);
    found += sizeof(at) - 1;
    (void)base_buf_add(&more, bytes->ptr, (size_t)(found - bytes->ptr));
    (void)base_buf_addf(&more, "\"step\":\"%s\",", step);
    (void)base_buf_add(&more, found, bytes->len - (size_t)(found - bytes->ptr));
    assert_int_equal(more.failed, BASE_OK);
    n = more.len - 8;
    for (unsigned i = 0; i < 8; i++) {
        more.ptr[i] = (char)(n >> (8 * i) & 0xff);
    }
    bytes->len = 0;
    assert_int_equal(base_buf_add(bytes, more.ptr, more.len), BASE_OK);
}

/* The entries of @from that @keep says, as those of a file to be; given. */
static struct ptc_st_new *kept(const struct ptc_st_header *from,
                               bool (*keep)(void *ctx, struct base_str name),
                               void *ctx,
                               uint32_t *ret_n)
{
    struct ptc_st_new *entries = calloc(from->n_entries + 1, sizeof(*entries));

    assert_non_null(entries);
    *ret_n = 0;
    for (uint32_t i = 0; i < from->n_entries; i++) {
        const struct ptc_st_entry *e = &from->entries[i];

        if (keep(ctx, e->name)) {
            entries[(*ret_n)++] =
                (struct ptc_st_new){.name = e->name,
                                    .dtype = e->dtype,
                                    .n_dims = e->n_dims,
                                    .shape = e->shape,
                                    .n_bytes = e->end - e->begin};
        }
    }
    ptc_st_order(entries, *ret_n);
    return entries;
}

uint32_t tree_dir_thin(const char *path,
                       bool (*keep)(void *ctx, struct base_str name),
                       void *ctx,
                       const char *step)
{
    BASE_AUTO_BUF from;
    BASE_AUTO_BUF to;
    BASE_AUTO(ptc_st_header) header = NULL;
    BASE_AUTO_MEM struct ptc_st_new *entries = NULL;
    struct base_err err = {0};
    uint64_t n_json = 0;
    uint32_t n = 0;

    base_buf_init(&from, MAX_FILE);
    base_buf_init(&to, MAX_FILE);
    assert_ok(base_file_read(AT_FDCWD, path, &from, &err), &err);
    assert_ok(ptc_st_header_length((const uint8_t *)from.ptr, from.len, path,
                                   &n_json, &err),
              &err);
    assert_ok(ptc_st_header_parse((struct base_str){from.ptr + 8, n_json},
                                  from.len, path, &header, &err),
              &err);
    entries = kept(header, keep, ctx, &n);
    assert_ok(ptc_st_header_write(entries, n, (struct base_str){0}, &to, &err),
              &err);
    if (step != NULL) {
        add_step(&to, step);
    }
    for (uint32_t k = 0; k < n; k++) {
        for (uint32_t i = 0; i < header->n_entries; i++) {
            const struct ptc_st_entry *e = &header->entries[i];

            if (base_str_eq(e->name, entries[k].name)) {
                (void)base_buf_add(&to,
                                   from.ptr + header->data_offset + e->begin,
                                   e->end - e->begin);
            }
        }
    }
    assert_int_equal(to.failed, BASE_OK);
    assert_int_equal(unlink(path), 0);
    assert_ok(base_file_write(AT_FDCWD, path, base_buf_str(&to), &err), &err);
    return n;
}

/* --- converting --------------------------------------------------------- */

struct output {
    const struct store_tree *tree;
    char *const *paths; /* per node */
    struct ptc_file **shown;
    struct store_copy_file *files;
    uint32_t n;
};

static void write_object(const char *path, const struct store_blob *blob)
{
    BASE_AUTO_MEM char *bytes = malloc(blob->n_bytes + 1);
    struct base_err err = {0};

    assert_non_null(bytes);
    assert_ok(base_io_pread(blob->fd, bytes, blob->n_bytes, 0, "object", &err),
              &err);
    assert_ok(base_file_write(AT_FDCWD, path,
                              (struct base_str){bytes, blob->n_bytes}, &err),
              &err);
}

static void write_file(struct output *out, uint32_t idx, const char *path)
{
    struct store_copy_file *to = &out->files[out->n];
    struct ptc_file **shown = &out->shown[out->n];
    struct base_err err = {0};
    struct base_str header;

    assert_ok(store_tree_file(out->tree, idx, shown, &err), &err);
    to->file = *shown;
    to->label = path;
    to->fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    assert_true(to->fd >= 0);
    out->n++;
    header = ptc_file_header(*shown);
    assert_int_equal(ftruncate(to->fd, (off_t)ptc_file_n_bytes(*shown)), 0);
    assert_ok(base_io_pwrite(to->fd, header.ptr, header.len, 0, path, &err),
              &err);
}

static void write_nodes(struct output *out, const char *to, char **paths)
{
    struct base_err err = {0};

    for (uint32_t i = 0; i < store_tree_n_nodes(out->tree); i++) {
        const struct store_node *node = store_tree_node(out->tree, i);

        paths[i] =
            i == 0 ? strdup(to) : join(paths[node->parent], node->name.ptr);
        switch (node->kind) {
        case STORE_NODE_DIR:
            make_dir(paths[i]);
            break;
        case STORE_NODE_TEXT:
            assert_ok(base_file_write(AT_FDCWD, paths[i], node->text, &err),
                      &err);
            break;
        case STORE_NODE_OBJECT:
            write_object(paths[i], node->object);
            break;
        case STORE_NODE_FILE:
            write_file(out, i, paths[i]);
            break;
        }
    }
}

static enum base_code write_tree(const struct store_source *source,
                                 const struct store_target *target,
                                 const struct store_tree *tree,
                                 const char *to,
                                 const struct store_copy_options *options,
                                 struct base_err *err)
{
    uint32_t n = store_tree_n_nodes(tree);
    char **paths = calloc(n, sizeof(*paths));
    struct output out = {.tree = tree};
    enum base_code code;

    out.shown = calloc(n, sizeof(*out.shown));
    out.files = calloc(n, sizeof(*out.files));
    assert_true(paths != NULL && out.shown != NULL && out.files != NULL);
    write_nodes(&out, to, paths);
    code = store_copy(source, store_target_pieces(target), out.files, out.n,
                      options, err);
    for (uint32_t i = 0; i < out.n; i++) {
        (void)close(out.files[i].fd); /* compared by name later */
        ptc_file_free(out.shown[i]);
    }
    base_names_free(paths, n);
    free(out.shown);
    free(out.files);
    return code;
}

enum base_code tree_dir_convert(const char *from,
                                const char *to,
                                const char *yaml,
                                enum store_tree_kind kind,
                                const struct store_copy_options *options,
                                struct base_err *err)
{
    BASE_AUTO(store_source) source = NULL;
    BASE_AUTO(store_target) target = NULL;
    BASE_AUTO(store_tree) tree = NULL;
    BASE_AUTO(ptc_spec) spec = NULL;

    BASE_TRY(store_source_open_dir(from, NULL, &source, err));
    if (yaml == NULL) {
        BASE_TRY(ptc_spec_whole(&spec, err));
    } else {
        BASE_TRY(ptc_spec_parse(base_str_of(yaml), "spec", &spec, err));
    }
    BASE_TRY(store_target_open(source, &spec, &target, err));
    BASE_TRY(store_tree_create(target, kind, &tree, err));
    return write_tree(source, target, tree, to, options, err);
}

/* --- comparing ---------------------------------------------------------- */

static void same_file(const char *a, const char *b)
{
    struct base_err err = {0};
    BASE_AUTO_BUF x;
    BASE_AUTO_BUF y;

    base_buf_init(&x, MAX_FILE);
    base_buf_init(&y, MAX_FILE);
    assert_ok(base_file_read(AT_FDCWD, a, &x, &err), &err);
    assert_ok(base_file_read(AT_FDCWD, b, &y, &err), &err);
    if (x.len != y.len || memcmp(x.ptr, y.ptr, x.len) != 0) {
        fail_msg("%s (%zu bytes) and %s (%zu bytes) differ", a, x.len, b,
                 y.len);
    }
}

static bool is_left_out(const char *name, const char *except)
{
    return except != NULL &&
           base_str_ends(base_str_of(name), base_str_of(except));
}

void tree_dir_same(const char *a, const char *b, const char *except)
{
    char **a_names, **b_names;
    size_t n_a, n_b;
    struct base_err err = {0};
    struct stat st;

    assert_ok(base_dir_list(AT_FDCWD, a, 10000, &a_names, &n_a, &err), &err);
    assert_ok(base_dir_list(AT_FDCWD, b, 10000, &b_names, &n_b, &err), &err);
    if (n_a != n_b) {
        fail_msg("%s has %zu names, %s has %zu", a, n_a, b, n_b);
    }
    for (size_t i = 0; i < n_a; i++) {
        BASE_AUTO_MEM char *x = join(a, a_names[i]);
        BASE_AUTO_MEM char *y = join(b, b_names[i]);

        assert_string_equal(a_names[i], b_names[i]);
        assert_int_equal(stat(x, &st), 0);
        if (S_ISDIR(st.st_mode)) {
            tree_dir_same(x, y, except);
        } else if (!is_left_out(a_names[i], except)) {
            same_file(x, y);
        }
    }
    base_names_free(a_names, n_a);
    base_names_free(b_names, n_b);
}
