/* store_source_open_dir: which form a path has, and that form's way. */
#include "store/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/io.h"

#define ST_SUFFIX BASE_STR(".safetensors")

void store_dir_files_free(struct store_dir_file *files, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ptc_st_header_free(files[i].header);
        ptc_coords_free(files[i].coords);
    }
    free(files);
}

void store_dir_done(struct store_dir *dir)
{
    store_dir_files_free(dir->files.items, dir->files.n);
    base_vec_done(&dir->tensor_names);
    base_vec_done(&dir->index_names);
    base_vec_done(&dir->lost);
    if (dir->fd >= 0) {
        (void)close(dir->fd); /* only read */
    }
}

static bool has_dcp_info(const struct store_dir *dir)
{
    for (size_t i = 0; i < dir->files.n; i++) {
        if (ptc_st_meta(dir->files.items[i].header, "DCP_SHARDING_INFO").ptr !=
            NULL) {
            return true;
        }
    }
    return false;
}

static enum base_code
add_top_file(struct store_dir *dir, size_t idx, struct base_err *err)
{
    struct base_str name = dir->tensor_names.items[idx];
    const char *label;

    BASE_TRY(store_dir_join(dir, dir->source->path, name, &label, err));
    return store_dir_add_file(dir, dir->fd, name, label, store_dir_stem(name),
                              0, err);
}

/* Take back all files that were added; of objects there are descriptors
 * before them. */
static void drop_files(struct store_dir *dir)
{
    struct store_source *source = dir->source;

    while (dir->files.n > 0) {
        struct store_dir_file *file = &dir->files.items[--dir->files.n];

        ptc_st_header_free(file->header);
        ptc_coords_free(file->coords);
        (void)close(source->blobs.items[--source->blobs.n].fd); /* only read */
    }
}

/* Any file may be the one that tells: whole tensors stand in files without.
 * Adds all files when they are DCP's, else none. */
static enum base_code
look_for_dcp(struct store_dir *dir, bool *ret, struct base_err *err)
{
    for (size_t i = 0; i < dir->tensor_names.n; i++) {
        BASE_TRY(add_top_file(dir, i, err));
    }
    *ret = has_dcp_info(dir);
    if (!*ret) {
        drop_files(dir);
    }
    return BASE_OK;
}

static enum base_code open_file(struct store_dir *dir, struct base_err *err)
{
    const char *path = dir->source->path;
    const char *slash = strrchr(path, '/');
    struct base_str name = base_str_of(slash == NULL ? path : slash + 1);
    struct base_str label;

    dir->source->form = STORE_FORM_FILE;
    if (!base_str_ends(name, ST_SUFFIX)) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: neither a directory nor a .safetensors file",
                         path);
    }
    BASE_TRY(store_dir_str(dir, base_str_of(path), &label, err));
    BASE_TRY(store_dir_add_file(dir, AT_FDCWD, label, label.ptr,
                                store_dir_stem(name), 0, err));
    return has_dcp_info(dir) ? store_dir_open_sharded(dir, err)
                             : store_dir_open_hf(dir, err);
}

static enum base_code open_top(struct store_dir *dir, struct base_err *err)
{
    const char *path = dir->source->path;
    bool is_sharded = false;

    BASE_TRY(base_io_open(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0, path,
                          &dir->fd, err));
    BASE_TRY(store_dir_scan_top(dir, err));
    if (dir->has_layout_yaml || dir->has_ranks) {
        return store_dir_open_plain(dir, err);
    }
    if (dir->tensor_names.n == 0 && dir->index_names.n == 0) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: no checkpoint: neither layout.yaml nor ranks/ "
                         "nor a .safetensors file",
                         path);
    }
    dir->source->form = STORE_FORM_HF;
    if (dir->index_names.n == 0) {
        BASE_TRY(look_for_dcp(dir, &is_sharded, err));
    }
    return is_sharded ? store_dir_open_sharded(dir, err)
                      : store_dir_open_hf(dir, err);
}

enum base_code store_source_open_dir(const char *path,
                                     const struct store_source_options *options,
                                     struct store_source **ret,
                                     struct base_err *err)
{
    static const struct store_source_options none = {0};
    BASE_AUTO(store_source) source = NULL;
    struct store_dir dir = {.options = options == NULL ? &none : options,
                            .fd = -1};
    struct stat st;
    enum base_code code;

    store_raise_open_files();
    BASE_TRY(store_source_create(path, &source, err));
    dir.source = source;
    if (stat(path, &st) != 0) {
        return base_fail_errno(err, errno, "%s", path);
    }
    code = S_ISDIR(st.st_mode) ? open_top(&dir, err) : open_file(&dir, err);
    store_dir_done(&dir);
    BASE_TRY(code);
    *ret = base_steal(&source);
    return BASE_OK;
}
