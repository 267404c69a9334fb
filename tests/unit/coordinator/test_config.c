/* coordinator/config.h: our table, and what does not go together. */
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
    bool is_done;
    int n = 1;

    argv[0] = (char *)(uintptr_t) "retile-coordinator";
    for (; words[n - 1] != NULL; n++) {
        argv[n] = (char *)(uintptr_t)words[n - 1];
    }
    argv[n] = NULL;
    return coord_config_read(n, argv, config, &is_done, err);
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

static void test_limits_are_the_core_s_unless_they_are_set(void **state)
{
    BASE_AUTO_MEM char *path =
        write_file(*state, "max-jobs: 7\nlisten: ['unix:/a', '127.0.0.1:1']\n");
    const char *const nothing[] = {NULL};
    const char *const file[] = {"--config", path, NULL};
    COORD_AUTO_CONFIG config = {0};
    struct base_err err = {0};

    assert_ok(read_words(nothing, &config, &err), &err);
    assert_string_equal(config.db,
                        "/var/lib/retile-coordinator/coordinator.db");
    assert_int_equal(config.limits.max_jobs, 100);
    assert_int_equal(config.limits.max_backoff_ms, 1);
    assert_int_equal(config.log_level, BASE_NOTICE);
    assert_string_equal(config.listen[0],
                        "unix:/run/retile-coordinator/coordinator.sock");
    assert_null(config.listen[1]);
    assert_string_equal(config.tls_cert, "");

    assert_ok(read_words(file, &config, &err), &err);
    assert_int_equal(config.limits.max_jobs, 7);
    assert_string_equal(config.listen[1], "127.0.0.1:1");
    assert_null(config.listen[2]);
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
        {{"--db", "", NULL}, "--db: '' is not a file's name"},
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

#define config_test(test)                                                      \
    cmocka_unit_test_setup_teardown(test, clear, tmp_dir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        config_test(test_limits_are_the_core_s_unless_they_are_set),
        config_test(test_bad_options_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
