/* Making flats: members, buckets, offsets.
 *
 *   1. members of all flats, sorted by (flat, state, layer number when buckets
 *      are per layer, first glob of `order`, name): each run of one (flat,
 *      state) is a set, and a member's place in it its position
 *   2. each set is laid down: layout_flat_lay.c
 *   3. its buckets get their names, and all names are sorted */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/glob.h"
#include "ptc/layout_impl.h"

/* A member before it has a set. */
struct entry {
    uint32_t flat;
    uint32_t layer; /* 0 unless buckets are per layer */
    uint32_t order; /* the first glob that it matches */
    uint32_t tensor;
    struct base_str state;
};

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory for flats");
}

static struct base_str state_of(struct base_str name)
{
    struct base_str state = {"", 0};
    struct base_str param;

    (void)ptc_name_split_optim(name, &state, &param); /* plain: no state */
    return state;
}

static int entry_cmp(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;

    if (x->flat != y->flat) {
        return x->flat < y->flat ? -1 : 1;
    }
    if (!base_str_eq(x->state, y->state)) {
        return base_str_cmp(x->state, y->state);
    }
    if (x->layer != y->layer) {
        return x->layer < y->layer ? -1 : 1;
    }
    if (x->order != y->order) {
        return x->order < y->order ? -1 : 1;
    }
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

/* All members, sorted; *ret is given. */
static enum base_code entries_make(const struct ptc_layout *layout,
                                   const struct ptc_choice *choices,
                                   struct ptc_glob *const *globs,
                                   struct entry **ret,
                                   uint32_t *ret_n,
                                   struct base_err *err)
{
    struct entry *entries;
    uint32_t n = 0;

    for (uint32_t i = 0; i < layout->n_tensors; i++) {
        n += ptc_geometry_of(layout, i)->flat != PTC_NONE;
    }
    entries = calloc(n + (size_t)1, sizeof(*entries));
    if (entries == NULL) {
        return no_mem(err);
    }
    n = 0;
    for (uint32_t i = 0; i < layout->n_tensors; i++) {
        uint32_t idx = ptc_geometry_of(layout, i)->flat;
        const struct ptc_tensor *tensor = ptc_table_tensor(layout->table, i);
        struct entry entry = {.flat = idx, .tensor = i};

        if (idx == PTC_NONE) {
            continue;
        }
        entry.state = state_of(tensor->name);
        if (layout->spec->flats[idx].is_per_layer) {
            entry.layer = choices[i].layer; /* PTC_NONE is last */
        }
        while (entry.order < layout->spec->flats[idx].n_order &&
               !ptc_glob_matches(&globs[idx][entry.order], tensor->name)) {
            entry.order++;
        }
        entries[n++] = entry;
    }
    qsort(entries, n, sizeof(*entries), entry_cmp);
    *ret = entries;
    *ret_n = n;
    return BASE_OK;
}

/* Sets. */

static enum base_code names_make(struct ptc_layout *layout,
                                 struct ptc_flat_set *set,
                                 struct base_err *err)
{
    struct base_str *names =
        base_arena_alloc(layout->arena, set->n_names, sizeof(*names));
    BASE_AUTO_BUF buf = {0};

    if (names == NULL) {
        return no_mem(err);
    }
    base_buf_init(&buf, 4096);
    for (uint32_t b = 0; b < set->n_names; b++) {
        buf.len = 0;
        if (set->state.len > 0) {
            (void)base_buf_addf(&buf, "optim.%.*s.", BASE_STR_FMT(set->state));
        }
        (void)base_buf_addf(&buf, "%.*s.%" PRIu32,
                            BASE_STR_FMT(set->flat->name), b);
        BASE_TRY(base_buf_check(&buf, err));
        BASE_TRY(ptc_name_check(base_buf_str(&buf), "flat", err));
        names[b] = base_arena_str(layout->arena, base_buf_str(&buf));
        if (names[b].ptr == NULL) {
            return no_mem(err);
        }
    }
    set->names = names;
    return BASE_OK;
}

/* All members must agree in dtype, group and mesh. */
static enum base_code members_check(const struct ptc_layout *layout,
                                    const struct ptc_flat_set *set,
                                    struct base_err *err)
{
    uint32_t mesh = ptc_geometry_of(layout, set->members[0])->mesh;
    struct base_str first =
        ptc_table_tensor(layout->table, set->members[0])->name;

    for (uint32_t i = 0; i < set->n_members; i++) {
        const struct ptc_tensor *t =
            ptc_table_tensor(layout->table, set->members[i]);
        const char *what = NULL;

        if (t->dtype != set->dtype) {
            what = "dtype";
        } else if (!base_str_eq(t->group, set->group)) {
            what = "group";
        } else if (ptc_geometry_of(layout, set->members[i])->mesh != mesh) {
            what = "mesh";
        }
        if (what != NULL) {
            return base_fail(err, BASE_MISMATCH,
                             "flat %.*s: tensor %.*s and tensor %.*s differ "
                             "in %s",
                             BASE_STR_FMT(set->flat->name), BASE_STR_FMT(first),
                             BASE_STR_FMT(t->name), what);
        }
    }
    return BASE_OK;
}

/* Make one set of @n sorted entries. */
static enum base_code set_make(struct ptc_layout *layout,
                               const struct ptc_choice *choices,
                               const struct entry *entries,
                               uint32_t n,
                               uint32_t set_idx,
                               bool *seen,
                               struct base_err *err)
{
    struct ptc_flat_set *set = &layout->flat_sets[set_idx];
    uint32_t *members = base_arena_alloc(layout->arena, n, sizeof(*members));
    const struct ptc_tensor *first =
        ptc_table_tensor(layout->table, entries[0].tensor);
    const struct ptc_geometry *g = ptc_geometry_of(layout, entries[0].tensor);

    if (members == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < n; i++) {
        members[i] = entries[i].tensor;
        layout->bound[members[i]].flat_set = set_idx;
        layout->bound[members[i]].position = i;
    }
    set->flat = &layout->spec->flats[entries[0].flat];
    set->state = entries[0].state;
    set->group = first->group;
    set->dtype = first->dtype;
    set->n_members = n;
    set->members = members;
    BASE_TRY(members_check(layout, set, err));
    set->n_over = g->n_over;
    memcpy(set->over, g->over, sizeof(set->over));
    set->n_parts = 1;
    for (uint32_t i = 0; i < set->n_over; i++) {
        set->n_parts *= set->over[i].size;
    }
    BASE_TRY(ptc_flat_lay(layout, set, choices, seen, err));
    return names_make(layout, set, err);
}

static int name_cmp(const void *a, const void *b)
{
    const struct ptc_bucket_name *x = a;
    const struct ptc_bucket_name *y = b;

    return base_str_cmp(x->name, y->name);
}

/* The names of all buckets, sorted; none may be a tensor's or there twice. */
static enum base_code bucket_names_make(struct ptc_layout *layout,
                                        struct base_err *err)
{
    struct ptc_bucket_name *names;
    size_t n = 0;

    for (uint32_t s = 0; s < layout->n_flat_sets; s++) {
        n += layout->flat_sets[s].n_names;
    }
    names = base_arena_alloc(layout->arena, n, sizeof(*names));
    if (names == NULL) {
        return no_mem(err);
    }
    n = 0;
    for (uint32_t s = 0; s < layout->n_flat_sets; s++) {
        for (uint32_t b = 0; b < layout->flat_sets[s].n_names; b++) {
            names[n++] =
                (struct ptc_bucket_name){layout->flat_sets[s].names[b], s, b};
        }
    }
    qsort(names, n, sizeof(*names), name_cmp);
    for (size_t i = 0; i < n; i++) {
        if (ptc_table_find(layout->table, names[i].name) != PTC_NONE ||
            (i > 0 && base_str_eq(names[i - 1].name, names[i].name))) {
            return base_fail(err, BASE_MISMATCH,
                             "a bucket of a flat and another tensor are both "
                             "called %.*s",
                             BASE_STR_FMT(names[i].name));
        }
    }
    layout->bucket_names = names;
    layout->n_bucket_names = (uint32_t)n;
    return BASE_OK;
}

/* Make the sets of sorted entries. */
static enum base_code sets_make(struct ptc_layout *layout,
                                const struct ptc_choice *choices,
                                const struct entry *entries,
                                uint32_t n,
                                struct base_err *err)
{
    BASE_AUTO_MEM bool *seen =
        calloc(layout->n_geometries + (size_t)1, sizeof(*seen));
    uint32_t begin = 0;
    uint32_t n_sets = 0;

    for (uint32_t i = 0; i < n; i++) {
        n_sets += i == 0 || entries[i].flat != entries[i - 1].flat ||
                  !base_str_eq(entries[i].state, entries[i - 1].state);
    }
    layout->flat_sets =
        base_arena_alloc(layout->arena, n_sets, sizeof(*layout->flat_sets));
    if (seen == NULL || layout->flat_sets == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 1; i <= n; i++) {
        if (i < n && entries[i].flat == entries[begin].flat &&
            base_str_eq(entries[i].state, entries[begin].state)) {
            continue;
        }
        BASE_TRY(set_make(layout, choices, entries + begin, i - begin,
                          layout->n_flat_sets, seen, err));
        layout->n_flat_sets++;
        begin = i;
    }
    return bucket_names_make(layout, err);
}

enum base_code ptc_layout_flatten(struct ptc_layout *layout,
                                  const struct ptc_choice *choices,
                                  struct base_err *err)
{
    const struct ptc_spec *spec = layout->spec;
    BASE_AUTO(base_arena) arena = base_arena_create(PTC_LAYOUT_MAX_BYTES);
    BASE_AUTO_MEM struct entry *entries = NULL;
    struct ptc_glob **globs;
    uint32_t n = 0;

    if (spec->n_flats == 0) {
        return BASE_OK;
    }
    globs = arena == NULL
                ? NULL
                : base_arena_alloc(arena, spec->n_flats, sizeof(*globs));
    if (globs == NULL) {
        return no_mem(err);
    }
    for (uint32_t f = 0; f < spec->n_flats; f++) {
        globs[f] = base_arena_alloc(arena, spec->flats[f].n_order + (size_t)1,
                                    sizeof(**globs));
        if (globs[f] == NULL) {
            return no_mem(err);
        }
        for (uint32_t i = 0; i < spec->flats[f].n_order; i++) {
            globs[f][i] = ptc_glob_of(spec->flats[f].order[i]);
        }
    }
    BASE_TRY(entries_make(layout, choices, globs, &entries, &n, err));
    return n == 0 ? BASE_OK : sets_make(layout, choices, entries, n, err);
}
