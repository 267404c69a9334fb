#include "base/options.h"

#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "tests/unit/unit.h"

enum { MAX_WORDS = 8 };

static const char *to;
static const char *threads;
static bool is_json;
static const char *threads_list[3];

static const struct base_option options[] = {
    {"to", 0, "SPEC", "the layout", &to, NULL},
    {"threads", 'j', "N", "how many", &threads, NULL},
    {"json", 'J', NULL, "print JSON", NULL, &is_json},
};

static const struct base_command command = {
    .program = "retile plan",
    .usage = "SRC --to SPEC",
    .about = "Say who sends what.",
    .example = "retile plan a\nretile plan b\n",
    .options = options,
    .n_options = N_ITEMS(options),
    .min_args = 1,
    .max_args = 2,
    .list_letter = 'j',
    .list = threads_list,
    .list_room = N_ITEMS(threads_list),
};

struct parsed {
    enum base_code code;
    char **args;
    int n_args;
    bool is_help;
    struct base_err err;
};

/* @words are copied: getopt permutes what it is given. */
static void parse(const char *const *words, char **argv, struct parsed *ret)
{
    int argc = 1;

    argv[0] = strdup("plan");
    for (size_t i = 0; i < MAX_WORDS && words[i] != NULL; i++) {
        argv[argc++] = strdup(words[i]);
    }
    argv[argc] = NULL;
    to = NULL;
    threads = NULL;
    is_json = false;
    memset(threads_list, 0, sizeof(threads_list));
    *ret = (struct parsed){.is_help = false};
    ret->code = base_options_parse(&command, argc, argv, &ret->args,
                                   &ret->n_args, &ret->is_help, &ret->err);
}

static void words_free(char **argv)
{
    for (size_t i = 0; argv[i] != NULL; i++) {
        free(argv[i]);
    }
}

static void test_options_stand_anywhere(void **state)
{
    static const char *const cases[][MAX_WORDS] = {
        {"src", "--to", "x", "-j", "4", "--json"},
        {"--to=x", "src", "-j4", "-J"},
        {"-Jj4", "--to=x", "src"},
        {"--to=x", "--threads=4", "--json", "--", "src"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        char *argv[MAX_WORDS + 2];
        struct parsed parsed;

        parse(cases[i], argv, &parsed);
        assert_ok(parsed.code, &parsed.err);
        assert_string_equal(to, "x");
        assert_string_equal(threads, "4");
        assert_true(is_json);
        assert_int_equal(parsed.n_args, 1);
        assert_string_equal(parsed.args[0], "src");
        assert_false(parsed.is_help);
        words_free(argv);
    }
}

static void test_mistakes_are_named(void **state)
{
    static const struct {
        const char *words[MAX_WORDS];
        const char *text;
    } cases[] = {
        {{"a", "--thread"}, "needs a value"}, /* getopt takes prefixes */
        {{"a", "--treads=4"},
         "unknown option --treads; did you mean --threads?"},
        {{"a", "--quux"}, "unknown option --quux"},
        {{"a", "-x"}, "unknown option -x"},
        {{"a", "-xJ"}, "unknown option -x"},
        {{"--to=x", "-xJ"}, "unknown option -x"},
        {{"a", "--quux=--to"}, "unknown option --quux"},
        {{"a", "--to"}, "option --to needs a value"},
        {{"a", "-j"}, "option -j needs a value"},
        {{"a", "--json=1"}, "option --json takes no value"},
        {{NULL}, "too few arguments; usage: retile plan SRC --to SPEC"},
        {{"a", "b", "c"}, "too many arguments"},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        char *argv[MAX_WORDS + 2];
        struct parsed parsed;

        parse(cases[i].words, argv, &parsed);
        assert_int_equal(parsed.code, BASE_BAD_ARG);
        if (strstr(parsed.err.text, cases[i].text) == NULL) {
            fail_msg("case %zu: %s", i, parsed.err.text);
        }
        words_free(argv);
    }
}

static void test_help_skips_the_rest(void **state)
{
    static const char *const words[MAX_WORDS] = {"--help"};
    BASE_AUTO_MEM char *text = NULL;
    char *argv[MAX_WORDS + 2];
    struct parsed parsed;
    size_t n;
    FILE *out = open_memstream(&text, &n);

    (void)state;
    parse(words, argv, &parsed);
    words_free(argv);
    assert_ok(parsed.code, &parsed.err);
    assert_true(parsed.is_help);
    assert_non_null(out);
    base_options_help(&command, out);
    assert_int_equal(fclose(out), 0);
    assert_string_equal(text, "usage: retile plan SRC --to SPEC\n"
                              "\n"
                              "Say who sends what.\n"
                              "\n"
                              "options:\n"
                              "  --to SPEC               the layout\n"
                              "  -j, --threads N         how many\n"
                              "  -J, --json              print JSON\n"
                              "  --help                  show this text\n"
                              "\n"
                              "example:\n"
                              "  retile plan a\n"
                              "  retile plan b\n");
}

static void test_a_list_has_all_values(void **state)
{
    static const char *const twice[MAX_WORDS] = {"-j1", "a", "--threads=2"};
    static const char *const often[MAX_WORDS] = {"-j1", "a", "-j2", "-j3"};
    char *argv[MAX_WORDS + 2];
    struct parsed parsed;

    (void)state;
    parse(twice, argv, &parsed);
    assert_ok(parsed.code, &parsed.err);
    assert_string_equal(threads_list[0], "1");
    assert_string_equal(threads_list[1], "2");
    assert_string_equal(threads, "2");
    words_free(argv);
    parse(often, argv, &parsed);
    assert_int_equal(parsed.code, BASE_BAD_ARG);
    assert_non_null(strstr(parsed.err.text, "--threads"));
    words_free(argv);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_stand_anywhere),
        cmocka_unit_test(test_mistakes_are_named),
        cmocka_unit_test(test_help_skips_the_rest),
        cmocka_unit_test(test_a_list_has_all_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
