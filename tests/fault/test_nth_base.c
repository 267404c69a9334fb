/* Allocations and system calls that fail, in every module of base that makes
 * some: buffers, arenas, options, files, directories, threads. */
#include "tests/unit/base/tmp_dir.h"

#include <string.h>
#include <sys/stat.h>

#include "base/io.h"
#include "base/options.h"
#include "base/parallel.h"
#include "base/settings.h"
#include "tests/fault/nth.h"

static const struct tmp_dir *tmp;

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "out of memory");
}

static enum base_code do_buf(struct base_err *err)
{
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, 1u << 20);
    (void)base_buf_addf(&buf, "%0*d", 3000, 7); /* sticky */
    (void)base_buf_add(&buf, "abc", 3);
    (void)base_buf_add_json(&buf, BASE_STR("a\nb"));
    return base_buf_check(&buf, err);
}

static enum base_code do_vec(struct base_err *err)
{
    BASE_VEC(uint64_t) items = {0};
    enum base_code rc = BASE_OK;

    for (uint64_t i = 0; rc == BASE_OK && i < 1000; i++) {
        rc = base_vec_push(&items, i) ? BASE_OK : no_mem(err);
    }
    for (uint64_t i = 0; i < items.n; i++) {
        assert_int_equal(items.items[i], i); /* what was there stays */
    }
    base_vec_done(&items);
    return rc;
}

static enum base_code do_arena(struct base_err *err)
{
    BASE_AUTO(base_arena) arena = base_arena_create(1u << 20);

    if (arena == NULL) {
        return no_mem(err);
    }
    for (size_t i = 0; i < 100; i++) {
        if (base_arena_alloc(arena, i, 64) == NULL ||
            base_arena_str(arena, BASE_STR("text")).ptr == NULL) {
            return no_mem(err);
        }
    }
    return BASE_OK;
}

static enum base_code do_path(struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("%s/%d", tmp->path, 1);

    return path == NULL ? no_mem(err) : BASE_OK;
}

static const char *option_text;
static bool option_flag;

static enum base_code do_options(struct base_err *err)
{
    static const struct base_option options[] = {
        {"text", 't', "T", "a text", &option_text, NULL},
        {"flag", 0, NULL, "a flag", NULL, &option_flag},
    };
    static const struct base_command command = {
        .program = "retile test",
        .usage = "",
        .about = "",
        .options = options,
        .n_options = N_ITEMS(options),
        .max_args = 2,
    };
    char words[][8] = {"test", "--flag", "a", "-tx", "b"};
    char *argv[] = {words[0], words[1], words[2], words[3], words[4], NULL};
    char **args;
    int n_args;
    bool is_help = false;

    return base_options_parse(&command, 5, argv, &args, &n_args, &is_help, err);
}

static enum base_code
count_item(void *ctx, size_t item, unsigned thread, struct base_err *err)
{
    (void)thread;
    (void)err;
    __atomic_fetch_add((size_t *)ctx, item + 1, __ATOMIC_RELAXED);
    return BASE_OK;
}

static enum base_code do_parallel(struct base_err *err)
{
    size_t sum = 0;

    BASE_TRY(base_parallel(3, 10, count_item, &sum, err));
    assert_int_equal(sum, 55); /* also by fewer threads */
    return BASE_OK;
}

/* --- files -------------------------------------------------------------- */

static char long_text[40000];

static enum base_code do_write(struct base_err *err)
{
    return base_file_write(
        tmp->fd, "f", (struct base_str){long_text, sizeof(long_text)}, err);
}

/* Whoever writes a file removes it when that failed. */
static void check_write(const struct nth_failure *failure, enum base_code rc)
{
    struct stat st;
    bool is_there = fstatat(tmp->fd, "f", &st, 0) == 0;

    (void)failure;
    assert_true(rc != BASE_OK ||
                (is_there && st.st_size == (off_t)sizeof(long_text)));
    assert_true(!is_there || unlinkat(tmp->fd, "f", 0) == 0);
}

static enum base_code do_read(struct base_err *err)
{
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, 1u << 20);
    BASE_TRY(base_file_read(tmp->fd, "whole", &buf, err));
    assert_int_equal(buf.len, sizeof(long_text));
    return BASE_OK;
}

static enum base_code do_pieces(struct base_err *err)
{
    char a[100];
    char b[300];
    struct iovec iov[] = {{a, sizeof(a)}, {b, sizeof(b)}};
    BASE_AUTO_FD fd = -1;

    memset(a, 'a', sizeof(a));
    memset(b, 'b', sizeof(b));
    BASE_TRY(base_io_open(tmp->fd, "pieces", O_RDWR | O_CREAT, 0600, "pieces",
                          &fd, err));
    BASE_TRY(base_io_pwritev(fd, iov, 2, 50, "pieces", err));
    BASE_TRY(base_io_sync(fd, "pieces", err));
    BASE_TRY(base_io_pread(fd, a, 100, 100, "pieces", err));
    assert_memory_equal(a + 49, "ab", 2);
    return base_dir_sync(tmp->fd, ".", err);
}

static enum base_code do_list(struct base_err *err)
{
    char **names = NULL;
    size_t n = 0;

    BASE_TRY(base_dir_list(tmp->fd, "tree", 100, &names, &n, err));
    assert_int_equal(n, 5);
    assert_string_equal(names[4], "n4");
    base_names_free(names, n);
    return BASE_OK;
}

/* tree/n0 .. tree/n4, each with a file; those that are there already stay. */
static void make_tree(void)
{
    struct base_err err;
    char path[32];

    (void)mkdirat(tmp->fd, "tree", 0700);
    for (int i = 0; i < 5; i++) {
        (void)snprintf(path, sizeof(path), "tree/n%d", i);
        (void)mkdirat(tmp->fd, path, 0700);
        (void)snprintf(path, sizeof(path), "tree/n%d/file", i);
        if (faccessat(tmp->fd, path, F_OK, 0) != 0) {
            assert_ok(base_file_write(tmp->fd, path, BASE_STR("x"), &err),
                      &err);
        }
    }
}

static enum base_code do_remove(struct base_err *err)
{
    return base_dir_remove(tmp->fd, "tree", err);
}

/* After a failure it can be done again. */
static void check_remove(const struct nth_failure *failure, enum base_code rc)
{
    struct base_err err;

    (void)failure;
    if (rc != BASE_OK) {
        assert_ok(do_remove(&err), &err);
    }
    assert_int_equal(faccessat(tmp->fd, "tree", F_OK, 0), -1);
    make_tree();
}

static enum base_code do_rename(struct base_err *err)
{
    return base_rename_new(tmp->fd, "tree", "moved", err);
}

/* It is in one of both places, whole. */
static void check_rename(const struct nth_failure *failure, enum base_code rc)
{
    const char *place = rc == BASE_OK ? "moved/n4/file" : "tree/n4/file";

    (void)failure;
    assert_int_equal(faccessat(tmp->fd, place, F_OK, 0), 0);
    if (rc == BASE_OK) {
        assert_int_equal(renameat(tmp->fd, "moved", tmp->fd, "tree"), 0);
    }
    assert_int_equal(faccessat(tmp->fd, "moved", F_OK, 0), -1);
}

static char settings_file[sizeof(tmp->path) + 16];

struct said {
    const char *list[BASE_SETTINGS_LIST + 1];
    uint32_t number;
};

static enum base_code do_settings(struct base_err *err)
{
    static const struct base_setting keys[] = {
        {.name = "list",
         BASE_SETTING_AT(LIST, struct said, list),
         .text = "a",
         .value = "A",
         .letter = 'l'},
        {.name = "number",
         BASE_SETTING_AT(NUMBER, struct said, number),
         .value = "N",
         .max = 9,
         .variable = "RETILE_TEST_NUMBER"},
    };
    static const struct base_settings_table table = {
        .program = "retile-test", .keys = keys, .n_keys = N_ITEMS(keys)};
    char *argv[] = {(char *)(uintptr_t) "retile-test",
                    (char *)(uintptr_t) "-l",
                    (char *)(uintptr_t) "b",
                    (char *)(uintptr_t) "-c",
                    settings_file,
                    NULL};
    BASE_AUTO(base_arena) arena = base_arena_create(BASE_SETTINGS_ARENA_BYTES);
    const struct base_settings *settings;
    struct said said = {0};

    return arena == NULL ? no_mem(err)
                         : base_settings_read(&table, 5, argv, arena, &said,
                                              &settings, err);
}

static const struct nth_scenario scenarios[] = {
    {"buffer", do_buf, NULL},
    {"array", do_vec, NULL},
    {"arena", do_arena, NULL},
    {"path", do_path, NULL},
    {"options", do_options, NULL},
    {"settings", do_settings, NULL},
    {"threads", do_parallel, NULL},
    {"write", do_write, check_write},
    {"read", do_read, NULL},
    {"pieces", do_pieces, NULL},
    {"list", do_list, NULL},
    {"remove", do_remove, check_remove},
    {"rename", do_rename, check_rename},
};

static void test_each_call_may_fail(void **state)
{
    struct base_err err;

    tmp = *state;
    memset(long_text, 'x', sizeof(long_text));
    assert_ok(base_file_write(tmp->fd, "whole",
                              (struct base_str){long_text, sizeof(long_text)},
                              &err),
              &err);
    make_tree();
    assert_ok(base_file_write(tmp->fd, "settings",
                              BASE_STR("list: [x, y]\nnumber: 1\n"), &err),
              &err);
    (void)snprintf(settings_file, sizeof(settings_file), "%s/settings",
                   tmp->path); /* fits */
    (void)setenv("RETILE_TEST_NUMBER", "2", 1);
    for (size_t i = 0; i < N_ITEMS(scenarios); i++) {
        nth_run(&scenarios[i], UINT64_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmp_dir_test(test_each_call_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
