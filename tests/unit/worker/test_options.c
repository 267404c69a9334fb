/* worker/options.h: our table, and what its texts become. */
#include "worker/options.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/base/tmp_dir.h"

#define AUTO_OPTIONS                                                           \
    __attribute__((cleanup(worker_options_done))) struct worker_options

static int setup(void **state)
{
    (void)unsetenv("RETILE_LOG");
    (void)unsetenv("RETILE_LOG_FORMAT");
    return tmp_dir_make(state);
}

/* @words: up to a NULL. */
static enum base_code read_words(const char *const *words,
                                 struct worker_options *options,
                                 struct base_err *err)
{
    char *argv[16] = {(char *)(uintptr_t) "retile-worker"};
    bool is_done = false;
    int n = 1;

    for (; words[n - 1] != NULL; n++) {
        argv[n] = (char *)(uintptr_t)words[n - 1];
    }
    return worker_options_read(n, argv, options, &is_done, err);
}

static void test_paths_become_absolute_and_sizes_bytes(void **state)
{
    static const char *const words[] = {"--store", "s",        "--run",
                                        "/r",      "--budget", "2K",
                                        "--slots", "256",      NULL};
    struct tmp_dir *dir = *state;
    BASE_AUTO_MEM char *before = getcwd(NULL, 0);
    BASE_AUTO_MEM char *store = base_path("%s/s", dir->path);
    AUTO_OPTIONS options = {0};
    struct base_err err = {0};

    assert_non_null(before);
    assert_int_equal(chdir(dir->path), 0);
    assert_ok(read_words(words, &options, &err), &err);
    assert_int_equal(chdir(before), 0);
    assert_string_equal(options.store, store);
    assert_string_equal(options.mounts, "/r/mnt");
    assert_non_null(strstr(options.fuse, "/retile-fuse"));
    assert_true(options.has_budget);
    assert_int_equal(options.budget_bytes, 2048);
    assert_int_equal(options.n_slots, 256);
    assert_int_equal(options.device_check_s, 60);
    assert_int_equal(options.log_level, BASE_NOTICE);
    assert_false(options.has_user);
    assert_null(options.host);
}

static void test_what_is_wrong_is_told_with_its_place(void **state)
{
    static const struct {
        const char *text; /* of the file */
        const char *says;
        enum base_code code;
    } cases[] = {
        {"store: /s\nbudget: much\n",
         "c.yaml:2: budget: 'much' is not a size, like 64G", BASE_BAD_INPUT},
        {"store: /s\nslots: 257\n",
         "c.yaml:2: slots: '257' is not a number from 0 to 256",
         BASE_BAD_INPUT},
        {"user: 4294967295\nstore: /s\n",
         "c.yaml:1: user: '4294967295' is no user's number", BASE_BAD_INPUT},
        {"store: /s\nuser: no-such-user\n",
         "c.yaml:2: user: 'no-such-user' is no user's name", BASE_BAD_INPUT},
        {"log-level: loud\n", "c.yaml:1: log-level: 'loud' is not error",
         BASE_BAD_INPUT},
        {"store: /s\ntls-ca: /c\n", "go together", BASE_BAD_ARG},
        {"slots: 1\n", "--store ROOT is needed", BASE_BAD_ARG},
    };
    struct tmp_dir *dir = *state;
    BASE_AUTO_MEM char *path = base_path("%s/c.yaml", dir->path);
    const char *const words[] = {"--config", path, NULL};

    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        AUTO_OPTIONS options = {0};
        struct base_err err = {0};

        (void)unlinkat(dir->fd, "c.yaml", 0); /* it need not be there */
        assert_ok(base_file_write(dir->fd, "c.yaml", base_str_of(cases[i].text),
                                  &err),
                  &err);
        assert_int_equal(read_words(words, &options, &err), cases[i].code);
        if (strstr(err.text, cases[i].says) == NULL) {
            fail_msg("'%s' does not say '%s'", err.text, cases[i].says);
        }
    }
}

#define options_test(test)                                                     \
    cmocka_unit_test_setup_teardown(test, setup, tmp_dir_remove)

int main(void)
{
    const struct CMUnitTest tests[] = {
        options_test(test_paths_become_absolute_and_sizes_bytes),
        options_test(test_what_is_wrong_is_told_with_its_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
