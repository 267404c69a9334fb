/* What a rank's files show: dense tensors and buckets of flats, in order of
 * name (two sorted lists, merged), their parts, and what their metadata says. */
#include <assert.h>
#include <inttypes.h>

#include "ptc/layout_impl.h"

/* The rank's variant of a bucket; NULL when the rank has no such bucket. */
static const struct ptc_flat_variant *
bucket_variant(const struct ptc_layout *layout,
               uint32_t flat_set,
               uint32_t bucket,
               ptc_rank rank)
{
    const struct ptc_flat_variant *variant =
        ptc_flat_variant_of(&layout->flat_sets[flat_set], rank);

    return bucket < variant->n_buckets ? variant : NULL;
}

static enum base_code show_bucket(const struct ptc_layout *layout,
                                  const struct ptc_bucket_name *name,
                                  ptc_rank rank,
                                  struct base_str group,
                                  ptc_shown_fn fn,
                                  void *ctx,
                                  struct base_err *err)
{
    const struct ptc_flat_set *set = &layout->flat_sets[name->flat_set];
    const struct ptc_flat_variant *variant =
        bucket_variant(layout, name->flat_set, name->bucket, rank);
    struct ptc_shown shown = {
        .name = name->name,
        .group = set->group,
        .dtype = set->dtype,
        .n_dims = 1,
        .tensor = PTC_NONE,
        .flat_ = name->flat_set,
        .bucket_ = name->bucket,
    };

    if (variant == NULL || (group.len > 0 && !base_str_eq(group, set->group))) {
        return BASE_OK;
    }
    shown.shape[0] = variant->buckets[name->bucket].part_elems;
    return fn(ctx, &shown, err);
}

static enum base_code show_tensor(const struct ptc_layout *layout,
                                  uint32_t idx,
                                  ptc_rank rank,
                                  ptc_shown_fn fn,
                                  void *ctx,
                                  struct base_err *err)
{
    const struct ptc_tensor *tensor = ptc_table_tensor(layout->table, idx);
    struct ptc_shown shown = {
        .name = tensor->name,
        .group = tensor->group,
        .dtype = tensor->dtype,
        .n_dims = tensor->n_dims,
        .tensor = idx,
        .flat_ = PTC_NONE,
        .bucket_ = PTC_NONE,
    };

    ptc_layout_shard_shape(layout, idx, rank, shown.shape);
    return fn(ctx, &shown, err);
}

enum base_code ptc_layout_shown(const struct ptc_layout *layout,
                                ptc_rank rank,
                                struct base_str group,
                                ptc_shown_fn fn,
                                void *ctx,
                                struct base_err *err)
{
    uint32_t next = 0; /* bucket name */

    for (uint32_t i = 0; i < layout->n_tensors; i++) {
        const struct ptc_tensor *tensor;

        if (layout->bound[i].flat_set != PTC_NONE ||
            !ptc_layout_has(layout, i, rank)) {
            continue;
        }
        tensor = ptc_table_tensor(layout->table, i);
        if (group.len > 0 && !base_str_eq(group, tensor->group)) {
            continue;
        }
        while (next < layout->n_bucket_names &&
               base_str_cmp(layout->bucket_names[next].name, tensor->name) <
                   0) {
            BASE_TRY(show_bucket(layout, &layout->bucket_names[next++], rank,
                                 group, fn, ctx, err));
        }
        BASE_TRY(show_tensor(layout, i, rank, fn, ctx, err));
    }
    while (next < layout->n_bucket_names) {
        BASE_TRY(show_bucket(layout, &layout->bucket_names[next++], rank, group,
                             fn, ctx, err));
    }
    return BASE_OK;
}

/* Passes parts on with the tensor they are of. */
struct part_ctx {
    uint32_t tensor;
    ptc_shown_part_fn fn;
    void *ctx;
};

static enum base_code
pass_part(void *ctx, const struct ptc_part *part, struct base_err *err)
{
    struct part_ctx *c = ctx;

    return c->fn(c->ctx, c->tensor, part, err);
}

enum base_code ptc_layout_shown_parts(const struct ptc_layout *layout,
                                      ptc_rank rank,
                                      const struct ptc_shown *shown,
                                      ptc_shown_part_fn fn,
                                      void *ctx,
                                      struct base_err *err)
{
    struct part_ctx c = {.tensor = shown->tensor, .fn = fn, .ctx = ctx};
    const struct ptc_flat_set *set;
    const struct ptc_flat_variant *variant;
    uint64_t begin;
    uint64_t end;

    if (shown->tensor != PTC_NONE) {
        return ptc_layout_parts(layout, shown->tensor, rank, pass_part, &c,
                                err);
    }
    set = &layout->flat_sets[shown->flat_];
    variant = bucket_variant(layout, shown->flat_, shown->bucket_, rank);
    if (variant == NULL) {
        return BASE_OK;
    }
    begin =
        ptc_flat_part(set, rank) * variant->buckets[shown->bucket_].part_elems;
    end = begin + variant->buckets[shown->bucket_].part_elems;
    for (uint32_t i = ptc_flat_member_at(layout, set, variant, shown->bucket_,
                                         rank, begin);
         i < variant->buckets[shown->bucket_ + 1].first &&
         variant->members[i].offset < end;
         i++) {
        c.tensor = set->members[variant->members[i].position];
        BASE_TRY(ptc_flat_parts(layout, c.tensor, &variant->members[i], rank,
                                NULL, pass_part, &c, err));
    }
    return BASE_OK;
}

/* JSON. */

static void add_u64(struct base_buf *buf, bool is_first, uint64_t value)
{
    (void)base_buf_addf(buf, "%s%" PRIu64, is_first ? "" : ",", value);
}

static void add_shape(struct base_buf *buf, const struct ptc_geometry *g)
{
    (void)base_buf_addf(buf, "\"shape\":[");
    for (uint32_t d = 0; d < g->n_dims; d++) {
        add_u64(buf, d == 0, g->shape[d]);
    }
    (void)base_buf_addf(buf, "]");
}

static void add_ranges(struct base_buf *buf,
                       const struct ptc_layout *layout,
                       uint32_t tensor,
                       ptc_rank rank)
{
    const struct ptc_geometry *g = ptc_geometry_of(layout, tensor);

    (void)base_buf_addf(buf, "\"ranges\":[");
    for (uint32_t d = 0; d < g->n_dims; d++) {
        uint32_t n;
        const struct ptc_range *ranges =
            ptc_layout_shard_ranges(layout, tensor, rank, d, &n);

        (void)base_buf_addf(buf, "%s[", d == 0 ? "" : ",");
        for (uint32_t i = 0; i < n; i++) {
            (void)base_buf_addf(buf, "%s[%" PRIu64 ",%" PRIu64 "]",
                                i == 0 ? "" : ",", ranges[i].begin,
                                ranges[i].end);
        }
        (void)base_buf_addf(buf, "]");
    }
    (void)base_buf_addf(buf, "]");
}

static void dense_json(struct base_buf *buf,
                       const struct ptc_layout *layout,
                       uint32_t tensor,
                       ptc_rank rank)
{
    const struct ptc_geometry *g = ptc_geometry_of(layout, tensor);
    uint64_t offset[PTC_MAX_DIMS];
    bool is_one_box = true;

    for (uint32_t d = 0; d < g->n_dims; d++) {
        uint32_t n;

        offset[d] = ptc_layout_shard_ranges(layout, tensor, rank, d, &n)->begin;
        is_one_box = is_one_box && n == 1;
    }
    (void)base_buf_addf(buf, "{");
    add_shape(buf, g);
    (void)base_buf_addf(buf, ",");
    if (is_one_box) {
        (void)base_buf_addf(buf, "\"offset\":[");
        for (uint32_t d = 0; d < g->n_dims; d++) {
            add_u64(buf, d == 0, offset[d]);
        }
        (void)base_buf_addf(buf, "]");
    } else {
        add_ranges(buf, layout, tensor, rank);
    }
    (void)base_buf_addf(buf, "}");
}

/* Members that have elements in this part, and those that have none at all. */
static void flat_json(struct base_buf *buf,
                      const struct ptc_layout *layout,
                      const struct ptc_shown *shown,
                      ptc_rank rank)
{
    const struct ptc_flat_set *set = &layout->flat_sets[shown->flat_];
    const struct ptc_flat_variant *variant = ptc_flat_variant_of(set, rank);
    uint64_t n_part = variant->buckets[shown->bucket_].part_elems;
    uint64_t begin = ptc_flat_part(set, rank) * n_part;
    bool is_first = true;

    (void)base_buf_addf(buf,
                        "{\"flat\":[%" PRIu64 ",%" PRIu64 "],\"members\":[",
                        n_part * set->n_parts, begin);
    for (uint32_t i = variant->buckets[shown->bucket_].first;
         i < variant->buckets[shown->bucket_ + 1].first; i++) {
        const struct ptc_flat_member *m = &variant->members[i];
        uint32_t tensor = set->members[m->position];
        const struct ptc_geometry *g = ptc_geometry_of(layout, tensor);
        uint64_t n = ptc_geometry_shard_elems(g, rank);

        if (n > 0 && (m->offset + n <= begin || m->offset >= begin + n_part)) {
            continue;
        }
        (void)base_buf_addf(buf, "%s{\"name\":", is_first ? "" : ",");
        (void)base_buf_add_json(buf,
                                ptc_table_tensor(layout->table, tensor)->name);
        (void)base_buf_addf(buf, ",\"at\":%" PRIu64 ",", m->offset);
        add_shape(buf, g);
        (void)base_buf_addf(buf, ",");
        add_ranges(buf, layout, tensor, rank);
        (void)base_buf_addf(buf, "}");
        is_first = false;
    }
    (void)base_buf_addf(buf, "]}");
}

enum base_code ptc_layout_shown_json(const struct ptc_layout *layout,
                                     ptc_rank rank,
                                     const struct ptc_shown *shown,
                                     struct base_buf *buf,
                                     struct base_err *err)
{
    if (shown->tensor != PTC_NONE) {
        dense_json(buf, layout, shown->tensor, rank);
    } else {
        flat_json(buf, layout, shown, rank);
    }
    return base_buf_check(buf, err);
}
