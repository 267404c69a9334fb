/* retile-bench-plan: how long planning takes, and how much memory.
 *
 * Two problems of the usual kind, made here:
 *   dense  1,002 tensors of a LLaMA-like model, tp8 pp8 dp8 -> tp4 pp8 dp8,
 *          8 ranks per host, the whole plan of all hosts
 *   moe    100,688 tensors (65 layers of 512 experts, 1.05 T parameters),
 *          4096 -> 3840 ranks in two meshes, as one host sees it
 * and some that ask for time linear in the pieces, all hosts of each:
 *   wide      one tensor cut in two dimensions over 2^20 ranks
 *   flats     100,000 tensors in a flat with a bucket per layer, 1024 ranks
 *   segments  one dimension of 100,000 segments
 *   hosts     the dense model, 32,768 -> 16,384 ranks
 * Each run is a process of its own, so that its peak memory (VmHWM) is its own.
 * A run makes the table (not counted), then binds both layouts (spec text to
 * layout) and plans (planner and moves); then sums and checks, not counted. */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"
#include "base/options.h"
#include "ptc/plan.h"

#define RANKS_PER_HOST 8
#define MAX_RUNS       101
#define FULL_NAME      "retile-bench-plan"

/* What one run tells, through a pipe. */
struct result {
    int64_t table_ns;
    int64_t bind_ns;
    int64_t plan_ns;
    int64_t sum_ns;
    int64_t check_ns;
    uint64_t peak_kib;
    uint64_t n_tensors;
    uint64_t n_params;
    uint64_t n_moves;
    uint64_t moved_bytes;
    uint64_t bound_bytes;
};

struct bench_case {
    const char *name;
    const char *what;
    int64_t goal_ns;
    enum base_code (*fill)(struct ptc_table_builder *builder,
                           struct base_err *err);
    const char *from;
    const char *to;
    uint32_t n_from;
    uint32_t n_to;
    uint32_t host;       /* PTC_NONE: all */
    uint32_t n_segments; /* not 0: the specs end in a list of so many */
};

static int64_t now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail */
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Tables ------------------------------------------------------------------ */

struct row {
    const char *name; /* behind the layer's prefix */
    uint64_t shape[2];
};

static enum base_code add(struct ptc_table_builder *builder,
                          const char *prefix,
                          const struct row *row,
                          struct base_err *err)
{
    char name[PTC_NAME_MAX];
    uint32_t n_dims = row->shape[1] == 0 ? 1 : 2;

    (void)snprintf(name, sizeof(name), "%s%s", prefix, row->name);
    return ptc_table_add(builder, base_str_of(name), BASE_STR("model"),
                         PTC_BF16, n_dims, row->shape, err);
}

static enum base_code add_rows(struct ptc_table_builder *builder,
                               const char *prefix,
                               const struct row *rows,
                               size_t n,
                               struct base_err *err)
{
    for (size_t i = 0; i < n; i++) {
        BASE_TRY(add(builder, prefix, &rows[i], err));
    }
    return BASE_OK;
}

#define ADD_ROWS(builder, prefix, rows, err)                                   \
    add_rows((builder), (prefix), (rows), sizeof(rows) / sizeof(*(rows)), (err))

static enum base_code fill_dense(struct ptc_table_builder *builder,
                                 struct base_err *err)
{
    static const struct row ends[] = {
        {"model.embed_tokens.weight", {32000, 8192}},
        {"model.norm.weight", {8192, 0}},
        {"lm_head.weight", {32000, 8192}},
    };
    static const struct row layer[] = {
        {"input_layernorm.weight", {8192, 0}},
        {"self_attn.q_proj.weight", {8192, 8192}},
        {"self_attn.k_proj.weight", {1024, 8192}},
        {"self_attn.v_proj.weight", {1024, 8192}},
        {"self_attn.o_proj.weight", {8192, 8192}},
        {"post_attention_layernorm.weight", {8192, 0}},
        {"mlp.gate_proj.weight", {28672, 8192}},
        {"mlp.up_proj.weight", {28672, 8192}},
        {"mlp.down_proj.weight", {8192, 28672}},
    };

    BASE_TRY(ADD_ROWS(builder, "", ends, err));
    for (unsigned i = 0; i < 111; i++) {
        char prefix[64];

        (void)snprintf(prefix, sizeof(prefix), "model.layers.%u.", i);
        BASE_TRY(ADD_ROWS(builder, prefix, layer, err));
    }
    return BASE_OK;
}

static enum base_code fill_moe(struct ptc_table_builder *builder,
                               struct base_err *err)
{
    static const struct row ends[] = {
        {"model.embed_tokens.weight", {163840, 5120}},
        {"model.norm.weight", {5120, 0}},
        {"lm_head.weight", {163840, 5120}},
    };
    static const struct row layer[] = {
        {"input_layernorm.weight", {5120, 0}},
        {"self_attn.q_proj.weight", {8192, 5120}},
        {"self_attn.k_proj.weight", {1024, 5120}},
        {"self_attn.v_proj.weight", {1024, 5120}},
        {"self_attn.q_norm.weight", {128, 0}},
        {"self_attn.k_norm.weight", {128, 0}},
        {"self_attn.o_proj.weight", {5120, 8192}},
        {"post_attention_layernorm.weight", {5120, 0}},
        {"mlp.gate.weight", {512, 5120}},
        {"mlp.gate.bias", {512, 0}},
        {"mlp.shared.gate_proj.weight", {2048, 5120}},
        {"mlp.shared.up_proj.weight", {2048, 5120}},
        {"mlp.shared.down_proj.weight", {5120, 2048}},
    };
    static const struct row expert[] = {
        {"gate_proj.weight", {2048, 5120}},
        {"up_proj.weight", {2048, 5120}},
        {"down_proj.weight", {5120, 2048}},
    };

    BASE_TRY(ADD_ROWS(builder, "", ends, err));
    for (unsigned i = 0; i < 65; i++) {
        char prefix[64];

        (void)snprintf(prefix, sizeof(prefix), "model.layers.%u.", i);
        BASE_TRY(ADD_ROWS(builder, prefix, layer, err));
        for (unsigned e = 0; e < 512; e++) {
            (void)snprintf(prefix, sizeof(prefix),
                           "model.layers.%u.mlp.experts.%u.", i, e);
            BASE_TRY(ADD_ROWS(builder, prefix, expert, err));
        }
    }
    return BASE_OK;
}

static enum base_code fill_wide(struct ptc_table_builder *builder,
                                struct base_err *err)
{
    static const struct row rows[] = {{"w", {4096, 4096}}};

    return ADD_ROWS(builder, "", rows, err);
}

#define N_SEGMENTS     100000
#define SEGMENT_LENGTH 64

static enum base_code fill_segments(struct ptc_table_builder *builder,
                                    struct base_err *err)
{
    static const struct row rows[] = {
        {"w", {(uint64_t)N_SEGMENTS * SEGMENT_LENGTH, 0}}};

    return ADD_ROWS(builder, "", rows, err);
}

static enum base_code fill_flats(struct ptc_table_builder *builder,
                                 struct base_err *err)
{
    static const struct row rows[] = {{".weight", {1000, 8}}};

    for (unsigned i = 0; i < 100000; i++) {
        char prefix[64];

        (void)snprintf(prefix, sizeof(prefix), "layers.%u.p%u", i / 100,
                       i % 100);
        BASE_TRY(ADD_ROWS(builder, prefix, rows, err));
    }
    return BASE_OK;
}

/* Specs ------------------------------------------------------------------- */

#define RULES_OF_ENDS                                                          \
    "- {match: '*norm.weight', stage: layer}\n"                                \
    "- {match: 'model.embed_tokens.weight', dims: [tp, ~], stage: first}\n"    \
    "- {match: 'lm_head.weight', dims: [tp, ~], stage: last}\n"

#define RULES_OF_LAYERS                                                        \
    "- {match: '*.[qkv]_proj.weight', dims: [tp, ~], unit: {0: 128},"          \
    " stage: layer}\n"                                                         \
    "- {match: '*.o_proj.weight', dims: [~, tp], stage: layer}\n"              \
    "- {match: '*.down_proj.weight', dims: [~, tp], stage: layer}\n"           \
    "- {match: '*.gate_proj.weight', dims: [tp, ~], stage: layer}\n"           \
    "- {match: '*.up_proj.weight', dims: [tp, ~], stage: layer}\n"

#define DENSE_SPEC(mesh)                                                       \
    "mesh: " mesh "\n"                                                         \
    "stages: {axis: pp, layer: 'model\\.layers\\.(\\d+)\\.'}\n"                \
    "rules:\n"                                                                 \
    "- {match: 'model.norm.weight', stage: last}\n" RULES_OF_ENDS              \
        RULES_OF_LAYERS

#define MOE_SPEC(mesh, moe, counts)                                            \
    "mesh: " mesh "\n"                                                         \
    "meshes: {moe: " moe "}\n"                                                 \
    "stages: {axis: pp, layer: 'model\\.layers\\.(\\d+)\\.',"                  \
    " counts: " counts "}\n"                                                   \
    "experts: {axis: ep, expert: 'experts\\.(\\d+)\\.'}\n"                     \
    "rules:\n"                                                                 \
    "- {match: '*.experts.*', expert: true, mesh: moe, stage: layer}\n"        \
    "- {match: 'model.norm.weight', stage: last}\n"                            \
    "- {match: '*.mlp.gate.*', stage: layer}\n" RULES_OF_ENDS RULES_OF_LAYERS

#define WIDE_SPEC(mesh)                                                        \
    "mesh: " mesh "\n"                                                         \
    "rules:\n"                                                                 \
    "- {match: w, dims: [a, b]}\n"

#define SEGMENTS_SPEC(mesh)                                                    \
    "mesh: " mesh "\n"                                                         \
    "rules:\n"                                                                 \
    "- {match: w, dims: [tp], segments: {0: [" /* run() adds the rest */

#define FLATS_SPEC(mesh)                                                       \
    "mesh: " mesh "\n"                                                         \
    "stages: {axis: dp, layer: 'layers\\.(\\d+)\\.'}\n"                        \
    "flats: {f: {over: [dp], bucket: layer}}\n"                                \
    "rules:\n"                                                                 \
    "- {match: '*', flat: f}\n"

static const struct bench_case cases[] = {
    {
        .name = "dense",
        .what = "512 -> 256 ranks, all hosts",
        .goal_ns = 50 * 1000000,
        .fill = fill_dense,
        .from = DENSE_SPEC("{pp: 8, dp: 8, tp: 8}"),
        .to = DENSE_SPEC("{pp: 8, dp: 8, tp: 4}"),
        .n_from = 512,
        .n_to = 256,
        .host = PTC_NONE,
    },
    {
        .name = "moe",
        .what = "4096 -> 3840 ranks, one host",
        .goal_ns = 1000 * 1000000,
        .fill = fill_moe,
        .from = MOE_SPEC("{pp: 16, dp: 32, tp: 8}",
                         "{pp: 16, edp: 8, ep: 32}",
                         "[5, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4]"),
        .to = MOE_SPEC("{pp: 15, dp: 32, tp: 8}",
                       "{pp: 15, edp: 8, ep: 32}",
                       "[5, 5, 5, 5, 5, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4]"),
        .n_from = 4096,
        .n_to = 3840,
        .host = 240,
    },
    {
        .name = "wide",
        .what = "one tensor, 2^20 ranks",
        .goal_ns = INT64_C(10) * 1000 * 1000000,
        .fill = fill_wide,
        .from = WIDE_SPEC("{a: 1024, b: 1024}"),
        .to = WIDE_SPEC("{a: 2048, b: 512}"),
        .n_from = 1u << 20,
        .n_to = 1u << 20,
        .host = PTC_NONE,
    },
    {
        .name = "flats",
        .what = "1024 -> 8 ranks, layer buckets",
        .goal_ns = INT64_C(10) * 1000 * 1000000,
        .fill = fill_flats,
        .from = FLATS_SPEC("{dp: 1024}"),
        .to = FLATS_SPEC("{dp: 8}"),
        .n_from = 1024,
        .n_to = 8,
        .host = PTC_NONE,
    },
    {
        .name = "segments",
        .what = "32 -> 16 ranks, 1e5 segments",
        .goal_ns = INT64_C(10) * 1000 * 1000000,
        .fill = fill_segments,
        .from = SEGMENTS_SPEC("{tp: 32}"),
        .to = SEGMENTS_SPEC("{tp: 16}"),
        .n_from = 32,
        .n_to = 16,
        .host = PTC_NONE,
        .n_segments = N_SEGMENTS,
    },
    {
        .name = "hosts",
        .what = "32768 -> 16384 ranks",
        .goal_ns = INT64_C(10) * 1000 * 1000000,
        .fill = fill_dense,
        .from = DENSE_SPEC("{pp: 8, dp: 512, tp: 8}"),
        .to = DENSE_SPEC("{pp: 8, dp: 512, tp: 4}"),
        .n_from = 32768,
        .n_to = 16384,
        .host = PTC_NONE,
    },
};

/* One run ----------------------------------------------------------------- */

static enum base_code bind_layout(const struct bench_case *c,
                                  const char *text,
                                  const struct ptc_table *table,
                                  struct ptc_layout **ret,
                                  struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO_BUF buf = {0};

    base_buf_init(&buf, PTC_SPEC_MAX_BYTES);
    (void)base_buf_add_str(&buf, base_str_of(text)); /* sticky */
    for (uint32_t i = 0; i < c->n_segments; i++) {
        (void)base_buf_addf(&buf, "%s%d", i > 0 ? "," : "", SEGMENT_LENGTH);
    }
    if (c->n_segments > 0) {
        (void)base_buf_add_str(&buf, BASE_STR("]}}\n"));
    }
    BASE_TRY(base_buf_check(&buf, err));
    BASE_TRY(ptc_spec_parse(base_buf_str(&buf), "bench", &spec, err));
    return ptc_layout_create(&spec, table, ret, err);
}

static uint64_t peak_kib(void)
{
    char line[256];
    uint64_t kib = 0;
    FILE *file = fopen("/proc/self/status", "re");

    if (file == NULL) {
        return 0;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "VmHWM:", 6) == 0) {
            kib = strtoull(line + 6, NULL, 10);
        }
    }
    (void)fclose(file); /* only read */
    return kib;
}

/* Everyone of the old ranks is there: a holding per host. */
static struct ptc_holding *
hold_all(const struct ptc_layout *from, ptc_rank *ranks, uint32_t n_hosts)
{
    struct ptc_holding *holdings = calloc(n_hosts, sizeof(*holdings));

    for (uint32_t h = 0; holdings != NULL && h < n_hosts; h++) {
        for (uint32_t i = 0; i < RANKS_PER_HOST; i++) {
            ranks[h * RANKS_PER_HOST + i] = h * RANKS_PER_HOST + i;
        }
        holdings[h] = (struct ptc_holding){
            .host = h,
            .layout = from,
            .ranks = &ranks[(size_t)h * RANKS_PER_HOST],
            .n_ranks = RANKS_PER_HOST,
        };
    }
    return holdings;
}

static enum base_code measure_plan(const struct bench_case *c,
                                   const struct ptc_problem *problem,
                                   struct result *ret,
                                   struct base_err *err)
{
    BASE_AUTO(ptc_planner) planner = NULL;
    BASE_AUTO(ptc_plan) plan = NULL;
    struct ptc_plan_totals totals = {0};
    uint32_t begin = c->host == PTC_NONE ? 0 : c->host;
    uint32_t end = c->host == PTC_NONE ? problem->n_hosts : c->host + 1;
    int64_t start = now_ns();

    BASE_TRY(ptc_planner_create(problem, &planner, err));
    for (uint32_t h = begin; h < end; h++) {
        BASE_TRY(ptc_planner_host(planner, h, &plan, err));
    }
    ret->plan_ns = now_ns() - start;
    ret->peak_kib = peak_kib();
    ret->n_moves = ptc_plan_n_moves(plan);
    start = now_ns();
    BASE_TRY(ptc_plan_sum(planner, plan, &totals, err));
    ret->sum_ns = now_ns() - start;
    ret->moved_bytes = totals.moved_bytes;
    ret->bound_bytes = totals.bound_bytes;
    start = now_ns();
    BASE_TRY(ptc_plan_check(problem, plan, begin, end, err));
    ret->check_ns = now_ns() - start;
    return BASE_OK;
}

static enum base_code
run(const struct bench_case *c, struct result *ret, struct base_err *err)
{
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO(ptc_layout) from = NULL;
    BASE_AUTO(ptc_layout) to = NULL;
    BASE_AUTO_MEM ptc_rank *ranks = calloc(c->n_from, sizeof(*ranks));
    BASE_AUTO_MEM uint32_t *rank_host = calloc(c->n_to, sizeof(*rank_host));
    BASE_AUTO_MEM struct ptc_holding *holdings = NULL;
    struct ptc_problem problem = {.n_hosts = c->n_from / RANKS_PER_HOST};
    int64_t start = now_ns();

    if (builder == NULL || ranks == NULL || rank_host == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    BASE_TRY(c->fill(builder, err));
    BASE_TRY(ptc_table_finish(builder, &table, err));
    ret->table_ns = now_ns() - start;
    ret->n_tensors = ptc_table_n_tensors(table);
    ret->n_params = ptc_table_n_bytes(table) / 2;
    start = now_ns();
    BASE_TRY(bind_layout(c, c->from, table, &from, err));
    BASE_TRY(bind_layout(c, c->to, table, &to, err));
    ret->bind_ns = now_ns() - start;
    holdings = hold_all(from, ranks, problem.n_hosts);
    if (holdings == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    for (uint32_t r = 0; r < c->n_to; r++) {
        rank_host[r] = r / RANKS_PER_HOST;
    }
    problem.table = table;
    problem.to = to;
    problem.rank_host = rank_host;
    problem.holdings = holdings;
    problem.n_holdings = problem.n_hosts;
    return measure_plan(c, &problem, ret, err);
}

/* Run in a child; its result comes through a pipe. */
static enum base_code
run_apart(const struct bench_case *c, struct result *ret, struct base_err *err)
{
    int fds[2];
    pid_t pid;
    int status;
    ssize_t n;

    if (pipe(fds) != 0) {
        return base_fail_errno(err, errno, "pipe");
    }
    pid = fork();
    if (pid < 0) {
        (void)close(fds[0]);
        (void)close(fds[1]);
        return base_fail_errno(err, errno, "fork");
    }
    if (pid == 0) {
        struct result result = {0};
        struct base_err child_err;

        if (run(c, &result, &child_err) != BASE_OK) {
            (void)fprintf(stderr, FULL_NAME ": %s\n", child_err.text);
            _exit(1);
        }
        n = write(fds[1], &result, sizeof(result));
        _exit(n == (ssize_t)sizeof(result) ? 0 : 1);
    }
    (void)close(fds[1]);
    n = read(fds[0], ret, sizeof(*ret));
    (void)close(fds[0]);
    if (waitpid(pid, &status, 0) != pid || status != 0 ||
        n != (ssize_t)sizeof(*ret)) {
        return base_fail(err, BASE_IO, "a run of %s failed", c->name);
    }
    return BASE_OK;
}

/* Reports ----------------------------------------------------------------- */

static int result_cmp(const void *a, const void *b)
{
    const struct result *x = a;
    const struct result *y = b;
    int64_t s = x->bind_ns + x->plan_ns;
    int64_t t = y->bind_ns + y->plan_ns;

    return (s > t) - (s < t);
}

static double ms(int64_t ns)
{
    return (double)ns / 1e6;
}

/* @results ascend by time. */
static void print_json(const struct bench_case *c,
                       const struct result *results,
                       unsigned n,
                       bool is_first)
{
    const struct result *best = &results[0];
    const struct result *median = &results[n / 2];
    double ratio = best->bound_bytes == 0
                       ? 1
                       : (double)best->moved_bytes / (double)best->bound_bytes;

    (void)printf("%s  {\"name\": \"%s\", \"what\": \"%s\", \"runs\": %u,\n",
                 is_first ? "" : ",\n", c->name, c->what, n);
    (void)printf("   \"tensors\": %" PRIu64 ", \"parameters\": %" PRIu64
                 ", \"moves\": %" PRIu64 ",\n",
                 best->n_tensors, best->n_params, best->n_moves);
    (void)printf("   \"moved_bytes\": %" PRIu64 ", \"bound_bytes\": %" PRIu64
                 ", \"ratio\": %.4f,\n",
                 best->moved_bytes, best->bound_bytes, ratio);
    (void)printf("   \"best_ms\": %.3f, \"median_ms\": %.3f,"
                 " \"goal_ms\": %.0f,\n",
                 ms(best->bind_ns + best->plan_ns),
                 ms(median->bind_ns + median->plan_ns), ms(c->goal_ns));
    (void)printf("   \"bind_ms\": %.3f, \"plan_ms\": %.3f,"
                 " \"table_ms\": %.3f, \"sum_ms\": %.3f, \"check_ms\": %.3f,\n",
                 ms(median->bind_ns), ms(median->plan_ns), ms(median->table_ns),
                 ms(median->sum_ns), ms(median->check_ns));
    (void)printf("   \"peak_rss_kib\": %" PRIu64 "}", median->peak_kib);
}

static void
print_row(const struct bench_case *c, const struct result *results, unsigned n)
{
    const struct result *best = &results[0];
    const struct result *median = &results[n / 2];

    (void)printf("%-8s %-30s %8" PRIu64 " %8" PRIu64
                 " %8.1f %8.1f %8.1f %8.1f %8.1f %8.1f %6.0f %7.1f\n",
                 c->name, c->what, best->n_tensors, best->n_moves,
                 ms(best->bind_ns + best->plan_ns),
                 ms(median->bind_ns + median->plan_ns), ms(median->bind_ns),
                 ms(median->plan_ns), ms(median->sum_ns), ms(median->check_ns),
                 ms(c->goal_ns), (double)median->peak_kib / 1024);
}

static enum base_code
run_all(const char *only, unsigned n_runs, bool json, struct base_err *err)
{
    static struct result results[MAX_RUNS];
    unsigned n_cases = 0;

    if (json) {
        (void)printf("{\"version\": 1, \"bench\": \"plan\", \"cases\": [\n");
    } else {
        (void)printf("%-8s %-30s %8s %8s %8s %8s %8s %8s %8s %8s %6s %7s\n",
                     "case", "", "tensors", "moves", "best ms", "median",
                     "bind", "plan", "sum", "check", "goal", "MiB");
    }
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        if (only != NULL && strcmp(only, cases[i].name) != 0) {
            continue;
        }
        for (unsigned k = 0; k < n_runs; k++) {
            (void)fflush(stdout);
            BASE_TRY(run_apart(&cases[i], &results[k], err));
        }
        qsort(results, n_runs, sizeof(*results), result_cmp);
        if (json) {
            print_json(&cases[i], results, n_runs, n_cases == 0);
        } else {
            print_row(&cases[i], results, n_runs);
        }
        n_cases++;
    }
    if (json) {
        (void)printf("\n]}\n");
    }
    if (n_cases == 0) {
        return base_fail(err, BASE_BAD_ARG, "no case %s", only);
    }
    return BASE_OK;
}

int main(int argc, char **argv)
{
    const char *runs = "7";
    const char *only = NULL;
    bool json = false;
    const struct base_option options[] = {
        {"runs", 0, "N", "runs per case (default 7)", &runs, NULL},
        {"case", 0, "NAME", "only this case, such as dense", &only, NULL},
        {"json", 0, NULL, "print one JSON document", NULL, &json},
    };
    const struct base_command command = {
        .program = FULL_NAME,
        .usage = "[options]",
        .about = "Measure planning: wall time and peak memory.",
        .example = FULL_NAME " --json",
        .options = options,
        .n_options = sizeof(options) / sizeof(*options),
    };
    struct base_err err;
    char **args;
    int n_args;
    bool help;
    uint64_t n_runs;

    if (base_options_parse(&command, argc, argv, &args, &n_args, &help, &err) !=
        BASE_OK) {
        (void)fprintf(stderr, FULL_NAME ": %s\n", err.text);
        return 2;
    }
    if (help) {
        base_options_help(&command, stdout);
        return 0;
    }
    if (!base_parse_u64(base_str_of(runs), &n_runs) || n_runs == 0 ||
        n_runs > MAX_RUNS) {
        (void)fprintf(stderr, FULL_NAME ": --runs: 1 to %d\n", MAX_RUNS);
        return 2;
    }
    if (run_all(only, (unsigned)n_runs, json, &err) != BASE_OK) {
        (void)fprintf(stderr, FULL_NAME ": %s\n", err.text);
        return 1;
    }
    return 0;
}
