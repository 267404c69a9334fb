/* How presets are written: a family is a few tables of rules, which letters
 * and sizes fill, and a function that finds the sizes.  What results is the
 * text of a spec, which the spec parser then reads like any other.
 *
 * Internal to ptc/preset*.c. */
#ifndef PTC_PRESET_RULES_H
#define PTC_PRESET_RULES_H

#include "ptc/preset.h"

enum ptc_preset_option {
    PTC_OPT_TP,
    PTC_OPT_PP,
    PTC_OPT_DP,
    PTC_OPT_EP,
    PTC_OPT_REPLICATE,
    PTC_OPT_HEADS,
    PTC_OPT_KV,
    PTC_OPT_HEAD_DIM,
    PTC_OPT_SWIGLU,
    PTC_OPT_TIED,
    PTC_OPT_ZERO1,
    PTC_OPT_N,
};

/* Which of a preset's sizes a rule takes as `unit` or as `segments`. */
enum ptc_preset_size {
    PTC_SIZE_NONE,
    PTC_SIZE_Q,          /* query heads */
    PTC_SIZE_KV,         /* key and value heads */
    PTC_SIZE_O,          /* query heads as the output projection has them */
    PTC_SIZE_QKV,        /* fused, whatever the family's way */
    PTC_SIZE_KV_B,       /* keys and values of a head, from a latent */
    PTC_SIZE_FC1,        /* gate and up, fused */
    PTC_SIZE_SHARED_FC1, /* the same of shared experts */
    PTC_SIZE_EXPERT_FC1, /* the same of experts */
    PTC_SIZE_N,
};

enum ptc_preset_stage {
    PTC_AT_ALL,
    PTC_AT_LAYER,
    PTC_AT_FIRST,
    PTC_AT_LAST,
};

enum ptc_preset_place {
    PTC_PLACE_PLAIN,
    PTC_PLACE_EXPERT, /* one tensor per expert: placed by its number */
    PTC_PLACE_MOE,    /* experts stacked in one tensor */
};

struct ptc_preset_rule {
    const char *match;
    const char *cut; /* a letter per dimension: t tp, e ep, d dp, - whole; NULL:
                        all whole */
    enum ptc_preset_stage stage;
    enum ptc_preset_size unit;     /* of the dimension cut by t */
    enum ptc_preset_size segments; /* the same */
    enum ptc_preset_place place;
};

/* What config.json says; 0 where it is silent. */
struct ptc_preset_config {
    bool is_read;
    bool has_tied;
    bool is_tied;
    uint64_t hidden;
    uint64_t heads;
    uint64_t kv;
    uint64_t head_dim;
    uint64_t ffn;
};

#define PTC_PRESET_MAX_STATES   64
#define PTC_PRESET_MAX_SEGMENTS 3

/* A preset while it is written out.  Owner: ptc_preset_expand's frame. */
struct ptc_preset {
    const struct ptc_preset_family *family;
    const struct ptc_table *table; /* NULL: none */
    bool has[PTC_OPT_N];
    uint64_t value[PTC_OPT_N]; /* 0 where not given */
    struct ptc_preset_config config;
    uint64_t units[PTC_SIZE_N];      /* 0: leave `unit` out */
    uint32_t n_segments[PTC_SIZE_N]; /* 0: leave `segments` out */
    uint64_t segments[PTC_SIZE_N][PTC_PRESET_MAX_SEGMENTS];
    uint32_t n_states; /* optimizer states of one element each */
    struct base_str states[PTC_PRESET_MAX_STATES];
    struct base_buf out;
    struct base_err *err;
};

struct ptc_preset_family {
    struct ptc_preset_info info;
    bool has_config;                /* reads config.json */
    bool is_zero1;                  /* as if zero1=1 were always written */
    const char *const *model_types; /* it may name; NULL: any.  NULL-ended */
    const char *const *classes;     /* how its `architectures` may begin */
    enum base_code (*write)(struct ptc_preset *preset);
};

extern const struct ptc_preset_family ptc_preset_llama;
extern const struct ptc_preset_family ptc_preset_gpt2;
extern const struct ptc_preset_family ptc_preset_bert;
extern const struct ptc_preset_family ptc_preset_megatron;
extern const struct ptc_preset_family ptc_preset_fsdp2;
extern const struct ptc_preset_family ptc_preset_zero1;

/* Read @text into preset->config.
 * Errors: BASE_BAD_INPUT  malformed, or of another architecture
 *         BASE_LIMIT, BASE_NO_MEM */
enum base_code ptc_preset_read_config(struct ptc_preset *preset,
                                      struct base_str text,
                                      const char *origin) BASE_MUST_CHECK;

/* Set the error "PRESET: <text>"; yields BASE_BAD_ARG, visibly to compilers. */
#define ptc_preset_fail(...) (ptc_preset_fail_(__VA_ARGS__), BASE_BAD_ARG)
void ptc_preset_fail_(const struct ptc_preset *preset, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The refusal when nothing tells the value of an option. */
enum base_code ptc_preset_needs(const struct ptc_preset *preset,
                                enum ptc_preset_option option);

/* The option, else @otherwise. */
static inline uint64_t ptc_preset_pick(const struct ptc_preset *preset,
                                       enum ptc_preset_option option,
                                       uint64_t otherwise)
{
    return preset->has[option] ? preset->value[option] : otherwise;
}

/* a / b, or 0 where that is no whole number. */
static inline uint64_t ptc_preset_divide(uint64_t a, uint64_t b)
{
    return b != 0 && a % b == 0 ? a / b : 0;
}

/* Segments of @size: @n of @length. */
void ptc_preset_set_segments(struct ptc_preset *preset,
                             enum ptc_preset_size size,
                             uint32_t n,
                             uint64_t length);

/* Does some rule really cut by tp, so that sizes matter? */
bool ptc_preset_cuts(const struct ptc_preset *preset);
/* The option, else config.json's word, else @otherwise. */
bool ptc_preset_is_tied(const struct ptc_preset *preset, bool otherwise);

/* The size of dimension @dim in all tensors of the table (optimizer state left
 * out) that have @n_dims dimensions and end in @suffix; 0 when there is none.
 * Errors: BASE_BAD_ARG  they differ */
enum base_code ptc_preset_dim(const struct ptc_preset *preset,
                              const char *suffix,
                              uint32_t n_dims,
                              uint32_t dim,
                              uint64_t *ret) BASE_MUST_CHECK;

/* Heads where all have keys and values of their own: units[PTC_SIZE_Q] is what
 * @hidden divided by the number of heads gives (@hidden is 0: from nowhere).
 * Errors: BASE_BAD_ARG  no heads or no size, no divisor, more ranks than heads
 */
enum base_code ptc_preset_plain_heads(struct ptc_preset *preset,
                                      uint64_t hidden) BASE_MUST_CHECK;

/* Write mesh, meshes, stages, experts and flats, as the options ask.  @layer
 * and @expert are expressions (NULL: the family has none). */
void ptc_preset_write_head(struct ptc_preset *preset,
                           const char *layer,
                           const char *expert);
/* Write rules; with zero1, each with the rules of its optimizer state. */
void ptc_preset_write_rules(struct ptc_preset *preset,
                            const struct ptc_preset_rule *rules,
                            size_t n);
/* Write a rule whose tensor has the bytes of @target. */
void ptc_preset_write_tie(struct ptc_preset *preset,
                          const struct ptc_preset_rule *rule,
                          const char *target);

#define PTC_PRESET_WRITE(preset, rules)                                        \
    ptc_preset_write_rules((preset), (rules),                                  \
                           sizeof(rules) / sizeof((rules)[0]))

#endif
