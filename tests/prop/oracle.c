/* The oracle: for each rank, coordinates -> tensors on it -> lists of indices
 * per dimension -> elements -> shown tensors.  Lists are cut as lists; nothing
 * is clever. */
#include "tests/prop/oracle.h"

#include <assert.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>

/* A list of numbers. */
struct list {
    size_t n;
    uint64_t *at;
};

/* Which rule places a tensor, and whose name's number counts. */
struct placing {
    uint32_t rule;
    uint32_t namer;
    bool is_whole;
};

struct work {
    const struct ptc_spec *spec;
    const struct ptc_table *table;
    struct placing *placings; /* by tensor */
    uint32_t n_states;
    struct base_str *states; /* the distinct ones, "" among them */
    bool is_bad;             /* something does not fit */
};

static void *must(void *ptr)
{
    if (ptr == NULL) {
        abort(); /* a test without memory has nothing to say */
    }
    return ptr;
}

static void list_add(struct list *list, uint64_t value)
{
    if ((list->n & (list->n - 1)) == 0) { /* full at each power of two */
        size_t cap = list->n == 0 ? 1 : 2 * list->n;

        list->at = must(reallocarray(list->at, cap, sizeof(*list->at)));
    }
    list->at[list->n++] = value;
}

static bool list_has(const struct list *list, uint64_t value)
{
    for (size_t i = 0; i < list->n; i++) {
        if (list->at[i] == value) {
            return true;
        }
    }
    return false;
}

static int u64_cmp(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;

    return (*x > *y) - (*x < *y);
}

/* Names. */

static bool glob(struct base_str pattern, struct base_str name)
{
    char *p = must(strndup(pattern.ptr, pattern.len));
    char *n = must(strndup(name.ptr, name.len));
    bool is_match = fnmatch(p, n, 0) == 0;

    free(p);
    free(n);
    return is_match;
}

/* The number that @pattern reads in @name, -1 when none. */
static int64_t number(struct base_str pattern, struct base_str name)
{
    char *p = must(strndup(pattern.ptr, pattern.len));
    char *n = must(strndup(name.ptr, name.len));
    regmatch_t groups[2];
    regex_t regex;
    int64_t value = -1;

    if (regcomp(&regex, p, REG_EXTENDED) != 0) {
        abort();
    }
    if (regexec(&regex, n, 2, groups, 0) == 0) {
        value = strtoll(n + groups[1].rm_so, NULL, 10);
    }
    regfree(&regex);
    free(p);
    free(n);
    return value;
}

static bool begins_optim(struct base_str name)
{
    return name.len >= 6 && memcmp(name.ptr, "optim.", 6) == 0;
}

/* STATE and PARAMETER of "optim.STATE.PARAMETER". */
static void split_state(struct base_str name,
                        struct base_str *state,
                        struct base_str *param)
{
    size_t i = 6;

    while (i < name.len && name.ptr[i] != '.') {
        i++;
    }
    *state = (struct base_str){name.ptr + 6, i - 6};
    *param = i < name.len
                 ? (struct base_str){name.ptr + i + 1, name.len - i - 1}
                 : (struct base_str){"", 0};
}

/* Rule matching. */

static bool same_shape(const struct ptc_tensor *a, const struct ptc_tensor *b)
{
    if (a->n_dims != b->n_dims) {
        return false;
    }
    for (uint32_t d = 0; d < a->n_dims; d++) {
        if (a->shape[d] != b->shape[d]) {
            return false;
        }
    }
    return true;
}

static struct placing placing_of(struct work *w, uint32_t tensor)
{
    const struct ptc_tensor *t = ptc_table_tensor(w->table, tensor);
    struct base_str state;
    struct base_str param;
    struct placing placing = {0, tensor, false};
    uint32_t other = t->tie;

    for (uint32_t r = 0; r < w->spec->n_rules; r++) {
        struct base_str match = w->spec->rules[r].match;

        if (begins_optim(match) == begins_optim(t->name) &&
            glob(match, t->name)) {
            placing.rule = r;
            return placing;
        }
    }
    if (begins_optim(t->name)) {
        split_state(t->name, &state, &param);
        other = ptc_table_find(w->table, param);
    }
    if (other == PTC_NONE) {
        w->is_bad = true;
        return placing;
    }
    placing = placing_of(w, other);
    if (!same_shape(t, ptc_table_tensor(w->table, other))) {
        placing.is_whole = true;
        if (t->n_elems != 1) {
            w->is_bad = true;
        }
    }
    return placing;
}

/* Coordinates. */

static uint32_t coord(const struct ptc_mesh *mesh, uint32_t rank, uint32_t axis)
{
    for (uint32_t a = mesh->n_axes; a-- > axis + 1;) {
        rank /= mesh->axes[a].size;
    }
    return rank % mesh->axes[axis].size;
}

static uint32_t axis_of(const struct ptc_mesh *mesh, struct base_str name)
{
    for (uint32_t a = 0; a < mesh->n_axes; a++) {
        if (base_str_eq(mesh->axes[a].name, name)) {
            return a;
        }
    }
    abort(); /* the parser has checked it */
}

/* Where on an axis of @size the number @value goes, among all @found. */
static uint32_t numbered_coord(const struct ptc_numbered *how,
                               const struct list *found,
                               uint32_t size,
                               uint64_t value)
{
    uint32_t n_chunks = size * how->interleave;
    uint64_t per_chunk = (found->n + n_chunks - 1) / n_chunks;
    uint32_t chunk = 0;
    uint64_t left = 0;

    for (size_t i = 0; i < found->n; i++) {
        if (how->n_counts > 0) {
            while (left == how->counts[chunk]) {
                chunk++;
                left = 0;
            }
            left++;
        } else {
            chunk = (uint32_t)(i / per_chunk);
        }
        if (found->at[i] == value) {
            break;
        }
    }
    return chunk % size;
}

/* All numbers of the names whose rules ask for them, sorted. */
static struct list numbers_found(const struct work *w, bool is_expert)
{
    const struct ptc_numbered *how =
        is_expert ? &w->spec->experts : &w->spec->stages;
    struct list found = {0, NULL};

    for (uint32_t t = 0; t < ptc_table_n_tensors(w->table); t++) {
        const struct ptc_rule *rule = &w->spec->rules[w->placings[t].rule];
        uint32_t namer = w->placings[t].namer;
        int64_t value;

        if (is_expert ? !rule->is_expert : rule->stage != PTC_STAGE_LAYER) {
            continue;
        }
        value = number(how->pattern, ptc_table_tensor(w->table, namer)->name);
        if (value >= 0 && !list_has(&found, (uint64_t)value)) {
            list_add(&found, (uint64_t)value);
        }
    }
    if (found.n > 0) {
        qsort(found.at, found.n, sizeof(*found.at), u64_cmp);
    }
    return found;
}

/* Is the tensor on the rank at all? */
static bool is_on(const struct work *w,
                  const struct list *layers,
                  const struct list *experts,
                  uint32_t tensor,
                  uint32_t rank)
{
    const struct placing *placing = &w->placings[tensor];
    const struct ptc_rule *rule = &w->spec->rules[placing->rule];
    const struct ptc_mesh *mesh = &w->spec->meshes[rule->mesh];
    struct base_str namer = ptc_table_tensor(w->table, placing->namer)->name;
    bool is_here = true;

    if (rule->stage != PTC_STAGE_ALL) {
        uint32_t axis = axis_of(mesh, w->spec->stages.axis);
        uint32_t size = mesh->axes[axis].size;
        uint32_t at = coord(mesh, rank, axis);

        if (rule->stage == PTC_STAGE_FIRST) {
            is_here = at == 0;
        } else if (rule->stage == PTC_STAGE_LAST) {
            is_here = at == size - 1;
        } else if (rule->stage == PTC_STAGE_LAYER) {
            int64_t value = number(w->spec->stages.pattern, namer);

            is_here = at == numbered_coord(&w->spec->stages, layers, size,
                                           (uint64_t)value);
        } else {
            is_here = false;
            for (uint32_t i = 0; i < rule->n_stage_list; i++) {
                is_here = is_here || rule->stage_list[i] == at;
            }
        }
    }
    if (rule->is_expert) {
        uint32_t axis = axis_of(mesh, w->spec->experts.axis);
        int64_t value = number(w->spec->experts.pattern, namer);

        is_here = is_here &&
                  coord(mesh, rank, axis) ==
                      numbered_coord(&w->spec->experts, experts,
                                     mesh->axes[axis].size, (uint64_t)value);
    }
    return is_here;
}

/* Cutting lists. */

/* Part @idx of @n of the units [*begin, *end). */
static void split(const struct ptc_dim_rule *rule,
                  uint64_t n,
                  uint64_t idx,
                  uint64_t *begin,
                  uint64_t *end)
{
    uint64_t units = *end - *begin;
    uint64_t first = *begin;

    if (rule->unit > 1 && units > 0 && n > units) {
        *begin = first + idx * units / n;
        *end = *begin + 1;
        return;
    }
    for (uint64_t size = (units + n - 1) / n; idx > 0; idx--) {
        first = first + size < *end ? first + size : *end;
    }
    *begin = first;
    if (first + (units + n - 1) / n < *end) {
        *end = first + (units + n - 1) / n;
    }
}

/* The indices of a dimension of @length that the rank has, in shard order. */
static struct list dim_indices(const struct ptc_mesh *mesh,
                               const struct ptc_dim_rule *rule,
                               uint64_t length,
                               uint32_t rank)
{
    uint32_t n_segments = rule->n_segments == 0 ? 1 : rule->n_segments;
    struct list list = {0, NULL};
    uint64_t at = 0;

    if (rule->n_cuts > 0) {
        uint32_t p = coord(mesh, rank, rule->axes[0]);
        uint64_t begin = p == 0 ? 0 : rule->cuts[p - 1];
        uint64_t end = p == rule->n_cuts ? length : rule->cuts[p];

        for (uint64_t i = begin; i < end; i++) {
            list_add(&list, i);
        }
        return list;
    }
    for (uint32_t s = 0; s < n_segments; s++) {
        uint64_t n = rule->n_segments == 0 ? length : rule->segments[s];
        uint64_t begin = 0;
        uint64_t end = n / rule->unit;

        for (uint32_t a = 0; a < rule->n_axes; a++) {
            split(rule, mesh->axes[rule->axes[a]].size,
                  coord(mesh, rank, rule->axes[a]), &begin, &end);
        }
        for (uint64_t i = begin * rule->unit; i < end * rule->unit; i++) {
            list_add(&list, at + i);
        }
        at += n;
    }
    return list;
}

/* The dense shard of @tensor on @rank: its shape, and its elements in order. */
static struct list
shard(const struct work *w, uint32_t tensor, uint32_t rank, uint64_t *shape)
{
    static const struct ptc_dim_rule whole = {.unit = 1};
    const struct placing *placing = &w->placings[tensor];
    const struct ptc_rule *rule = &w->spec->rules[placing->rule];
    const struct ptc_mesh *mesh = &w->spec->meshes[rule->mesh];
    const struct ptc_tensor *t = ptc_table_tensor(w->table, tensor);
    struct list all = {0, NULL};

    list_add(&all, 0);
    for (uint32_t d = 0; d < t->n_dims; d++) {
        struct list indices = dim_indices(
            mesh,
            placing->is_whole || d >= rule->n_dims ? &whole : &rule->dims[d],
            t->shape[d], rank);
        struct list next = {0, NULL};

        shape[d] = indices.n;
        for (size_t i = 0; i < all.n; i++) {
            for (size_t j = 0; j < indices.n; j++) {
                list_add(&next, all.at[i] * t->shape[d] + indices.at[j]);
            }
        }
        free(indices.at);
        free(all.at);
        all = next;
    }
    for (size_t i = 0; i < all.n; i++) {
        all.at[i] = oracle_elem(tensor, all.at[i]);
    }
    return all;
}

/* Shown tensors. */

static struct oracle_shown *shown_add(struct oracle_rank *rank)
{
    rank->shown = must(
        reallocarray(rank->shown, rank->n_shown + 1, sizeof(*rank->shown)));
    rank->shown[rank->n_shown] = (struct oracle_shown){.name = NULL};
    return &rank->shown[rank->n_shown++];
}

static void show_dense(const struct work *w,
                       uint32_t tensor,
                       uint32_t rank,
                       struct oracle_rank *ret)
{
    const struct ptc_tensor *t = ptc_table_tensor(w->table, tensor);
    struct oracle_shown *shown = shown_add(ret);
    struct list elems = shard(w, tensor, rank, shown->shape);

    shown->name = must(strndup(t->name.ptr, t->name.len));
    shown->group = t->group;
    shown->dtype = t->dtype;
    shown->n_dims = t->n_dims;
    shown->n_elems = elems.n;
    shown->elems = elems.at;
}

/* The members of a flat of one state on one rank, in their order. */
struct member {
    uint32_t tensor;
    int64_t layer; /* of its bucket; large when none */
    uint32_t order;
};

static int member_cmp(const void *a, const void *b)
{
    const struct member *x = a;
    const struct member *y = b;

    if (x->layer != y->layer) {
        return x->layer < y->layer ? -1 : 1;
    }
    if (x->order != y->order) {
        return x->order < y->order ? -1 : 1;
    }
    return x->tensor < y->tensor ? -1 : 1; /* tables are sorted by name */
}

/* Close a bucket: pad it, cut it, show the rank's part. */
static void close_bucket(const struct work *w,
                         const struct ptc_flat *flat,
                         struct base_str state,
                         uint32_t first_member,
                         uint32_t rank,
                         uint32_t idx,
                         struct list *bucket,
                         struct oracle_rank *ret)
{
    uint32_t rule = w->placings[first_member].rule;
    const struct ptc_mesh *mesh = &w->spec->meshes[w->spec->rules[rule].mesh];
    const struct ptc_tensor *t = ptc_table_tensor(w->table, first_member);
    struct oracle_shown *shown = shown_add(ret);
    uint64_t n_parts = 1;
    uint64_t part = 0;
    char name[256];

    for (uint32_t a = 0; a < flat->n_axes; a++) {
        uint32_t axis = axis_of(mesh, flat->axes[a]);

        part = part * mesh->axes[axis].size + coord(mesh, rank, axis);
        n_parts *= mesh->axes[axis].size;
    }
    while (bucket->n % (n_parts * flat->align_elems) != 0) {
        list_add(bucket, ORACLE_PADDING);
    }
    (void)snprintf(name, sizeof(name), "%s%.*s%s%.*s.%" PRIu32,
                   state.len > 0 ? "optim." : "", BASE_STR_FMT(state),
                   state.len > 0 ? "." : "", BASE_STR_FMT(flat->name), idx);
    shown->name = must(strdup(name));
    shown->group = t->group;
    shown->dtype = t->dtype;
    shown->n_dims = 1;
    shown->n_elems = bucket->n / n_parts;
    shown->shape[0] = shown->n_elems;
    shown->elems = must(calloc(shown->n_elems + 1, sizeof(uint64_t)));
    if (shown->n_elems > 0) {
        memcpy(shown->elems, bucket->at + part * shown->n_elems,
               shown->n_elems * sizeof(uint64_t));
    }
    bucket->n = 0;
}

/* Lay sorted members into buckets. */
static void show_members(const struct work *w,
                         const struct ptc_flat *flat,
                         struct base_str state,
                         const struct member *members,
                         uint32_t n,
                         uint32_t rank,
                         struct oracle_rank *ret)
{
    struct list bucket = {0, NULL};
    uint32_t idx = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint64_t shape[PTC_MAX_DIMS];
        struct list elems;
        bool closes;

        if (i > 0) {
            closes =
                flat->is_per_layer
                    ? members[i].layer != members[i - 1].layer
                    : flat->bucket_elems > 0 && bucket.n >= flat->bucket_elems;
            if (closes) {
                close_bucket(w, flat, state, members[0].tensor, rank, idx++,
                             &bucket, ret);
            }
        }
        elems = shard(w, members[i].tensor, rank, shape);
        for (size_t e = 0; e < elems.n; e++) {
            list_add(&bucket, elems.at[e]);
        }
        free(elems.at);
    }
    if (n > 0) {
        close_bucket(w, flat, state, members[0].tensor, rank, idx, &bucket,
                     ret);
    }
    free(bucket.at);
}

/* The state that a tensor's name tells; empty for a plain one. */
static struct base_str state_name(struct base_str name)
{
    struct base_str state = {"", 0};
    struct base_str param;

    if (begins_optim(name)) {
        split_state(name, &state, &param);
    }
    return state;
}

/* The flat of a tensor, or PTC_NONE. */
static uint32_t flat_of(const struct work *w, uint32_t tensor)
{
    const struct placing *placing = &w->placings[tensor];

    return placing->is_whole ? PTC_NONE : w->spec->rules[placing->rule].flat;
}

/* Show the flat @idx of @state on a rank. */
static void show_flat(const struct work *w,
                      uint32_t idx,
                      struct base_str state,
                      const bool *is_here,
                      uint32_t rank,
                      struct oracle_rank *ret)
{
    const struct ptc_flat *flat = &w->spec->flats[idx];
    uint32_t n_tensors = ptc_table_n_tensors(w->table);
    struct member *members = must(calloc(n_tensors, sizeof(*members)));
    uint32_t n = 0;

    for (uint32_t t = 0; t < n_tensors; t++) {
        struct base_str name = ptc_table_tensor(w->table, t)->name;
        struct member member = {t, 0, 0};

        if (!is_here[t] || flat_of(w, t) != idx ||
            !base_str_eq(state_name(name), state)) {
            continue;
        }
        if (flat->is_per_layer) {
            uint32_t namer = w->placings[t].namer;

            member.layer = number(w->spec->stages.pattern,
                                  ptc_table_tensor(w->table, namer)->name);
            member.layer = member.layer < 0 ? INT64_MAX : member.layer;
        }
        while (member.order < flat->n_order &&
               !glob(flat->order[member.order], name)) {
            member.order++;
        }
        members[n++] = member;
    }
    qsort(members, n, sizeof(*members), member_cmp);
    show_members(w, flat, state, members, n, rank, ret);
    free(members);
}

static int shown_cmp(const void *a, const void *b)
{
    const struct oracle_shown *x = a;
    const struct oracle_shown *y = b;

    return strcmp(x->name, y->name);
}

static void show_rank(const struct work *w,
                      const bool *is_here,
                      uint32_t rank,
                      struct oracle_rank *ret)
{
    uint32_t n_tensors = ptc_table_n_tensors(w->table);

    for (uint32_t t = 0; t < n_tensors; t++) {
        if (is_here[t] && flat_of(w, t) == PTC_NONE) {
            show_dense(w, t, rank, ret);
        }
    }
    for (uint32_t f = 0; f < w->spec->n_flats; f++) {
        for (uint32_t i = 0; i < w->n_states; i++) {
            show_flat(w, f, w->states[i], is_here, rank, ret);
        }
    }
    if (ret->n_shown > 0) {
        qsort(ret->shown, ret->n_shown, sizeof(*ret->shown), shown_cmp);
    }
}

/* The states that some tensor has, each once. */
static void find_states(struct work *w)
{
    uint32_t n_tensors = ptc_table_n_tensors(w->table);

    w->states = must(calloc(n_tensors + 1, sizeof(*w->states)));
    for (uint32_t t = 0; t < n_tensors; t++) {
        struct base_str state = state_name(ptc_table_tensor(w->table, t)->name);
        bool is_new = true;

        for (uint32_t i = 0; i < w->n_states && is_new; i++) {
            is_new = !base_str_eq(state, w->states[i]);
        }
        if (is_new) {
            w->states[w->n_states++] = state;
        }
    }
}

/* Who has which element, from what all ranks show. */
static void find_holders(struct oracle *oracle, const struct ptc_table *table)
{
    for (uint32_t t = 0; t < oracle->n_tensors; t++) {
        oracle->holders[t] = must(
            calloc(ptc_table_tensor(table, t)->n_elems + 1, sizeof(uint64_t)));
    }
    for (uint32_t r = 0; r < oracle->n_ranks; r++) {
        for (uint32_t s = 0; s < oracle->ranks[r].n_shown; s++) {
            const struct oracle_shown *shown = &oracle->ranks[r].shown[s];

            for (uint64_t e = 0; e < shown->n_elems; e++) {
                uint64_t elem = shown->elems[e];

                if (elem != ORACLE_PADDING) {
                    oracle->holders[elem >> 32][elem & UINT32_MAX] |=
                        UINT64_C(1) << r;
                }
            }
        }
    }
}

struct oracle *oracle_create(const struct ptc_spec *spec,
                             const struct ptc_table *table)
{
    uint32_t n_tensors = ptc_table_n_tensors(table);
    struct work w = {.spec = spec, .table = table};
    struct oracle *oracle = must(calloc(1, sizeof(*oracle)));
    bool *is_here = must(calloc(n_tensors + 1, sizeof(*is_here)));
    struct list layers = {0, NULL};
    struct list experts = {0, NULL};

    oracle->n_ranks = spec->meshes[0].n_ranks;
    assert(oracle->n_ranks <= 64);
    oracle->n_tensors = n_tensors;
    oracle->ranks = must(calloc(oracle->n_ranks, sizeof(*oracle->ranks)));
    oracle->holders = must(calloc(n_tensors + 1, sizeof(*oracle->holders)));
    w.placings = must(calloc(n_tensors + 1, sizeof(*w.placings)));
    for (uint32_t t = 0; t < n_tensors; t++) {
        w.placings[t] = placing_of(&w, t);
    }
    find_states(&w);
    if (!w.is_bad) {
        layers = numbers_found(&w, false);
        experts = numbers_found(&w, true);
        for (uint32_t r = 0; r < oracle->n_ranks; r++) {
            for (uint32_t t = 0; t < n_tensors; t++) {
                is_here[t] = is_on(&w, &layers, &experts, t, r);
            }
            show_rank(&w, is_here, r, &oracle->ranks[r]);
        }
        find_holders(oracle, table);
    }
    free(is_here);
    free(layers.at);
    free(experts.at);
    free(w.placings);
    free(w.states);
    if (w.is_bad) {
        oracle_free(oracle);
        oracle = NULL;
    }
    return oracle;
}

void oracle_free(struct oracle *oracle)
{
    if (oracle == NULL) {
        return;
    }
    for (uint32_t r = 0; r < oracle->n_ranks; r++) {
        for (uint32_t s = 0; s < oracle->ranks[r].n_shown; s++) {
            free(oracle->ranks[r].shown[s].name);
            free(oracle->ranks[r].shown[s].elems);
        }
        free(oracle->ranks[r].shown);
    }
    for (uint32_t t = 0; t < oracle->n_tensors; t++) {
        free(oracle->holders[t]);
    }
    free(oracle->ranks);
    free(oracle->holders);
    free(oracle);
}
