#include "base/settings.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/base/tmp_dir.h"

struct thing {
    const char *list[BASE_SETTINGS_LIST + 1];
    const char *text;
    const char *none;
    enum base_level level;
    enum base_log_format format;
    uint32_t number;
    uint32_t kept; /* its default is here already */
};

#define AT(kind, field) BASE_SETTING_AT(kind, struct thing, field)

/* clang-format off */
static const struct base_setting keys[] = {
    {.name = "list", AT(LIST, list), .text = "a,b", .value = "ADDRESS",
     .letter = 'l', .help = "several"},
    {.name = "a-text", AT(TEXT, text), .text = "the default", .value = "T",
     .help = "a text"},
    {.name = "none", AT(TEXT, none), .value = "T", .help = "may be none"},
    {.name = "max-number", AT(NUMBER, number), .text = "5", .value = "N",
     .help = "a number", .min = 2, .max = 1000},
    {.name = "kept", AT(NUMBER, kept), .value = "N", .help = "another",
     .max = 100},
    {BASE_SETTING_LOG_LEVEL(struct thing, level), .is_reloaded = true},
    {BASE_SETTING_LOG_FORMAT(struct thing, format)},
};
/* clang-format on */

static const struct base_settings_table table = {
    .program = "retile-thing",
    .usage = "[options]",
    .about = "Do it.",
    .keys = keys,
    .n_keys = N_ITEMS(keys),
};

static const char *const variables[] = {
    "RETILE_THING_LIST",       "RETILE_THING_A_TEXT", "RETILE_THING_NONE",
    "RETILE_THING_MAX_NUMBER", "RETILE_THING_CONFIG", "RETILE_LOG",
    "RETILE_LOG_FORMAT"};

static int setup(void **state)
{
    for (size_t i = 0; i < N_ITEMS(variables); i++) {
        (void)unsetenv(variables[i]);
    }
    return tmp_dir_make(state);
}

/* What one command line gives. */
struct got {
    struct thing thing;
    struct base_arena *arena;
    const struct base_settings *settings;
    enum base_code code;
    struct base_err err;
};

static void got_done(struct got *got)
{
    base_arena_free(got->arena);
}

#define AUTO_GOT __attribute__((cleanup(got_done))) struct got

static struct got read_within(const char *const *words, size_t max_bytes)
{
    struct got got = {.thing.kept = 9, .arena = base_arena_create(max_bytes)};
    char *argv[32] = {(char *)(uintptr_t) "retile-thing"};
    int n = 1;

    for (; words[n - 1] != NULL; n++) {
        argv[n] = (char *)(uintptr_t)words[n - 1];
    }
    assert_non_null(got.arena);
    got.code = base_settings_read(&table, n, argv, got.arena, &got.thing,
                                  &got.settings, &got.err);
    return got;
}

static struct got read_words(const char *const *words)
{
    return read_within(words, BASE_SETTINGS_ARENA_BYTES);
}

#define READ(...) read_words((const char *const[]){__VA_ARGS__, NULL})

static char *write_file(struct tmp_dir *dir, const char *text)
{
    struct base_err err = {0};
    char *path = base_path("%s/c.yaml", dir->path);

    assert_non_null(path);
    (void)unlinkat(dir->fd, "c.yaml", 0); /* it need not be there */
    assert_ok(base_file_write(dir->fd, "c.yaml", base_str_of(text), &err),
              &err);
    return path;
}

static void
assert_says(const struct got *got, enum base_code code, const char *says)
{
    assert_int_equal(got->code, code);
    assert_null(got->settings);
    if (strstr(got->err.text, says) == NULL) {
        fail_msg("'%s' does not say '%s'", got->err.text, says);
    }
}

/* The shown list, joined. */
static void assert_list(const struct got *got, const char *text)
{
    char joined[64] = "";

    for (size_t i = 0; got->thing.list[i] != NULL; i++) {
        (void)strncat(joined, got->thing.list[i], 8);
        (void)strncat(joined, ";", 2);
    }
    assert_string_equal(joined, text);
}

static void test_without_a_source_defaults_count(void **state)
{
    AUTO_GOT got = read_words((const char *const[]){NULL});

    (void)state;
    assert_ok(got.code, &got.err);
    assert_list(&got, "a;b;");
    assert_string_equal(got.thing.text, "the default");
    assert_null(got.thing.none);
    assert_int_equal(got.thing.number, 5);
    assert_int_equal(got.thing.kept, 9);
    assert_int_equal(got.thing.level, BASE_NOTICE);
    assert_int_equal(got.thing.format, BASE_LOG_TEXT);
}

static void test_later_sources_win(void **state)
{
    BASE_AUTO_MEM char *path =
        write_file(*state, "a-text: file\nnone: file\nmax-number: 7\nkept: 1\n"
                           "log-level: debug\nlist: ['c,d', e]\n");
    AUTO_GOT file = READ("--config", path);
    AUTO_GOT environment = {0};
    AUTO_GOT line = {0};

    assert_ok(file.code, &file.err);
    assert_string_equal(file.thing.text, "file");
    assert_string_equal(file.thing.none, "file");
    assert_int_equal(file.thing.number, 7);
    assert_int_equal(file.thing.kept, 1);
    assert_int_equal(file.thing.level, BASE_DEBUG);
    assert_list(&file, "c,d;e;");

    (void)setenv("RETILE_THING_A_TEXT", "environment", 1);
    (void)setenv("RETILE_THING_MAX_NUMBER", "8", 1);
    (void)setenv("RETILE_THING_LIST", "x,,y,", 1);
    (void)setenv("RETILE_LOG", "error", 1);
    (void)setenv("RETILE_LOG_FORMAT", "json", 1);
    environment = READ("-c", path);
    assert_ok(environment.code, &environment.err);
    assert_string_equal(environment.thing.text, "environment");
    assert_string_equal(environment.thing.none, "file");
    assert_int_equal(environment.thing.number, 8);
    assert_int_equal(environment.thing.level, BASE_ERROR);
    assert_int_equal(environment.thing.format, BASE_LOG_JSON);
    assert_list(&environment, "x;y;");

    line = READ("-c", path, "-l", "f,g", "--list", "h", "--a-text", "",
                "--log-level", "info");
    assert_ok(line.code, &line.err);
    assert_string_equal(line.thing.text, "");
    assert_int_equal(line.thing.number, 8);
    assert_int_equal(line.thing.level, BASE_INFO);
    assert_list(&line, "f,g;h;");
}

static void test_what_is_empty_says_nothing(void **state)
{
    BASE_AUTO_MEM char *path =
        write_file(*state, "a-text: file\nnone:\nmax-number: ~\nlist:\n");
    BASE_AUTO_MEM char *other = NULL;
    AUTO_GOT got = {0};
    AUTO_GOT empty = {0};

    (void)setenv("RETILE_THING_A_TEXT", "", 1);
    (void)setenv("RETILE_THING_LIST", "", 1);
    got = READ("-c", path);
    assert_ok(got.code, &got.err);
    assert_string_equal(got.thing.text, "file");
    assert_null(got.thing.none);
    assert_int_equal(got.thing.number, 5);
    assert_list(&got, "a;b;");

    (void)setenv("RETILE_THING_CONFIG", "", 1);
    other = write_file(*state, "# nothing\n");
    empty = READ("-c", other);
    assert_ok(empty.code, &empty.err);
    assert_string_equal(empty.thing.text, "the default");
}

static void test_a_variable_may_name_the_file(void **state)
{
    BASE_AUTO_MEM char *path = write_file(*state, "max-number: 77\n");
    AUTO_GOT got = {0};

    (void)setenv("RETILE_THING_CONFIG", path, 1);
    got = read_words((const char *const[]){NULL});
    assert_ok(got.code, &got.err);
    assert_int_equal(got.thing.number, 77);
}

static void test_a_bad_file_is_refused_by_line_and_key(void **state)
{
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"kept: 1\nmax-numbr: 3\n",
         "c.yaml:2: unknown key 'max-numbr'; did you mean 'max-number'?"},
        {"wholly-strange: 3\n", ":1: unknown key 'wholly-strange'"},
        {"max-number: many\n",
         ":1: max-number: 'many' is not a number from 2 to 1000"},
        {"max-number: 1\n", "'1' is not a number"},
        {"max-number: 1001\n", "'1001' is not a number"},
        {"max-number: 4294967298\n", "'4294967298' is not a number"},
        {"max-number: [3]\n", ":1: max-number is one value"},
        {"a-text: {a: b}\n", ":1: a-text is one value"},
        {"list: {a: b}\n", ":1: list is one value"},
        {"list: [[a]]\n", ":1: list is a list of texts"},
        {"list: [a, ~]\n", ":1: list is a list of texts"},
        {"kept: 1\nlist: []\n", ":2: list: '' is an empty list"},
        {"list: ','\n", ":1: list: ',' is an empty list"},
        {"log-level: loud\n", "log-level: 'loud' is not error, warning"},
        {"- a\n", ":1: is not `key: value` lines"},
        {"kept: 1\nkept: 2\n", ":2:"},
    };

    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO_MEM char *path = write_file(*state, cases[i].text);
        AUTO_GOT got = READ("--config", path);

        assert_says(&got, BASE_BAD_INPUT, cases[i].says);
    }
}

static void test_bad_options_are_refused(void **state)
{
    static const struct {
        const char *words[3];
        const char *says;
    } cases[] = {
        {{"--max-numbr", "3"}, "did you mean --max-number?"},
        {{"--max-number", "-1"}, "--max-number: '-1' is not a number from 2"},
        {{"--max-number", ""}, "--max-number: '' is not a number"},
        {{"--log-format", "xml"}, "--log-format: 'xml' is not text, or json"},
        {{"stray"}, "too many arguments"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        AUTO_GOT got = read_words(cases[i].words);

        assert_says(&got, BASE_BAD_ARG, cases[i].says);
    }
}

static void test_a_bad_variable_is_named(void **state)
{
    AUTO_GOT number = {0};
    AUTO_GOT level = {0};

    (void)state;
    (void)setenv("RETILE_LOG", "loud", 1);
    level = read_words((const char *const[]){NULL});
    assert_says(&level, BASE_BAD_ARG, "RETILE_LOG: 'loud' is not error");
    (void)setenv("RETILE_THING_MAX_NUMBER", "many", 1);
    number = read_words((const char *const[]){NULL});
    assert_says(&number, BASE_BAD_ARG,
                "RETILE_THING_MAX_NUMBER: 'many' is not a number");
}

static void test_a_file_that_is_not_there_is_named(void **state)
{
    AUTO_GOT got = READ("--config", "/nowhere/c.yaml");

    (void)state;
    assert_says(&got, BASE_NOT_FOUND, "/nowhere/c.yaml");
}

static void test_a_list_has_an_end(void **state)
{
    BASE_AUTO_MEM char *path =
        write_file(*state, "list: [a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a]\n");
    AUTO_GOT file = READ("--config", path);
    AUTO_GOT environment = {0};

    assert_says(&file, BASE_LIMIT, ":1: a list of more than 16");
    (void)setenv("RETILE_THING_LIST", "a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a", 1);
    environment = read_words((const char *const[]){NULL});
    assert_ok(environment.code, &environment.err);
    assert_list(&environment, "a;a;a;a;a;a;a;a;a;a;a;a;a;a;a;a;");
}

static void test_a_program_refuses_a_value_where_it_was_said(void **state)
{
    BASE_AUTO_MEM char *path = write_file(*state, "\na-text: word\n");
    AUTO_GOT file = READ("--config", path);
    AUTO_GOT line = READ("--a-text", "word");
    struct base_err err = {0};

    assert_ok(file.code, &file.err);
    assert_ok(line.code, &line.err);
    assert_int_equal(
        base_settings_fail(file.settings, "a-text", "is no size", &err),
        BASE_BAD_INPUT);
    assert_non_null(strstr(err.text, "c.yaml:2: a-text: 'word' is no size"));
    assert_int_equal(
        base_settings_fail(line.settings, "a-text", "is no size", &err),
        BASE_BAD_ARG);
    assert_string_equal(err.text, "--a-text: 'word' is no size");
}

static char *printed(const struct got *got)
{
    char *text = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);

    assert_non_null(out);
    base_settings_print(got->settings, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void test_what_is_printed_can_be_read_again(void **state)
{
    AUTO_GOT got = {0};
    AUTO_GOT again = {0};
    BASE_AUTO_MEM char *text = NULL;
    BASE_AUTO_MEM char *path = NULL;
    BASE_AUTO_MEM char *second = NULL;
    BASE_AUTO_MEM char *line = NULL;

    (void)setenv("RETILE_THING_MAX_NUMBER", "6", 1);
    got = READ("--a-text", "/a \"b\" #c", "-l", "x,y", "--list", "z");
    assert_ok(got.code, &got.err);
    text = printed(&got);
    assert_string_equal(text,
                        "list: [\"x,y\", \"z\"]  # --list\n"
                        "a-text: \"/a \\\"b\\\" #c\"  # --a-text\n"
                        "none:   # default\n"
                        "max-number: 6  # RETILE_THING_MAX_NUMBER\n"
                        "kept: 9  # default\n"
                        "log-level: notice  # default, read again at SIGHUP\n"
                        "log-format: text  # default\n");

    (void)unsetenv("RETILE_THING_MAX_NUMBER");
    path = write_file(*state, text);
    again = READ("-c", path);
    assert_ok(again.code, &again.err);
    assert_string_equal(again.thing.text, "/a \"b\" #c");
    assert_list(&again, "x,y;z;");
    assert_int_equal(again.thing.number, 6);
    second = printed(&again);
    line = base_path("kept: 9  # %s:5\n", path);
    assert_non_null(strstr(second, line));
}

static void test_questions_are_answered_without_settings(void **state)
{
    AUTO_GOT version = READ("--version", "--max-number", "bad");
    AUTO_GOT print = READ("--print-config");

    (void)state;
    assert_ok(version.code, &version.err);
    assert_null(version.settings);
    assert_ok(print.code, &print.err);
    assert_null(print.settings);
}

static void test_short_memory_is_an_error_at_any_place(void **state)
{
    BASE_AUTO_MEM char *path = write_file(*state, "a-text: file\nlist: [c]\n");
    const char *const words[] = {"-c", path, "--none", "x", NULL};
    size_t max_bytes = 1 << 10;
    bool is_read = false;

    (void)setenv("RETILE_THING_MAX_NUMBER", "8", 1);
    for (; !is_read; max_bytes += 16) {
        AUTO_GOT got = read_within(words, max_bytes);

        is_read = got.code == BASE_OK;
        assert_true(is_read || got.code == BASE_NO_MEM);
        assert_true(max_bytes < 1 << 20);
    }
}

#define settings_test(test)                                                    \
    cmocka_unit_test_setup_teardown(test, setup, tmp_dir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        settings_test(test_without_a_source_defaults_count),
        settings_test(test_later_sources_win),
        settings_test(test_what_is_empty_says_nothing),
        settings_test(test_a_variable_may_name_the_file),
        settings_test(test_a_bad_file_is_refused_by_line_and_key),
        settings_test(test_bad_options_are_refused),
        settings_test(test_a_bad_variable_is_named),
        settings_test(test_a_file_that_is_not_there_is_named),
        settings_test(test_a_list_has_an_end),
        settings_test(test_a_program_refuses_a_value_where_it_was_said),
        settings_test(test_what_is_printed_can_be_read_again),
        settings_test(test_questions_are_answered_without_settings),
        settings_test(test_short_memory_is_an_error_at_any_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
