/* worker/device.h, over a stand-in for the CUDA runtime. */
#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "worker/device.h"
#include "worker/loop.h"

enum { WAIT_MS = 15000 };

static enum base_code find(const char *mode,
                           int wait_ms,
                           struct worker_devices *ret,
                           struct base_err *err)
{
    assert_int_equal(setenv("STANDIN_CUDART", mode, 1), 0);
    return worker_devices_find(0, STANDIN_PATH, wait_ms, ret, err);
}

static void test_slots_need_no_runtime(void **state)
{
    struct worker_devices devices;
    struct base_err err;

    (void)state;
    assert_ok(worker_devices_find(3, "/nowhere", WAIT_MS, &devices, &err),
              &err);
    assert_int_equal(devices.n, 3);
    assert_false(devices.items[2].is_cuda);
    assert_string_equal(devices.items[2].label, "slot 2");
}

static void test_devices_have_memory_and_a_place(void **state)
{
    struct worker_devices devices;
    struct base_err err;

    (void)state;
    assert_ok(find("good", WAIT_MS, &devices, &err), &err);
    assert_int_equal(devices.n, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(devices.items[i].is_cuda);
        assert_false(devices.items[i].is_failed);
        assert_int_equal(devices.items[i].memory_bytes, (uint64_t)4 << 30);
    }
    assert_non_null(strstr(devices.items[1].label, "0000:01:00.0"));
}

static void test_a_broken_device_is_told_apart(void **state)
{
    struct worker_devices devices;
    struct base_err err;

    (void)state;
    assert_ok(find("third", WAIT_MS, &devices, &err), &err);
    assert_int_equal(devices.n, 2);
    assert_true(devices.items[0].is_failed);
    assert_string_equal(devices.items[0].reason,
                        "CUDA error 46: the stand-in says so");
}

static void test_no_device_names_the_way_out(void **state)
{
    struct worker_devices devices;
    struct base_err err;

    (void)state;
    assert_int_equal(find("none", WAIT_MS, &devices, &err), BASE_NOT_FOUND);
    assert_non_null(strstr(err.text, "--slots"));
    assert_int_equal(worker_devices_find(0, "/nowhere/libcudart.so", WAIT_MS,
                                         &devices, &err),
                     BASE_NOT_FOUND);
    assert_non_null(strstr(err.text, "--slots"));
}

static void test_a_runtime_that_fails_is_an_error(void **state)
{
    struct worker_devices devices;
    struct base_err err;

    (void)state;
    assert_int_equal(find("count", WAIT_MS, &devices, &err), BASE_IO);
    assert_int_equal(find("crash", WAIT_MS, &devices, &err), BASE_IO);
}

static void test_a_runtime_that_hangs_is_killed(void **state)
{
    struct worker_devices devices;
    struct base_err err;

    (void)state;
    assert_int_equal(find("hang", 200, &devices, &err), BASE_TIMEOUT);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots_need_no_runtime),
        cmocka_unit_test(test_devices_have_memory_and_a_place),
        cmocka_unit_test(test_a_broken_device_is_told_apart),
        cmocka_unit_test(test_no_device_names_the_way_out),
        cmocka_unit_test(test_a_runtime_that_fails_is_an_error),
        cmocka_unit_test(test_a_runtime_that_hangs_is_killed),
    };

    if (argc == 3 && strcmp(argv[1], WORKER_PROBE_VERB) == 0) {
        return worker_probe_main(argv[2]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
