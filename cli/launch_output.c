#include "cli/launch_output.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void cli_mux_init(struct cli_mux *mux)
{
    *mux = (struct cli_mux){0};
    base_buf_init(&mux->buf, CLI_MUX_MAX_BYTES);
}

void cli_mux_done(struct cli_mux *mux)
{
    base_buf_done(&mux->buf);
}

void cli_lines_init(struct cli_lines *lines, uint32_t rank)
{
    *lines = (struct cli_lines){.rank = rank};
    base_buf_init(&lines->buf, CLI_LINE_BYTES);
}

void cli_lines_done(struct cli_lines *lines)
{
    base_buf_done(&lines->buf);
}

/* A buffer that once failed stays so; this one is to go on. */
static void add(struct cli_mux *mux, struct base_str bytes)
{
    if (base_buf_add_str(&mux->buf, bytes) != BASE_OK) {
        mux->buf.failed = BASE_OK;
        mux->n_dropped_bytes += bytes.len;
    }
}

/* @bytes are part of one line, without its end unless @is_whole. */
static void
put(struct cli_mux *mux, uint32_t rank, struct base_str bytes, bool is_whole)
{
    bool goes_on = mux->has_open_line && mux->open_rank == rank;
    char prefix[24];
    int n;

    if (mux->is_broken) {
        mux->n_dropped_bytes += bytes.len;
        return;
    }
    if (!goes_on) {
        if (mux->has_open_line) {
            add(mux, BASE_STR("\n"));
        }
        n = snprintf(prefix, sizeof(prefix), "[%" PRIu32 "] ", rank);
        add(mux, (struct base_str){prefix, (size_t)n});
    }
    add(mux, bytes);
    mux->has_open_line = !is_whole;
    mux->open_rank = rank;
}

void cli_mux_say(struct cli_mux *mux, const char *fmt, ...)
{
    BASE_AUTO_MEM char *text = NULL;
    va_list args;
    int n;

    va_start(args, fmt);
    n = vasprintf(&text, fmt, args);
    va_end(args);
    if (n < 0) {
        text = NULL; /* memory is short: it is not said */
        return;
    }
    if (mux->has_open_line) {
        add(mux, BASE_STR("\n"));
        mux->has_open_line = false;
    }
    add(mux, BASE_STR("retile: launch: "));
    add(mux, base_str_of(text));
    add(mux, BASE_STR("\n"));
}

static void
pass_part(struct cli_lines *lines, struct cli_mux *mux, int64_t now_ns)
{
    if (lines->buf.len > 0) {
        put(mux, lines->rank, base_buf_str(&lines->buf), false);
        lines->buf.len = 0;
    }
    lines->since_ns = now_ns;
}

/* Keep the beginning of a line; pass on what is too long to keep. */
static void keep(struct cli_lines *lines,
                 struct cli_mux *mux,
                 struct base_str bytes,
                 int64_t now_ns)
{
    if (bytes.len == 0) {
        return;
    }
    if (lines->buf.len == 0) {
        lines->since_ns = now_ns;
    }
    if (base_buf_add_str(&lines->buf, bytes) != BASE_OK) {
        lines->buf.failed = BASE_OK;
        pass_part(lines, mux, now_ns);
        put(mux, lines->rank, bytes, false);
    }
}

void cli_lines_feed(struct cli_lines *lines,
                    struct cli_mux *mux,
                    struct base_str bytes,
                    int64_t now_ns)
{
    const char *end;

    while (bytes.len > 0 &&
           (end = memchr(bytes.ptr, '\n', bytes.len)) != NULL) {
        size_t n = (size_t)(end - bytes.ptr) + 1;

        pass_part(lines, mux, now_ns);
        put(mux, lines->rank, (struct base_str){bytes.ptr, n}, true);
        bytes.ptr += n;
        bytes.len -= n;
    }
    keep(lines, mux, bytes, now_ns);
}

void cli_lines_tick(struct cli_lines *lines,
                    struct cli_mux *mux,
                    int64_t now_ns)
{
    if (lines->buf.len > 0 && now_ns - lines->since_ns >= CLI_LINE_WAIT_NS) {
        pass_part(lines, mux, now_ns);
    }
}

void cli_lines_end(struct cli_lines *lines, struct cli_mux *mux)
{
    pass_part(lines, mux, 0);
    if (mux->has_open_line && mux->open_rank == lines->rank) {
        put(mux, lines->rank, BASE_STR("\n"), true);
    }
}

/* The bytes that were written make room once they are the larger part. */
static void compact(struct cli_mux *mux)
{
    if (mux->sent * 2 < mux->buf.len) {
        return;
    }
    mux->buf.len -= mux->sent;
    memmove(mux->buf.ptr, mux->buf.ptr + mux->sent, mux->buf.len);
    mux->sent = 0;
}

void cli_mux_write(struct cli_mux *mux, int fd)
{
    size_t n = mux->buf.len - mux->sent;
    ssize_t done;

    if (n == 0) {
        return;
    }
    n = n > PIPE_BUF ? PIPE_BUF : n;
    done = write(fd, mux->buf.ptr + mux->sent, n);
    if (done < 0) {
        if (errno != EINTR && errno != EAGAIN) {
            mux->is_broken = true;
            mux->n_dropped_bytes += mux->buf.len - mux->sent;
            mux->sent = mux->buf.len;
            compact(mux);
        }
        return;
    }
    mux->sent += (size_t)done;
    compact(mux);
}
