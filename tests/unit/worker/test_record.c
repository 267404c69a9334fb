/* worker/record.h */
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/unit/base/tmp_dir.h"
#include "worker/record.h"

static void test_a_record_survives(void **state)
{
    const int dir_fd = ((const struct tmp_dir *)*state)->fd;
    struct worker_record record = {.highest = 12, .highest_generation = 4};
    struct worker_rank rank = {.rank = 1,
                               .state = WORKER_RANK_EXITED,
                               .exit_code = 3,
                               .signal = 9,
                               .proc = {4712, 123}};
    struct worker_record again = {0};
    struct base_err err;

    worker_record_begin(&record, 3, 41234);
    assert_true(record.is_clear);
    record.is_started = true;
    record.is_clear = false;
    record.launcher = (struct worker_proc){4711, 99};
    assert_true(base_vec_push(&record.ranks, rank));
    assert_ok(worker_record_write(dir_fd, "gpt", &record, &err), &err);
    assert_ok(worker_record_write(dir_fd, "gpt", &record, &err), &err);
    worker_record_read(dir_fd, "gpt", &again);
    assert_int_equal(again.highest, 12);
    assert_int_equal(again.highest_generation, 4);
    assert_int_equal(again.generation, 3);
    assert_int_equal(again.port, 41234);
    assert_true(again.is_started);
    assert_false(again.is_clear);
    assert_int_equal(again.launcher.pid, 4711);
    assert_int_equal(again.launcher.start, 99);
    assert_int_equal(again.ranks.n, 1);
    assert_int_equal(again.ranks.items[0].rank, 1);
    assert_int_equal(again.ranks.items[0].state, WORKER_RANK_EXITED);
    assert_int_equal(again.ranks.items[0].exit_code, 3);
    assert_int_equal(again.ranks.items[0].signal, 9);
    assert_int_equal(again.ranks.items[0].proc.pid, 4712);
    assert_int_equal(again.ranks.items[0].proc.start, 123);
    assert_ptr_equal(worker_record_rank(&again, 1), again.ranks.items);
    assert_null(worker_record_rank(&again, 0));
    worker_record_done(&record);
    worker_record_done(&again);
}

static void test_what_is_not_whole_is_empty(void **state)
{
    const int dir_fd = ((const struct tmp_dir *)*state)->fd;
    static const char *const texts[] = {
        "",
        "retile agent 1\nhighest 12 3\n",
        "retile agent 1\nhighest 12 3\nnonsense\nend\n",
        "retile agent 1\nrank 0 9 0 0 1 1\nend\n",
        "retile agent 1\nrank 0 1 0 0 -1 1\nend\n",
        "retile agent 1\nrank 4294967296 1 0 0 1 1\nend\n",
        "retile agent 1\nrank 0 1 0 0 1 1 1\nend\n",
        "retile agent 1\nhighest 18446744073709551616 3\nend\n",
        "retile agent 1\ngeneration 1 65536 1 0\nhighest 9 9\nend\n",
        "retile agent 1\nlauncher 2147483648 1\nhighest 9 9\nend\n",
        "retile agent 1\nhighest 12 3 \nend\n",
        "retile agent 1\nhighest 12 3\nend",
    };
    struct base_err err;

    for (size_t i = 0; i < N_ITEMS(texts); i++) {
        struct worker_record record;

        assert_ok(base_file_write(dir_fd, "bad", base_str_of(texts[i]), &err),
                  &err);
        worker_record_read(dir_fd, "bad", &record);
        if (record.highest != 0 || record.ranks.n != 0 || !record.is_clear) {
            fail_msg("text %zu was read", i);
        }
        worker_record_done(&record);
        worker_record_remove(dir_fd, "bad");
        assert_int_equal(faccessat(dir_fd, "bad", F_OK, 0), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmp_dir_test(test_a_record_survives),
        tmp_dir_test(test_what_is_not_whole_is_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
