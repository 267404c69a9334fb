/* Which rule decides each tensor.
 *
 * Plain names try the rules in order; names of optimizer states only those
 * whose pattern begins with "optim.", and else take what their parameter has.
 * Ties that no rule matches take what their target has.  `taken` names follow
 * such chains, each once. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/num.h"
#include "ptc/glob.h"
#include "ptc/layout_impl.h"

/* What choosing works with. */
struct chooser {
    const struct ptc_spec *spec;
    const struct ptc_table *table;
    struct ptc_choice *choices;
    struct ptc_glob *globs; /* by rule */
    uint32_t *plain;        /* rules that plain names try */
    uint32_t n_plain;
    uint32_t *optim; /* rules that names of states try */
    uint32_t n_optim;
    bool *is_used; /* by rule */
    bool *is_done; /* by tensor */
    uint32_t hint; /* where the next parameter probably stands */
};

const char *ptc_rule_text(const struct ptc_rule *rule, char *text)
{
    int width = rule->match.len > 100 ? 100 : (int)rule->match.len;

    if (rule->line > 0) {
        (void)snprintf(text, PTC_RULE_TEXT_BYTES,
                       "rule '%.*s' (line %" PRIu32 ")", width, rule->match.ptr,
                       rule->line);
    } else {
        (void)snprintf(text, PTC_RULE_TEXT_BYTES, "rule '%.*s'", width,
                       rule->match.ptr);
    }
    return text;
}

static bool is_optim(struct base_str name)
{
    return base_str_starts(name, BASE_STR("optim."));
}

/* The first rule that matches @name, or PTC_NONE. */
static uint32_t rule_of(const struct chooser *c, struct base_str name)
{
    bool is_state = is_optim(name);
    const uint32_t *rules = is_state ? c->optim : c->plain;
    uint32_t n = is_state ? c->n_optim : c->n_plain;

    for (uint32_t i = 0; i < n; i++) {
        if (ptc_glob_matches(&c->globs[rules[i]], name)) {
            return rules[i];
        }
    }
    return PTC_NONE;
}

static bool same_shape(const struct ptc_tensor *a, const struct ptc_tensor *b)
{
    return a->n_dims == b->n_dims &&
           (a->n_dims == 0 ||
            memcmp(a->shape, b->shape, a->n_dims * sizeof(a->shape[0])) == 0);
}

/* The index of the parameter that state @idx belongs to, or PTC_NONE. */
static uint32_t parameter_of(struct chooser *c, struct base_str name)
{
    struct base_str state;
    struct base_str param;
    uint32_t idx;

    if (!ptc_name_split_optim(name, &state, &param)) {
        return PTC_NONE;
    }
    if (c->hint < ptc_table_n_tensors(c->table) &&
        base_str_eq(ptc_table_tensor(c->table, c->hint)->name, param)) {
        return c->hint++;
    }
    idx = ptc_table_find(c->table, param);
    if (idx != PTC_NONE) {
        c->hint = idx + 1; /* states stand in the order of parameters */
    }
    return idx;
}

/* Choose for @idx from another tensor when no rule matches its name. *ret is
 * that other tensor, to be chosen first. */
static enum base_code
other_of(struct chooser *c, uint32_t idx, uint32_t *ret, struct base_err *err)
{
    const struct ptc_tensor *tensor = ptc_table_tensor(c->table, idx);

    if (is_optim(tensor->name)) {
        uint32_t param = parameter_of(c, tensor->name);

        if (param == PTC_NONE && tensor->tie != PTC_NONE) {
            *ret = tensor->tie;
            return BASE_OK;
        }
        if (param == PTC_NONE) {
            return base_fail(err, BASE_MISMATCH,
                             "tensor %.*s: no optim. rule matches and its "
                             "parameter is not in the table",
                             BASE_STR_FMT(tensor->name));
        }
        if (!same_shape(tensor, ptc_table_tensor(c->table, param)) &&
            tensor->n_elems != 1) {
            return base_fail(err, BASE_MISMATCH,
                             "tensor %.*s: no optim. rule matches and it has "
                             "neither its parameter's shape nor one element",
                             BASE_STR_FMT(tensor->name));
        }
        *ret = param;
        return BASE_OK;
    }
    if (tensor->tie != PTC_NONE) {
        *ret = tensor->tie;
        return BASE_OK;
    }
    return base_fail(err, BASE_MISMATCH, "tensor %.*s: no rule matches",
                     BASE_STR_FMT(tensor->name));
}

/* Choose for @idx and whatever it depends on.  A state's name is longer than
 * its parameter's and a tie's target is no tie, so depth is bounded by a name's
 * length. */
static enum base_code
choose(struct chooser *c, uint32_t idx, struct base_err *err)
{
    const struct ptc_tensor *tensor = ptc_table_tensor(c->table, idx);
    struct ptc_choice *choice = &c->choices[idx];
    uint32_t other = PTC_NONE;

    if (c->is_done[idx]) {
        return BASE_OK;
    }
    choice->layer = PTC_NONE;
    choice->expert = PTC_NONE;
    choice->rule = rule_of(c, tensor->name);
    if (choice->rule != PTC_NONE) {
        choice->namer = idx;
        c->is_used[choice->rule] = true;
        c->is_done[idx] = true;
        return BASE_OK;
    }
    BASE_TRY(other_of(c, idx, &other, err));
    BASE_TRY(choose(c, other, err));
    *choice = c->choices[other];
    if (!same_shape(tensor, ptc_table_tensor(c->table, other))) {
        choice->is_whole = true;
    }
    c->is_done[idx] = true;
    return BASE_OK;
}

/* A rule that decided nothing must be optional. */
static enum base_code unused_check(const struct chooser *c,
                                   struct base_err *err)
{
    for (uint32_t r = 0; r < c->spec->n_rules; r++) {
        const struct ptc_rule *rule = &c->spec->rules[r];
        char text[PTC_RULE_TEXT_BYTES];

        if (c->is_used[r] || rule->is_optional) {
            continue;
        }
        for (uint32_t i = 0; i < ptc_table_n_tensors(c->table); i++) {
            struct base_str name = ptc_table_tensor(c->table, i)->name;

            if (ptc_glob_matches(&c->globs[r], name) &&
                is_optim(name) == is_optim(rule->match)) {
                return base_fail(err, BASE_MISMATCH,
                                 "%s decides nothing: earlier rules take all "
                                 "that it matches, as %.*s",
                                 ptc_rule_text(rule, text), BASE_STR_FMT(name));
            }
        }
        return base_fail(err, BASE_MISMATCH,
                         "%s matches no tensor (and is not optional)",
                         ptc_rule_text(rule, text));
    }
    return BASE_OK;
}

/* Ties that the spec declares must be the table's. */
static enum base_code ties_check(const struct ptc_spec *spec,
                                 const struct ptc_table *table,
                                 struct base_err *err)
{
    for (uint32_t r = 0; r < spec->n_rules; r++) {
        const struct ptc_rule *rule = &spec->rules[r];
        char text[PTC_RULE_TEXT_BYTES];
        uint32_t name;
        uint32_t target;

        if (rule->tie.len == 0) {
            continue;
        }
        name = ptc_table_find(table, rule->match);
        target = ptc_table_find(table, rule->tie);
        if (target == PTC_NONE && rule->is_optional) {
            continue;
        }
        if (name == PTC_NONE || target == PTC_NONE ||
            ptc_table_root(table, name) != ptc_table_root(table, target)) {
            return base_fail(
                err, BASE_MISMATCH, "%s: the table does not tie it to %.*s",
                ptc_rule_text(rule, text), BASE_STR_FMT(rule->tie));
        }
    }
    return BASE_OK;
}

/* Compile the rules' globs. */
static enum base_code
rules_compile(struct chooser *c, struct base_arena *arena, struct base_err *err)
{
    uint32_t n = c->spec->n_rules;
    uint32_t n_tensors = ptc_table_n_tensors(c->table);

    c->globs = base_arena_alloc(arena, n + UINT32_C(1), sizeof(*c->globs));
    c->plain = base_arena_alloc(arena, n + UINT32_C(1), sizeof(*c->plain));
    c->optim = base_arena_alloc(arena, n + UINT32_C(1), sizeof(*c->optim));
    c->is_used = base_arena_alloc(arena, n + UINT32_C(1), sizeof(*c->is_used));
    c->is_done =
        base_arena_alloc(arena, n_tensors + UINT32_C(1), sizeof(*c->is_done));
    if (c->globs == NULL || c->plain == NULL || c->optim == NULL ||
        c->is_used == NULL || c->is_done == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory to match rules");
    }
    for (uint32_t r = 0; r < n; r++) {
        struct base_str match = c->spec->rules[r].match;

        c->globs[r] = ptc_glob_of(match);
        if (is_optim(match)) {
            c->optim[c->n_optim++] = r;
        } else {
            c->plain[c->n_plain++] = r;
        }
    }
    return BASE_OK;
}

enum base_code ptc_layout_choose(const struct ptc_spec *spec,
                                 const struct ptc_table *table,
                                 struct ptc_choice *choices,
                                 struct base_err *err)
{
    BASE_AUTO(base_arena) arena = base_arena_create(PTC_LAYOUT_MAX_BYTES);
    struct chooser c = {.spec = spec, .table = table, .choices = choices};

    if (arena == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory to match rules");
    }
    BASE_TRY(rules_compile(&c, arena, err));
    BASE_TRY(ties_check(spec, table, err));
    for (uint32_t i = 0; i < ptc_table_n_tensors(table); i++) {
        BASE_TRY(choose(&c, i, err));
    }
    return unused_check(&c, err);
}

/* What a rule's `tie` adds to @table: *ret_adds is false when nothing. */
static enum base_code tie_needed(const struct ptc_rule *rule,
                                 const struct ptc_table *table,
                                 bool *ret_adds,
                                 struct base_err *err)
{
    uint32_t name = ptc_table_find(table, rule->match);
    uint32_t target = ptc_table_find(table, rule->tie);
    char text[PTC_RULE_TEXT_BYTES];

    *ret_adds = false;
    if (target == PTC_NONE) {
        if (rule->is_optional) {
            return BASE_OK;
        }
        return base_fail(err, BASE_MISMATCH,
                         "%s: its tie %.*s is not in the table",
                         ptc_rule_text(rule, text), BASE_STR_FMT(rule->tie));
    }
    if (name != PTC_NONE &&
        ptc_table_root(table, name) == ptc_table_root(table, target)) {
        return BASE_OK;
    }
    if (name != PTC_NONE && ptc_table_tensor(table, name)->tie != PTC_NONE) {
        uint32_t root = ptc_table_root(table, name);

        return base_fail(err, BASE_MISMATCH,
                         "%s: the table ties it to %.*s, not to %.*s",
                         ptc_rule_text(rule, text),
                         BASE_STR_FMT(ptc_table_tensor(table, root)->name),
                         BASE_STR_FMT(rule->tie));
    }
    *ret_adds = true;
    return BASE_OK;
}

enum base_code ptc_spec_ties(const struct ptc_spec *spec,
                             const struct ptc_table *table,
                             struct ptc_table **ret,
                             struct base_err *err)
{
    BASE_AUTO(ptc_table_builder) builder = NULL;

    for (uint32_t r = 0; r < spec->n_rules; r++) {
        const struct ptc_rule *rule = &spec->rules[r];
        bool adds = false;

        if (rule->tie.len == 0) {
            continue;
        }
        BASE_TRY(tie_needed(rule, table, &adds, err));
        if (!adds) {
            continue;
        }
        if (builder == NULL) {
            builder = ptc_table_builder_create();
            if (builder == NULL) {
                return base_fail(err, BASE_NO_MEM, "no memory for a table");
            }
            BASE_TRY(ptc_table_add_all(builder, table, err));
        }
        BASE_TRY(ptc_table_add_tie(builder, rule->match, rule->tie, err));
    }
    if (builder == NULL) {
        *ret = NULL;
        return BASE_OK;
    }
    return ptc_table_finish(builder, ret, err);
}
