/* A small table and layouts over it, from text. */
#ifndef UNIT_PTC_FIXTURE_H
#define UNIT_PTC_FIXTURE_H

#include "base/str.h"
#include "ptc/layout.h"

struct fixture_tensor {
    const char *name;
    const char *group;
    enum ptc_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[PTC_MAX_DIMS];
    const char *tie; /* to this tensor; NULL: none */
};

/* Both fail the running test when something is wrong. */
static inline struct ptc_table *
fixture_table(const struct fixture_tensor *tensors, size_t n)
{
    struct base_err err;
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    struct ptc_table *table = NULL;

    assert_non_null(builder);
    for (size_t i = 0; i < n; i++) {
        const struct fixture_tensor *t = &tensors[i];

        if (t->tie == NULL) {
            assert_ok(ptc_table_add(builder, base_str_of(t->name),
                                    base_str_of(t->group), t->dtype, t->n_dims,
                                    t->shape, &err),
                      &err);
        } else {
            assert_ok(ptc_table_add_tie(builder, base_str_of(t->name),
                                        base_str_of(t->tie), &err),
                      &err);
        }
    }
    assert_ok(ptc_table_finish(builder, &table, &err), &err);
    return table;
}

static inline struct ptc_layout *fixture_layout(const struct ptc_table *table,
                                                const char *yaml)
{
    struct base_err err;
    BASE_AUTO(ptc_spec) spec = NULL;
    struct ptc_layout *layout = NULL;

    assert_ok(ptc_spec_parse(base_str_of(yaml), "spec", &spec, &err), &err);
    assert_ok(ptc_layout_create(&spec, table, &layout, &err), &err);
    return layout;
}

#endif
