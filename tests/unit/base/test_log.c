/* base/log.h: what a line looks like. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/str.h"

/* What @write_lines writes to stderr; at most a pipe's capacity. */
static void capture(void (*write_lines)(void), char *text, size_t room)
{
    int saved = dup(STDERR_FILENO);
    int ends[2];
    ssize_t n;

    assert_true(saved >= 0);
    assert_int_equal(pipe(ends), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    write_lines();
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    (void)close(saved);
    (void)close(ends[1]);
    n = read(ends[0], text, room - 1);
    assert_true(n >= 0);
    text[n] = '\0';
    (void)close(ends[0]);
}

static void write_plain(void)
{
    base_log(BASE_NOTICE, "host lost", "host", "h0", "why", "a \"b\"\n");
    base_log(BASE_DEBUG, "not at this level", "a", "b");
}

static void test_a_line_of_text_is_a_sentence_and_fields(void **state)
{
    char text[4096];

    (void)state;
    base_log_set_format(BASE_LOG_TEXT);
    base_log_set_level(BASE_NOTICE);
    capture(write_plain, text, sizeof(text));
    assert_string_equal(text, "t: notice: host lost host=h0 "
                              "why=\"a \\\"b\\\"\\n\"\n");
}

/* "{"time":"2026-01-31T12:00:00.123Z"," is cut off. */
static const char *behind_time(const char *text)
{
    const char *at = strchr(text, ',');

    assert_int_equal(strncmp(text, "{\"time\":\"20", 11), 0);
    assert_non_null(at);
    assert_int_equal(at - text, 34);
    assert_int_equal(strncmp(at - 2, "Z\"", 2), 0);
    return at;
}

static void write_json(void)
{
    base_log(BASE_WARNING, "host lost", "host", "h0", "why",
             "a \"b\"\n\xc3\xa4", "bad", "x\xff");
}

static void test_a_line_of_json_is_one_object(void **state)
{
    char text[4096];

    (void)state;
    base_log_set_format(BASE_LOG_JSON);
    capture(write_json, text, sizeof(text));
    assert_string_equal(
        behind_time(text),
        ",\"program\":\"t\",\"level\":\"warning\",\"message\":\"host lost\","
        "\"host\":\"h0\",\"why\":\"a \\\"b\\\"\\n\xc3\xa4\",\"bad\":\"x?\"}\n");
}

static void write_long(void)
{
    static char value[5000];

    (void)memset(value, 'x', sizeof(value) - 1);
    base_log(BASE_ERROR, "too long", "a", "b", "long", value, "c", "d");
}

static void test_json_that_does_not_fit_is_cut_between_fields(void **state)
{
    char text[8192];

    (void)state;
    base_log_set_format(BASE_LOG_JSON);
    capture(write_long, text, sizeof(text));
    assert_string_equal(
        behind_time(text),
        ",\"program\":\"t\",\"level\":\"error\",\"message\":\"too long\","
        "\"a\":\"b\",\"cut\":true}\n");
}

static void write_debug(void)
{
    base_log(BASE_DEBUG, "now at this level", "a", "b");
}

static void test_the_level_can_be_changed_while_it_runs(void **state)
{
    char text[4096];

    (void)state;
    base_log_set_format(BASE_LOG_TEXT);
    base_log_set_level(BASE_INFO);
    capture(write_debug, text, sizeof(text));
    assert_string_equal(text, "");
    base_log_set_level(BASE_DEBUG);
    capture(write_debug, text, sizeof(text));
    assert_string_equal(text, "t: debug: now at this level a=b\n");
}

static void write_many(void)
{
    for (int i = 0; i < 100; i++) {
        base_log(BASE_ERROR, "again and again", "a", "b");
    }
}

/* The hundred may fall into two seconds. */
static void test_a_sentence_that_repeats_is_not_printed_each_time(void **state)
{
    char text[8192];
    size_t n_lines = 0;

    (void)state;
    base_log_set_format(BASE_LOG_TEXT);
    capture(write_many, text, sizeof(text));
    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++) {
        n_lines++;
    }
    assert_in_range(n_lines, 10, 21);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_line_of_text_is_a_sentence_and_fields),
        cmocka_unit_test(test_a_line_of_json_is_one_object),
        cmocka_unit_test(test_json_that_does_not_fit_is_cut_between_fields),
        cmocka_unit_test(test_the_level_can_be_changed_while_it_runs),
        cmocka_unit_test(test_a_sentence_that_repeats_is_not_printed_each_time),
    };

    base_log_init("t");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
