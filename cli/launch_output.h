/* What ranks write, passed on line by line with the rank in front.
 *
 * A mux is one of our two streams (stdout, stderr); cli_lines is what one rank
 * writes to it.  Lines of several ranks do not mix: a line waits until it is
 * whole, but no longer than CLI_LINE_WAIT_NS, and no more of it than
 * CLI_LINE_BYTES.  An unfinished line that was shown is ended when another rank's
 * text follows.  Bytes are passed on as they are.
 *
 * Nothing here blocks: what our reader does not take waits in the mux, and while
 * more than CLI_MUX_HIGH_BYTES wait there, ranks are not read.  One thread. */
#ifndef CLI_LAUNCH_OUTPUT_H
#define CLI_LAUNCH_OUTPUT_H

#include "base/str.h"

enum {
    CLI_LINE_BYTES = 1 << 20,
    CLI_MUX_HIGH_BYTES = 1 << 18,
    CLI_MUX_MAX_BYTES = 64 << 20,
    CLI_LINE_WAIT_NS = 100000000,
};

struct cli_mux {
    struct base_buf buf; /* to be written; the first `sent` of it are */
    size_t sent;
    bool has_open_line; /* the last byte is of an unfinished line ... */
    uint32_t open_rank; /* ... of this rank */
    bool is_broken;     /* nobody reads: what comes is dropped */
    uint64_t n_dropped_bytes;
};

struct cli_lines {
    struct base_buf buf; /* of a line that is not whole */
    uint32_t rank;
    int64_t since_ns; /* when it was begun, or shown in part */
};

void cli_mux_init(struct cli_mux *mux);
void cli_mux_done(struct cli_mux *mux);
void cli_lines_init(struct cli_lines *lines, uint32_t rank);
void cli_lines_done(struct cli_lines *lines);

/* Take what a rank wrote.  What does not fit into memory is dropped, counted. */
void cli_lines_feed(struct cli_lines *lines,
                    struct cli_mux *mux,
                    struct base_str bytes,
                    int64_t now_ns);
/* Pass on an unfinished line that has waited long enough. */
void cli_lines_tick(struct cli_lines *lines,
                    struct cli_mux *mux,
                    int64_t now_ns);
/* It writes no more: end its last line. */
void cli_lines_end(struct cli_lines *lines, struct cli_mux *mux);

/* A line of our own. */
void cli_mux_say(struct cli_mux *mux, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static inline bool cli_mux_is_full(const struct cli_mux *mux)
{
    return mux->buf.len - mux->sent > CLI_MUX_HIGH_BYTES;
}
static inline bool cli_mux_has_more(const struct cli_mux *mux)
{
    return mux->buf.len > mux->sent;
}
/* Write what poll(2) says @fd takes: at most PIPE_BUF bytes, so that it does not
 * block.  When it fails, nobody reads any more. */
void cli_mux_write(struct cli_mux *mux, int fd);

#endif
