#include "tests/unit/unit.h"

#include <string.h>

#include "tests/unit/ptc/plan_fixture.h"

void fixture_init(struct fixture *fixture,
                  const struct fixture_tensor *tensors,
                  size_t n_tensors,
                  uint32_t n_hosts)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    struct base_err err;

    memset(fixture, 0, sizeof(*fixture));
    assert_non_null(builder);
    for (size_t i = 0; i < n_tensors; i++) {
        const struct fixture_tensor *t = &tensors[i];

        if (t->tie != NULL) {
            assert_ok(ptc_table_add_tie(builder, base_str_of(t->name),
                                        base_str_of(t->tie), &err),
                      &err);
            continue;
        }
        assert_ok(ptc_table_add(builder, base_str_of(t->name),
                                BASE_STR("model"), t->dtype, t->n_dims,
                                t->shape, &err),
                  &err);
    }
    assert_ok(ptc_table_finish(builder, &fixture->table, &err), &err);
    fixture->problem.table = fixture->table;
    fixture->problem.n_hosts = n_hosts;
    fixture->problem.holdings = fixture->holdings;
    fixture->problem.rank_host = fixture->rank_host;
}

void fixture_done(struct fixture *fixture)
{
    for (uint32_t i = 0; i < fixture->n_layouts; i++) {
        ptc_layout_free(fixture->layouts[i]);
    }
    ptc_table_free(fixture->table);
}

struct ptc_layout *fixture_layout(struct fixture *fixture, const char *spec)
{
    BASE_AUTO(ptc_spec) parsed = NULL;
    struct base_err err;
    struct ptc_layout **slot = &fixture->layouts[fixture->n_layouts];

    assert_true(fixture->n_layouts < FIXTURE_MAX);
    assert_ok(ptc_spec_parse(base_str_of(spec), "test", &parsed, &err), &err);
    assert_ok(ptc_layout_create(&parsed, fixture->table, slot, &err), &err);
    fixture->n_layouts++;
    return *slot;
}

void fixture_to(struct fixture *fixture,
                const char *spec,
                const uint32_t *hosts)
{
    struct ptc_layout *to = fixture_layout(fixture, spec);

    fixture->problem.to = to;
    memcpy(fixture->rank_host, hosts,
           ptc_layout_n_ranks(to) * sizeof(*fixture->rank_host));
}

void fixture_hold(struct fixture *fixture,
                  uint32_t host,
                  const struct ptc_layout *layout,
                  ptc_rank first,
                  uint32_t n_ranks)
{
    uint32_t i = fixture->problem.n_holdings++;

    assert_true(i < FIXTURE_MAX);
    for (uint32_t k = 0; k < n_ranks; k++) {
        fixture->ranks[i][k] = first + k;
    }
    fixture->holdings[i] = (struct ptc_holding){
        .host = host,
        .layout = layout,
        .ranks = fixture->ranks[i],
        .n_ranks = n_ranks,
    };
}

void fixture_hold_box(struct fixture *fixture,
                      uint32_t host,
                      const char *tensor,
                      uint64_t begin,
                      uint64_t end)
{
    uint32_t i = fixture->problem.n_holdings++;
    uint32_t idx = ptc_table_find(fixture->table, base_str_of(tensor));
    const struct ptc_tensor *t;

    assert_true(i < FIXTURE_MAX && idx != PTC_NONE);
    t = ptc_table_tensor(fixture->table, idx);
    fixture->holdings[i] = (struct ptc_holding){
        .host = host,
        .tensor = idx,
        .box = ptc_box_whole(t->n_dims, t->shape),
    };
    fixture->holdings[i].box.begin[0] = begin;
    fixture->holdings[i].box.end[0] = end;
}

struct ptc_plan *fixture_plan(const struct fixture *fixture)
{
    BASE_AUTO(ptc_planner) planner = NULL;
    BASE_AUTO(ptc_plan) plan = NULL;
    const struct ptc_problem *problem = &fixture->problem;
    struct base_err err;

    assert_ok(ptc_planner_create(problem, &planner, &err), &err);
    for (uint32_t h = 0; h < problem->n_hosts; h++) {
        assert_ok(ptc_planner_host(planner, h, &plan, &err), &err);
    }
    assert_ok(ptc_plan_check(problem, plan, 0, problem->n_hosts, &err), &err);
    return base_steal(&plan);
}

void fixture_sum(const struct fixture *fixture,
                 const struct ptc_plan *plan,
                 struct ptc_plan_totals *totals)
{
    BASE_AUTO(ptc_planner) planner = NULL;
    struct base_err err;

    assert_ok(ptc_planner_create(&fixture->problem, &planner, &err), &err);
    assert_ok(ptc_plan_sum(planner, plan, totals, &err), &err);
}
