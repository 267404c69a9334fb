/* The numbers in names, and where along an axis they go: layers on stages,
 * experts on expert ranks.
 *
 * Only names that matched a rule themselves are read; a tensor that takes
 * another's rule takes its numbers too. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/layout_impl.h"
#include "ptc/number.h"

void ptc_numbers_done(struct ptc_numbers *numbers)
{
    free(numbers->found);
    for (uint32_t m = 0; m < PTC_MAX_MESHES; m++) {
        free(numbers->coords[m]);
    }
}

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory for a layout");
}

static int u32_cmp(const void *a, const void *b)
{
    const uint32_t *x = a;
    const uint32_t *y = b;

    return (*x > *y) - (*x < *y);
}

uint32_t ptc_sort_distinct(uint32_t *items, uint32_t n)
{
    uint32_t n_kept = 0;

    if (n > 0) {
        qsort(items, n, sizeof(*items), u32_cmp);
    }
    for (uint32_t i = 0; i < n; i++) {
        if (n_kept == 0 || items[n_kept - 1] != items[i]) {
            items[n_kept++] = items[i];
        }
    }
    return n_kept;
}

static bool is_per_layer(const struct ptc_spec *spec,
                         const struct ptc_rule *rule)
{
    return rule->flat != PTC_NONE && spec->flats[rule->flat].is_per_layer;
}

/* Read the number of @tensor into *ret (PTC_NONE: none); one that @is_needed
 * must be there. */
static enum base_code number_read(struct ptc_number *number,
                                  const struct ptc_numbers *n,
                                  const struct ptc_rule *rule,
                                  const struct ptc_tensor *tensor,
                                  bool is_needed,
                                  uint32_t *ret,
                                  struct base_err *err)
{
    char text[PTC_RULE_TEXT_BYTES];
    bool is_found = false;
    enum base_code rc;

    rc = ptc_number_read(number, tensor->name, &is_found, ret, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "tensor %.*s, %s", BASE_STR_FMT(tensor->name),
                         ptc_rule_text(rule, text));
    }
    if (!is_found && is_needed) {
        return base_fail(err, BASE_MISMATCH,
                         "tensor %.*s, %s: its name has no number that "
                         "'%.*s' of %s reads",
                         BASE_STR_FMT(tensor->name), ptc_rule_text(rule, text),
                         BASE_STR_FMT(n->how->pattern), n->what);
    }
    return BASE_OK;
}

/* The expression of @n, which some rule needs. */
static enum base_code number_get(const struct ptc_numbers *n,
                                 const struct ptc_rule *rule,
                                 struct ptc_number **number,
                                 struct base_err *err)
{
    char text[PTC_RULE_TEXT_BYTES];
    enum base_code rc;

    if (*number != NULL) {
        return BASE_OK;
    }
    if (!n->how->is_set) {
        return base_fail(err, BASE_MISMATCH,
                         "%s needs '%s', which the spec lacks",
                         ptc_rule_text(rule, text), n->what);
    }
    rc = ptc_number_create(n->how->pattern, number, err);
    return rc == BASE_OK ? rc : base_wrap(err, rc, "%s", n->what);
}

/* Read the numbers of all names that matched a rule themselves. */
static enum base_code names_read(const struct ptc_layout *layout,
                                 struct ptc_choice *choices,
                                 struct ptc_numbers *stages,
                                 struct ptc_numbers *experts,
                                 struct base_err *err)
{
    BASE_AUTO(ptc_number) layer = NULL;
    BASE_AUTO(ptc_number) expert = NULL;

    for (uint32_t i = 0; i < layout->n_tensors; i++) {
        struct ptc_choice *choice = &choices[i];
        const struct ptc_rule *rule = &layout->spec->rules[choice->rule];
        const struct ptc_tensor *tensor = ptc_table_tensor(layout->table, i);
        bool is_staged = rule->stage == PTC_STAGE_LAYER;

        if (choice->namer != i) {
            continue;
        }
        if (is_staged || is_per_layer(layout->spec, rule)) {
            BASE_TRY(number_get(stages, rule, &layer, err));
            BASE_TRY(number_read(layer, stages, rule, tensor, is_staged,
                                 &choice->layer, err));
        }
        if (is_staged) {
            stages->found[stages->n_found++] = choice->layer;
        }
        if (rule->is_expert) {
            BASE_TRY(number_get(experts, rule, &expert, err));
            BASE_TRY(number_read(expert, experts, rule, tensor, true,
                                 &choice->expert, err));
            experts->found[experts->n_found++] = choice->expert;
        }
    }
    return BASE_OK;
}

enum base_code ptc_numbers_read(const struct ptc_layout *layout,
                                struct ptc_choice *choices,
                                struct ptc_numbers *stages,
                                struct ptc_numbers *experts,
                                struct base_err *err)
{
    size_t n = layout->n_tensors + (size_t)1;

    stages->found = calloc(n, sizeof(*stages->found));
    experts->found = calloc(n, sizeof(*experts->found));
    if (stages->found == NULL || experts->found == NULL) {
        return no_mem(err);
    }
    BASE_TRY(names_read(layout, choices, stages, experts, err));
    for (uint32_t i = 0; i < layout->n_tensors; i++) {
        choices[i].layer = choices[choices[i].namer].layer;
        choices[i].expert = choices[choices[i].namer].expert;
    }
    stages->n_found = ptc_sort_distinct(stages->found, stages->n_found);
    experts->n_found = ptc_sort_distinct(experts->found, experts->n_found);
    return BASE_OK;
}

/* The chunk of each number, by counts. */
static enum base_code counts_fill(const struct ptc_numbers *n,
                                  uint32_t n_chunks,
                                  uint32_t *chunks,
                                  struct base_err *err)
{
    uint64_t at = 0;

    if (n->how->n_counts != n_chunks) {
        return base_fail(err, BASE_MISMATCH,
                         "%s: %" PRIu32 " counts for %" PRIu32 " chunks",
                         n->what, n->how->n_counts, n_chunks);
    }
    for (uint32_t c = 0; c < n_chunks; c++) {
        for (uint32_t i = 0; i < n->how->counts[c] && at < n->n_found; i++) {
            chunks[at++] = c;
        }
    }
    at = 0;
    for (uint32_t c = 0; c < n_chunks; c++) {
        at += n->how->counts[c];
    }
    if (at != n->n_found) {
        return base_fail(err, BASE_MISMATCH,
                         "%s: the counts add up to %" PRIu64
                         ", but the names have %" PRIu32 " numbers",
                         n->what, at, n->n_found);
    }
    return BASE_OK;
}

/* The coordinates of all numbers on mesh @mesh_idx. */
static enum base_code coords_fill(struct ptc_numbers *n,
                                  uint32_t mesh_idx,
                                  uint32_t size,
                                  struct base_err *err)
{
    uint64_t n_chunks =
        (uint64_t)size * (n->how->interleave == 0 ? 1 : n->how->interleave);
    uint32_t *coords;

    if (n_chunks > PTC_MAX_RANKS) {
        return base_fail(err, BASE_LIMIT, "%s: %" PRIu64 " chunks, at most %u",
                         n->what, n_chunks, PTC_MAX_RANKS);
    }
    coords = calloc(n->n_found + (size_t)1, sizeof(*coords));
    if (coords == NULL) {
        return no_mem(err);
    }
    n->coords[mesh_idx] = coords;
    if (n->how->n_counts > 0) {
        BASE_TRY(counts_fill(n, (uint32_t)n_chunks, coords, err));
    } else {
        uint64_t chunk = base_ceil_div(n->n_found, n_chunks);

        for (uint32_t i = 0; i < n->n_found; i++) {
            coords[i] = (uint32_t)(i / chunk);
        }
    }
    for (uint32_t i = 0; i < n->n_found; i++) {
        coords[i] %= size;
    }
    return BASE_OK;
}

enum base_code ptc_numbers_coord(struct ptc_numbers *numbers,
                                 const struct ptc_spec *spec,
                                 uint32_t mesh_idx,
                                 uint32_t number,
                                 struct ptc_digit *ret_digit,
                                 uint32_t *ret,
                                 struct base_err *err)
{
    const struct ptc_mesh *mesh = &spec->meshes[mesh_idx];
    uint32_t axis = ptc_mesh_find(mesh, numbers->how->axis);
    const uint32_t *at;

    *ret_digit = ptc_mesh_digit(mesh, axis);
    if (numbers->coords[mesh_idx] == NULL) {
        BASE_TRY(coords_fill(numbers, mesh_idx, ret_digit->size, err));
    }
    at = bsearch(&number, numbers->found, numbers->n_found, sizeof(number),
                 u32_cmp);
    *ret = numbers->coords[mesh_idx][at - numbers->found];
    return BASE_OK;
}
