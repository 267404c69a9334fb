/* What `retile plan` found, for its printers: text, JSON and the picture. */
#ifndef CLI_PLAN_H
#define CLI_PLAN_H

#include <stdint.h>
#include <stdio.h>

#include "ptc/layout.h"
#include "ptc/plan.h"

/* Bytes from one host to another (kept bytes where both are the same). */
struct cli_flow {
    uint32_t from;
    uint32_t to;
    uint64_t n_moves;
    uint64_t n_bytes;
};

struct cli_plan {
    const struct ptc_problem *problem;
    const struct ptc_layout *from;
    const struct ptc_plan *plan;
    const uint32_t *from_host; /* of each rank of @from */
    struct ptc_plan_totals totals;
    const struct cli_flow *flows; /* by (from, to), none empty */
    size_t n_flows;
    const char *from_text; /* --from; or what SRC is in: its mesh, or "hf" */
    const char *to_text;   /* --to */
    uint64_t link_bytes_per_s;
    double seconds;      /* predicted: the busiest host's link */
    uint64_t peak_bytes; /* of the fullest host: held and incoming */
    char problem_digest[BASE_DIGEST_TEXT_BYTES];
};

double
cli_plan_ratio(const struct cli_plan *plan); /* moved / bound; 1 if 0/0 */

/* Draw who sends what to whom. */
void cli_plan_svg(const struct cli_plan *plan, FILE *out);

#endif
