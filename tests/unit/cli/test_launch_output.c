#include "tests/unit/unit.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/launch_output.h"

/* Two ranks, 3 and 12, and one stream. */
struct lab {
    struct cli_mux mux;
    struct cli_lines three;
    struct cli_lines twelve;
};

static void lab_done(struct lab *lab)
{
    cli_mux_done(&lab->mux);
    cli_lines_done(&lab->three);
    cli_lines_done(&lab->twelve);
}

#define AUTO_LAB __attribute__((cleanup(lab_done))) struct lab

static void lab_init(struct lab *lab)
{
    cli_mux_init(&lab->mux);
    cli_lines_init(&lab->three, 3);
    cli_lines_init(&lab->twelve, 12);
}

static void feed(struct lab *lab, struct cli_lines *lines, const char *text)
{
    cli_lines_feed(lines, &lab->mux, base_str_of(text), 0);
}

#define assert_shown(lab, text)                                                \
    do {                                                                       \
        assert_int_equal((lab)->mux.buf.len, strlen(text));                    \
        assert_memory_equal((lab)->mux.buf.ptr, text, strlen(text));           \
    } while (0)

static void test_lines_have_their_rank_in_front(void **state)
{
    AUTO_LAB lab = {0};

    (void)state;
    lab_init(&lab);
    feed(&lab, &lab.three, "a\nb\n\n");
    feed(&lab, &lab.twelve, "c\n");
    assert_shown(&lab, "[3] a\n[3] b\n[3] \n[12] c\n");
}

static void test_lines_of_two_ranks_do_not_mix(void **state)
{
    AUTO_LAB lab = {0};

    (void)state;
    lab_init(&lab);
    feed(&lab, &lab.three, "half ");
    feed(&lab, &lab.twelve, "other");
    feed(&lab, &lab.three, "whole\n");
    feed(&lab, &lab.twelve, "s\n");
    assert_shown(&lab, "[3] half whole\n[12] others\n");
}

static void test_an_unfinished_line_is_shown_after_a_while(void **state)
{
    AUTO_LAB lab = {0};

    (void)state;
    lab_init(&lab);
    feed(&lab, &lab.three, "50%");
    cli_lines_tick(&lab.three, &lab.mux, CLI_LINE_WAIT_NS - 1);
    assert_shown(&lab, "");
    cli_lines_tick(&lab.three, &lab.mux, CLI_LINE_WAIT_NS);
    assert_shown(&lab, "[3] 50%");
    feed(&lab, &lab.three, " 100%\n"); /* goes on where it was */
    assert_shown(&lab, "[3] 50% 100%\n");
}

static void test_another_rank_ends_a_shown_unfinished_line(void **state)
{
    AUTO_LAB lab = {0};

    (void)state;
    lab_init(&lab);
    feed(&lab, &lab.three, "50%");
    cli_lines_tick(&lab.three, &lab.mux, CLI_LINE_WAIT_NS);
    feed(&lab, &lab.twelve, "hi\n");
    feed(&lab, &lab.three, "60%\n");
    assert_shown(&lab, "[3] 50%\n[12] hi\n[3] 60%\n");
}

static void test_the_last_line_is_ended(void **state)
{
    AUTO_LAB lab = {0};

    (void)state;
    lab_init(&lab);
    feed(&lab, &lab.three, "bye");
    cli_lines_end(&lab.three, &lab.mux);
    cli_lines_end(&lab.twelve, &lab.mux); /* wrote nothing: nothing */
    assert_shown(&lab, "[3] bye\n");
}

static void test_what_we_say_begins_a_line(void **state)
{
    AUTO_LAB lab = {0};

    (void)state;
    lab_init(&lab);
    feed(&lab, &lab.three, "50%");
    cli_lines_tick(&lab.three, &lab.mux, CLI_LINE_WAIT_NS);
    cli_mux_say(&lab.mux, "rank %d", 7);
    assert_shown(&lab, "[3] 50%\nretile: launch: rank 7\n");
}

static void test_bytes_are_passed_on_as_they_are(void **state)
{
    AUTO_LAB lab = {0};

    (void)state;
    lab_init(&lab);
    cli_lines_feed(&lab.three, &lab.mux, BASE_STR("\0\xff\r\033[1m\n"), 0);
    assert_int_equal(lab.mux.buf.len, 4 + 8);
    assert_memory_equal(lab.mux.buf.ptr, "[3] \0\xff\r\033[1m\n", 12);
}

static void test_an_endless_line_is_passed_on_in_parts(void **state)
{
    enum { N_BYTES = 3 * CLI_LINE_BYTES, PART = 60000 };
    BASE_AUTO_MEM char *text = malloc(N_BYTES);
    AUTO_LAB lab = {0};

    (void)state;
    lab_init(&lab);
    assert_non_null(text);
    memset(text, 'x', N_BYTES);
    for (size_t at = 0; at < N_BYTES; at += PART) {
        size_t n = N_BYTES - at < PART ? N_BYTES - at : PART;

        cli_lines_feed(&lab.three, &lab.mux, (struct base_str){text + at, n},
                       0);
        assert_true(lab.three.buf.len <= CLI_LINE_BYTES);
    }
    feed(&lab, &lab.three, "\n");
    assert_int_equal(lab.mux.buf.len, 4 + N_BYTES + 1);
    assert_memory_equal(lab.mux.buf.ptr + 4, text, N_BYTES);
}

static void test_a_full_mux_drops_and_counts(void **state)
{
    enum { N_BYTES = CLI_MUX_MAX_BYTES + 10 };
    BASE_AUTO_MEM char *text = malloc(N_BYTES);
    AUTO_LAB lab = {0};

    (void)state;
    lab_init(&lab);
    assert_non_null(text);
    memset(text, 'x', N_BYTES);
    cli_lines_feed(&lab.three, &lab.mux, (struct base_str){text, N_BYTES}, 0);
    assert_int_equal(lab.mux.n_dropped_bytes, N_BYTES);
    feed(&lab, &lab.three, "\n");
    feed(&lab, &lab.twelve, "on\n");
    assert_shown(&lab, "[3] \n[12] on\n");
}

static void test_write_takes_what_a_pipe_takes(void **state)
{
    AUTO_LAB lab = {0};
    char read_back[64] = {0};
    int fds[2];

    (void)state;
    lab_init(&lab);
    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    feed(&lab, &lab.three, "hello\n");
    assert_true(cli_mux_has_more(&lab.mux));
    cli_mux_write(&lab.mux, fds[1]);
    assert_false(cli_mux_has_more(&lab.mux));
    assert_int_equal(read(fds[0], read_back, sizeof(read_back)), 10);
    assert_string_equal(read_back, "[3] hello\n");
    (void)close(fds[0]);
    feed(&lab, &lab.three, "nobody\n");
    cli_mux_write(&lab.mux, fds[1]); /* EPIPE */
    assert_true(lab.mux.is_broken);
    feed(&lab, &lab.three, "reads\n");
    assert_false(cli_mux_has_more(&lab.mux));
    assert_int_equal(lab.mux.n_dropped_bytes, 11 + 6);
    (void)close(fds[1]);
}

static int ignore_sigpipe(void **state)
{
    (void)state;
    return signal(SIGPIPE, SIG_IGN) == SIG_ERR;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_have_their_rank_in_front),
        cmocka_unit_test(test_lines_of_two_ranks_do_not_mix),
        cmocka_unit_test(test_an_unfinished_line_is_shown_after_a_while),
        cmocka_unit_test(test_another_rank_ends_a_shown_unfinished_line),
        cmocka_unit_test(test_the_last_line_is_ended),
        cmocka_unit_test(test_what_we_say_begins_a_line),
        cmocka_unit_test(test_bytes_are_passed_on_as_they_are),
        cmocka_unit_test(test_an_endless_line_is_passed_on_in_parts),
        cmocka_unit_test(test_a_full_mux_drops_and_counts),
        cmocka_unit_test(test_write_takes_what_a_pipe_takes),
    };

    return cmocka_run_group_tests(tests, ignore_sigpipe, NULL);
}
