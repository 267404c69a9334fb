#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/launch_ranks.h"

enum { N_RANKS = 3, N_TURNS = 64, PIPE_BYTES = 1 << 16 };

/* Ranks that write to stdout whatever there is room for, and a reader of ours. */
struct lab {
    struct cli_ranks ranks;
    struct cli_mux muxes[CLI_N_STREAMS];
    int writers[N_RANKS];
    bool is_heard[N_RANKS];
};

static void lab_done(struct lab *lab)
{
    for (size_t i = 0; i < N_RANKS; i++) {
        (void)close(lab->writers[i]);
    }
    cli_ranks_done(&lab->ranks);
    for (int k = 0; k < CLI_N_STREAMS; k++) {
        cli_mux_done(&lab->muxes[k]);
    }
}

#define AUTO_LAB __attribute__((cleanup(lab_done))) struct lab

static void lab_init(struct lab *lab)
{
    lab->ranks.n = N_RANKS;
    lab->ranks.ranks = calloc(N_RANKS, sizeof(*lab->ranks.ranks));
    assert_non_null(lab->ranks.ranks);
    for (uint32_t i = 0; i < N_RANKS; i++) {
        struct cli_rank *rank = &lab->ranks.ranks[i];
        int fds[2];

        assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        rank->rank = i;
        rank->fds[CLI_OUT] = fds[0];
        rank->fds[CLI_ERR] = -1;
        lab->writers[i] = fds[1];
        for (int k = 0; k < CLI_N_STREAMS; k++) {
            cli_lines_init(&rank->lines[k], i);
        }
    }
    for (int k = 0; k < CLI_N_STREAMS; k++) {
        cli_mux_init(&lab->muxes[k]);
    }
}

static void fill(struct lab *lab, size_t rank)
{
    char line[64];

    memset(line, 'x', sizeof(line) - 1);
    line[sizeof(line) - 1] = '\n';
    while (write(lab->writers[rank], line, sizeof(line)) > 0) {
    }
}

/* Take what waits in the mux of stdout, as a reader that is slow does. */
static void hear(struct lab *lab, size_t n_bytes)
{
    struct cli_mux *mux = &lab->muxes[CLI_OUT];
    const char *at = mux->buf.ptr + mux->sent;
    const char *end = mux->buf.ptr + mux->buf.len;

    end = at + n_bytes < end ? at + n_bytes : end;
    for (; at + 2 < end; at++) {
        if (at[0] == '[' && at[2] == ']') {
            lab->is_heard[at[1] - '0'] = true;
        }
    }
    mux->sent += n_bytes;
    mux->buf.len -= mux->sent;
    memmove(mux->buf.ptr, mux->buf.ptr + mux->sent, mux->buf.len);
    mux->sent = 0;
}

static void test_ranks_that_flood_are_read_in_turn(void **state)
{
    AUTO_LAB lab = {0};

    (void)state;
    lab_init(&lab);
    for (int turn = 0; turn < N_TURNS; turn++) {
        if (turn == N_TURNS / 2) { /* the mux has been full since long */
            memset(lab.is_heard, 0, sizeof(lab.is_heard));
        }
        for (size_t i = 0; i < N_RANKS; i++) {
            fill(&lab, i);
        }
        cli_ranks_read(&lab.ranks, lab.muxes, PIPE_BYTES, 0);
        while (cli_mux_is_full(&lab.muxes[CLI_OUT])) {
            hear(&lab, PIPE_BYTES / 4);
        }
    }
    for (size_t i = 0; i < N_RANKS; i++) {
        assert_true(lab.is_heard[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks_that_flood_are_read_in_turn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
