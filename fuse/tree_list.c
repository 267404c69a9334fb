/* The tree: listing directories, and naming all that a version has. */
#include <inttypes.h>
#include <stdio.h>

#include "fuse/tree_impl.h"

/* Positions are numbers, so that versions that come and go while the directory
 * is read move none of the others. */
static bool list_numbers(const struct fs_node *dir,
                         uint64_t position,
                         char room[FS_NAME_BYTES],
                         struct base_str *ret_name,
                         struct fs_node *ret,
                         uint64_t *ret_next)
{
    size_t i = 0;

    while (i < dir->n_numbers && dir->numbers[i] < position) {
        i++;
    }
    if (i == dir->n_numbers || dir->numbers[i] > FS_MAX_VERSION) {
        return false;
    }
    *ret_next = dir->numbers[i] + 1;
    (void)snprintf(room, FS_NAME_BYTES, "%" PRIu64, dir->numbers[i]);
    *ret_name = base_str_of(room);
    if (fs_node_is_at(dir, FS_FIXED_GEN)) {
        *ret = fs_gen_node(dir->numbers[i], FS_GEN_DIR);
        return true;
    }
    *ret = (struct fs_node){
        .ino = fs_ino_of(dir->numbers[i], FS_SLOT_OWN, 0),
        .kind = FS_DIR,
        .slot = FS_SLOT_OWN,
    };
    return true;
}

/* Positions are steps, for the same reason. */
static bool list_steps(const struct fs_node *dir,
                       uint64_t position,
                       char room[FS_NAME_BYTES],
                       struct base_str *ret_name,
                       struct fs_node *ret,
                       uint64_t *ret_next)
{
    const struct fs_step *step = dir->steps;
    const struct fs_step *end = step + dir->n_steps;

    while (step < end &&
           (step->generation != dir->generation || step->step < position)) {
        step++;
    }
    if (step == end) {
        return false;
    }
    (void)snprintf(room, FS_NAME_BYTES, "%" PRIu64 "%s", step->step,
                   step->state == FS_STEP_SEALED ? "" : ".tmp");
    *ret_name = base_str_of(room);
    *ret = (struct fs_node){
        .ino = step->ino,
        .kind = FS_DIR,
        .slot = FS_SLOT_SAVED,
    };
    *ret_next = step->step + 1;
    return true;
}

static bool list_as(struct fs_version *version,
                    uint64_t position,
                    struct base_str *ret_name,
                    struct fs_node *ret)
{
    const struct fs_subtree *subtree;

    if (position >= FS_AS_MAX ||
        (subtree = version->slots[FS_SLOT_AS + position]) == NULL) {
        return false;
    }
    *ret_name = fs_as_name(subtree);
    *ret = fs_version_node(version, FS_SLOT_AS + (uint32_t)position, 0);
    return true;
}

static bool list_store(const struct fs_node *dir,
                       uint64_t position,
                       struct base_str *ret_name,
                       struct fs_node *ret)
{
    uint32_t idx;

    if (dir->node == NULL ||
        position >= dir->node->child_end - dir->node->child_begin) {
        return false;
    }
    idx = dir->node->child_begin + (uint32_t)position;
    *ret = fs_version_node(dir->version, dir->slot, idx);
    *ret_name = ret->node->name;
    return true;
}

/* Is what stands there `current`, and leads nowhere? */
static bool is_no_link(const struct fs_node *dir,
                       struct fs_given_list given,
                       uint64_t position)
{
    return fs_node_is_at(dir, FS_FIXED_ROOT) && !dir->has_load &&
           position < given.n && given.items[position].idx == FS_FIXED_CURRENT;
}

bool fs_tree_list(const struct fs_node *dir,
                  uint64_t position,
                  char room[FS_NAME_BYTES],
                  struct base_str *ret_name,
                  struct fs_node *ret,
                  uint64_t *ret_next)
{
    const struct fs_given_list given = fs_names_in(dir);

    if (fs_node_is_at(dir, FS_FIXED_GEN) && dir->n_numbers == 0) {
        return false; /* no generation has begun: `current` leads nowhere */
    }
    if (fs_node_is_at(dir, FS_FIXED_VERSIONS) ||
        (fs_node_is_at(dir, FS_FIXED_GEN) && position > 0)) {
        return list_numbers(dir, position, room, ret_name, ret, ret_next);
    }
    if (fs_node_is_save(dir)) {
        return list_steps(dir, position, room, ret_name, ret, ret_next);
    }
    position += is_no_link(dir, given, position);
    *ret_next = position + 1;
    if (fs_node_is_at(dir, FS_FIXED_GEN)) {
        *ret_name = BASE_STR("current");
        *ret = fs_fixed_node(FS_FIXED_GEN_CURRENT);
        return true;
    }
    if (fs_node_is_as(dir)) {
        return list_as(dir->version, position, ret_name, ret);
    }
    if (position < given.n) {
        *ret_name = given.items[position].name;
        *ret = fs_given_node(dir, &given.items[position]);
        return true;
    }
    for (; list_store(dir, position - given.n, ret_name, ret); position++) {
        if (fs_given_find(given, *ret_name) == NULL) {
            *ret_next = position + 1;
            return true;
        }
    }
    return false;
}

static void each_name_in(struct fs_version *version,
                         uint32_t slot,
                         fs_name_fn fn,
                         void *ctx)
{
    const struct fs_subtree *subtree = version->slots[slot];
    uint32_t n = subtree != NULL ? store_tree_n_nodes(subtree->tree) : 0;
    uint32_t i;

    if (subtree != NULL && slot >= FS_SLOT_AS) {
        fn(ctx, fs_ino_of(version->number, FS_SLOT_AS_DIR, 0),
           fs_as_name(subtree));
    }
    for (i = 1; i < n; i++) {
        const struct store_node *node = store_tree_node(subtree->tree, i);

        fn(ctx, fs_ino_of(version->number, slot, node->parent), node->name);
    }
}

void fs_tree_each_name(struct fs_version *version, fs_name_fn fn, void *ctx)
{
    const uint64_t root = fs_ino_of(version->number, FS_SLOT_OWN, 0);
    char name[FS_NAME_BYTES];
    uint32_t slot;
    size_t i;

    (void)snprintf(name, sizeof(name), "%" PRIu64, version->number);
    fn(ctx, fs_ino_of(0, FS_SLOT_MOUNT, FS_FIXED_VERSIONS), base_str_of(name));
    for (i = 0; i < fs_version_names.n; i++) {
        fn(ctx, root, fs_version_names.items[i].name);
    }
    for (slot = FS_SLOT_OWN; slot < FS_N_SLOTS; slot++) {
        each_name_in(version, slot, fn, ctx);
    }
}
