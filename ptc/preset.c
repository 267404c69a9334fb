/* The short form: names and options of presets; see preset.h.
 *
 * A preset is expanded into the text of a spec, which is parsed: so it can say
 * nothing that a spec could not, and passes the same checks. */
#include "ptc/preset.h"

#include <assert.h>
#include <inttypes.h>

#include "base/num.h"
#include "ptc/preset_rules.h"

#define N_ITEMS(array) (sizeof(array) / sizeof((array)[0]))

enum { PRESET_TEXT_BYTES = 1 << 20, MAX_STATE_BYTES = 40 };

static const struct ptc_preset_family *const families[] = {
    &ptc_preset_llama,    &ptc_preset_gpt2,  &ptc_preset_bert,
    &ptc_preset_megatron, &ptc_preset_fsdp2, &ptc_preset_zero1,
};

/* Not a family: the layout of one rank. */
static const struct ptc_preset_info whole = {
    "hf", "any: one rank that holds everything", ""};

static const struct {
    const char *name;
    uint64_t min;
    uint64_t max;
} options[PTC_OPT_N] = {
    [PTC_OPT_TP] = {"tp", 1, PTC_MAX_RANKS},
    [PTC_OPT_PP] = {"pp", 1, PTC_MAX_RANKS},
    [PTC_OPT_DP] = {"dp", 1, PTC_MAX_RANKS},
    [PTC_OPT_EP] = {"ep", 1, PTC_MAX_RANKS},
    [PTC_OPT_REPLICATE] = {"replicate", 1, PTC_MAX_RANKS},
    [PTC_OPT_HEADS] = {"heads", 1, 1 << 20},
    [PTC_OPT_KV] = {"kv", 1, 1 << 20},
    [PTC_OPT_HEAD_DIM] = {"head_dim", 1, 1 << 20},
    [PTC_OPT_SWIGLU] = {"swiglu", 0, 1},
    [PTC_OPT_TIED] = {"tied", 0, 1},
    [PTC_OPT_ZERO1] = {"zero1", 0, 1},
};

const struct ptc_preset_info *ptc_preset_info(unsigned idx)
{
    if (idx == N_ITEMS(families)) {
        return &whole;
    }
    return idx < N_ITEMS(families) ? &families[idx]->info : NULL;
}

enum base_code ptc_preset_needs(const struct ptc_preset *preset,
                                enum ptc_preset_option option)
{
    return ptc_preset_fail(preset,
                           "tp=%" PRIu64 " needs %s: write it (%s=N), as "
                           "neither config.json nor a tensor's shape tells it",
                           preset->value[PTC_OPT_TP], options[option].name,
                           options[option].name);
}

/* What stands before @mark, or all; *s becomes what stands after it. */
static struct base_str take_until(struct base_str *s, char mark)
{
    const char *at = s->len == 0 ? NULL : memchr(s->ptr, mark, s->len);
    struct base_str before = *s;

    if (at == NULL) {
        *s = (struct base_str){"", 0};
        return before;
    }
    before.len = (size_t)(at - s->ptr);
    *s = (struct base_str){at + 1, s->len - before.len - 1};
    return before;
}

static const struct ptc_preset_family *find_family(struct base_str name)
{
    size_t i;

    for (i = 0; i < N_ITEMS(families); i++) {
        if (base_str_eq(name, base_str_of(families[i]->info.name))) {
            return families[i];
        }
    }
    return NULL;
}

bool ptc_preset_is_short_form(struct base_str text)
{
    struct base_str name = take_until(&text, ':');

    return base_str_eq(name, base_str_of(whole.name)) ||
           find_family(name) != NULL;
}

static enum base_code fail_family(struct base_str name, struct base_err *err)
{
    const char *names[N_ITEMS(families) + 1];
    const char *nearest;
    size_t i;

    for (i = 0; i < N_ITEMS(names); i++) {
        names[i] = ptc_preset_info((unsigned)i)->name;
    }
    nearest = base_str_nearest(name, names, N_ITEMS(names));
    return base_fail(
        err, BASE_BAD_ARG, "there is no preset '%.*s'%s%s%s",
        BASE_STR_FMT(name), nearest != NULL ? "; did you mean '" : "",
        nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
}

/* Is @name a word of @words, which spaces part? */
static bool has_word(const char *words, const char *name)
{
    struct base_str rest = base_str_of(words);

    while (rest.len > 0) {
        if (base_str_eq(take_until(&rest, ' '), base_str_of(name))) {
            return true;
        }
    }
    return false;
}

/* The option that @name is, if this preset has it. */
static enum base_code find_option(const struct ptc_preset *preset,
                                  struct base_str name,
                                  enum ptc_preset_option *ret)
{
    const char *words = preset->family->info.options;
    const char *names[PTC_OPT_N];
    const char *nearest;
    size_t n = 0;
    unsigned i;

    for (i = 0; i < PTC_OPT_N; i++) {
        if (!has_word(words, options[i].name)) {
            continue;
        }
        if (base_str_eq(name, base_str_of(options[i].name))) {
            *ret = (enum ptc_preset_option)i;
            return BASE_OK;
        }
        names[n++] = options[i].name;
    }
    nearest = base_str_nearest(name, names, n);
    return ptc_preset_fail(
        preset, "no option '%.*s'%s%s%s; it has: %s", BASE_STR_FMT(name),
        nearest != NULL ? ", did you mean '" : "",
        nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "", words);
}

static enum base_code read_option(struct ptc_preset *preset,
                                  struct base_str item)
{
    struct base_str value = item;
    struct base_str name = take_until(&value, '=');
    enum ptc_preset_option option = PTC_OPT_N;

    if (name.len == item.len) {
        return ptc_preset_fail(preset, "'%.*s' is no KEY=VALUE",
                               BASE_STR_FMT(item));
    }
    BASE_TRY(find_option(preset, name, &option));
    if (preset->has[option]) {
        return ptc_preset_fail(preset, "%s is there twice",
                               options[option].name);
    }
    if (!base_parse_u64(value, &preset->value[option]) ||
        preset->value[option] < options[option].min ||
        preset->value[option] > options[option].max) {
        return ptc_preset_fail(
            preset, "%s=%.*s: expected a number from %" PRIu64 " to %" PRIu64,
            options[option].name, BASE_STR_FMT(value), options[option].min,
            options[option].max);
    }
    preset->has[option] = true;
    return BASE_OK;
}

/* Axes that others need, and sizes that must go together. */
static enum base_code complete_axes(struct ptc_preset *preset)
{
    static const enum ptc_preset_option axes[] = {
        PTC_OPT_TP, PTC_OPT_PP, PTC_OPT_DP, PTC_OPT_REPLICATE};
    bool needs_dp =
        preset->has[PTC_OPT_EP] || preset->value[PTC_OPT_ZERO1] != 0;
    uint64_t n_ranks = 1;
    size_t i;

    if (needs_dp && !preset->has[PTC_OPT_DP]) {
        preset->has[PTC_OPT_DP] = true;
        preset->value[PTC_OPT_DP] = 1;
    }
    if (preset->has[PTC_OPT_EP] &&
        preset->value[PTC_OPT_DP] % preset->value[PTC_OPT_EP] != 0) {
        return ptc_preset_fail(preset,
                               "ep=%" PRIu64 " does not divide dp=%" PRIu64
                               " (experts lie across the ranks of dp)",
                               preset->value[PTC_OPT_EP],
                               preset->value[PTC_OPT_DP]);
    }
    for (i = 0; i < N_ITEMS(axes); i++) {
        n_ranks *= preset->has[axes[i]] ? preset->value[axes[i]] : 1;
        if (n_ranks > PTC_MAX_RANKS) { /* both factors are at most 2^20 */
            return ptc_preset_fail(preset, "more than %u ranks", PTC_MAX_RANKS);
        }
    }
    return BASE_OK;
}

static enum base_code read_options(struct ptc_preset *preset,
                                   struct base_str text)
{
    while (text.len > 0) {
        bool is_last = memchr(text.ptr, ',', text.len) == NULL;

        BASE_TRY(read_option(preset, take_until(&text, ',')));
        if (!is_last && text.len == 0) {
            return ptc_preset_fail(preset, "a comma at the end");
        }
    }
    return complete_axes(preset);
}

static bool is_plain_word(struct base_str word)
{
    size_t i;

    for (i = 0; i < word.len; i++) {
        char c = word.ptr[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c >= '0' && c <= '9') || c == '_' || c == '-')) {
            return false;
        }
    }
    return word.len > 0 && word.len <= MAX_STATE_BYTES;
}

static enum base_code add_state(struct ptc_preset *preset, struct base_str name)
{
    uint32_t i;

    for (i = 0; i < preset->n_states; i++) {
        if (base_str_eq(preset->states[i], name)) {
            return BASE_OK;
        }
    }
    if (preset->n_states == PTC_PRESET_MAX_STATES) {
        return base_fail(preset->err, BASE_LIMIT,
                         "%s: more than %d optimizer states of one element",
                         preset->family->info.name, PTC_PRESET_MAX_STATES);
    }
    preset->states[preset->n_states++] = name;
    return BASE_OK;
}

/* States that have one element for a parameter that has more are no part of a
 * flat: `step`, and what else the table shows.  The table is sorted, so that
 * the tensors of a state are neighbours. */
static enum base_code find_states(struct ptc_preset *preset)
{
    const struct ptc_table *table = preset->table;
    uint32_t n = table == NULL ? 0 : ptc_table_n_tensors(table);
    uint32_t i = 0;

    BASE_TRY(add_state(preset, BASE_STR("step")));
    while (i < n) {
        bool is_single = true;
        bool has_larger = false;
        struct base_str first;
        struct base_str state;
        struct base_str param;

        if (!ptc_name_split_optim(ptc_table_tensor(table, i)->name, &first,
                                  &param)) {
            i++;
            continue;
        }
        for (; i < n; i++) {
            const struct ptc_tensor *tensor = ptc_table_tensor(table, i);
            uint32_t of;

            if (!ptc_name_split_optim(tensor->name, &state, &param) ||
                !base_str_eq(state, first)) {
                break;
            }
            of = ptc_table_find(table, param);
            is_single = is_single && tensor->n_elems == 1;
            has_larger =
                has_larger ||
                (of != PTC_NONE && ptc_table_tensor(table, of)->n_elems != 1);
        }
        if (is_single && has_larger && is_plain_word(first)) {
            BASE_TRY(add_state(preset, first));
        }
    }
    return BASE_OK;
}

static enum base_code expand_family(struct ptc_preset *preset,
                                    struct base_str text,
                                    struct base_str config,
                                    const char *config_origin,
                                    struct ptc_spec **ret)
{
    uint32_t i;

    BASE_TRY(read_options(preset, text));
    if (preset->family->has_config && config.len > 0) {
        BASE_TRY(ptc_preset_read_config(preset, config,
                                        config_origin != NULL ? config_origin
                                                              : "config.json"));
    }
    if (preset->value[PTC_OPT_ZERO1] != 0) {
        BASE_TRY(find_states(preset));
    }
    BASE_TRY(preset->family->write(preset));
    BASE_TRY(base_buf_check(&preset->out, preset->err));
    BASE_TRY(ptc_spec_parse(base_buf_str(&preset->out),
                            preset->family->info.name, ret, preset->err));
    for (i = 0; i < (*ret)->n_rules; i++) {
        (*ret)->rules[i].line = 0;
    }
    return BASE_OK;
}

enum base_code ptc_preset_expand(struct base_str short_form,
                                 struct base_str config,
                                 const char *config_origin,
                                 const struct ptc_table *table,
                                 struct ptc_spec **ret,
                                 struct base_err *err)
{
    struct ptc_preset preset = {.table = table, .err = err};
    struct base_str text = short_form;
    struct base_str name = take_until(&text, ':');
    enum base_code code;

    if (base_str_eq(name, base_str_of(whole.name))) {
        if (text.len > 0) {
            return base_fail(err, BASE_BAD_ARG, "hf: it has no options");
        }
        return ptc_spec_whole(ret, err);
    }
    preset.family = find_family(name);
    if (preset.family == NULL) {
        return fail_family(name, err);
    }
    preset.value[PTC_OPT_ZERO1] = preset.family->is_zero1;
    base_buf_init(&preset.out, PRESET_TEXT_BYTES);
    code = expand_family(&preset, text, config, config_origin, ret);
    base_buf_done(&preset.out);
    return code;
}
