/* A save: the plain form as training ranks wrote it.
 *
 * Its table is that of the version before it, and of groups that only the save
 * has; its layout that version's.  What is found wrong is told, and looking goes
 * on; after each step that others build upon, problems end it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/io.h"
#include "base/num.h"
#include "store/directory.h"
#include "store/root_priv.h"

static enum base_code no_mem(const struct store_dir *dir, struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "%s: no memory for its ranks",
                     dir->source->path);
}

/* --- ranks -------------------------------------------------------------- */

static int rank_cmp(const void *va, const void *vb)
{
    const ptc_rank *a = va;
    const ptc_rank *b = vb;

    return (*a > *b) - (*a < *b);
}

static enum base_code look_at_rank(struct store_dir *dir,
                                   int ranks_fd,
                                   const char *name,
                                   ptc_rank *ret,
                                   bool *ret_is_one,
                                   struct base_err *err)
{
    const char *path = dir->source->path;
    struct stat st;

    *ret_is_one = false;
    if (name[0] == '.' || base_str_ends(base_str_of(name), BASE_STR(".tmp"))) {
        return BASE_OK;
    }
    if (!store_dir_rank_of(name, ret)) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s/ranks/%s: not a rank's number (three digits or "
                         "more, no other zeros in front)",
                         path, name);
    }
    if (fstatat(ranks_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return base_fail_errno(err, errno, "%s/ranks/%s", path, name);
    }
    if (!S_ISDIR(st.st_mode)) {
        return base_fail(err, BASE_BAD_INPUT, "%s/ranks/%s: not a directory",
                         path, name);
    }
    *ret_is_one = true;
    return BASE_OK;
}

static enum base_code scan_rank(struct store_dir *dir,
                                int ranks_fd,
                                ptc_rank rank,
                                struct base_err *err)
{
    BASE_AUTO_MEM char *name = base_path("%03u", rank);
    BASE_AUTO_MEM char *label =
        base_path("%s/ranks/%03u", dir->source->path, rank);
    BASE_AUTO_FD fd = -1;

    if (name == NULL || label == NULL) {
        return no_mem(dir, err);
    }
    BASE_TRY(base_io_open(ranks_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
                          0, label, &fd, err));
    return store_dir_scan_rank(dir, fd, label, rank, err);
}

/* All ranks that are there, in their order. */
static enum base_code scan_ranks(struct store_dir *dir, struct base_err *err)
{
    const char *path = dir->source->path;
    STORE_AUTO_LISTING names = {0};
    BASE_AUTO_MEM ptc_rank *ranks = NULL;
    BASE_AUTO_FD fd = -1;
    size_t n = 0;
    enum base_code code;

    BASE_TRY(base_io_open(dir->fd, "ranks", O_RDONLY | O_DIRECTORY | O_NOFOLLOW,
                          0, path, &fd, err));
    code = base_dir_list(fd, ".", PTC_MAX_RANKS, &names.names, &names.n, err);
    if (code != BASE_OK) {
        return base_wrap(err, code, "%s/ranks", path);
    }
    ranks = calloc(names.n + 1, sizeof(*ranks));
    if (ranks == NULL) {
        return no_mem(dir, err);
    }
    for (size_t i = 0; i < names.n; i++) {
        bool is_one = false;

        code = look_at_rank(dir, fd, names.names[i], &ranks[n], &is_one, err);
        BASE_TRY(store_problems_take(dir->problems, code, err));
        n += is_one;
    }
    qsort(ranks, n, sizeof(*ranks), rank_cmp);
    for (size_t i = 0; i < n; i++) {
        code = scan_rank(dir, fd, ranks[i], err);
        BASE_TRY(store_problems_take(dir->problems, code, err));
    }
    return BASE_OK;
}

/* Files of ranks that the layout has not: they are told, and put away. */
static void drop_ranks(struct store_dir *dir, uint32_t n_ranks)
{
    ptc_rank told = PTC_NONE;

    while (dir->files.n > 0 &&
           dir->files.items[dir->files.n - 1].rank >= n_ranks) {
        struct store_dir_file *file = &dir->files.items[--dir->files.n];

        if (file->rank != told) {
            store_problems_add(dir->problems, BASE_MISMATCH,
                               "%s: one rank too many, the layout has %u ranks",
                               store_dir_label(dir, file), n_ranks);
        }
        told = file->rank;
        ptc_st_header_free(file->header);
        ptc_coords_free(file->coords);
    }
    for (size_t i = 0; i < dir->source->objects.n; i++) {
        const struct store_object *object = &dir->source->objects.items[i];

        if (object->rank != PTC_NONE && object->rank >= n_ranks) {
            store_problems_add(dir->problems, BASE_MISMATCH,
                               "%s/ranks/%03u/%s: one rank too many, the "
                               "layout has %u ranks",
                               dir->source->path, object->rank,
                               object->name.ptr, n_ranks);
        }
    }
}

/* --- what files say ----------------------------------------------------- */

/* The metadata key "step", when a file has it. */
static void check_step(struct store_dir *dir, const struct store_dir_file *file)
{
    struct base_str text = ptc_st_meta(file->header, "step");
    uint64_t step;

    if (text.ptr == NULL) {
        return;
    }
    if (!base_parse_u64(text, &step)) {
        store_problems_add(dir->problems, BASE_BAD_INPUT,
                           "%s: metadata `step` is \"%.*s\", not a number",
                           store_dir_label(dir, file), BASE_STR_FMT(text));
    } else if (step != dir->save->step) {
        store_problems_add(dir->problems, BASE_MISMATCH,
                           "%s: is of step %" PRIu64
                           ", the save is of step %" PRIu64,
                           store_dir_label(dir, file), step, dir->save->step);
    }
}

/* A group that is new must have new tensors only. */
static void check_new_group(struct store_dir *dir,
                            const struct store_dir_file *file)
{
    const struct ptc_table *table = dir->save->table;

    for (uint32_t i = 0; i < file->header->n_entries; i++) {
        struct base_str name = file->header->entries[i].name;
        uint32_t known = ptc_table_find(table, name);

        if (known != PTC_NONE) {
            store_problems_add(
                dir->problems, BASE_MISMATCH,
                "%s: tensor %.*s: it belongs to group %.*s",
                store_dir_label(dir, file), BASE_STR_FMT(name),
                BASE_STR_FMT(ptc_table_tensor(table, known)->group));
        }
    }
}

static void check_files(struct store_dir *dir)
{
    for (size_t i = 0; i < dir->files.n; i++) {
        const struct store_dir_file *file = &dir->files.items[i];

        check_step(dir, file);
        if (dir->save->table != NULL &&
            !store_dir_is_known_group(dir, file->group)) {
            check_new_group(dir, file);
        }
    }
}

/* Names at the top that only other forms have. */
static void check_top(struct store_dir *dir)
{
    const char *path = dir->source->path;

    if (!dir->has_ranks) {
        store_problems_add(dir->problems, BASE_BAD_INPUT, "%s: has no ranks/",
                           path);
    }
    for (size_t i = 0; i < dir->tensor_names.n; i++) {
        store_problems_add(dir->problems, BASE_BAD_INPUT,
                           "%s/%s: beside ranks/, where tensors belong", path,
                           dir->tensor_names.items[i].ptr);
    }
    for (size_t i = 0; i < dir->index_names.n; i++) {
        store_problems_add(dir->problems, BASE_BAD_INPUT,
                           "%s/%s: beside ranks/, where tensors belong", path,
                           dir->index_names.items[i].ptr);
    }
}

/* --- the layout --------------------------------------------------------- */

/* Does the save's own layout.yaml say what its layout is? */
static enum base_code compare_layout(struct store_dir *dir,
                                     const struct ptc_spec *spec,
                                     const struct ptc_spec *own,
                                     struct base_err *err)
{
    struct base_digest a, b;

    BASE_TRY(ptc_spec_digest(spec, &a, err));
    BASE_TRY(ptc_spec_digest(own, &b, err));
    if (base_digest_eq(a, b)) {
        return BASE_OK;
    }
    return base_fail(err, BASE_MISMATCH,
                     "%s/layout.yaml: is not the layout that is loaded",
                     dir->source->path);
}

static enum base_code open_spec(struct store_dir *dir,
                                const struct ptc_table *known,
                                struct ptc_spec **ret,
                                struct base_err *err)
{
    struct store_dir_save *save = dir->save;
    BASE_AUTO(ptc_spec) spec = base_steal(&save->spec);
    BASE_AUTO(ptc_spec) own = NULL;
    bool is_hf;

    if (spec == NULL && save->layout != NULL) {
        BASE_TRY(store_spec_open(save->layout, save->path,
                                 dir->all_have_coords ? known : NULL, &spec,
                                 &is_hf, err));
    }
    if (dir->has_layout_yaml) {
        BASE_TRY(store_dir_read_layout(dir, &own, err));
    }
    if (own != NULL && spec != NULL) {
        enum base_code code = compare_layout(dir, spec, own, err);

        BASE_TRY(store_problems_take(dir->problems, code, err));
    }
    *ret = spec != NULL ? base_steal(&spec) : base_steal(&own);
    if (*ret == NULL) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: has no layout.yaml, and nothing says how its "
                         "tensors lie",
                         dir->source->path);
    }
    return BASE_OK;
}

/* --- opening ------------------------------------------------------------ */

/* BASE_OK when nothing was told so far: what comes next builds upon it. */
static enum base_code is_good(const struct store_dir *dir, struct base_err *err)
{
    return store_problems_end(dir->problems, err);
}

static enum base_code scan(struct store_dir *dir, struct base_err *err)
{
    enum base_code code;

    BASE_TRY(base_io_open(dir->save->parent_fd, dir->save->name,
                          O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0,
                          dir->source->path, &dir->fd, err));
    code = store_dir_scan_top(dir, err);
    BASE_TRY(store_problems_take(dir->problems, code, err));
    if (dir->has_ranks) {
        code = scan_ranks(dir, err);
        BASE_TRY(store_problems_take(dir->problems, code, err));
    }
    store_source_sort_objects(dir->source);
    check_top(dir);
    check_files(dir);
    return BASE_OK;
}

/* The save's layout, over its table.  Problems end it, but for those that
 * leave both as they are. */
static enum base_code bind(struct store_dir *dir, struct base_err *err)
{
    struct store_source *source = dir->source;
    BASE_AUTO(ptc_table) known = NULL;
    BASE_AUTO(ptc_spec) spec = NULL;
    enum base_code code = store_dir_known(dir, &known, err);

    BASE_TRY(store_problems_take(dir->problems, code, err));
    if (code != BASE_OK) {
        return is_good(dir, err);
    }
    code = open_spec(dir, known, &spec, err);
    BASE_TRY(store_problems_take(dir->problems, code, err));
    if (code != BASE_OK) {
        return is_good(dir, err);
    }
    drop_ranks(dir, spec->meshes[0].n_ranks);
    code = store_dir_make_table(dir, known, spec, err);
    if (code == BASE_OK) {
        code = ptc_layout_create(&spec, source->table, &source->layout, err);
        if (code != BASE_OK) {
            (void)base_wrap(err, code, "%s", source->path);
        }
    }
    BASE_TRY(store_problems_take(dir->problems, code, err));
    return code == BASE_OK ? BASE_OK : is_good(dir, err);
}

static enum base_code open_all(struct store_dir *dir, struct base_err *err)
{
    dir->source->form = STORE_FORM_PLAIN;
    BASE_TRY(scan(dir, err));
    BASE_TRY(bind(dir, err));
    return store_dir_check(dir, err);
}

enum base_code store_source_open_save(struct store_dir_save *save,
                                      struct store_source **ret,
                                      struct base_err *err)
{
    static const struct store_source_options none = {0};
    BASE_AUTO(store_source) source = NULL;
    struct store_dir dir = {
        .options = &none, .save = save, .problems = save->problems, .fd = -1};
    enum base_code code;

    store_raise_open_files();
    code = store_source_create(save->name, &source, err);
    if (code == BASE_OK) {
        dir.source = source;
        code = open_all(&dir, err);
    }
    for (size_t i = 0; source != NULL && i < source->ignored.n; i++) {
        store_problems_note(save->problems,
                            "%s: a directory that is no rank: "
                            "ignored",
                            source->ignored.items[i]);
    }
    if (code == BASE_OK) {
        save->files = dir.files.items;
        save->n_files = dir.files.n;
        dir.files.items = NULL;
        dir.files.n = 0;
    }
    store_dir_done(&dir);
    ptc_spec_free(save->spec);
    save->spec = NULL;
    BASE_TRY(code);
    *ret = base_steal(&source);
    return BASE_OK;
}
