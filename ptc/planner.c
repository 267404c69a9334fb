/* A problem made ready: who holds which rank, per layout; which ranks and
 * boxes a host has; which tensors share their bytes.  See ptc/planner.h.
 *
 * Everything is an array sorted once (counting sort where keys are small), so
 * that a host's share of the work is found without looking at other hosts. */
#include "ptc/planner.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/num.h"

void ptc_planner_free(struct ptc_planner *planner)
{
    if (planner == NULL) {
        return;
    }
    for (uint32_t i = 0; i < planner->n_origins; i++) {
        free(planner->origins[i].rank_at);
        free(planner->origins[i].holders);
        free(planner->origins[i].host_at);
        free(planner->origins[i].owned);
    }
    free(planner->origins);
    free(planner->to_at);
    free(planner->to_ranks);
    free(planner->explicits);
    free(planner->explicit_at);
    free(planner->explicit_roots);
    free(planner->family_at);
    free(planner->family_names);
    free(planner);
}

enum base_code ptc_planner_no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "plan: out of memory");
}

enum base_code ptc_planner_no_room(const struct ptc_planner *planner,
                                   uint32_t host,
                                   uint32_t root,
                                   uint64_t n_pieces,
                                   struct base_err *err)
{
    const struct ptc_tensor *tensor =
        ptc_table_tensor(planner->problem.table, root);

    if (n_pieces <= PTC_BOXES_MAX) {
        return ptc_planner_no_mem(err);
    }
    return base_fail(err, BASE_LIMIT,
                     "tensor %.*s falls into %" PRIu64
                     " pieces or more on host %" PRIu32 ", at most %u",
                     BASE_STR_FMT(tensor->name), n_pieces, host, PTC_BOXES_MAX);
}

/* Zeroed, and never of size zero. */
static void *table_of(size_t n, size_t item_bytes)
{
    return calloc(n > 0 ? n : 1, item_bytes);
}

/* counts[k + 1] entries of key k become where key k begins. */
static void counts_to_begins(uint32_t *counts, uint32_t n_keys)
{
    for (uint32_t k = 0; k < n_keys; k++) {
        counts[k + 1] += counts[k];
    }
}

/* Checks ------------------------------------------------------------------ */

static bool is_over_table(const struct ptc_layout *layout,
                          const struct ptc_table *table)
{
    const struct ptc_table *own = ptc_layout_table(layout);

    return own == table ||
           base_digest_eq(ptc_table_digest(own), ptc_table_digest(table));
}

static enum base_code check_explicit(const struct ptc_problem *problem,
                                     uint32_t idx,
                                     struct base_err *err)
{
    const struct ptc_holding *holding = &problem->holdings[idx];
    const struct ptc_tensor *tensor;

    if (holding->tensor >= ptc_table_n_tensors(problem->table)) {
        return base_fail(err, BASE_BAD_ARG,
                         "holding %" PRIu32 ": no tensor %" PRIu32, idx,
                         holding->tensor);
    }
    tensor = ptc_table_tensor(problem->table, holding->tensor);
    if (holding->box.n_dims != tensor->n_dims) {
        return base_fail(err, BASE_BAD_ARG,
                         "holding %" PRIu32 ": a box of %" PRIu32
                         " dims, but tensor %.*s has %" PRIu32,
                         idx, holding->box.n_dims, BASE_STR_FMT(tensor->name),
                         tensor->n_dims);
    }
    for (uint32_t d = 0; d < tensor->n_dims; d++) {
        if (holding->box.begin[d] > holding->box.end[d] ||
            holding->box.end[d] > tensor->shape[d]) {
            char text[PTC_BOX_TEXT_BYTES];

            return base_fail(err, BASE_BAD_ARG,
                             "holding %" PRIu32 ": %s is outside tensor %.*s",
                             idx, ptc_box_format(&holding->box, text),
                             BASE_STR_FMT(tensor->name));
        }
    }
    return BASE_OK;
}

static enum base_code check_holding(const struct ptc_problem *problem,
                                    uint32_t idx,
                                    struct base_err *err)
{
    const struct ptc_holding *holding = &problem->holdings[idx];
    uint32_t n_ranks;

    if (holding->host >= problem->n_hosts) {
        return base_fail(err, BASE_BAD_ARG,
                         "holding %" PRIu32 ": host %" PRIu32 " of %" PRIu32,
                         idx, holding->host, problem->n_hosts);
    }
    if (holding->layout == NULL) {
        return check_explicit(problem, idx, err);
    }
    if (!is_over_table(holding->layout, problem->table)) {
        return base_fail(err, BASE_BAD_ARG,
                         "holding %" PRIu32 ": its layout is of another table",
                         idx);
    }
    n_ranks = ptc_layout_n_ranks(holding->layout);
    for (uint32_t i = 0; i < holding->n_ranks; i++) {
        if (holding->ranks[i] >= n_ranks ||
            (i > 0 && holding->ranks[i] <= holding->ranks[i - 1])) {
            return base_fail(err, BASE_BAD_ARG,
                             "holding %" PRIu32 ": rank %" PRIu32
                             " is not below %" PRIu32 " or does not ascend",
                             idx, holding->ranks[i], n_ranks);
        }
    }
    return BASE_OK;
}

static enum base_code check_problem(const struct ptc_problem *problem,
                                    struct base_err *err)
{
    uint32_t n_ranks = ptc_layout_n_ranks(problem->to);

    if (!is_over_table(problem->to, problem->table)) {
        return base_fail(err, BASE_BAD_ARG,
                         "the target layout is of another table");
    }
    for (uint32_t r = 0; r < n_ranks; r++) {
        if (problem->rank_host[r] >= problem->n_hosts) {
            return base_fail(err, BASE_BAD_ARG,
                             "rank %" PRIu32 " is on host %" PRIu32
                             " of %" PRIu32,
                             r, problem->rank_host[r], problem->n_hosts);
        }
    }
    for (uint32_t i = 0; i < problem->n_holdings; i++) {
        BASE_TRY(check_holding(problem, i, err));
    }
    return BASE_OK;
}

/* Tables ------------------------------------------------------------------ */

static enum base_code index_targets(struct ptc_planner *planner,
                                    struct base_err *err)
{
    const struct ptc_problem *problem = &planner->problem;
    uint32_t n_ranks = ptc_layout_n_ranks(problem->to);
    BASE_AUTO_MEM uint32_t *next =
        table_of((size_t)problem->n_hosts + 1, sizeof(*next));

    planner->to_at =
        table_of((size_t)problem->n_hosts + 1, sizeof(*planner->to_at));
    planner->to_ranks = table_of(n_ranks, sizeof(*planner->to_ranks));
    if (next == NULL || planner->to_at == NULL || planner->to_ranks == NULL) {
        return ptc_planner_no_mem(err);
    }
    for (uint32_t r = 0; r < n_ranks; r++) {
        planner->to_at[problem->rank_host[r] + 1]++;
    }
    counts_to_begins(planner->to_at, problem->n_hosts);
    for (uint32_t r = 0; r < n_ranks; r++) {
        uint32_t host = problem->rank_host[r];

        planner->to_ranks[planner->to_at[host] + next[host]++] = r;
    }
    return BASE_OK;
}

/* Fill origin @o from the holdings that origin_of[] gives it.  Holders come out
 * ascending by holding because holdings are visited so; owned because ranks
 * are. */
static enum base_code index_origin(struct ptc_planner *planner,
                                   uint32_t o,
                                   const uint32_t *origin_of,
                                   struct base_err *err)
{
    const struct ptc_problem *problem = &planner->problem;
    struct ptc_origin *origin = &planner->origins[o];
    uint32_t n_ranks = ptc_layout_n_ranks(origin->layout);
    BASE_AUTO_MEM uint32_t *next = NULL;
    uint64_t total = 0;

    for (uint32_t i = 0; i < problem->n_holdings; i++) {
        total += origin_of[i] == o ? problem->holdings[i].n_ranks : 0;
    }
    if (total > UINT32_MAX) {
        return base_fail(err, BASE_LIMIT, "more than 2^32 ranks are held");
    }
    next = table_of((size_t)base_max_u64(n_ranks, problem->n_hosts),
                    sizeof(*next));
    origin->rank_at = table_of((size_t)n_ranks + 1, sizeof(uint32_t));
    origin->host_at = table_of((size_t)problem->n_hosts + 1, sizeof(uint32_t));
    origin->holders = table_of(total, sizeof(*origin->holders));
    origin->owned = table_of(total, sizeof(*origin->owned));
    if (next == NULL || origin->rank_at == NULL || origin->host_at == NULL ||
        origin->holders == NULL || origin->owned == NULL) {
        return ptc_planner_no_mem(err);
    }
    for (uint32_t i = 0; i < problem->n_holdings; i++) {
        const struct ptc_holding *holding = &problem->holdings[i];

        for (uint32_t k = 0; origin_of[i] == o && k < holding->n_ranks; k++) {
            origin->host_at[holding->host + 1]++;
            origin->rank_at[holding->ranks[k] + 1]++;
        }
    }
    counts_to_begins(origin->rank_at, n_ranks);
    counts_to_begins(origin->host_at, problem->n_hosts);
    for (uint32_t i = 0; i < problem->n_holdings; i++) {
        const struct ptc_holding *holding = &problem->holdings[i];

        for (uint32_t k = 0; origin_of[i] == o && k < holding->n_ranks; k++) {
            uint32_t rank = holding->ranks[k];

            origin->holders[origin->rank_at[rank] + next[rank]++] =
                (struct ptc_holder){holding->host, i};
        }
    }
    memset(next, 0, problem->n_hosts * sizeof(*next));
    for (uint32_t r = 0; r < n_ranks; r++) {
        for (uint32_t k = origin->rank_at[r]; k < origin->rank_at[r + 1]; k++) {
            uint32_t host = origin->holders[k].host;

            origin->owned[origin->host_at[host] + next[host]++] =
                (struct ptc_own){r, origin->holders[k].holding};
        }
    }
    return BASE_OK;
}

/* One origin for each distinct layout: of equal specs, not of equal pointers,
 * so that equal problems have equal plans. */
static enum base_code index_origins(struct ptc_planner *planner,
                                    struct base_err *err)
{
    const struct ptc_problem *problem = &planner->problem;
    uint32_t n_holdings = problem->n_holdings;
    BASE_AUTO_MEM uint32_t *origin_of =
        table_of(n_holdings, sizeof(*origin_of));
    BASE_AUTO_MEM struct base_digest *digests =
        table_of(n_holdings, sizeof(*digests));

    planner->origins = table_of(n_holdings, sizeof(*planner->origins));
    if (planner->origins == NULL || origin_of == NULL || digests == NULL) {
        return ptc_planner_no_mem(err);
    }
    for (uint32_t i = 0; i < n_holdings; i++) {
        const struct ptc_layout *layout = problem->holdings[i].layout;
        uint32_t n = planner->n_origins;
        uint32_t o = 0;

        if (layout == NULL) {
            origin_of[i] = PTC_NONE;
            continue;
        }
        while (o < n && planner->origins[o].layout != layout) {
            o++; /* distinct layouts are few */
        }
        if (o == n) {
            BASE_TRY(
                ptc_spec_digest(ptc_layout_spec(layout), &digests[n], err));
            o = 0;
            while (o < n && !base_digest_eq(digests[o], digests[n])) {
                o++;
            }
        }
        origin_of[i] = o;
        if (o == n) {
            planner->origins[planner->n_origins++].layout = layout;
        }
    }
    for (uint32_t o = 0; o < planner->n_origins; o++) {
        BASE_TRY(index_origin(planner, o, origin_of, err));
    }
    return BASE_OK;
}

static int explicit_cmp(const void *a, const void *b)
{
    const struct ptc_explicit *x = a;
    const struct ptc_explicit *y = b;

    if (x->tensor != y->tensor) {
        return x->tensor < y->tensor ? -1 : 1;
    }
    if (x->host != y->host) {
        return x->host < y->host ? -1 : 1;
    }
    return (x->holding > y->holding) - (x->holding < y->holding);
}

static enum base_code index_explicits(struct ptc_planner *planner,
                                      struct base_err *err)
{
    const struct ptc_problem *problem = &planner->problem;
    BASE_AUTO_MEM uint32_t *next =
        table_of((size_t)problem->n_hosts + 1, sizeof(*next));
    uint32_t n = 0;

    for (uint32_t i = 0; i < problem->n_holdings; i++) {
        n += problem->holdings[i].layout == NULL;
    }
    planner->explicits = table_of(n, sizeof(*planner->explicits));
    planner->explicit_at =
        table_of((size_t)problem->n_hosts + 1, sizeof(*planner->explicit_at));
    planner->explicit_roots = table_of(n, sizeof(*planner->explicit_roots));
    if (next == NULL || planner->explicits == NULL ||
        planner->explicit_at == NULL || planner->explicit_roots == NULL) {
        return ptc_planner_no_mem(err);
    }
    for (uint32_t i = 0; i < problem->n_holdings; i++) {
        const struct ptc_holding *holding = &problem->holdings[i];

        if (holding->layout != NULL || ptc_box_is_empty(&holding->box)) {
            continue;
        }
        planner->explicits[planner->n_explicits++] = (struct ptc_explicit){
            .tensor = ptc_table_root(problem->table, holding->tensor),
            .host = holding->host,
            .holding = i,
        };
    }
    qsort(planner->explicits, planner->n_explicits, sizeof(*planner->explicits),
          explicit_cmp);
    for (uint32_t i = 0; i < planner->n_explicits; i++) {
        planner->explicit_at[planner->explicits[i].host + 1]++;
    }
    counts_to_begins(planner->explicit_at, problem->n_hosts);
    for (uint32_t i = 0; i < planner->n_explicits; i++) {
        uint32_t host = planner->explicits[i].host;

        planner->explicit_roots[planner->explicit_at[host] + next[host]++] =
            planner->explicits[i].tensor;
    }
    return BASE_OK;
}

struct tie {
    uint32_t root;
    uint32_t name;
};

static int tie_cmp(const void *a, const void *b)
{
    const struct tie *x = a;
    const struct tie *y = b;

    if (x->root != y->root) {
        return x->root < y->root ? -1 : 1;
    }
    return (x->name > y->name) - (x->name < y->name);
}

static enum base_code index_families(struct ptc_planner *planner,
                                     struct base_err *err)
{
    const struct ptc_table *table = planner->problem.table;
    uint32_t n_tensors = ptc_table_n_tensors(table);
    BASE_AUTO_MEM struct tie *ties = NULL;
    uint32_t n_ties = 0;
    uint32_t n_names = 0;

    for (uint32_t t = 0; t < n_tensors; t++) {
        n_ties += ptc_table_tensor(table, t)->tie != PTC_NONE;
    }
    ties = table_of(n_ties, sizeof(*ties));
    planner->family_at =
        table_of((size_t)n_ties + 1, sizeof(*planner->family_at));
    planner->family_names =
        table_of((size_t)n_ties * 2, sizeof(*planner->family_names));
    if (ties == NULL || planner->family_at == NULL ||
        planner->family_names == NULL) {
        return ptc_planner_no_mem(err);
    }
    n_ties = 0;
    for (uint32_t t = 0; t < n_tensors; t++) {
        if (ptc_table_tensor(table, t)->tie != PTC_NONE) {
            ties[n_ties++] = (struct tie){ptc_table_root(table, t), t};
        }
    }
    qsort(ties, n_ties, sizeof(*ties), tie_cmp);
    for (uint32_t i = 0; i < n_ties; i++) {
        if (i == 0 || ties[i].root != ties[i - 1].root) {
            planner->family_at[planner->n_families++] = n_names;
            planner->family_names[n_names++] = ties[i].root;
        }
        planner->family_names[n_names++] = ties[i].name;
    }
    planner->family_at[planner->n_families] = n_names;
    return BASE_OK;
}

enum base_code ptc_planner_create(const struct ptc_problem *problem,
                                  struct ptc_planner **ret,
                                  struct base_err *err)
{
    BASE_AUTO(ptc_planner) planner = NULL;

    BASE_TRY(check_problem(problem, err));
    planner = calloc(1, sizeof(*planner));
    if (planner == NULL) {
        return ptc_planner_no_mem(err);
    }
    planner->problem = *problem;
    BASE_TRY(index_targets(planner, err));
    BASE_TRY(index_origins(planner, err));
    BASE_TRY(index_explicits(planner, err));
    BASE_TRY(index_families(planner, err));
    *ret = base_steal(&planner);
    return BASE_OK;
}

/* Questions --------------------------------------------------------------- */

const uint32_t *ptc_planner_names(const struct ptc_planner *planner,
                                  const uint32_t *root,
                                  uint32_t *ret_n)
{
    uint32_t low = 0;
    uint32_t high = planner->n_families;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (planner->family_names[planner->family_at[mid]] < *root) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    if (low < planner->n_families &&
        planner->family_names[planner->family_at[low]] == *root) {
        *ret_n = planner->family_at[low + 1] - planner->family_at[low];
        return &planner->family_names[planner->family_at[low]];
    }
    *ret_n = 1;
    return root;
}

/* The first explicit box that is not before (tensor, host). */
static uint32_t explicit_lower(const struct ptc_planner *planner,
                               uint32_t tensor,
                               uint32_t host)
{
    struct ptc_explicit key = {tensor, host, 0};
    uint32_t low = 0;
    uint32_t high = planner->n_explicits;

    while (low < high) {
        uint32_t mid = low + (high - low) / 2;

        if (explicit_cmp(&planner->explicits[mid], &key) < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low;
}

void ptc_planner_explicits(const struct ptc_planner *planner,
                           uint32_t root,
                           uint32_t host,
                           uint32_t *ret_begin,
                           uint32_t *ret_end)
{
    if (host == PTC_NONE) {
        *ret_begin = explicit_lower(planner, root, 0);
        *ret_end = explicit_lower(planner, root + 1, 0);
        return;
    }
    *ret_begin = explicit_lower(planner, root, host);
    *ret_end = explicit_lower(planner, root, host + 1);
}
