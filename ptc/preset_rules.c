/* Writing a preset's spec as text; see preset_rules.h.  The buffer remembers
 * its first failure, and ptc_preset_expand checks it. */
#include "ptc/preset_rules.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

void ptc_preset_fail_(const struct ptc_preset *preset, const char *fmt, ...)
{
    char text[BASE_ERR_TEXT_BYTES];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args); /* cut is good enough */
    va_end(args);
    (void)base_fail(preset->err, BASE_BAD_ARG, "%s: %s",
                    preset->family->info.name, text);
}

void ptc_preset_set_segments(struct ptc_preset *preset,
                             enum ptc_preset_size size,
                             uint32_t n,
                             uint64_t length)
{
    uint32_t i;

    assert(n <= PTC_PRESET_MAX_SEGMENTS);
    preset->n_segments[size] = n;
    for (i = 0; i < n; i++) {
        preset->segments[size][i] = length;
    }
}

bool ptc_preset_cuts(const struct ptc_preset *preset)
{
    return preset->value[PTC_OPT_TP] > 1;
}

bool ptc_preset_is_tied(const struct ptc_preset *preset, bool otherwise)
{
    if (preset->has[PTC_OPT_TIED]) {
        return preset->value[PTC_OPT_TIED] != 0;
    }
    return preset->config.has_tied ? preset->config.is_tied : otherwise;
}

enum base_code ptc_preset_dim(const struct ptc_preset *preset,
                              const char *suffix,
                              uint32_t n_dims,
                              uint32_t dim,
                              uint64_t *ret)
{
    uint32_t n = preset->table == NULL ? 0 : ptc_table_n_tensors(preset->table);
    struct base_str end = base_str_of(suffix);
    const struct ptc_tensor *first = NULL;
    uint32_t i;

    for (i = 0; i < n; i++) {
        const struct ptc_tensor *tensor = ptc_table_tensor(preset->table, i);

        if (tensor->n_dims != n_dims || !base_str_ends(tensor->name, end) ||
            base_str_starts(tensor->name, BASE_STR("optim."))) {
            continue;
        }
        if (first != NULL && first->shape[dim] != tensor->shape[dim]) {
            return ptc_preset_fail(preset,
                                   "%.*s and %.*s differ in dimension %u: "
                                   "write a spec instead",
                                   BASE_STR_FMT(first->name),
                                   BASE_STR_FMT(tensor->name), dim);
        }
        first = first == NULL ? tensor : first;
    }
    *ret = first == NULL ? 0 : first->shape[dim];
    return BASE_OK;
}

enum base_code ptc_preset_plain_heads(struct ptc_preset *preset,
                                      uint64_t hidden)
{
    uint64_t tp = preset->value[PTC_OPT_TP];
    uint64_t heads = preset->has[PTC_OPT_HEADS] ? preset->value[PTC_OPT_HEADS]
                                                : preset->config.heads;

    if (heads == 0) {
        return ptc_preset_needs(preset, PTC_OPT_HEADS);
    }
    if (hidden == 0) {
        return ptc_preset_fail(preset,
                               "tp=%" PRIu64
                               " needs the hidden size, which neither "
                               "config.json nor a tensor's shape tells",
                               tp);
    }
    if (hidden % heads != 0) {
        return ptc_preset_fail(preset,
                               "heads=%" PRIu64
                               " does not divide the hidden size %" PRIu64,
                               heads, hidden);
    }
    if (tp > heads) {
        return ptc_preset_fail(
            preset, "tp=%" PRIu64 " is more than heads=%" PRIu64, tp, heads);
    }
    preset->units[PTC_SIZE_Q] = hidden / heads;
    return BASE_OK;
}

static void add(struct ptc_preset *preset, const char *text)
{
    (void)base_buf_add_str(&preset->out, base_str_of(text)); /* sticky */
}

static void add_mesh(struct ptc_preset *preset, bool is_moe)
{
    static const struct {
        enum ptc_preset_option option;
        const char *name;
    } axes[] = {
        {PTC_OPT_PP, "pp"}, {PTC_OPT_REPLICATE, "replicate"},
        {PTC_OPT_DP, "dp"}, {PTC_OPT_EP, "ep"},
        {PTC_OPT_TP, "tp"},
    };
    const char *comma = "";
    size_t i;

    add(preset, "{");
    for (i = 0; i < sizeof(axes) / sizeof(axes[0]); i++) {
        enum ptc_preset_option option = axes[i].option;
        uint64_t size = preset->value[option];

        if (!preset->has[option] || (option == PTC_OPT_EP && !is_moe)) {
            continue;
        }
        if (option == PTC_OPT_DP && is_moe) {
            size /= preset->value[PTC_OPT_EP];
        }
        (void)base_buf_addf(&preset->out, "%s%s: %" PRIu64, comma, axes[i].name,
                            size);
        comma = ", ";
    }
    add(preset, "}\n");
}

/* Does a state of one element have places of its own? */
static bool has_places(const struct ptc_preset *preset)
{
    return preset->has[PTC_OPT_PP] || preset->has[PTC_OPT_EP];
}

void ptc_preset_write_head(struct ptc_preset *preset,
                           const char *layer,
                           const char *expert)
{
    uint32_t i;

    add(preset, "mesh: ");
    add_mesh(preset, false);
    if (preset->has[PTC_OPT_EP]) {
        add(preset, "meshes:\n  moe: ");
        add_mesh(preset, true);
    }
    if (preset->has[PTC_OPT_PP] && layer != NULL) {
        (void)base_buf_addf(&preset->out, "stages: {axis: pp, layer: '%s'}\n",
                            layer);
    }
    if (preset->has[PTC_OPT_EP] && expert != NULL) {
        (void)base_buf_addf(&preset->out, "experts: {axis: ep, expert: '%s'}\n",
                            expert);
    }
    if (preset->value[PTC_OPT_ZERO1] != 0) {
        add(preset, "flats:\n  optimizer: {over: [dp]}\n");
        /* A flat has one mesh, so experts need one of their own. */
        add(preset, preset->has[PTC_OPT_EP]
                        ? "  expert_optimizer: {over: [dp]}\n"
                        : "");
    }
    add(preset, "rules:\n");
    if (preset->value[PTC_OPT_ZERO1] == 0 || has_places(preset)) {
        return;
    }
    for (i = 0; i < preset->n_states; i++) {
        (void)base_buf_addf(&preset->out,
                            "- {match: 'optim.%.*s.*', optional: true}\n",
                            BASE_STR_FMT(preset->states[i]));
    }
}

static bool has_letter(const struct ptc_preset *preset, char letter)
{
    switch (letter) {
    case 't':
        return preset->has[PTC_OPT_TP];
    case 'e':
        return preset->has[PTC_OPT_EP];
    case 'd':
        return preset->has[PTC_OPT_DP];
    default:
        return false;
    }
}

static const char *letter_axis(const struct ptc_preset *preset, char letter)
{
    if (!has_letter(preset, letter)) {
        return "~";
    }
    return letter == 't' ? "tp" : letter == 'e' ? "ep" : "dp";
}

static void add_cut(struct ptc_preset *preset,
                    const struct ptc_preset_rule *rule)
{
    const char *letter;
    bool has_any = false;
    size_t dim;
    uint32_t i;

    for (letter = rule->cut; letter != NULL && *letter != '\0'; letter++) {
        has_any = has_any || has_letter(preset, *letter);
    }
    if (!has_any) {
        return;
    }
    for (letter = rule->cut; *letter != '\0'; letter++) {
        add(preset, letter == rule->cut ? ", dims: [" : ", ");
        add(preset, letter_axis(preset, *letter));
    }
    add(preset, "]");
    letter = strchr(rule->cut, 't');
    if (letter == NULL || !has_letter(preset, 't')) {
        return;
    }
    dim = (size_t)(letter - rule->cut);
    if (preset->units[rule->unit] != 0) {
        (void)base_buf_addf(&preset->out, ", unit: {%zu: %" PRIu64 "}", dim,
                            preset->units[rule->unit]);
    }
    if (preset->n_segments[rule->segments] != 0) {
        (void)base_buf_addf(&preset->out, ", segments: {%zu: [", dim);
        for (i = 0; i < preset->n_segments[rule->segments]; i++) {
            (void)base_buf_addf(&preset->out, "%s%" PRIu64, i == 0 ? "" : ", ",
                                preset->segments[rule->segments][i]);
        }
        add(preset, "]}");
    }
}

static bool is_in_moe(const struct ptc_preset *preset,
                      const struct ptc_preset_rule *rule)
{
    return preset->has[PTC_OPT_EP] && rule->place != PTC_PLACE_PLAIN;
}

/* Begin a rule: its pattern and where it is. */
static void add_start(struct ptc_preset *preset,
                      struct base_str state,
                      const struct ptc_preset_rule *rule)
{
    static const char *const stages[] = {
        [PTC_AT_ALL] = "",
        [PTC_AT_LAYER] = ", stage: layer",
        [PTC_AT_FIRST] = ", stage: first",
        [PTC_AT_LAST] = ", stage: last",
    };

    add(preset, "- {match: '");
    if (state.len > 0) {
        (void)base_buf_addf(&preset->out, "optim.%.*s.", BASE_STR_FMT(state));
    }
    add(preset, rule->match);
    add(preset, "', optional: true");
    add(preset, preset->has[PTC_OPT_PP] ? stages[rule->stage] : "");
    if (is_in_moe(preset, rule)) {
        add(preset, ", mesh: moe");
        add(preset, rule->place == PTC_PLACE_EXPERT ? ", expert: true" : "");
    }
}

static void write_rule(struct ptc_preset *preset,
                       const struct ptc_preset_rule *rule,
                       const char *target)
{
    uint32_t i;

    add_start(preset, BASE_STR(""), rule);
    add_cut(preset, rule);
    if (target != NULL) {
        (void)base_buf_addf(&preset->out, ", tie: '%s'", target);
    }
    add(preset, "}\n");
    if (preset->value[PTC_OPT_ZERO1] == 0) {
        return;
    }
    for (i = 0; i < preset->n_states && has_places(preset); i++) {
        add_start(preset, preset->states[i], rule);
        add(preset, "}\n");
    }
    add_start(preset, BASE_STR("*"), rule);
    add_cut(preset, rule);
    add(preset, is_in_moe(preset, rule) ? ", flat: expert_optimizer}\n"
                                        : ", flat: optimizer}\n");
}

void ptc_preset_write_rules(struct ptc_preset *preset,
                            const struct ptc_preset_rule *rules,
                            size_t n)
{
    size_t i;

    for (i = 0; i < n; i++) {
        write_rule(preset, &rules[i], NULL);
    }
}

void ptc_preset_write_tie(struct ptc_preset *preset,
                          const struct ptc_preset_rule *rule,
                          const char *target)
{
    write_rule(preset, rule, target);
}
