/* Building tables.
 *
 * The builder collects tensors, ties and objects in arrays, their bytes in one
 * arena that the table takes over.  Finishing sorts each array once:
 *   1. tensors by name: no name twice
 *   2. ties by name; each is followed along the chain of ties to its root,
 *      a tensor with bytes of its own; what a chain found, later ones reuse
 *   3. a tie that was not added becomes a tensor; root indices are filled in
 *   4. objects and groups by name; the digest is taken of the text form
 *
 * Invariants of a finished table: tensors sorted strictly by name; tie is
 * PTC_NONE or the index of a tensor with tie PTC_NONE and the same group,
 * dtype and shape; n_bytes of all roots together fits 2^63. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/table_impl.h"

#define TABLE_MAX_BYTES (UINT64_C(4) << 30)
#define GROUP_MAX       100
#define TEXT_MAX_BYTES  (UINT64_C(4) << 30)
#define N_RECENT        4u

/* "@name has the bytes of @target". */
struct tie {
    struct base_str name;
    struct base_str target;
    uint32_t root;  /* index of tensors once is_resolved */
    uint32_t visit; /* number of the walk that came here, from 1; 0: none */
    bool is_resolved;
};

struct ptc_table_builder {
    struct base_arena *arena; /* NULL until something is added */
    BASE_VEC(struct ptc_tensor) tensors;
    BASE_VEC(struct tie) ties;
    BASE_VEC(struct ptc_object) objects;
    struct base_str recent[N_RECENT]; /* groups, so that few are copied twice */
    uint32_t next_recent;
};

struct ptc_table_builder *ptc_table_builder_create(void)
{
    return calloc(1, sizeof(struct ptc_table_builder));
}

static void builder_clear(struct ptc_table_builder *builder)
{
    base_arena_free(builder->arena);
    free(builder->tensors.items);
    free(builder->ties.items);
    free(builder->objects.items);
    *builder = (struct ptc_table_builder){0};
}

void ptc_table_builder_free(struct ptc_table_builder *builder)
{
    if (builder != NULL) {
        builder_clear(builder);
        free(builder);
    }
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate a tensor table");
}

/* A NUL-terminated copy in the builder's arena. */
static enum base_code copy_str(struct ptc_table_builder *builder,
                               struct base_str s,
                               struct base_str *ret,
                               struct base_err *err)
{
    struct base_str copy;

    if (builder->arena == NULL) {
        builder->arena = base_arena_create(TABLE_MAX_BYTES);
        if (builder->arena == NULL) {
            return no_mem(err);
        }
    }
    copy = base_arena_str(builder->arena, s);
    if (copy.ptr == NULL) {
        return no_mem(err);
    }
    *ret = copy;
    return BASE_OK;
}

static enum base_code copy_group(struct ptc_table_builder *builder,
                                 struct base_str group,
                                 struct base_str *ret,
                                 struct base_err *err)
{
    for (uint32_t i = 0; i < N_RECENT; i++) {
        if (builder->recent[i].ptr != NULL &&
            base_str_eq(builder->recent[i], group)) {
            *ret = builder->recent[i];
            return BASE_OK;
        }
    }
    BASE_TRY(ptc_name_check(group, "group", err));
    if (group.len > GROUP_MAX) {
        return base_fail(err, BASE_BAD_INPUT,
                         "group '%.60s...': the name has %zu bytes, at most %d "
                         "are allowed",
                         group.ptr, group.len, GROUP_MAX);
    }
    if (group.ptr[0] == '.') {
        return base_fail(err, BASE_BAD_INPUT,
                         "group '%.*s': the name begins with '.'",
                         BASE_STR_FMT(group));
    }
    BASE_TRY(copy_str(builder, group, ret, err));
    builder->recent[builder->next_recent] = *ret;
    builder->next_recent = (builder->next_recent + 1) % N_RECENT;
    return BASE_OK;
}

/* Fill in n_dims, n_elems and n_bytes of a tensor from its shape. */
static enum base_code measure(struct ptc_tensor *tensor,
                              uint32_t n_dims,
                              const uint64_t *shape,
                              struct base_err *err)
{
    uint64_t n_elems = 1;

    if (n_dims > PTC_MAX_DIMS) {
        return base_fail(err, BASE_BAD_INPUT,
                         "tensor '%.*s': shape: %" PRIu32
                         " dimensions, at most %d are supported",
                         BASE_STR_FMT(tensor->name), n_dims, PTC_MAX_DIMS);
    }
    for (uint32_t d = 0; d < n_dims; d++) {
        if (!base_mul_u64(n_elems, shape[d], &n_elems)) {
            return base_fail(err, BASE_BAD_INPUT,
                             "tensor '%.*s': shape: the number of elements "
                             "overflows",
                             BASE_STR_FMT(tensor->name));
        }
    }
    if (!ptc_dtype_bytes(tensor->dtype, n_elems, &tensor->n_bytes)) {
        bool is_part = n_elems <= UINT64_MAX / 64;

        return base_fail(err, BASE_BAD_INPUT,
                         "tensor '%.*s': shape: %" PRIu64 " elements of %s %s",
                         BASE_STR_FMT(tensor->name), n_elems,
                         ptc_dtype_name(tensor->dtype),
                         is_part ? "are no whole number of bytes"
                                 : "are 2^61 bytes or more");
    }
    tensor->n_dims = n_dims;
    tensor->n_elems = n_elems;
    return BASE_OK;
}

enum base_code ptc_table_add(struct ptc_table_builder *builder,
                             struct base_str name,
                             struct base_str group,
                             enum ptc_dtype dtype,
                             uint32_t n_dims,
                             const uint64_t *shape,
                             struct base_err *err)
{
    struct ptc_tensor tensor = {.name = name, .dtype = dtype, .tie = PTC_NONE};
    uint64_t *copy;

    BASE_TRY(ptc_name_check(name, "tensor", err));
    BASE_TRY(measure(&tensor, n_dims, shape, err));
    if (builder->tensors.n >= PTC_MAX_TENSORS) {
        return base_fail(err, BASE_LIMIT, "more than %u tensors",
                         PTC_MAX_TENSORS);
    }
    BASE_TRY(copy_group(builder, group, &tensor.group, err));
    BASE_TRY(copy_str(builder, name, &tensor.name, err));
    if (n_dims > 0) {
        copy = base_arena_alloc(builder->arena, n_dims, sizeof(*copy));
        if (copy == NULL) {
            return no_mem(err);
        }
        memcpy(copy, shape, n_dims * sizeof(*copy));
        tensor.shape = copy;
    }
    return base_vec_push(&builder->tensors, tensor) ? BASE_OK : no_mem(err);
}

enum base_code ptc_table_add_tie(struct ptc_table_builder *builder,
                                 struct base_str name,
                                 struct base_str target,
                                 struct base_err *err)
{
    struct tie tie = {0};

    BASE_TRY(ptc_name_check(name, "tie", err));
    BASE_TRY(ptc_name_check(target, "tie", err));
    if (builder->ties.n >= PTC_MAX_TENSORS) {
        return base_fail(err, BASE_LIMIT, "more than %u ties", PTC_MAX_TENSORS);
    }
    BASE_TRY(copy_str(builder, name, &tie.name, err));
    BASE_TRY(copy_str(builder, target, &tie.target, err));
    return base_vec_push(&builder->ties, tie) ? BASE_OK : no_mem(err);
}

enum base_code ptc_table_add_object(struct ptc_table_builder *builder,
                                    struct base_str name,
                                    bool is_per_rank,
                                    struct base_err *err)
{
    struct ptc_object object = {.is_per_rank = is_per_rank};

    BASE_TRY(ptc_name_check(name, "object", err));
    if (name.ptr[0] == '.' || base_str_ends(name, BASE_STR(".tmp")) ||
        base_str_ends(name, BASE_STR(".safetensors")) ||
        base_str_eq(name, BASE_STR("layout.yaml")) ||
        base_str_eq(name, BASE_STR("ranks"))) {
        return base_fail(err, BASE_BAD_INPUT,
                         "object '%.*s': the name is not one for an object",
                         BASE_STR_FMT(name));
    }
    if (builder->objects.n >= PTC_MAX_OBJECTS) {
        return base_fail(err, BASE_LIMIT, "more than %u objects",
                         PTC_MAX_OBJECTS);
    }
    BASE_TRY(copy_str(builder, name, &object.name, err));
    return base_vec_push(&builder->objects, object) ? BASE_OK : no_mem(err);
}

enum base_code ptc_table_add_all(struct ptc_table_builder *builder,
                                 const struct ptc_table *table,
                                 struct base_err *err)
{
    for (uint32_t i = 0; i < table->n_tensors; i++) {
        const struct ptc_tensor *t = &table->tensors[i];

        if (t->tie != PTC_NONE) {
            BASE_TRY(ptc_table_add_tie(builder, t->name,
                                       table->tensors[t->tie].name, err));
        } else {
            BASE_TRY(ptc_table_add(builder, t->name, t->group, t->dtype,
                                   t->n_dims, t->shape, err));
        }
    }
    for (uint32_t i = 0; i < table->n_objects; i++) {
        BASE_TRY(ptc_table_add_object(builder, table->objects[i].name,
                                      table->objects[i].is_per_rank, err));
    }
    return BASE_OK;
}

/* Finishing. */

static int cmp_tensors(const void *a, const void *b)
{
    return base_str_cmp(((const struct ptc_tensor *)a)->name,
                        ((const struct ptc_tensor *)b)->name);
}

static int cmp_ties(const void *a, const void *b)
{
    const struct tie *x = a;
    const struct tie *y = b;
    int order = base_str_cmp(x->name, y->name);

    return order != 0 ? order : base_str_cmp(x->target, y->target);
}

static int cmp_objects(const void *a, const void *b)
{
    return base_str_cmp(((const struct ptc_object *)a)->name,
                        ((const struct ptc_object *)b)->name);
}

static int cmp_strs(const void *a, const void *b)
{
    return base_str_cmp(*(const struct base_str *)a,
                        *(const struct base_str *)b);
}

static void
sort(void *items, size_t n, size_t size, int (*cmp)(const void *, const void *))
{
    if (n > 1) { /* qsort(NULL, 0, ...) is undefined */
        qsort(items, n, size, cmp);
    }
}

static enum base_code sort_tensors(struct ptc_table_builder *builder,
                                   struct base_err *err)
{
    struct ptc_tensor *tensors = builder->tensors.items;
    bool is_sorted = true;

    for (size_t i = 1; i < builder->tensors.n && is_sorted; i++) {
        is_sorted = cmp_tensors(&tensors[i - 1], &tensors[i]) < 0;
    }
    if (is_sorted) { /* as files that we write are */
        return BASE_OK;
    }
    sort(tensors, builder->tensors.n, sizeof(*tensors), cmp_tensors);
    for (size_t i = 1; i < builder->tensors.n; i++) {
        if (cmp_tensors(&tensors[i - 1], &tensors[i]) == 0) {
            return base_fail(err, BASE_BAD_INPUT, "tensor '%.*s': twice there",
                             BASE_STR_FMT(tensors[i].name));
        }
    }
    return BASE_OK;
}

static struct tie *find_tie(const struct ptc_table_builder *builder,
                            struct base_str name)
{
    size_t begin = 0;
    size_t end = builder->ties.n;

    while (begin < end) { /* the first that is not less */
        size_t mid = begin + (end - begin) / 2;

        if (base_str_cmp(builder->ties.items[mid].name, name) < 0) {
            begin = mid + 1;
        } else {
            end = mid;
        }
    }
    if (begin == builder->ties.n ||
        !base_str_eq(builder->ties.items[begin].name, name)) {
        return NULL;
    }
    return &builder->ties.items[begin];
}

/* Find the root of @tie and of all ties on the way to it. */
static enum base_code resolve_tie(const struct ptc_table_builder *builder,
                                  struct tie *tie,
                                  uint32_t visit,
                                  struct base_err *err)
{
    struct tie *at = tie;
    struct tie *next;
    uint32_t root;

    for (;;) {
        at->visit = visit;
        next = find_tie(builder, at->target);
        if (next == NULL || next->is_resolved) {
            break;
        }
        if (next->visit == visit) {
            return base_fail(err, BASE_BAD_INPUT,
                             "tie '%.*s': its targets go in a circle",
                             BASE_STR_FMT(tie->name));
        }
        at = next;
    }
    if (next != NULL) {
        root = next->root;
    } else {
        root = ptc_tensors_find_(builder->tensors.items,
                                 (uint32_t)builder->tensors.n, at->target);
    }
    if (root == PTC_NONE) {
        return base_fail(err, BASE_BAD_INPUT,
                         "tie '%.*s': there is no tensor '%.*s'",
                         BASE_STR_FMT(at->name), BASE_STR_FMT(at->target));
    }
    for (at = tie; at != NULL && !at->is_resolved;
         at = find_tie(builder, at->target)) {
        at->root = root;
        at->is_resolved = true;
    }
    return BASE_OK;
}

/* Is what was added under a tie's own name like its root? */
static enum base_code check_tied(const struct ptc_tensor *tied,
                                 const struct ptc_tensor *root,
                                 struct base_err *err)
{
    const char *field = NULL;

    if (tied->dtype != root->dtype) {
        field = "dtype";
    } else if (tied->n_dims != root->n_dims ||
               (tied->n_dims > 0 &&
                memcmp(tied->shape, root->shape,
                       tied->n_dims * sizeof(*tied->shape)) != 0)) {
        field = "shape";
    } else if (!base_str_eq(tied->group, root->group)) {
        field = "group";
    }
    if (field != NULL) {
        return base_fail(err, BASE_BAD_INPUT,
                         "tensor '%.*s': %s: not that of '%.*s', to which it "
                         "is tied",
                         BASE_STR_FMT(tied->name), field,
                         BASE_STR_FMT(root->name));
    }
    return BASE_OK;
}

/* Make tensors of ties that are none yet, and mark all tied ones with the
 * index of their root before the new ones are sorted in. */
static enum base_code add_ties(struct ptc_table_builder *builder,
                               struct base_err *err)
{
    size_t n_added = builder->tensors.n;

    sort(builder->ties.items, builder->ties.n, sizeof(struct tie), cmp_ties);
    for (size_t i = 0; i < builder->ties.n; i++) {
        struct tie *tie = &builder->ties.items[i];

        if (!tie->is_resolved) {
            BASE_TRY(resolve_tie(builder, tie, (uint32_t)i + 1, err));
        }
    }
    for (size_t i = 0; i < builder->ties.n; i++) {
        const struct tie *tie = &builder->ties.items[i];
        struct ptc_tensor tensor = builder->tensors.items[tie->root];
        uint32_t idx = ptc_tensors_find_(builder->tensors.items,
                                         (uint32_t)n_added, tie->name);

        if (i > 0 && base_str_eq(tie[-1].name, tie->name)) {
            return base_fail(err, BASE_BAD_INPUT, "tie '%.*s': twice there",
                             BASE_STR_FMT(tie->name));
        }
        if (idx != PTC_NONE) {
            BASE_TRY(check_tied(&builder->tensors.items[idx], &tensor, err));
            builder->tensors.items[idx].tie = tie->root;
            continue;
        }
        tensor.name = tie->name;
        tensor.tie = tie->root;
        if (builder->tensors.n >= PTC_MAX_TENSORS) {
            return base_fail(err, BASE_LIMIT, "more than %u tensors",
                             PTC_MAX_TENSORS);
        }
        if (!base_vec_push(&builder->tensors, tensor)) {
            return no_mem(err);
        }
    }
    return BASE_OK;
}

/* After the second sort, indices of roots are looked up again by name. */
static enum base_code place_ties(struct ptc_table_builder *builder,
                                 struct base_err *err)
{
    uint32_t n = (uint32_t)builder->tensors.n;
    struct base_str *roots;

    if (builder->ties.n == 0) {
        return BASE_OK;
    }
    roots = calloc(builder->ties.n, sizeof(*roots));
    if (roots == NULL) {
        return no_mem(err);
    }
    for (size_t i = 0; i < builder->ties.n; i++) {
        roots[i] = builder->tensors.items[builder->ties.items[i].root].name;
    }
    sort(builder->tensors.items, n, sizeof(struct ptc_tensor), cmp_tensors);
    for (size_t i = 0; i < builder->ties.n; i++) {
        uint32_t idx = ptc_tensors_find_(builder->tensors.items, n,
                                         builder->ties.items[i].name);

        assert(idx != PTC_NONE);
        builder->tensors.items[idx].tie =
            ptc_tensors_find_(builder->tensors.items, n, roots[i]);
    }
    free(roots);
    return BASE_OK;
}

static enum base_code sort_objects(struct ptc_table_builder *builder,
                                   struct base_err *err)
{
    struct ptc_object *objects = builder->objects.items;

    sort(objects, builder->objects.n, sizeof(*objects), cmp_objects);
    for (size_t i = 1; i < builder->objects.n; i++) {
        if (cmp_objects(&objects[i - 1], &objects[i]) == 0) {
            return base_fail(err, BASE_BAD_INPUT, "object '%.*s': twice there",
                             BASE_STR_FMT(objects[i].name));
        }
    }
    return BASE_OK;
}

/* The distinct groups of all tensors; neighbours mostly share one. */
static enum base_code collect_groups(struct ptc_table *table,
                                     struct base_err *err)
{
    BASE_VEC(struct base_str) groups = {0};
    const char *last = NULL;
    uint32_t n = 0;

    for (uint32_t i = 0; i < table->n_tensors; i++) {
        if (table->tensors[i].group.ptr == last) {
            continue;
        }
        last = table->tensors[i].group.ptr;
        if (!base_vec_push(&groups, table->tensors[i].group)) {
            base_vec_done(&groups);
            return no_mem(err);
        }
    }
    sort(groups.items, groups.n, sizeof(struct base_str), cmp_strs);
    for (size_t i = 0; i < groups.n; i++) {
        if (n == 0 || !base_str_eq(groups.items[n - 1], groups.items[i])) {
            groups.items[n++] = groups.items[i];
        }
    }
    table->groups = groups.items;
    table->n_groups = n;
    return BASE_OK;
}

static enum base_code sum_bytes(struct ptc_table *table, struct base_err *err)
{
    for (uint32_t i = 0; i < table->n_tensors; i++) {
        const struct ptc_tensor *t = &table->tensors[i];

        if (t->tie == PTC_NONE &&
            (!base_add_u64(table->n_bytes, t->n_bytes, &table->n_bytes) ||
             table->n_bytes > INT64_MAX)) {
            return base_fail(err, BASE_BAD_INPUT,
                             "tensor '%.*s': all tensors together overflow "
                             "2^63 bytes",
                             BASE_STR_FMT(t->name));
        }
    }
    return BASE_OK;
}

static enum base_code take_digest(struct ptc_table *table, struct base_err *err)
{
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, TEXT_MAX_BYTES);
    BASE_TRY(ptc_table_format(table, &buf, err));
    table->digest = base_digest_of(buf.ptr, buf.len);
    return BASE_OK;
}

enum base_code ptc_table_finish(struct ptc_table_builder *builder,
                                struct ptc_table **ret,
                                struct base_err *err)
{
    BASE_AUTO(ptc_table) table = calloc(1, sizeof(*table));

    if (table == NULL) {
        return no_mem(err);
    }
    BASE_TRY(sort_tensors(builder, err));
    BASE_TRY(add_ties(builder, err));
    BASE_TRY(place_ties(builder, err));
    BASE_TRY(sort_objects(builder, err));
    table->arena = base_steal(&builder->arena);
    table->tensors = base_steal(&builder->tensors.items);
    table->n_tensors = (uint32_t)builder->tensors.n;
    table->objects = base_steal(&builder->objects.items);
    table->n_objects = (uint32_t)builder->objects.n;
    builder_clear(builder);
    if (table->n_tensors > 0) { /* give back what doubling left over */
        struct ptc_tensor *fitted = reallocarray(
            table->tensors, table->n_tensors, sizeof(*table->tensors));

        table->tensors = fitted != NULL ? fitted : table->tensors;
    }
    BASE_TRY(collect_groups(table, err));
    BASE_TRY(sum_bytes(table, err));
    BASE_TRY(take_digest(table, err));
    *ret = base_steal(&table);
    return BASE_OK;
}
