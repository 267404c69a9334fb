#include "store/source_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>

/* Labels and names of at most a million files. */
#define SOURCE_ARENA_BYTES ((size_t)1 << 30)

enum base_code store_source_create(const char *path,
                                   struct store_source **ret,
                                   struct base_err *err)
{
    BASE_AUTO(store_source) source = calloc(1, sizeof(*source));

    if (source != NULL) {
        source->path = strdup(path);
        source->arena = base_arena_create(SOURCE_ARENA_BYTES);
    }
    if (source == NULL || source->path == NULL || source->arena == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot allocate a source",
                         path);
    }
    *ret = base_steal(&source);
    return BASE_OK;
}

void store_raise_open_files(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 &&
        limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit); /* else opening will tell */
    }
}

void store_source_free(struct store_source *source)
{
    if (source == NULL) {
        return;
    }
    for (size_t i = 0; i < source->blobs.n; i++) {
        (void)close(source->blobs.items[i].fd); /* only read */
    }
    base_vec_done(&source->tied);
    base_vec_done(&source->blobs);
    base_vec_done(&source->objects);
    base_vec_done(&source->ignored);
    ptc_pieces_free(source->pieces);
    ptc_pieces_free(source->replicas);
    ptc_layout_free(source->layout);
    ptc_table_free(source->table);
    store_version_free(source->version); /* layout and pieces borrow of it */
    base_arena_free(source->arena);
    free(source->path);
    free(source);
}

enum store_form store_source_form(const struct store_source *source)
{
    return source->form;
}

const char *store_source_path(const struct store_source *source)
{
    return source->path;
}

const struct ptc_table *store_source_table(const struct store_source *source)
{
    return source->table != NULL ? source->table : source->lent_table;
}

const struct ptc_layout *store_source_layout(const struct store_source *source)
{
    return source->layout;
}

const struct ptc_pieces *store_source_pieces(const struct store_source *source)
{
    return source->pieces;
}

const struct ptc_pieces *
store_source_replicas(const struct store_source *source)
{
    return source->replicas;
}

uint32_t store_source_n_blobs(const struct store_source *source)
{
    return (uint32_t)source->blobs.n;
}

const struct store_blob *store_source_blob(const struct store_source *source,
                                           uint32_t idx)
{
    return &source->blobs.items[idx];
}

enum base_code store_blob_check(const struct store_blob *blob,
                                struct base_err *err)
{
    const struct stat *was = &blob->stat;
    struct stat now;

    if (fstat(blob->fd, &now) != 0) {
        return base_fail_errno(err, errno, "%s: cannot stat", blob->label);
    }
    if (now.st_size != was->st_size || now.st_ino != was->st_ino ||
        now.st_dev != was->st_dev ||
        now.st_mtim.tv_sec != was->st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != was->st_mtim.tv_nsec) {
        return base_fail(err, BASE_CHANGED,
                         "%s: is not as it was when it was opened",
                         blob->label);
    }
    return BASE_OK;
}

static int object_cmp(const void *va, const void *vb)
{
    const struct store_object *a = va;
    const struct store_object *b = vb;
    int order = base_str_cmp(a->name, b->name);

    return order != 0 ? order : (a->rank > b->rank) - (a->rank < b->rank);
}

void store_source_sort_objects(struct store_source *source)
{
    if (source->objects.n > 0) {
        qsort(source->objects.items, source->objects.n,
              sizeof(*source->objects.items), object_cmp);
    }
}

enum base_code store_source_object(const struct store_source *source,
                                   struct base_str name,
                                   ptc_rank rank,
                                   const struct store_blob **ret,
                                   struct base_err *err)
{
    struct store_object key = {.name = name, .rank = rank};
    const struct store_object *hit = NULL;

    (void)err; /* a directory knows all its objects; a store may not */
    if (source->objects.n > 0) {
        hit = bsearch(&key, source->objects.items, source->objects.n,
                      sizeof(key), object_cmp);
    }
    *ret = hit == NULL ? NULL : &source->blobs.items[hit->blob];
    return BASE_OK;
}

bool store_source_has_object(const struct store_source *source,
                             struct base_str name)
{
    size_t first = 0;
    size_t end = source->objects.n;

    while (first < end) {
        size_t middle = first + (end - first) / 2;
        int order = base_str_cmp(name, source->objects.items[middle].name);

        if (order == 0) {
            return true;
        }
        if (order < 0) {
            end = middle;
        } else {
            first = middle + 1;
        }
    }
    return false;
}

uint32_t store_source_n_objects(const struct store_source *source)
{
    return (uint32_t)source->objects.n;
}

const struct store_object *
store_source_object_at(const struct store_source *source, uint32_t idx)
{
    return &source->objects.items[idx];
}

uint32_t store_source_n_ignored(const struct store_source *source)
{
    return (uint32_t)source->ignored.n;
}

const char *store_source_ignored(const struct store_source *source,
                                 uint32_t idx)
{
    return source->ignored.items[idx];
}
