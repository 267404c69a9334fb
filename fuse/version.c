#include "fuse/version.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "fuse/handover.h"
#include "ptc/preset.h"
#include "store/verify.h"

static void unlock(pthread_mutex_t **lock)
{
    (void)pthread_mutex_unlock(*lock);
}

/* Hold a lock until the end of the scope. */
#define LOCKED(mutex)                                                          \
    __attribute__((cleanup(unlock))) pthread_mutex_t *locked_ = (mutex);       \
    (void)pthread_mutex_lock(locked_)

/* A copy of the source's own spec, through its canonical text. */
static enum base_code own_spec(const struct ptc_layout *layout,
                               struct ptc_spec **ret,
                               struct base_err *err)
{
    BASE_AUTO_BUF text;

    base_buf_init(&text, PTC_SPEC_MAX_BYTES);
    BASE_TRY(ptc_spec_format(ptc_layout_spec(layout), &text, err));
    return ptc_spec_parse(base_buf_str(&text), "layout.yaml", ret, err);
}

static enum base_code make_own(struct fs_version *version, struct base_err *err)
{
    const struct ptc_layout *layout = store_source_layout(version->source);
    BASE_AUTO(ptc_spec) spec = NULL;
    struct fs_subtree *subtree = NULL;

    if (layout == NULL) {
        return BASE_OK; /* pieces without a layout: only hf/, npy/, as/ */
    }
    BASE_TRY(own_spec(layout, &spec, err));
    BASE_TRY(fs_subtree_create(version->source, "", &spec, STORE_TREE_RANKS,
                               &subtree, err));
    version->slots[FS_SLOT_OWN] = subtree;
    return BASE_OK;
}

static bool is_newer(struct timespec a, struct timespec b)
{
    return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

static struct timespec newest_of(const struct store_source *source)
{
    struct timespec newest = {0};
    uint32_t n = store_source_n_blobs(source);
    uint32_t i;

    for (i = 0; i < n; i++) {
        struct timespec time = store_source_blob(source, i)->stat.st_mtim;

        if (is_newer(time, newest)) {
            newest = time;
        }
    }
    return newest;
}

enum base_code fs_version_create(uint64_t number,
                                 struct store_source **source,
                                 struct fs_version **ret,
                                 struct base_err *err)
{
    BASE_AUTO(fs_version) version = calloc(1, sizeof(*version));
    enum base_code rc;

    if (version == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot show a version");
    }
    (void)pthread_mutex_init(&version->lock, NULL); /* never fails here */
    version->number = number;
    version->step = UINT64_MAX;
    version->maps = store_maps_create(*source);
    if (version->maps == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot show a version");
    }
    version->source = *source;
    version->time = newest_of(*source);
    rc = make_own(version, err);
    if (rc != BASE_OK) {
        version->source = NULL; /* the caller's, still */
        return rc;
    }
    *source = NULL;
    *ret = base_steal(&version);
    return BASE_OK;
}

void fs_version_free(struct fs_version *version)
{
    size_t i;

    if (version == NULL) {
        return;
    }
    for (i = 0; i < FS_N_SLOTS; i++) {
        fs_subtree_free(version->slots[i]);
    }
    store_target_free(version->whole);
    store_maps_free(version->maps);
    store_verify_free(version->verify);
    store_source_free(version->source);
    (void)pthread_mutex_destroy(&version->lock);
    free(version);
}

/* hf/ or npy/.  Lock held. */
static enum base_code
make_whole(struct fs_version *version, uint32_t slot, struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    struct fs_subtree *subtree = NULL;

    if (version->whole == NULL) {
        BASE_TRY(ptc_spec_whole(&spec, err));
        BASE_TRY(
            store_target_open(version->source, &spec, &version->whole, err));
    }
    BASE_TRY(fs_subtree_create_of(
        version->whole, slot == FS_SLOT_HF ? "hf" : "npy",
        slot == FS_SLOT_HF ? STORE_TREE_HF : STORE_TREE_NPY, &subtree, err));
    version->slots[slot] = subtree;
    return BASE_OK;
}

enum base_code fs_version_prepare(struct fs_version *version,
                                  uint32_t slot,
                                  struct base_err *err)
{
    if ((slot == FS_SLOT_HF || slot == FS_SLOT_NPY) &&
        version->slots[slot] == NULL) {
        LOCKED(&version->lock);
        if (version->slots[slot] == NULL) {
            BASE_TRY(make_whole(version, slot, err));
        }
    }
    return BASE_OK;
}

/* as/. */

struct base_str fs_as_name(const struct fs_subtree *subtree)
{
    return base_str_of(subtree->name + strlen("as/"));
}

_Static_assert(FS_HANDOVER_LAYOUTS == FS_AS_MAX, "as many as can be shown");

/* The next server is to show it in the same slot.  Lock held; before anybody
 * is told of it. */
static void keep_as(struct fs_version *version,
                    uint32_t slot,
                    const struct fs_subtree *subtree)
{
    const uint32_t idx = slot - FS_SLOT_AS;
    const struct base_str name = fs_as_name(subtree);
    struct fs_kept_layout *layout;

    if (version->kept == NULL || idx != version->kept->n_layouts ||
        name.len >= sizeof(layout->name)) {
        return;
    }
    layout = &version->kept->layouts[idx];
    memcpy(layout->name, name.ptr, name.len);
    layout->name[name.len] = '\0';
    layout->layout = subtree->layout;
    version->kept->n_layouts = idx + 1;
}

static uint32_t find_as(struct fs_version *version, struct base_str name)
{
    uint32_t slot;

    for (slot = FS_SLOT_AS; slot < FS_N_SLOTS; slot++) {
        const struct fs_subtree *subtree = version->slots[slot];

        if (subtree == NULL || base_str_eq(fs_as_name(subtree), name)) {
            break;
        }
    }
    return slot; /* its own, the first free one, or FS_N_SLOTS */
}

static bool is_made(struct fs_version *version, uint32_t slot)
{
    return slot < FS_N_SLOTS && version->slots[slot] != NULL;
}

/* Lock held; @slot is free. */
static enum base_code make_as(struct fs_version *version,
                              uint32_t slot,
                              struct base_str name,
                              const char *text,
                              struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO_MEM char *path = base_path("as/%.*s", BASE_STR_FMT(name));
    struct fs_subtree *subtree = NULL;
    bool is_hf = false;

    if (slot == FS_N_SLOTS) {
        return base_fail(err, BASE_LIMIT,
                         "%d layouts are shown already, none is forgotten "
                         "before the mount ends",
                         FS_AS_MAX);
    }
    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot show a layout");
    }
    BASE_TRY(store_spec_open_source(text, version->source, &spec, &is_hf, err));
    BASE_TRY(fs_subtree_create(version->source, path, &spec,
                               is_hf ? STORE_TREE_HF : STORE_TREE_RANKS,
                               &subtree, err));
    keep_as(version, slot, subtree);
    version->slots[slot] = subtree;
    return BASE_OK;
}

enum base_code fs_version_add_layout(struct fs_version *version,
                                     struct base_str name,
                                     const char *text,
                                     struct base_err *err)
{
    uint32_t slot;
    LOCKED(&version->lock);

    if (name.len == 0 || name.len > 255 || name.ptr[0] == '.' ||
        memchr(name.ptr, '/', name.len) != NULL) {
        return base_fail(err, BASE_BAD_ARG, "layout name \"%.*s\"",
                         BASE_STR_FMT(name));
    }
    slot = find_as(version, name);
    if (is_made(version, slot)) {
        return base_fail(err, BASE_BAD_ARG, "layout %.*s is given twice",
                         BASE_STR_FMT(name));
    }
    return make_as(version, slot, name, text, err);
}

enum base_code fs_version_find_as(struct fs_version *version,
                                  struct base_str name,
                                  uint32_t *ret_slot,
                                  struct base_err *err)
{
    uint32_t slot = find_as(version, name);

    if (!is_made(version, slot)) {
        LOCKED(&version->lock);
        slot = find_as(version, name);
        if (!is_made(version, slot)) {
            /* Only short forms: a name never opens a file of ours. */
            if (memchr(name.ptr, ':', name.len) == NULL ||
                !ptc_preset_is_short_form(name)) {
                return base_fail(err, BASE_NOT_FOUND,
                                 "\"%.*s\" is neither a short form "
                                 "(PRESET:tp=2,...) nor a name given by "
                                 "-o layout=NAME:FILE",
                                 BASE_STR_FMT(name));
            }
            BASE_TRY(make_as(version, slot, name, name.ptr, err));
        }
    }
    *ret_slot = slot;
    return BASE_OK;
}

/* What was in the next slot is made again, and must be the same. */
static enum base_code restore_as(struct fs_version *version,
                                 uint32_t slot,
                                 const struct fs_kept_layout *layout,
                                 struct base_err *err)
{
    const struct base_str name = base_str_of(layout->name);
    uint32_t found;

    BASE_TRY(fs_version_find_as(version, name, &found, err));
    if (found != slot ||
        !base_digest_eq(version->slots[slot]->layout, layout->layout)) {
        return base_fail(err, BASE_CHANGED, "as/%s is not what it was",
                         layout->name);
    }
    return BASE_OK;
}

enum base_code fs_version_set_kept(struct fs_version *version,
                                   struct fs_kept_version *kept,
                                   struct base_err *err)
{
    uint32_t n = kept != NULL ? (uint32_t)kept->n_layouts : 0;
    uint32_t i;

    for (i = 0; i < n && i < FS_AS_MAX; i++) {
        BASE_TRY(restore_as(version, FS_SLOT_AS + i, &kept->layouts[i], err));
    }
    version->kept = kept;
    for (; is_made(version, FS_SLOT_AS + i); i++) {
        keep_as(version, FS_SLOT_AS + i, version->slots[FS_SLOT_AS + i]);
    }
    return BASE_OK;
}

void fs_version_each(struct fs_version *version, fs_subtree_fn fn, void *ctx)
{
    size_t i;

    for (i = 0; i < FS_N_SLOTS; i++) {
        const struct fs_subtree *subtree = version->slots[i];

        if (subtree != NULL) {
            fn(ctx, subtree);
        }
    }
}
