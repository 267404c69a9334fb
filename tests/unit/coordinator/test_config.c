/* coordinator/config.h: where settings come from, and what is wrong with them. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "coordinator/config.h"
#include "tests/unit/base/tmp_dir.h"

static const char *const variables[] = {
    "RETILE_COORDINATOR_DB", "RETILE_COORDINATOR_LISTEN",
    "RETILE_COORDINATOR_MAX_JOBS", "RETILE_LOG", "RETILE_LOG_FORMAT"};

void coord_limits_init(struct coord_limits *limits) /* the core's is not here */
{
    *limits = (struct coord_limits){100,   200,  8,   16,  1000, 4,
                                    10000, 5000, 100, 100, 1,    1};
}

/* @words: up to a NULL. */
static enum base_code read_words(const char *const *words,
                                 struct coord_config *config,
                                 struct base_err *err)
{
    static char *argv[16];
    struct coord_config_asks asks;
    int n = 1;

    argv[0] = (char *)(uintptr_t) "retile-coordinator";
    for (; words[n - 1] != NULL; n++) {
        argv[n] = (char *)(uintptr_t)words[n - 1];
    }
    argv[n] = NULL;
    return coord_config_read(n, argv, config, &asks, err);
}

static int clear(void **state)
{
    for (size_t i = 0; i < N_ITEMS(variables); i++) {
        (void)unsetenv(variables[i]);
    }
    return tmp_dir_make(state);
}

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

static void test_later_sources_win(void **state)
{
    BASE_AUTO_MEM char *path =
        write_file(*state, "db: /from/file\nmax-jobs: 7\nlog-level: debug\n"
                           "listen: ['unix:/a', '127.0.0.1:1']\n");
    const char *const nothing[] = {NULL};
    const char *const file[] = {"--config", path, NULL};
    const char *const option[] = {"--config",     path,      "--db",
                                  "/from/option", "-l",      "unix:/b",
                                  "--listen",     "unix:/c", NULL};
    COORD_AUTO_CONFIG config = {0};
    struct base_err err = {0};

    assert_ok(read_words(nothing, &config, &err), &err);
    assert_string_equal(config.db,
                        "/var/lib/retile-coordinator/coordinator.db");
    assert_int_equal(config.limits.max_jobs, 100);
    assert_int_equal(config.log_level, BASE_NOTICE);
    assert_string_equal(config.listen[0],
                        "unix:/run/retile-coordinator/coordinator.sock");
    assert_null(config.listen[1]);

    assert_ok(read_words(file, &config, &err), &err);
    assert_string_equal(config.db, "/from/file");
    assert_int_equal(config.limits.max_jobs, 7);
    assert_int_equal(config.log_level, BASE_DEBUG);
    assert_string_equal(config.listen[1], "127.0.0.1:1");
    assert_null(config.listen[2]);

    (void)setenv("RETILE_COORDINATOR_DB", "/from/environment", 1);
    (void)setenv("RETILE_COORDINATOR_MAX_JOBS", "8", 1);
    (void)setenv("RETILE_COORDINATOR_LISTEN", "unix:/x,unix:/y", 1);
    (void)setenv("RETILE_LOG", "error", 1);
    (void)setenv("RETILE_LOG_FORMAT", "json", 1);
    assert_ok(read_words(file, &config, &err), &err);
    assert_string_equal(config.db, "/from/environment");
    assert_int_equal(config.limits.max_jobs, 8);
    assert_string_equal(config.listen[0], "unix:/x");
    assert_string_equal(config.listen[1], "unix:/y");
    assert_null(config.listen[2]);
    assert_int_equal(config.log_level, BASE_ERROR);
    assert_int_equal(config.log_format, BASE_LOG_JSON);

    assert_ok(read_words(option, &config, &err), &err);
    assert_string_equal(config.db, "/from/option");
    assert_string_equal(config.listen[0], "unix:/b");
    assert_string_equal(config.listen[1], "unix:/c");
    assert_null(config.listen[2]);
    assert_int_equal(config.limits.max_jobs, 8);
}

static void test_a_bad_file_is_refused_by_line_and_key(void **state)
{
    static const struct {
        const char *text;
        const char *says;
    } cases[] = {
        {"db: x\nmax-job: 3\n", ":2: unknown key 'max-job'; did you mean "
                                "'max-jobs'?"},
        {"wholly-strange: 3\n", ":1: unknown key 'wholly-strange'"},
        {"max-jobs: many\n", ":1: max-jobs: 'many' is not a number"},
        {"max-jobs: 0\n", "from 1 to 65536"},
        {"max-jobs: [1]\n", ":1: max-jobs is one value"},
        {"listen: [[a]]\n", ":1: an address is a text"},
        {"db: a\nlisten: []\n", ":2: listen: '' is not an address"},
        {"log-level: loud\n", "'loud' is not error, warning"},
        {"- a\n", ":1: is not `key: value` lines"},
        {"db: a\ndb: b\n", ":2:"},
    };

    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO_MEM char *path = write_file(*state, cases[i].text);
        const char *const words[] = {"--config", path, NULL};
        COORD_AUTO_CONFIG config = {0};
        struct base_err err = {0};

        assert_int_equal(read_words(words, &config, &err), BASE_BAD_INPUT);
        if (strstr(err.text, cases[i].says) == NULL) {
            fail_msg("'%s' does not say '%s'", err.text, cases[i].says);
        }
    }
}

static void test_bad_options_are_refused(void **state)
{
    static const struct {
        const char *words[4];
        const char *says;
    } cases[] = {
        {{"--max-jobz", "3", NULL}, "max-jobs"},
        {{"--max-jobs", "-1", NULL}, "--max-jobs: '-1' is not a number"},
        {{"--log-format", "xml", NULL}, "text, or json"},
        {{"--tls-cert", "x", NULL}, "go together"},
        {{"--db", "", NULL}, "db: a file's name"},
        {{"--renew-ms", "5001", NULL}, "more than half of lease-ms"},
        {{"stray", NULL}, ""},
    };

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        COORD_AUTO_CONFIG config = {0};
        struct base_err err = {0};

        assert_int_equal(read_words(cases[i].words, &config, &err),
                         BASE_BAD_ARG);
        if (strstr(err.text, cases[i].says) == NULL) {
            fail_msg("'%s' does not say '%s'", err.text, cases[i].says);
        }
    }
}

static void test_a_bad_variable_is_named(void **state)
{
    const char *const words[] = {NULL};
    COORD_AUTO_CONFIG config = {0};
    struct base_err err = {0};

    (void)state;
    (void)setenv("RETILE_COORDINATOR_MAX_JOBS", "many", 1);
    assert_int_equal(read_words(words, &config, &err), BASE_BAD_ARG);
    assert_non_null(
        strstr(err.text, "RETILE_COORDINATOR_MAX_JOBS: 'many' is not"));
}

static void test_a_file_that_is_not_there_is_named(void **state)
{
    const char *const words[] = {"--config", "/nowhere/c.yaml", NULL};
    COORD_AUTO_CONFIG config = {0};
    struct base_err err = {0};

    (void)state;
    assert_int_equal(read_words(words, &config, &err), BASE_NOT_FOUND);
    assert_non_null(strstr(err.text, "/nowhere/c.yaml"));
}

/* What --print-config prints is a file that says the same. */
static void test_what_is_printed_can_be_read_again(void **state)
{
    const char *const words[] = {"--db",      "/a \"b\"", "-l",
                                 "unix:/a",   "--listen", "unix:/b",
                                 "--cluster", "c1",       NULL};
    COORD_AUTO_CONFIG config = {0};
    struct base_err err = {0};
    char *text = NULL;
    char *again = NULL;
    size_t n;
    FILE *out = open_memstream(&text, &n);

    assert_non_null(out);
    assert_ok(read_words(words, &config, &err), &err);
    coord_config_print(&config, out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(
        strstr(text, "listen: [\"unix:/a\", \"unix:/b\"]  # option"));
    assert_non_null(strstr(text, "max-jobs: 100  # default"));
    assert_non_null(
        strstr(text, "log-level: notice  # default, read again at SIGHUP"));
    {
        BASE_AUTO_MEM char *path = write_file(*state, text);
        const char *const file[] = {"--config", path, NULL};

        assert_ok(read_words(file, &config, &err), &err);
    }
    assert_string_equal(config.db, "/a \"b\"");
    assert_string_equal(config.cluster, "c1");
    out = open_memstream(&again, &n);
    assert_non_null(out);
    coord_config_print(&config, out);
    assert_int_equal(fclose(out), 0);
    assert_non_null(strstr(again, "max-jobs: 100  # file"));
    free(text);
    free(again);
}

#define config_test(test)                                                      \
    cmocka_unit_test_setup_teardown(test, clear, tmp_dir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        config_test(test_later_sources_win),
        config_test(test_a_bad_file_is_refused_by_line_and_key),
        config_test(test_bad_options_are_refused),
        config_test(test_a_bad_variable_is_named),
        config_test(test_a_file_that_is_not_there_is_named),
        config_test(test_what_is_printed_can_be_read_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
