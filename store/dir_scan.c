/* Listing and opening.  Everything is opened relative to its directory's
 * descriptor.  A name is first looked at (fstatat), so that a device is never
 * opened, and looked at again once it is open. */
#include "store/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/io.h"
#include "base/num.h"

#define ST_SUFFIX    BASE_STR(".safetensors")
#define INDEX_SUFFIX BASE_STR(".safetensors.index.json")

static enum base_code no_mem(const struct store_dir *dir, struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "%s: no memory for its files",
                     dir->source->path);
}

enum base_code store_dir_str(struct store_dir *dir,
                             struct base_str text,
                             struct base_str *ret,
                             struct base_err *err)
{
    *ret = base_arena_str(dir->source->arena, text);
    return ret->ptr == NULL ? no_mem(dir, err) : BASE_OK;
}

enum base_code store_dir_join(struct store_dir *dir,
                              const char *prefix,
                              struct base_str name,
                              const char **ret,
                              struct base_err *err)
{
    BASE_AUTO_MEM char *joined =
        base_path("%s/%.*s", prefix, BASE_STR_FMT(name));
    struct base_str copy;

    if (joined == NULL) {
        return no_mem(dir, err);
    }
    BASE_TRY(store_dir_str(dir, base_str_of(joined), &copy, err));
    *ret = copy.ptr;
    return BASE_OK;
}

struct base_str store_dir_stem(struct base_str name)
{
    return (struct base_str){name.ptr, name.len - ST_SUFFIX.len};
}

bool store_dir_split_shard(struct base_str stem,
                           struct base_str *ret_group,
                           uint64_t *ret_idx,
                           uint64_t *ret_n)
{
    /* "-00001-of-00005": fields of at least five digits. */
    size_t n_at = stem.len, of_at;

    while (n_at > 0 && stem.ptr[n_at - 1] >= '0' && stem.ptr[n_at - 1] <= '9') {
        n_at--;
    }
    if (stem.len - n_at < 5 || n_at < 4 ||
        memcmp(stem.ptr + n_at - 4, "-of-", 4) != 0) {
        return false;
    }
    of_at = n_at - 4;
    n_at = of_at;
    while (n_at > 0 && stem.ptr[n_at - 1] >= '0' && stem.ptr[n_at - 1] <= '9') {
        n_at--;
    }
    if (of_at - n_at < 5 || n_at < 2 || stem.ptr[n_at - 1] != '-' ||
        !base_parse_u64((struct base_str){stem.ptr + n_at, of_at - n_at},
                        ret_idx) ||
        !base_parse_u64(
            (struct base_str){stem.ptr + of_at + 4, stem.len - of_at - 4},
            ret_n)) {
        return false;
    }
    *ret_group = (struct base_str){stem.ptr, n_at - 1};
    return true;
}

const char *store_dir_label(const struct store_dir *dir,
                            const struct store_dir_file *file)
{
    return dir->source->blobs.items[file->blob].label;
}

static const char *mode_text(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:
        return "a directory";
    case S_IFLNK:
        return "a symbolic link";
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    case S_IFCHR:
    case S_IFBLK:
        return "a device";
    default:
        return "something else";
    }
}

static enum base_code
not_regular(const char *label, mode_t mode, struct base_err *err)
{
    return base_fail(err, BASE_BAD_INPUT, "%s: %s, not a regular file", label,
                     mode_text(mode));
}

/* A save's files become blobs: links are not followed there. */
static enum base_code look_at(const struct store_dir *dir,
                              int dir_fd,
                              const char *name,
                              const char *label,
                              struct stat *ret,
                              struct base_err *err)
{
    int flags = dir->save != NULL ? AT_SYMLINK_NOFOLLOW : 0;

    if (fstatat(dir_fd, name, ret, flags) != 0) {
        if (errno == ENOENT && dir->save != NULL) {
            return base_fail(err, BASE_CHANGED, "%s: went away meanwhile",
                             label);
        }
        if (errno == ENOENT && dir_fd != AT_FDCWD) { /* it was listed */
            return base_fail(err, BASE_BAD_INPUT, "%s: a link to nothing",
                             label);
        }
        return base_fail_errno(err, errno, "%s", label);
    }
    return BASE_OK;
}

/* Open a regular file as the source's next blob. */
static enum base_code add_blob(struct store_dir *dir,
                               int dir_fd,
                               const char *name,
                               const char *label,
                               uint32_t *ret,
                               struct base_err *err)
{
    struct store_source *source = dir->source;
    struct store_blob blob = {.label = label};
    int flags =
        O_RDONLY | O_NONBLOCK | O_NOCTTY | (dir->save != NULL ? O_NOFOLLOW : 0);
    BASE_AUTO_FD fd = -1;
    struct stat st;

    BASE_TRY(look_at(dir, dir_fd, name, label, &st, err));
    if (S_ISREG(st.st_mode)) {
        BASE_TRY(base_io_open(dir_fd, name, flags, 0, label, &fd, err));
        if (fstat(fd, &st) != 0) {
            return base_fail_errno(err, errno, "%s: cannot stat", label);
        }
    }
    if (!S_ISREG(st.st_mode)) {
        return not_regular(label, st.st_mode, err);
    }
    if (source->blobs.n >= STORE_DIR_MAX_FILES) {
        return base_fail(err, BASE_LIMIT, "%s: more than %u files",
                         source->path, STORE_DIR_MAX_FILES);
    }
    blob.fd = fd;
    blob.n_bytes = (uint64_t)st.st_size;
    blob.stat = st;
    if (!base_vec_push(&source->blobs, blob)) {
        return no_mem(dir, err);
    }
    (void)base_steal_fd(&fd); /* the source closes it */
    *ret = (uint32_t)(source->blobs.n - 1);
    return BASE_OK;
}

static enum base_code read_header(const struct store_dir *dir,
                                  uint32_t blob_idx,
                                  struct store_dir_file *file,
                                  struct base_err *err)
{
    const struct store_blob *blob = &dir->source->blobs.items[blob_idx];
    BASE_AUTO_MEM char *json = NULL;
    struct base_str retile;
    uint8_t first8[8];
    uint64_t n_json = 0;

    if (blob->n_bytes < sizeof(first8)) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: %" PRIu64 " bytes are too few for a safetensors "
                         "file",
                         blob->label, blob->n_bytes);
    }
    BASE_TRY(
        base_io_pread(blob->fd, first8, sizeof(first8), 0, blob->label, err));
    BASE_TRY(
        ptc_st_header_length(first8, blob->n_bytes, blob->label, &n_json, err));
    json = malloc((size_t)n_json + 1);
    if (json == NULL) {
        return no_mem(dir, err);
    }
    BASE_TRY(base_io_pread(blob->fd, json, (size_t)n_json, sizeof(first8),
                           blob->label, err));
    BASE_TRY(ptc_st_header_parse((struct base_str){json, (size_t)n_json},
                                 blob->n_bytes, blob->label, &file->header,
                                 err));
    retile = ptc_st_meta(file->header, "retile");
    if (retile.ptr != NULL) {
        BASE_TRY(ptc_coords_parse(retile, blob->label, &file->coords, err));
    }
    return BASE_OK;
}

static int str_cmp(const void *a, const void *b)
{
    return base_str_cmp(*(const struct base_str *)a,
                        *(const struct base_str *)b);
}

/* Coordinates of a tensor that the file has not are a file gone wrong. */
static enum base_code check_coords_names(const struct store_dir_file *file,
                                         const char *label,
                                         struct base_err *err)
{
    BASE_AUTO_MEM struct base_str *names = NULL;
    uint32_t n = file->header->n_entries;

    if (file->coords == NULL || file->coords->n_entries == 0) {
        return BASE_OK;
    }
    names = calloc((size_t)n + 1, sizeof(*names));
    if (names == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: no memory for names", label);
    }
    for (uint32_t i = 0; i < n; i++) {
        names[i] = file->header->entries[i].name;
    }
    qsort(names, n, sizeof(*names), str_cmp);
    for (uint32_t i = 0; i < file->coords->n_entries; i++) {
        struct base_str name = file->coords->entries[i].name;

        if (bsearch(&name, names, n, sizeof(*names), str_cmp) == NULL) {
            return base_fail(err, BASE_MISMATCH,
                             "%s: metadata `retile` tells of tensor %.*s, "
                             "which the file does not have",
                             label, BASE_STR_FMT(name));
        }
    }
    return BASE_OK;
}

static enum base_code add_read(struct store_dir *dir,
                               int dir_fd,
                               const char *label,
                               struct store_dir_file *file,
                               struct base_err *err)
{
    BASE_TRY(add_blob(dir, dir_fd, file->name.ptr, label, &file->blob, err));
    BASE_TRY(read_header(dir, file->blob, file, err));
    BASE_TRY(check_coords_names(file, label, err));
    return base_vec_push(&dir->files, *file) ? BASE_OK : no_mem(dir, err);
}

enum base_code store_dir_add_file(struct store_dir *dir,
                                  int dir_fd,
                                  struct base_str name,
                                  const char *label,
                                  struct base_str group,
                                  ptc_rank rank,
                                  struct base_err *err)
{
    struct store_dir_file file = {.rank = rank};
    enum base_code code;

    BASE_TRY(store_dir_str(dir, name, &file.name, err));
    BASE_TRY(store_dir_str(dir, group, &file.group, err));
    code = ptc_name_check(file.group, "group", err);
    if (code != BASE_OK) {
        return base_wrap(err, code, "%s", label);
    }
    code = add_read(dir, dir_fd, label, &file, err);
    if (code != BASE_OK) {
        struct store_dir_lost lost = {file.group, rank};

        ptc_st_header_free(file.header);
        ptc_coords_free(file.coords);
        if (!base_vec_push(&dir->lost, lost)) {
            return no_mem(dir, err);
        }
    }
    return code;
}

static enum base_code add_object(struct store_dir *dir,
                                 int dir_fd,
                                 struct base_str name,
                                 const char *label,
                                 ptc_rank rank,
                                 struct base_err *err)
{
    struct store_object object = {.rank = rank};
    enum base_code code = ptc_name_check(name, "object", err);

    if (code != BASE_OK) {
        return base_wrap(err, code, "%s", label);
    }
    BASE_TRY(store_dir_str(dir, name, &object.name, err));
    BASE_TRY(add_blob(dir, dir_fd, object.name.ptr, label, &object.blob, err));
    if (!base_vec_push(&dir->source->objects, object)) {
        return no_mem(dir, err);
    }
    return BASE_OK;
}

static bool is_hidden(struct base_str name)
{
    return name.ptr[0] == '.' || base_str_ends(name, BASE_STR(".tmp"));
}

/* A directory that nothing asks for is listed as ignored.  *ret says so. */
static enum base_code ignore_dir(struct store_dir *dir,
                                 int dir_fd,
                                 struct base_str name,
                                 const char *label,
                                 bool *ret,
                                 struct base_err *err)
{
    struct stat st;

    BASE_TRY(look_at(dir, dir_fd, name.ptr, label, &st, err));
    *ret = S_ISDIR(st.st_mode);
    if (*ret && !base_vec_push(&dir->source->ignored, label)) {
        return no_mem(dir, err);
    }
    return BASE_OK;
}

static enum base_code
top_name(struct store_dir *dir, struct base_str name, struct base_err *err)
{
    const char *label;
    struct base_str copy;
    struct stat st;
    bool ignored;

    if (is_hidden(name)) {
        return BASE_OK;
    }
    BASE_TRY(store_dir_join(dir, dir->source->path, name, &label, err));
    if (base_str_eq(name, BASE_STR("layout.yaml"))) {
        BASE_TRY(look_at(dir, dir->fd, name.ptr, label, &st, err));
        if (dir->save != NULL && !S_ISREG(st.st_mode)) {
            return not_regular(label, st.st_mode, err);
        }
        dir->has_layout_yaml = true;
        return BASE_OK;
    }
    if (base_str_eq(name, BASE_STR("ranks"))) {
        BASE_TRY(look_at(dir, dir->fd, name.ptr, label, &st, err));
        if (!S_ISDIR(st.st_mode)) {
            return base_fail(err, BASE_BAD_INPUT, "%s: not a directory", label);
        }
        dir->has_ranks = true;
        return BASE_OK;
    }
    BASE_TRY(ignore_dir(dir, dir->fd, name, label, &ignored, err));
    if (ignored) {
        return BASE_OK;
    }
    if (base_str_ends(name, ST_SUFFIX) || base_str_ends(name, INDEX_SUFFIX)) {
        BASE_TRY(store_dir_str(dir, name, &copy, err));
        if (!(base_str_ends(name, ST_SUFFIX)
                  ? base_vec_push(&dir->tensor_names, copy)
                  : base_vec_push(&dir->index_names, copy))) {
            return no_mem(dir, err);
        }
        return BASE_OK;
    }
    return add_object(dir, dir->fd, name, label, PTC_NONE, err);
}

/* The names in a directory, freed at the end of a scope. */
struct names {
    char **items;
    size_t n;
};

static void names_auto(const struct names *names)
{
    base_names_free(names->items, names->n);
}

#define AUTO_NAMES __attribute__((cleanup(names_auto))) struct names

enum base_code store_dir_scan_top(struct store_dir *dir, struct base_err *err)
{
    AUTO_NAMES names = {0};
    enum base_code code = base_dir_list(dir->fd, ".", STORE_DIR_MAX_NAMES,
                                        &names.items, &names.n, err);

    if (code != BASE_OK) {
        return base_wrap(err, code, "%s", dir->source->path);
    }
    for (size_t i = 0; i < names.n; i++) {
        code = top_name(dir, base_str_of(names.items[i]), err);
        BASE_TRY(store_problems_take(dir->problems, code, err));
    }
    return BASE_OK;
}

enum base_code store_dir_scan_rank(struct store_dir *dir,
                                   int rank_fd,
                                   const char *shown_path,
                                   ptc_rank rank,
                                   struct base_err *err)
{
    AUTO_NAMES names = {0};
    enum base_code code = base_dir_list(rank_fd, ".", STORE_DIR_MAX_NAMES,
                                        &names.items, &names.n, err);

    if (code != BASE_OK) {
        return base_wrap(err, code, "%s", shown_path);
    }
    for (size_t i = 0; i < names.n; i++) {
        struct base_str name = base_str_of(names.items[i]);
        const char *label;
        bool ignored;

        if (is_hidden(name)) {
            continue;
        }
        BASE_TRY(store_dir_join(dir, shown_path, name, &label, err));
        BASE_TRY(ignore_dir(dir, rank_fd, name, label, &ignored, err));
        if (ignored) {
            continue;
        }
        code = base_str_ends(name, ST_SUFFIX)
                   ? store_dir_add_file(dir, rank_fd, name, label,
                                        store_dir_stem(name), rank, err)
                   : add_object(dir, rank_fd, name, label, rank, err);
        BASE_TRY(store_problems_take(dir->problems, code, err));
    }
    return BASE_OK;
}
