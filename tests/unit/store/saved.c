#define TMP_DIR_IN_MEMORY /* else hundreds of syncs wait for a disk */
#include "tests/unit/store/saved.h"

#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "base/hash.h"
#include "store/change.h"
#include "store/copy.h"
#include "tests/prop/tree_dir.h"

enum { MAX_FILE = 1 << 24, N_PATHS = 8, PATH_BYTES = 512 };

/* --- the state ---------------------------------------------------------- */

static struct ptc_table *make_table(void)
{
    static const struct {
        const char *name, *group;
        uint32_t n_dims;
        uint64_t shape[2];
    } tensors[] = {
        {"l0.a", "model", 2, {6, 4}},
        {"l0.b", "model", 2, {3, 8}},
        {"l1.a", "model", 2, {6, 4}},
        {"l1.b", "model", 2, {3, 8}},
        {"n", "model", 1, {5}},
        {"e", "model", 2, {7, 3}},
        {"optim.m.l0.a", "optim", 2, {6, 4}},
        {"optim.m.l1.a", "optim", 2, {6, 4}},
        {"optim.v.l0.b", "optim", 2, {3, 8}},
        {"optim.v.l1.b", "optim", 2, {3, 8}},
    };
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    struct ptc_table *table = NULL;
    struct base_err err = {0};

    assert_non_null(builder);
    for (size_t i = 0; i < N_ITEMS(tensors); i++) {
        assert_ok(ptc_table_add(builder, base_str_of(tensors[i].name),
                                base_str_of(tensors[i].group), PTC_F32,
                                tensors[i].n_dims, tensors[i].shape, &err),
                  &err);
    }
    assert_ok(ptc_table_add_tie(builder, BASE_STR("t"), BASE_STR("e"), &err),
              &err);
    assert_ok(ptc_table_finish(builder, &table, &err), &err);
    return table;
}

int saved_make(void **state)
{
    static struct saved saved;
    BASE_AUTO(ptc_spec) spec = NULL;
    struct base_err err = {0};
    void *dir = NULL;

    assert_int_equal(tmp_dir_make(&dir), 0);
    saved = (struct saved){.dir = dir};
    base_buf_init(&saved.told, MAX_FILE);
    saved.table = make_table();
    assert_ok(ptc_spec_parse(BASE_STR(SAVED_3D), "spec", &spec, &err), &err);
    assert_ok(ptc_layout_create(&spec, saved.table, &saved.layout, &err), &err);
    assert_ok(store_root_init(saved_at(&saved, "store"), 0, &err), &err);
    assert_ok(store_root_open(saved_at(&saved, "store"), &saved.root, &err),
              &err);
    assert_ok(store_staging_open(saved.root, "j", &saved.staging, &err), &err);
    *state = &saved;
    return 0;
}

int saved_remove(void **state)
{
    struct saved *saved = *state;
    void *dir = saved->dir;

    store_staging_free(saved->staging);
    store_root_free(saved->root);
    ptc_layout_free(saved->layout);
    ptc_table_free(saved->table);
    base_buf_done(&saved->told);
    return tmp_dir_remove(&dir);
}

static const char *next_path(const char *head, const char *fmt, va_list args)
    __attribute__((format(printf, 2, 0)));

static const char *next_path(const char *head, const char *fmt, va_list args)
{
    static char paths[N_PATHS][PATH_BYTES];
    static unsigned next;
    char *path = paths[next++ % N_PATHS];
    int n = snprintf(path, PATH_BYTES, "%s/", head);

    assert_true(n > 0 && n < PATH_BYTES);
    n += vsnprintf(path + n, (size_t)(PATH_BYTES - n), fmt, args);
    assert_true(n < PATH_BYTES);
    return path;
}

const char *saved_at(const struct saved *saved, const char *fmt, ...)
{
    const char *path;
    va_list args;

    va_start(args, fmt);
    path = next_path(saved->dir->path, fmt, args);
    va_end(args);
    return path;
}

const char *
saved_in(const struct saved *saved, uint64_t step, const char *fmt, ...)
{
    char head[PATH_BYTES];
    const char *path;
    va_list args;

    (void)snprintf(head, sizeof(head), "%s/%" PRIu64,
                   store_staging_path(saved->staging), step);
    va_start(args, fmt);
    path = next_path(head, fmt, args);
    va_end(args);
    return path;
}

/* --- files -------------------------------------------------------------- */

void saved_write(const struct saved *saved, uint64_t step)
{
    BASE_AUTO_MEM char *path =
        base_path("%s/%" PRIu64, store_staging_path(saved->staging), step);

    assert_non_null(path);
    tree_dir_write(path, saved->layout);
}

void saved_write_whole(const struct saved *saved)
{
    tree_dir_write(saved_at(saved, "whole"), saved->layout);
}

static void read_all(const char *path, struct base_buf *bytes)
{
    struct base_err err = {0};

    base_buf_init(bytes, MAX_FILE);
    assert_ok(base_file_read(AT_FDCWD, path, bytes, &err), &err);
}

void saved_put(const char *path, const char *text)
{
    struct base_err err = {0};

    (void)unlink(path); /* perhaps it is there */
    assert_ok(base_file_write(AT_FDCWD, path, base_str_of(text), &err), &err);
}

void saved_unlink(const char *path)
{
    assert_int_equal(unlink(path), 0);
}

void saved_flip(const char *path, uint64_t at)
{
    BASE_AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    char byte = 0;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pread(fd, &byte, 1, st.st_size - 1 - (off_t)at), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, st.st_size - 1 - (off_t)at), 1);
}

/* --- committing --------------------------------------------------------- */

static void on_tell(void *ctx, bool is_refusal, const char *text)
{
    struct saved *saved = ctx;

    saved->n_refusals += is_refusal;
    (void)base_buf_addf(&saved->told, "%s %s\n", is_refusal ? "!" : "-", text);
    if (saved->hook != NULL) {
        saved->hook();
    }
}

enum base_code saved_commit(struct saved *saved,
                            uint64_t step,
                            uint64_t parent,
                            enum store_replicas replicas,
                            uint64_t *ret_number,
                            struct base_err *err)
{
    char name[24];
    struct store_save save = {.name = name,
                              .step = step,
                              .parent = parent,
                              .layout = saved->spec,
                              .replicas = replicas,
                              .attempt = saved->attempt,
                              .tell = on_tell,
                              .ctx = saved};

    (void)snprintf(name, sizeof(name), "%" PRIu64, step);
    saved->told.len = 0;
    saved->n_refusals = 0;
    return store_save_commit(saved->staging, &save, ret_number, err);
}

uint64_t saved_must_commit(struct saved *saved, uint64_t step, uint64_t parent)
{
    struct base_err err = {0};
    uint64_t number = 0;

    if (saved_commit(saved, step, parent, STORE_REPLICAS_WARN, &number, &err) !=
        BASE_OK) {
        fail_msg("%s\n%.*s", err.text, (int)saved->told.len, saved->told.ptr);
    }
    assert_int_equal(saved->n_refusals, 0);
    return number;
}

enum base_code saved_finish(struct saved *saved,
                            uint64_t step,
                            enum store_replicas replicas,
                            uint64_t number,
                            struct base_err *err)
{
    char name[24];
    struct store_save save = {.name = name,
                              .step = step,
                              .replicas = replicas,
                              .tell = on_tell,
                              .ctx = saved};
    BASE_AUTO(store_root) root = NULL;

    (void)snprintf(name, sizeof(name), "%" PRIu64, step);
    saved->told.len = 0;
    saved->n_refusals = 0;
    assert_ok(store_root_open(store_root_path(saved->root), &root, err), err);
    return store_save_finish(root, store_staging_path(saved->staging), "j",
                             &save, number, NULL, err);
}

bool saved_was_told(const struct saved *saved, const char *words)
{
    return saved->told.len > 0 && memmem(saved->told.ptr, saved->told.len,
                                         words, strlen(words)) != NULL;
}

void saved_must_refuse(struct saved *saved,
                       uint64_t step,
                       uint64_t parent,
                       const char *words)
{
    BASE_AUTO_MEM char *before = saved_picture(saved_at(saved, "store"));
    BASE_AUTO_MEM char *after = NULL;
    struct base_err err = {0};
    uint64_t number = 77;
    enum base_code code =
        saved_commit(saved, step, parent, STORE_REPLICAS_REFUSE, &number, &err);

    if ((code != BASE_MISMATCH && code != BASE_BAD_INPUT) ||
        saved->n_refusals == 0 ||
        (words != NULL && !saved_was_told(saved, words))) {
        fail_msg("code %d: %s, told \"%.*s\", not \"%s\"", code, err.text,
                 (int)saved->told.len, saved->told.ptr, words);
    }
    assert_int_equal(number, 77);
    after = saved_picture(saved_at(saved, "store"));
    assert_string_equal(after, before);
}

/* --- what came of it ---------------------------------------------------- */

void saved_must_equal(const struct saved *saved, uint64_t number)
{
    const struct store_copy_options options = {0};
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(store_source) a = NULL;
    BASE_AUTO(store_source) b = NULL;
    BASE_AUTO_MEM uint32_t *map = NULL;
    const struct ptc_table *in_a, *in_b;
    struct base_err err = {0};

    assert_ok(store_version_open(saved->root, "j", number, &version, &err),
              &err);
    assert_ok(store_source_open_version(saved->root, &version, &a, &err), &err);
    assert_ok(store_source_open_dir(saved_at(saved, "whole"), NULL, &b, &err),
              &err);
    in_a = store_source_table(a);
    in_b = store_source_table(b);
    map = calloc(ptc_table_n_tensors(in_b), sizeof(*map));
    assert_non_null(map);
    for (uint32_t i = 0; i < ptc_table_n_tensors(in_b); i++) {
        map[i] = ptc_table_find(in_a, ptc_table_tensor(in_b, i)->name);
        assert_true(map[i] != PTC_NONE);
    }
    assert_ok(store_compare(b, store_source_pieces(b), a,
                            store_source_pieces(a), map, &options, &err),
              &err);
}

char *saved_object(const struct saved *saved,
                   uint64_t number,
                   const char *name,
                   uint32_t rank)
{
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(store_source) source = NULL;
    const struct store_blob *blob = NULL;
    struct base_err err = {0};
    char *text;

    assert_ok(store_version_open(saved->root, "j", number, &version, &err),
              &err);
    assert_ok(store_source_open_version(saved->root, &version, &source, &err),
              &err);
    assert_ok(store_source_object(source, base_str_of(name), rank, &blob, &err),
              &err);
    if (blob == NULL) {
        return NULL;
    }
    text = calloc(1, (size_t)blob->n_bytes + 1);
    assert_non_null(text);
    assert_int_equal(pread(blob->fd, text, (size_t)blob->n_bytes, 0),
                     (ssize_t)blob->n_bytes);
    return text;
}

static void on_finding(void *ctx, const char *text)
{
    (void)ctx;
    fail_msg("fsck: %s", text);
}

void saved_must_be_sound(const struct saved *saved)
{
    struct base_err err = {0};
    uint64_t n = 0;

    assert_ok(
        store_check(saved->root, true, 2, NULL, on_finding, NULL, &n, &err),
        &err);
    assert_int_equal(n, 0);
}

static struct base_buf *picture; /* nftw gives no context */
static size_t picture_skip;

static int
on_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    char digest[BASE_DIGEST_TEXT_BYTES] = "";

    (void)ftw;
    if (kind == FTW_D && strstr(path, "/blobs/") != NULL) {
        return 0; /* a folder of blobs may stay */
    }
    if (S_ISREG(st->st_mode)) {
        BASE_AUTO_BUF bytes;

        read_all(path, &bytes);
        (void)base_digest_format(base_digest_of(bytes.ptr, bytes.len), digest);
    }
    (void)base_buf_addf(picture, "%s %o %s %u\n", path + picture_skip,
                        (unsigned)st->st_mode, digest,
                        S_ISREG(st->st_mode) ? (unsigned)st->st_nlink : 0);
    return 0;
}

static int line_cmp(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

char *saved_picture(const char *path)
{
    BASE_AUTO_BUF text;
    BASE_AUTO_BUF sorted;
    const char *lines[4096];
    size_t n = 0;
    char *rest;

    base_buf_init(&text, MAX_FILE);
    base_buf_init(&sorted, MAX_FILE);
    picture = &text;
    picture_skip = strlen(path);
    assert_int_equal(nftw(path, on_entry, 16, FTW_PHYS), 0);
    for (char *line = strtok_r(text.ptr, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "/lock ", 6) != 0) { /* says who holds it */
            assert_true(n < N_ITEMS(lines));
            lines[n++] = line;
        }
    }
    qsort(lines, n, sizeof(lines[0]), line_cmp);
    for (size_t i = 0; i < n; i++) {
        (void)base_buf_addf(&sorted, "%s\n", lines[i]);
    }
    return strdup(sorted.len > 0 ? sorted.ptr : "");
}

uint64_t saved_n_versions(const struct saved *saved)
{
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    size_t n = 0;

    return store_root_versions(saved->root, "j", &numbers, &n, NULL) == BASE_OK
               ? n
               : 0;
}

/* --- faults ------------------------------------------------------------- */

void saved_arm(const char *fmt, ...)
{
    char text[80];
    struct base_err err = {0};
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    assert_int_equal(setenv("RETILE_FAULT", text, 1), 0);
    assert_ok(base_fault_init(&err), &err);
}

void saved_disarm(void)
{
    struct base_err err = {0};

    (void)unsetenv("RETILE_FAULT");
    assert_ok(base_fault_init(&err), &err);
}

bool saved_is_killed(struct saved *saved,
                     const char *point,
                     void (*work)(struct saved *saved))
{
    size_t n = strcspn(point, "@");
    int status = 0;
    pid_t child;

    saved_arm("%.*s=crash%s", (int)n, point, point + n);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)alarm(60);
        work(saved);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    saved_disarm();
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return false;
    }
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        fail_msg("%s: status %x", point, (unsigned)status);
    }
    return true;
}

void saved_must_be_killed(struct saved *saved,
                          const char *point,
                          void (*work)(struct saved *saved))
{
    if (!saved_is_killed(saved, point, work)) {
        fail_msg("%s: was not passed", point);
    }
}
