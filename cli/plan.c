/* `retile plan`: who sends what to whom, before anything moves. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/num.h"
#include "cli/cli.h"
#include "cli/plan.h"
#include "store/source.h"

enum { MAX_HOSTS = 65536 };

static const char *from_text;
static const char *to_text;
static const char *table_path;
static const char *hosts_text;
static const char *link_text;
static const char *svg_path;
static bool wants_json;
static bool wants_moves;

static const struct base_option options[] = {
    {"to", 0, "SPEC", "the layout wanted", &to_text, NULL},
    {"from", 0, "SPEC", "the layout now, when SRC has no layout.yaml",
     &from_text, NULL},
    {"table", 0, "FILE", "plan from a table alone, with no SRC", &table_path,
     NULL},
    {"hosts", 0, "N[:M]",
     "equal blocks of ranks on N hosts, then M (default: 8 each)", &hosts_text,
     NULL},
    {"link", 0, "SIZE",
     "bytes a second of a host's link, each way (default 12.5GB)", &link_text,
     NULL},
    {"svg", 0, "FILE", "draw the plan", &svg_path, NULL},
    {"moves", 0, NULL, "list every move: tensor, box, from, to", NULL,
     &wants_moves},
    {"json", 0, NULL, "print JSON", NULL, &wants_json},
};

const struct base_command cli_plan_command = {
    .program = "retile plan",
    .usage = "SRC --to SPEC [options] | --table FILE --from SPEC --to SPEC",
    .about =
        "Show who would send what to whom\n"
        "Bytes moved between hosts, the lower bound (what each host needs\n"
        "and does not have), their ratio, peak memory, predicted seconds.\n"
        "Reads headers only.",
    .example =
        "retile plan ranks/ --to llama:tp=2,pp=4 --hosts 4 --svg plan.svg\n"
        "retile plan --table t.json --from llama:tp=8 --to llama:tp=4,pp=2",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 0,
    .max_args = 1,
};

/* All that a run owns; everything else borrows from it. */
struct run {
    struct store_source *source;
    struct ptc_table *tables[3]; /* as read, with from's ties, with to's */
    const struct ptc_table *table;
    struct ptc_layout *from;
    struct ptc_layout *to;
    char *described; /* what SRC is in, when --from does not say */
    struct ptc_planner *planner;
    struct ptc_plan *plan;
    uint32_t *from_host;
    uint32_t *to_host;
    ptc_rank *ranks; /* 0, 1, 2, ...: what holdings point into */
    struct ptc_holding *holdings;
    struct ptc_problem problem;
    uint64_t *sums; /* five arrays of n_hosts */
    struct cli_flow *flows;
    struct cli_plan result;
};

static void run_done(struct run *run)
{
    free(run->flows);
    free(run->sums);
    free(run->holdings);
    free(run->ranks);
    free(run->to_host);
    free(run->from_host);
    ptc_plan_free(run->plan);
    ptc_planner_free(run->planner);
    ptc_layout_free(run->to);
    ptc_layout_free(run->from);
    free(run->described);
    for (size_t i = 0; i < 3; i++) {
        ptc_table_free(run->tables[i]);
    }
    store_source_free(run->source);
}

static enum base_code read_table(struct run *run, struct base_err *err)
{
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, (size_t)1 << 30);
    BASE_TRY(base_file_read(AT_FDCWD, table_path, &buf, err));
    BASE_TRY(
        ptc_table_parse(base_buf_str(&buf), table_path, &run->tables[0], err));
    run->table = run->tables[0];
    return BASE_OK;
}

/* Let the table know the ties that a spec declares. */
static enum base_code add_ties(struct run *run,
                               size_t slot,
                               const struct ptc_spec *spec,
                               struct base_err *err)
{
    BASE_TRY(ptc_spec_ties(spec, run->table, &run->tables[slot], err));
    if (run->tables[slot] != NULL) {
        run->table = run->tables[slot];
    }
    return BASE_OK;
}

/* The source's own layout as a spec of its own, to bind it to a table that
 * may have more ties. */
static enum base_code own_spec(const struct store_source *source,
                               struct ptc_spec **ret,
                               struct base_err *err)
{
    BASE_AUTO_BUF buf = {0};

    if (store_source_layout(source) == NULL) {
        return base_fail(err, BASE_UNSUPPORTED,
                         "%s: is cut as its files say, "
                         "not by a layout; convert it first",
                         store_source_path(source));
    }
    base_buf_init(&buf, PTC_SPEC_MAX_BYTES);
    BASE_TRY(ptc_spec_format(ptc_layout_spec(store_source_layout(source)), &buf,
                             err));
    return ptc_spec_parse(base_buf_str(&buf), store_source_path(source), ret,
                          err);
}

/* What SRC is in, when --from does not say: `hf`, or its mesh, "pp=2,tp=4". */
static enum base_code describe_source(struct run *run, struct base_err *err)
{
    enum store_form form = store_source_form(run->source);
    const struct ptc_mesh *mesh =
        &ptc_layout_spec(store_source_layout(run->source))->meshes[0];
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, 1 << 16);
    if (form == STORE_FORM_HF || form == STORE_FORM_FILE) {
        (void)base_buf_add_str(&buf, BASE_STR("hf")); /* sticky */
    } else if (mesh->n_axes == 0) {
        (void)base_buf_add_str(&buf, BASE_STR("one rank"));
    } else {
        for (uint32_t i = 0; i < mesh->n_axes; i++) {
            (void)base_buf_addf(&buf, "%s%.*s=%" PRIu32, i == 0 ? "" : ",",
                                BASE_STR_FMT(mesh->axes[i].name),
                                mesh->axes[i].size);
        }
    }
    BASE_TRY(base_buf_check(&buf, err));
    run->described = base_steal(&buf.ptr);
    return BASE_OK;
}

static enum base_code
open_layouts(struct run *run, const char *src, struct base_err *err)
{
    struct store_source_options source_options = {.from = from_text};
    BASE_AUTO(ptc_spec) from = NULL;
    BASE_AUTO(ptc_spec) to = NULL;
    bool is_hf;
    enum base_code rc;

    if (to_text == NULL) {
        return base_fail(err, BASE_BAD_ARG, "--to SPEC is needed");
    }
    if ((src == NULL) == (table_path == NULL)) {
        return base_fail(err, BASE_BAD_ARG,
                         "either SRC or --table FILE is "
                         "needed");
    }
    if (src != NULL) {
        BASE_TRY(
            store_source_open_dir(src, &source_options, &run->source, err));
        run->table = store_source_table(run->source);
        BASE_TRY(own_spec(run->source, &from, err));
        if (from_text == NULL) {
            BASE_TRY(describe_source(run, err));
        }
    } else {
        if (from_text == NULL) {
            return base_fail(err, BASE_BAD_ARG, "--from SPEC is needed");
        }
        BASE_TRY(read_table(run, err));
        BASE_TRY(
            store_spec_open(from_text, NULL, run->table, &from, &is_hf, err));
    }
    BASE_TRY(store_spec_open(to_text, src, run->table, &to, &is_hf, err));
    BASE_TRY(add_ties(run, 1, from, err));
    BASE_TRY(add_ties(run, 2, to, err));
    rc = ptc_layout_create(&from, run->table, &run->from, err);
    if (rc != BASE_OK) {
        return base_wrap(err, rc, "--from %s", from_text ? from_text : src);
    }
    rc = ptc_layout_create(&to, run->table, &run->to, err);
    return rc == BASE_OK ? rc : base_wrap(err, rc, "--to %s", to_text);
}

/* --hosts N[:M]; by default eight ranks a host. */
static enum base_code parse_hosts(const struct run *run,
                                  uint32_t *ret_from,
                                  uint32_t *ret_to,
                                  struct base_err *err)
{
    uint64_t from = base_ceil_div(ptc_layout_n_ranks(run->from), 8);
    uint64_t to = base_ceil_div(ptc_layout_n_ranks(run->to), 8);

    if (hosts_text != NULL) {
        struct base_str first = base_str_of(hosts_text);
        struct base_str second = first;
        const char *colon = strchr(hosts_text, ':');

        if (colon != NULL) {
            first.len = (size_t)(colon - hosts_text);
            second = base_str_of(colon + 1);
        }
        if (!base_parse_u64(first, &from) || !base_parse_u64(second, &to) ||
            from == 0 || to == 0 || from > MAX_HOSTS || to > MAX_HOSTS) {
            return base_fail(err, BASE_BAD_ARG,
                             "--hosts %s: N or N:M is "
                             "needed, each from 1 to %d",
                             hosts_text, MAX_HOSTS);
        }
    }
    *ret_from = (uint32_t)from;
    *ret_to = (uint32_t)to;
    return BASE_OK;
}

static enum base_code make_problem(struct run *run, struct base_err *err)
{
    uint32_t n_from = ptc_layout_n_ranks(run->from);
    uint32_t n_to = ptc_layout_n_ranks(run->to);
    uint32_t from_hosts = 0;
    uint32_t to_hosts = 0;
    struct ptc_problem *problem = &run->problem;

    BASE_TRY(parse_hosts(run, &from_hosts, &to_hosts, err));
    problem->n_hosts = from_hosts > to_hosts ? from_hosts : to_hosts;
    assert(problem->n_hosts > 0);
    run->from_host = calloc(n_from, sizeof(*run->from_host));
    run->to_host = calloc(n_to, sizeof(*run->to_host));
    run->ranks = calloc(n_from, sizeof(*run->ranks));
    run->holdings = calloc(problem->n_hosts, sizeof(*run->holdings));
    if (run->from_host == NULL || run->to_host == NULL || run->ranks == NULL ||
        run->holdings == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    ptc_ranks_in_blocks(n_from, from_hosts, run->from_host);
    ptc_ranks_in_blocks(n_to, to_hosts, run->to_host);
    for (uint32_t rank = 0; rank < n_from; rank++) {
        struct ptc_holding *last =
            problem->n_holdings == 0 ? NULL
                                     : &run->holdings[problem->n_holdings - 1];

        run->ranks[rank] = rank;
        if (last == NULL || last->host != run->from_host[rank]) {
            last = &run->holdings[problem->n_holdings++];
            last->host = run->from_host[rank];
            last->layout = run->from;
            last->ranks = &run->ranks[rank];
        }
        last->n_ranks++;
    }
    problem->table = run->table;
    problem->to = run->to;
    problem->rank_host = run->to_host;
    problem->holdings = run->holdings;
    return BASE_OK;
}

static int compare_flows(const void *a, const void *b)
{
    const struct cli_flow *x = a;
    const struct cli_flow *y = b;

    if (x->from != y->from) {
        return x->from < y->from ? -1 : 1;
    }
    return x->to < y->to ? -1 : x->to > y->to;
}

static uint64_t move_bytes(const struct run *run, const struct ptc_move *move)
{
    const struct ptc_tensor *tensor =
        ptc_table_tensor(run->table, move->tensor);
    uint64_t n_bytes = 0;

    /* A box of a tensor whose size was checked cannot overflow. */
    (void)ptc_dtype_bytes(tensor->dtype, ptc_box_elems(&move->box), &n_bytes);
    return n_bytes;
}

/* Add moves up by (from, to).  They come ordered by target host: a sum of an
 * earlier target lies before @first. */
static enum base_code sum_flows(struct run *run, struct base_err *err)
{
    uint64_t n_moves = ptc_plan_n_moves(run->plan);
    BASE_AUTO_MEM size_t *at = calloc(run->problem.n_hosts, sizeof(*at));
    BASE_VEC(struct cli_flow) flows = {0};
    size_t first = 0;
    uint32_t to = 0;

    if (at == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    for (uint64_t i = 0; i < n_moves; i++) {
        struct ptc_move move;

        ptc_plan_move(run->plan, i, &move);
        if (move.to != to) {
            to = move.to;
            first = flows.n;
        }
        /* at[from] - 1 is the last sum from there, if there is one. */
        if (at[move.from] <= first) {
            struct cli_flow flow = {.from = move.from, .to = to};

            if (!base_vec_push(&flows, flow)) {
                base_vec_done(&flows);
                return base_fail(err, BASE_NO_MEM, "out of memory");
            }
            at[move.from] = flows.n;
        }
        flows.items[at[move.from] - 1].n_moves++;
        flows.items[at[move.from] - 1].n_bytes += move_bytes(run, &move);
    }
    if (flows.n > 0) {
        qsort(flows.items, flows.n, sizeof(*flows.items), compare_flows);
    }
    run->flows = flows.items;
    run->result.flows = flows.items;
    run->result.n_flows = flows.n;
    return BASE_OK;
}

static void predict(struct cli_plan *result, uint32_t n_hosts)
{
    uint64_t busiest = 0;

    for (uint32_t host = 0; host < n_hosts; host++) {
        busiest = base_max_u64(busiest, result->totals.received[host]);
        busiest = base_max_u64(busiest, result->totals.sent[host]);
        result->peak_bytes =
            base_max_u64(result->peak_bytes, result->totals.held[host] +
                                                 result->totals.received[host]);
    }
    result->seconds = (double)busiest / (double)result->link_bytes_per_s;
}

static enum base_code make_plan(struct run *run, struct base_err *err)
{
    struct cli_plan *result = &run->result;
    uint32_t n_hosts = run->problem.n_hosts;
    uint64_t link_bytes = 12500000000u;
    struct base_digest digest;

    assert(n_hosts > 0);
    if (link_text != NULL &&
        (!base_parse_size(base_str_of(link_text), &link_bytes) ||
         link_bytes == 0)) {
        return base_fail(err, BASE_BAD_ARG,
                         "--link %s: bytes per second such "
                         "as 12.5GB are needed",
                         link_text);
    }
    BASE_TRY(ptc_planner_create(&run->problem, &run->planner, err));
    for (uint32_t host = 0; host < n_hosts; host++) {
        BASE_TRY(ptc_planner_host(run->planner, host, &run->plan, err));
    }
    BASE_TRY(ptc_plan_check(&run->problem, run->plan, 0, n_hosts, err));
    run->sums = calloc((size_t)n_hosts * 5, sizeof(*run->sums));
    if (run->sums == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    result->totals.received = run->sums;
    result->totals.sent = run->sums + n_hosts;
    result->totals.needed = run->sums + (size_t)2 * n_hosts;
    result->totals.held = run->sums + (size_t)3 * n_hosts;
    result->totals.bound = run->sums + (size_t)4 * n_hosts;
    BASE_TRY(ptc_plan_sum(run->planner, run->plan, &result->totals, err));
    BASE_TRY(sum_flows(run, err));
    BASE_TRY(ptc_problem_digest(&run->problem, &digest, err));
    (void)base_digest_format(digest, result->problem_digest);
    result->problem = &run->problem;
    result->from = run->from;
    result->plan = run->plan;
    result->from_host = run->from_host;
    result->from_text = from_text != NULL ? from_text : run->described;
    result->to_text = to_text;
    result->link_bytes_per_s = link_bytes;
    predict(result, n_hosts);
    return BASE_OK;
}

double cli_plan_ratio(const struct cli_plan *plan)
{
    if (plan->totals.bound_bytes == 0) {
        return plan->totals.moved_bytes == 0 ? 1.0 : 1e9;
    }
    return (double)plan->totals.moved_bytes / (double)plan->totals.bound_bytes;
}

static void print_moves(const struct run *run)
{
    char box[PTC_BOX_TEXT_BYTES];

    for (uint64_t i = 0; i < ptc_plan_n_moves(run->plan); i++) {
        struct ptc_move move;

        ptc_plan_move(run->plan, i, &move);
        (void)printf(
            "%s host %" PRIu32 " -> host %" PRIu32 "  %.*s%s\n",
            move.from == move.to ? "keep" : "move", move.from, move.to,
            BASE_STR_FMT(ptc_table_tensor(run->table, move.tensor)->name),
            ptc_box_format(&move.box, box));
    }
}

static void print_text(const struct run *run)
{
    const struct cli_plan *plan = &run->result;
    char a[24];
    char b[24];

    (void)printf("from      %s, %" PRIu32 " ranks\nto        %s, %" PRIu32
                 " ranks, on %" PRIu32 " hosts\n",
                 plan->from_text, ptc_layout_n_ranks(run->from), plan->to_text,
                 ptc_layout_n_ranks(run->to), run->problem.n_hosts);
    (void)printf("needed    %s\nkept      %s stay where they are\n",
                 base_format_size(plan->totals.needed_bytes, a),
                 base_format_size(plan->totals.kept_bytes, b));
    (void)printf("moved     %s\n",
                 base_format_size(plan->totals.moved_bytes, a));
    (void)printf("bound     %s, ratio %.2f\n",
                 base_format_size(plan->totals.bound_bytes, a),
                 cli_plan_ratio(plan));
    (void)printf("peak      %s on the fullest host\n",
                 base_format_size(plan->peak_bytes, a));
    (void)printf("predicted %.3f s at %s/s per host\n", plan->seconds,
                 base_format_size(plan->link_bytes_per_s, a));
    (void)printf("pieces    %" PRIu64 "\ndigest    %s\n\n",
                 ptc_plan_n_moves(run->plan), plan->problem_digest);
    (void)printf("%6s %6s %10s %12s\n", "from", "to", "pieces", "bytes");
    for (size_t i = 0; i < plan->n_flows; i++) {
        const struct cli_flow *flow = &plan->flows[i];

        (void)printf("%6" PRIu32 " %6" PRIu32 " %10" PRIu64 " %12s%s\n",
                     flow->from, flow->to, flow->n_moves,
                     base_format_size(flow->n_bytes, a),
                     flow->from == flow->to ? "  kept" : "");
    }
    if (wants_moves) {
        (void)putchar('\n');
        print_moves(run);
    }
}

static json_t *moves_json(const struct run *run)
{
    json_t *moves = json_array();

    for (uint64_t i = 0; i < ptc_plan_n_moves(run->plan); i++) {
        struct ptc_move move;
        struct base_str name;
        json_t *box = json_array();

        ptc_plan_move(run->plan, i, &move);
        name = ptc_table_tensor(run->table, move.tensor)->name;
        for (uint32_t d = 0; d < move.box.n_dims; d++) {
            (void)json_array_append_new(
                box, json_pack("[II]", (json_int_t)move.box.begin[d],
                               (json_int_t)move.box.end[d]));
        }
        (void)json_array_append_new(
            moves,
            json_pack("{si si ss% so}", "from", (int)move.from, "to",
                      (int)move.to, "tensor", name.ptr, name.len, "box", box));
    }
    return moves;
}

static enum cli_exit print_json(const struct run *run)
{
    const struct cli_plan *plan = &run->result;
    json_t *flows = json_array();
    json_t *hosts = json_array();
    json_t *json;

    for (size_t i = 0; i < plan->n_flows; i++) {
        (void)json_array_append_new(
            flows, json_pack("{si si sI sI}", "from", (int)plan->flows[i].from,
                             "to", (int)plan->flows[i].to, "pieces",
                             (json_int_t)plan->flows[i].n_moves, "bytes",
                             (json_int_t)plan->flows[i].n_bytes));
    }
    for (uint32_t h = 0; h < run->problem.n_hosts; h++) {
        (void)json_array_append_new(
            hosts,
            json_pack("{si sI sI sI sI sI}", "host", (int)h, "held_bytes",
                      (json_int_t)plan->totals.held[h], "needed_bytes",
                      (json_int_t)plan->totals.needed[h], "received_bytes",
                      (json_int_t)plan->totals.received[h], "sent_bytes",
                      (json_int_t)plan->totals.sent[h], "bound_bytes",
                      (json_int_t)plan->totals.bound[h]));
    }
    json = json_pack(
        "{si ss so so si si si sI sI sI sI sf sI sf so so}", "version", 1,
        "digest", plan->problem_digest, "from", cli_json_text(plan->from_text),
        "to", cli_json_text(plan->to_text), "from_ranks",
        (int)ptc_layout_n_ranks(run->from), "to_ranks",
        (int)ptc_layout_n_ranks(run->to), "n_hosts", (int)run->problem.n_hosts,
        "needed_bytes", (json_int_t)plan->totals.needed_bytes, "kept_bytes",
        (json_int_t)plan->totals.kept_bytes, "moved_bytes",
        (json_int_t)plan->totals.moved_bytes, "bound_bytes",
        (json_int_t)plan->totals.bound_bytes, "ratio", cli_plan_ratio(plan),
        "peak_bytes", (json_int_t)plan->peak_bytes, "predicted_seconds",
        plan->seconds, "hosts", hosts, "flows", flows);
    if (json != NULL && wants_moves) {
        (void)json_object_set_new(json, "moves", moves_json(run));
    }
    return cli_print_json("plan", json);
}

static enum base_code draw(const struct run *run, struct base_err *err)
{
    FILE *out = fopen(svg_path, "we");
    bool is_written;

    if (out == NULL) {
        return base_fail_errno(err, errno, "%s: cannot write it", svg_path);
    }
    cli_plan_svg(&run->result, out);
    is_written = ferror(out) == 0;
    is_written = fclose(out) == 0 && is_written;
    return is_written
               ? BASE_OK
               : base_fail_errno(err, errno, "%s: cannot write it", svg_path);
}

static enum base_code
plan(struct run *run, const char *src, struct base_err *err)
{
    BASE_TRY(open_layouts(run, src, err));
    BASE_TRY(make_problem(run, err));
    BASE_TRY(make_plan(run, err));
    return svg_path != NULL ? draw(run, err) : BASE_OK;
}

enum cli_exit cli_plan(int argc, char **argv)
{
    struct run run = {0};
    struct base_err err = {0};
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_plan_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    if (plan(&run, n_args > 0 ? args[0] : NULL, &err) != BASE_OK) {
        rc = cli_tell("plan", &err);
    } else if (wants_json) {
        rc = print_json(&run);
    } else {
        print_text(&run);
        rc = CLI_DONE;
    }
    run_done(&run);
    return rc;
}
