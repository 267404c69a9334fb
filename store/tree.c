/* The tree of files that shows a target.  It is made level by level: the
 * children of a directory are put together, sorted, and appended, so that they
 * are consecutive. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/file.h"
#include "ptc/hf_index.h"
#include "store/source_priv.h"
#include "store/target_priv.h"

#define TREE_ARENA_BYTES ((size_t)1 << 30)
#define INDEX_MAX_BYTES  ((size_t)256 << 20)

struct store_tree {
    const struct store_target *target;
    enum store_tree_kind kind;
    struct base_arena *arena; /* names and texts */
    BASE_VEC(struct store_node) nodes;
};

/* recipe_ of a file: RANKS rank, group; HF group, file; NPY tensor. */
enum { RECIPE_FIRST, RECIPE_SECOND };

void store_tree_free(struct store_tree *tree)
{
    if (tree != NULL) {
        base_vec_done(&tree->nodes);
        base_arena_free(tree->arena);
        free(tree);
    }
}

uint32_t store_tree_n_nodes(const struct store_tree *tree)
{
    return (uint32_t)tree->nodes.n;
}

const struct store_node *store_tree_node(const struct store_tree *tree,
                                         uint32_t idx)
{
    return &tree->nodes.items[idx];
}

uint32_t store_tree_child(const struct store_tree *tree,
                          uint32_t dir,
                          struct base_str name)
{
    uint32_t low = tree->nodes.items[dir].child_begin;
    uint32_t high = tree->nodes.items[dir].child_end;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = base_str_cmp(tree->nodes.items[middle].name, name);

        if (order == 0) {
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return PTC_NONE;
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate a tree of files");
}

/* A name that no one else keeps; @text is freed. */
static enum base_code keep_name(struct store_tree *tree,
                                char *text,
                                struct base_str *ret,
                                struct base_err *err)
{
    *ret = text == NULL ? (struct base_str){0}
                        : base_arena_str(tree->arena, base_str_of(text));
    free(text);
    return ret->ptr == NULL ? no_mem(err) : BASE_OK;
}

/* Append a child of @dir; begin and end are counted by add_end. */
static enum base_code add_node(struct store_tree *tree,
                               const struct store_node *node,
                               struct base_err *err)
{
    if (tree->nodes.n >= PTC_NONE - 1) {
        return base_fail(err, BASE_LIMIT, "too many files to show");
    }
    return base_vec_push(&tree->nodes, *node) ? BASE_OK : no_mem(err);
}

static int node_cmp(const void *a, const void *b)
{
    return base_str_cmp(((const struct store_node *)a)->name,
                        ((const struct store_node *)b)->name);
}

/* All nodes from @begin on are the children of @dir: sort them. */
static enum base_code add_end(struct store_tree *tree,
                              uint32_t dir,
                              size_t begin,
                              struct base_err *err)
{
    struct store_node *first = tree->nodes.items + begin;
    size_t n = tree->nodes.n - begin;

    tree->nodes.items[dir].child_begin = (uint32_t)begin;
    tree->nodes.items[dir].child_end = (uint32_t)tree->nodes.n;
    if (n > 1) {
        qsort(first, n, sizeof(*first), node_cmp);
    }
    for (size_t i = 0; i < n; i++) {
        first[i].parent = dir;
        if (i > 0 && node_cmp(&first[i - 1], &first[i]) == 0) {
            return base_fail(err, BASE_MISMATCH,
                             "two files of the target are called %.*s",
                             BASE_STR_FMT(first[i].name));
        }
    }
    return BASE_OK;
}

static enum base_code
add_object(struct store_tree *tree, uint32_t idx, struct base_err *err)
{
    const struct store_source *source = tree->target->source;
    const struct store_object *object = store_source_object_at(source, idx);
    struct store_node node = {.name = object->name,
                              .kind = STORE_NODE_OBJECT,
                              .object =
                                  store_source_blob(source, object->blob)};

    return add_node(tree, &node, err);
}

static enum base_code add_job_objects(struct store_tree *tree,
                                      struct base_err *err)
{
    const struct store_source *source = tree->target->source;

    for (uint32_t i = 0; i < store_source_n_objects(source); i++) {
        if (store_source_object_at(source, i)->rank == PTC_NONE) {
            BASE_TRY(add_object(tree, i, err));
        }
    }
    return BASE_OK;
}

static enum base_code add_text(struct store_tree *tree,
                               struct base_str name,
                               const struct base_buf *text,
                               struct base_err *err)
{
    struct store_node node = {.name = name, .kind = STORE_NODE_TEXT};

    BASE_TRY(base_buf_check(text, err));
    node.text = base_arena_str(tree->arena, base_buf_str(text));
    return node.text.ptr == NULL ? no_mem(err) : add_node(tree, &node, err);
}

/* --- ranks/ ------------------------------------------------------------- */

static enum base_code
on_any_shown(void *ctx, const struct ptc_shown *shown, struct base_err *err)
{
    bool *any = ctx;

    (void)shown;
    (void)err;
    *any = true;
    return BASE_INTERRUPTED; /* one is enough */
}

static enum base_code rank_shows(const struct ptc_layout *layout,
                                 ptc_rank rank,
                                 struct base_str group,
                                 bool *ret,
                                 struct base_err *err)
{
    struct base_err inner = {0};
    enum base_code code;

    *ret = false;
    code = ptc_layout_shown(layout, rank, group, on_any_shown, ret, &inner);
    if (code != BASE_OK && !*ret) {
        return base_fail(err, code, "%s", inner.text);
    }
    return BASE_OK;
}

/* The first of the target's rank objects that is not of a lower rank. */
static size_t first_object(const struct store_target *target, ptc_rank rank)
{
    size_t low = 0, high = target->rank_objects.n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (target->rank_objects.items[middle].rank < rank) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static enum base_code add_rank(struct store_tree *tree,
                               uint32_t dir,
                               ptc_rank rank,
                               const struct base_str *file_names,
                               struct base_err *err)
{
    const struct store_target *target = tree->target;
    const struct ptc_table *table = store_target_table(target);
    size_t begin = tree->nodes.n;

    for (uint32_t g = 0; g < ptc_table_n_groups(table); g++) {
        struct store_node node = {.name = file_names[g],
                                  .kind = STORE_NODE_FILE,
                                  .recipe_ = {rank, g}};
        bool shows;

        BASE_TRY(rank_shows(target->layout, rank, ptc_table_group(table, g),
                            &shows, err));
        if (shows) {
            BASE_TRY(add_node(tree, &node, err));
        }
    }
    for (size_t i = first_object(target, rank);
         i < target->rank_objects.n &&
         target->rank_objects.items[i].rank == rank;
         i++) {
        BASE_TRY(add_object(tree, target->rank_objects.items[i].object, err));
    }
    return add_end(tree, dir, begin, err);
}

/* GROUP.safetensors of every group, in the arena. */
static enum base_code make_file_names(struct store_tree *tree,
                                      struct base_str **ret,
                                      struct base_err *err)
{
    const struct ptc_table *table = store_target_table(tree->target);
    uint32_t n = ptc_table_n_groups(table);
    struct base_str *names =
        base_arena_alloc(tree->arena, (size_t)n + 1, sizeof(*names));

    if (names == NULL) {
        return no_mem(err);
    }
    for (uint32_t g = 0; g < n; g++) {
        BASE_TRY(keep_name(tree,
                           base_path("%.*s.safetensors",
                                     BASE_STR_FMT(ptc_table_group(table, g))),
                           &names[g], err));
    }
    *ret = names;
    return BASE_OK;
}

static enum base_code make_ranks(struct store_tree *tree, struct base_err *err)
{
    const struct ptc_layout *layout = tree->target->layout;
    uint32_t n_ranks = ptc_layout_n_ranks(layout);
    struct store_node ranks = {.name = BASE_STR("ranks"),
                               .kind = STORE_NODE_DIR};
    struct base_str *file_names = NULL;
    BASE_AUTO_BUF text;
    uint32_t ranks_idx, first;

    base_buf_init(&text, (size_t)PTC_SPEC_MAX_BYTES * 4);
    BASE_TRY(ptc_spec_format(ptc_layout_spec(layout), &text, err));
    BASE_TRY(add_job_objects(tree, err));
    BASE_TRY(add_text(tree, BASE_STR("layout.yaml"), &text, err));
    BASE_TRY(add_node(tree, &ranks, err));
    BASE_TRY(add_end(tree, 0, 1, err));
    ranks_idx = store_tree_child(tree, 0, ranks.name);
    first = (uint32_t)tree->nodes.n;
    BASE_TRY(make_file_names(tree, &file_names, err));
    for (ptc_rank rank = 0; rank < n_ranks; rank++) {
        /* Names sort as numbers below a thousand ranks only. */
        struct store_node node = {.kind = STORE_NODE_DIR, .recipe_ = {rank}};

        BASE_TRY(keep_name(tree, base_path("%03u", rank), &node.name, err));
        BASE_TRY(add_node(tree, &node, err));
    }
    BASE_TRY(add_end(tree, ranks_idx, first, err));
    for (uint32_t i = 0; i < n_ranks; i++) {
        ptc_rank rank = tree->nodes.items[first + i].recipe_[RECIPE_FIRST];

        BASE_TRY(add_rank(tree, first + i, rank, file_names, err));
    }
    return BASE_OK;
}

/* --- hf/ ---------------------------------------------------------------- */

struct hf_files {
    struct ptc_file **items;
    uint32_t n;
};

static void hf_files_auto(const struct hf_files *files)
{
    for (uint32_t i = 0; i < files->n; i++) {
        ptc_file_free(files->items[i]);
    }
    free(files->items);
}

#define AUTO_HF_FILES __attribute__((cleanup(hf_files_auto))) struct hf_files

static int hf_entry_cmp(const void *a, const void *b)
{
    return base_str_cmp(((const struct ptc_hf_entry *)a)->tensor,
                        ((const struct ptc_hf_entry *)b)->tensor);
}

/* The text of the index of several files. */
static enum base_code write_index(const struct hf_files *files,
                                  struct base_str *names,
                                  struct base_buf *buf,
                                  struct base_err *err)
{
    struct ptc_hf_index index = {.n_files = files->n, .files = names};
    BASE_AUTO_MEM struct ptc_hf_entry *entries = NULL;
    size_t n = 0;

    for (uint32_t f = 0; f < files->n; f++) {
        n += ptc_file_n_entries(files->items[f]);
    }
    entries = calloc(n + 1, sizeof(*entries));
    if (entries == NULL || n > UINT32_MAX) {
        return no_mem(err);
    }
    index.entries = entries;
    for (uint32_t f = 0; f < files->n; f++) {
        for (uint32_t i = 0; i < ptc_file_n_entries(files->items[f]); i++) {
            const struct ptc_file_entry *entry =
                ptc_file_entry(files->items[f], i);

            entries[index.n_entries++] =
                (struct ptc_hf_entry){entry->shown.name, f};
            index.total_size += entry->n_bytes;
        }
    }
    qsort(entries, n, sizeof(*entries), hf_entry_cmp);
    return ptc_hf_index_write(&index, buf, err);
}

static enum base_code
add_hf_group(struct store_tree *tree, uint32_t g, struct base_err *err)
{
    const struct ptc_layout *layout = tree->target->layout;
    struct base_str group =
        ptc_table_group(store_target_table(tree->target), g);
    AUTO_HF_FILES files = {0};
    BASE_AUTO_MEM struct base_str *names = NULL;
    struct base_str index_name;
    BASE_AUTO_BUF text;

    base_buf_init(&text, INDEX_MAX_BYTES);
    BASE_TRY(ptc_file_create_hf(layout, group, PTC_HF_MAX_BYTES, &files.items,
                                &files.n, err));
    names = calloc((size_t)files.n + 1, sizeof(*names));
    if (names == NULL) {
        return no_mem(err);
    }
    for (uint32_t f = 0; f < files.n; f++) {
        struct store_node node = {.kind = STORE_NODE_FILE, .recipe_ = {g, f}};
        char *name = files.n == 1
                         ? base_path("%.*s.safetensors", BASE_STR_FMT(group))
                         : base_path("%.*s-%05u-of-%05u.safetensors",
                                     BASE_STR_FMT(group), f + 1, files.n);

        BASE_TRY(keep_name(tree, name, &node.name, err));
        BASE_TRY(add_node(tree, &node, err));
        names[f] = node.name;
    }
    if (files.n < 2) {
        return BASE_OK;
    }
    BASE_TRY(write_index(&files, names, &text, err));
    BASE_TRY(keep_name(
        tree, base_path("%.*s.safetensors.index.json", BASE_STR_FMT(group)),
        &index_name, err));
    return add_text(tree, index_name, &text, err);
}

static enum base_code make_hf(struct store_tree *tree, struct base_err *err)
{
    const struct ptc_table *table = store_target_table(tree->target);

    BASE_TRY(add_job_objects(tree, err));
    for (uint32_t g = 0; g < ptc_table_n_groups(table); g++) {
        BASE_TRY(add_hf_group(tree, g, err));
    }
    return add_end(tree, 0, 1, err);
}

/* --- npy/ --------------------------------------------------------------- */

static enum base_code make_npy(struct store_tree *tree, struct base_err *err)
{
    const struct ptc_table *table = store_target_table(tree->target);

    for (uint32_t i = 0; i < ptc_table_n_tensors(table); i++) {
        const struct ptc_tensor *t = ptc_table_tensor(table, i);
        struct store_node node = {.kind = STORE_NODE_FILE, .recipe_ = {i}};

        if (ptc_dtype_bits(t->dtype) % 8 != 0) {
            continue; /* NumPy has no such element */
        }
        BASE_TRY(keep_name(tree, base_path("%.*s.npy", BASE_STR_FMT(t->name)),
                           &node.name, err));
        BASE_TRY(add_node(tree, &node, err));
    }
    return add_end(tree, 0, 1, err);
}

enum base_code store_tree_create(const struct store_target *target,
                                 enum store_tree_kind kind,
                                 struct store_tree **ret,
                                 struct base_err *err)
{
    BASE_AUTO(store_tree) tree = calloc(1, sizeof(*tree));
    struct store_node root = {.name = BASE_STR(""), .kind = STORE_NODE_DIR};

    if (tree != NULL) {
        tree->target = target;
        tree->kind = kind;
        tree->arena = base_arena_create(TREE_ARENA_BYTES);
    }
    if (tree == NULL || tree->arena == NULL) {
        return no_mem(err);
    }
    if (kind != STORE_TREE_RANKS && !target->is_whole) {
        return base_fail(err, BASE_BAD_ARG,
                         "only the layout `hf` has whole tensors to show");
    }
    BASE_TRY(add_node(tree, &root, err));
    switch (kind) {
    case STORE_TREE_RANKS:
        BASE_TRY(make_ranks(tree, err));
        break;
    case STORE_TREE_HF:
        BASE_TRY(make_hf(tree, err));
        break;
    case STORE_TREE_NPY:
        BASE_TRY(make_npy(tree, err));
        break;
    }
    *ret = base_steal(&tree);
    return BASE_OK;
}

static enum base_code make_hf_file(const struct store_tree *tree,
                                   const struct store_node *node,
                                   struct ptc_file **ret,
                                   struct base_err *err)
{
    AUTO_HF_FILES files = {0};
    uint32_t idx = node->recipe_[RECIPE_SECOND];

    BASE_TRY(
        ptc_file_create_hf(tree->target->layout,
                           ptc_table_group(store_target_table(tree->target),
                                           node->recipe_[RECIPE_FIRST]),
                           PTC_HF_MAX_BYTES, &files.items, &files.n, err));
    *ret = base_steal(&files.items[idx]);
    return BASE_OK;
}

enum base_code store_tree_file(const struct store_tree *tree,
                               uint32_t idx,
                               struct ptc_file **ret,
                               struct base_err *err)
{
    const struct store_node *node = &tree->nodes.items[idx];
    const struct ptc_layout *layout = tree->target->layout;

    switch (tree->kind) {
    case STORE_TREE_RANKS:
        return ptc_file_create_rank(
            layout, node->recipe_[RECIPE_FIRST],
            ptc_table_group(store_target_table(tree->target),
                            node->recipe_[RECIPE_SECOND]),
            ret, err);
    case STORE_TREE_HF:
        return make_hf_file(tree, node, ret, err);
    case STORE_TREE_NPY:
        return ptc_file_create_npy(layout, node->recipe_[RECIPE_FIRST], ret,
                                   err);
    }
    return BASE_OK;
}
