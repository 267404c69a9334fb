/* Small problems for the tests of plans: a table, layouts over it from YAML,
 * holdings that are added one by one. */
#ifndef UNIT_PTC_PLAN_FIXTURE_H
#define UNIT_PTC_PLAN_FIXTURE_H

#include "ptc/plan.h"

#define FIXTURE_MAX 8

struct fixture_tensor {
    const char *name;
    const char *tie; /* the tensor it is tied to, or NULL */
    enum ptc_dtype dtype;
    uint32_t n_dims;
    uint64_t shape[4];
};

struct fixture {
    struct ptc_table *table;
    uint32_t n_layouts;
    struct ptc_layout *layouts[FIXTURE_MAX];
    struct ptc_holding holdings[FIXTURE_MAX];
    ptc_rank ranks[FIXTURE_MAX][FIXTURE_MAX]; /* of each holding */
    uint32_t rank_host[FIXTURE_MAX];
    struct ptc_problem problem;
};

/* The table of @tensors, no layout, no holding, @n_hosts hosts. */
void fixture_init(struct fixture *fixture,
                  const struct fixture_tensor *tensors,
                  size_t n_tensors,
                  uint32_t n_hosts);
void fixture_done(struct fixture *fixture);
#define FIXTURE __attribute__((cleanup(fixture_done))) struct fixture

/* Bind a spec. */
struct ptc_layout *fixture_layout(struct fixture *fixture, const char *spec);
/* Bind the target; rank r lies on hosts[r]. */
void fixture_to(struct fixture *fixture,
                const char *spec,
                const uint32_t *hosts);
/* @host holds @n_ranks ranks from @first on. */
void fixture_hold(struct fixture *fixture,
                  uint32_t host,
                  const struct ptc_layout *layout,
                  ptc_rank first,
                  uint32_t n_ranks);
/* @host holds [begin, end) of dimension 0 of @tensor, the rest whole. */
void fixture_hold_box(struct fixture *fixture,
                      uint32_t host,
                      const char *tensor,
                      uint64_t begin,
                      uint64_t end);

/* The plan of all hosts; it must succeed, and pass its check.  Given. */
struct ptc_plan *fixture_plan(const struct fixture *fixture);
/* Its sums; arrays of *totals as the caller set them. */
void fixture_sum(const struct fixture *fixture,
                 const struct ptc_plan *plan,
                 struct ptc_plan_totals *totals);

#endif
