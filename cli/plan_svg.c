/* The picture of a plan: hosts now on the left, hosts then on the right,
 * ribbons between them as wide as the bytes.  Grey stays on its host; a colour,
 * one per sending host, crosses the network.  Beyond MAX_RIBBON_HOSTS, where
 * ribbons would blur, a grid of hosts by hosts, darker for more bytes. */
#include "cli/plan.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

#include "base/num.h"
#include "base/str.h"

enum {
    WIDTH = 960,
    TOP = 110, /* above the bars: title and numbers */
    BAR_WIDTH = 18,
    LEFT_X = 210,
    RIGHT_X = WIDTH - 210,
    BARS_HEIGHT = 460, /* of all bars of a side, without the gaps */
    MAX_RIBBON_HOSTS = 64,
    GRID = 560,
};

static const char *const colours[] = {
    "#3b6fb6", "#d1633c", "#4c9a5f", "#8a5ab0", "#c79a2b",
    "#2f9c9c", "#bb4f7c", "#6b7d2e", "#5c5fc0", "#a4532f",
};

static const char *colour_of(uint32_t host)
{
    return colours[host % (sizeof(colours) / sizeof(colours[0]))];
}

static void put_escaped(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<':
            (void)fputs("&lt;", out);
            break;
        case '>':
            (void)fputs("&gt;", out);
            break;
        case '&':
            (void)fputs("&amp;", out);
            break;
        case '"':
            (void)fputs("&quot;", out);
            break;
        default:
            (void)fputc(*text, out);
        }
    }
}

static void put_head(const struct cli_plan *plan, int height, FILE *out)
{
    char moved[24];
    char kept[24];
    char link[24];
    char peak[24];

    (void)fprintf(out,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" "
                  "height=\"%d\" viewBox=\"0 0 %d %d\" "
                  "font-family=\"DejaVu Sans, Helvetica, sans-serif\">\n"
                  "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n"
                  "<text x=\"24\" y=\"36\" font-size=\"20\" fill=\"#1d2733\">",
                  WIDTH, height, WIDTH, height);
    put_escaped(out, plan->from_text);
    (void)fputs(" \xe2\x86\x92 ", out);
    put_escaped(out, plan->to_text);
    (void)fprintf(
        out,
        "</text>\n<text x=\"24\" y=\"60\" font-size=\"13\" fill=\"#4a5866\">"
        "%s cross the network, the least possible (ratio %.2f); %s stay where "
        "they are</text>\n"
        "<text x=\"24\" y=\"80\" font-size=\"13\" fill=\"#4a5866\">"
        "about %.3g s at %s/s per host; at most %s of memory on one "
        "host</text>\n",
        base_format_size(plan->totals.moved_bytes, moved), cli_plan_ratio(plan),
        base_format_size(plan->totals.kept_bytes, kept), plan->seconds,
        base_format_size(plan->link_bytes_per_s, link),
        base_format_size(plan->peak_bytes, peak));
}

/* Where each host's bar begins and how far ribbons have filled it. */
struct side {
    double y[MAX_RIBBON_HOSTS];
    double filled[MAX_RIBBON_HOSTS];
    uint64_t bytes[MAX_RIBBON_HOSTS];
};

static void lay_out(struct side *side, uint32_t n_hosts, double scale)
{
    double gap = n_hosts > 1 ? 120.0 / (n_hosts - 1) : 0;
    double y = TOP + 24;

    if (gap > 24) {
        gap = 24;
    }
    for (uint32_t host = 0; host < n_hosts; host++) {
        side->y[host] = y;
        y += (double)side->bytes[host] * scale + gap;
    }
}

static void put_bars(const struct side *side,
                     uint32_t n_hosts,
                     double scale,
                     bool is_left,
                     FILE *out)
{
    int x = is_left ? LEFT_X - BAR_WIDTH : RIGHT_X;
    int font = n_hosts > 24 ? 8 : 12;
    char size[24];

    for (uint32_t host = 0; host < n_hosts; host++) {
        double height = (double)side->bytes[host] * scale;

        if (side->bytes[host] == 0) {
            continue;
        }
        (void)fprintf(
            out,
            "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.2f\" "
            "rx=\"2\" fill=\"%s\"/>\n"
            "<text x=\"%d\" y=\"%.1f\" font-size=\"%d\" "
            "text-anchor=\"%s\" fill=\"#1d2733\">host %" PRIu32
            ": %s %s</text>\n",
            x, side->y[host], BAR_WIDTH, height < 1 ? 1 : height,
            is_left ? colour_of(host) : "#3c4753",
            is_left ? LEFT_X - BAR_WIDTH - 8 : RIGHT_X + BAR_WIDTH + 8,
            side->y[host] + height / 2 + 4, font, is_left ? "end" : "start",
            host, is_left ? "gives" : "gets",
            base_format_size(side->bytes[host], size));
    }
}

static void put_ribbon(const struct cli_flow *flow,
                       struct side *left,
                       struct side *right,
                       double scale,
                       FILE *out)
{
    double width = (double)flow->n_bytes * scale;
    double y0 = left->y[flow->from] + left->filled[flow->from] + width / 2;
    double y1 = right->y[flow->to] + right->filled[flow->to] + width / 2;
    bool is_kept = flow->from == flow->to;
    int middle = (LEFT_X + RIGHT_X) / 2;
    char size[24];

    left->filled[flow->from] += width;
    right->filled[flow->to] += width;
    (void)fprintf(out,
                  "<path d=\"M%d %.1f C%d %.1f %d %.1f %d %.1f\" fill=\"none\" "
                  "stroke=\"%s\" stroke-width=\"%.2f\" stroke-opacity=\"%s\">"
                  "<title>host %" PRIu32 " %s host %" PRIu32 ": %s in %" PRIu64
                  " pieces</title></path>\n",
                  LEFT_X, y0, middle, y0, middle, y1, RIGHT_X, y1,
                  is_kept ? "#b9c1c9" : colour_of(flow->from),
                  width < 0.5 ? 0.5 : width, is_kept ? "0.6" : "0.75",
                  flow->from, is_kept ? "keeps, as" : "sends to", flow->to,
                  base_format_size(flow->n_bytes, size), flow->n_moves);
}

static void put_ribbons(const struct cli_plan *plan, FILE *out)
{
    uint32_t n_hosts = plan->problem->n_hosts;
    struct side left = {0};
    struct side right = {0};
    uint64_t all_bytes = 0;
    double scale;

    for (size_t i = 0; i < plan->n_flows; i++) {
        left.bytes[plan->flows[i].from] += plan->flows[i].n_bytes;
        right.bytes[plan->flows[i].to] += plan->flows[i].n_bytes;
        all_bytes += plan->flows[i].n_bytes;
    }
    scale = all_bytes == 0 ? 0 : BARS_HEIGHT / (double)all_bytes;
    lay_out(&left, n_hosts, scale);
    lay_out(&right, n_hosts, scale);
    (void)fprintf(out,
                  "<text x=\"%d\" y=\"%d\" font-size=\"13\" fill=\"#4a5866\" "
                  "text-anchor=\"end\">now</text>\n"
                  "<text x=\"%d\" y=\"%d\" font-size=\"13\" fill=\"#4a5866\">"
                  "then</text>\n",
                  LEFT_X, TOP + 8, RIGHT_X, TOP + 8);
    for (size_t i = 0; i < plan->n_flows; i++) {
        put_ribbon(&plan->flows[i], &left, &right, scale, out);
    }
    put_bars(&left, n_hosts, scale, true, out);
    put_bars(&right, n_hosts, scale, false, out);
}

static void put_grid(const struct cli_plan *plan, FILE *out)
{
    double cell = (double)GRID / plan->problem->n_hosts;
    uint64_t most = 1;

    for (size_t i = 0; i < plan->n_flows; i++) {
        most = base_max_u64(most, plan->flows[i].n_bytes);
    }
    (void)fprintf(out,
                  "<text x=\"200\" y=\"%d\" font-size=\"13\" fill=\"#4a5866\">"
                  "row: the host that gives; column: the host that gets; grey: "
                  "kept</text>\n<rect x=\"200\" y=\"%d\" width=\"%d\" "
                  "height=\"%d\" fill=\"#f4f6f8\"/>\n",
                  TOP + 8, TOP + 20, GRID, GRID);
    for (size_t i = 0; i < plan->n_flows; i++) {
        const struct cli_flow *flow = &plan->flows[i];
        char size[24];

        (void)fprintf(
            out,
            "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" "
            "height=\"%.2f\" fill=\"%s\" fill-opacity=\"%.2f\">"
            "<title>host %" PRIu32 " to host %" PRIu32 ": %s</title></rect>\n",
            200 + flow->to * cell, TOP + 20 + flow->from * cell, cell, cell,
            flow->from == flow->to ? "#8d98a3" : "#3b6fb6",
            0.15 + 0.85 * (double)flow->n_bytes / (double)most, flow->from,
            flow->to, base_format_size(flow->n_bytes, size));
    }
}

void cli_plan_svg(const struct cli_plan *plan, FILE *out)
{
    put_head(plan, TOP + 20 + GRID + 70, out);
    if (plan->problem->n_hosts <= MAX_RIBBON_HOSTS) {
        put_ribbons(plan, out);
    } else {
        put_grid(plan, out);
    }
    (void)fprintf(out,
                  "<text x=\"24\" y=\"%d\" font-size=\"11\" fill=\"#8d98a3\">"
                  "retile plan, problem %s</text>\n</svg>\n",
                  TOP + 20 + GRID + 50, plan->problem_digest);
}
