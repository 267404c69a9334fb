/* What a server finds that another one left, in this process. */
#include "tests/unit/unit.h"

#include <sys/socket.h>
#include <unistd.h>

#include "fuse/handover.h"
#include "fuse/line.h"

static struct fs_handover *entered(void)
{
    struct fs_handover *handover;
    struct base_err err;

    assert_ok(fs_handover_create(&handover, &err), &err);
    fs_handover_enter(handover);
    return handover;
}

static void test_a_request_that_comes_again_counts_once(void **state)
{
    struct fs_handover *handover = entered();
    struct fs_once once = fs_once_begin(handover, 8);

    (void)state;
    assert_false(once.is_counted);
    fs_once_count(&once); /* and here its server dies */
    fs_handover_enter(handover);
    once = fs_once_begin(handover, 8);
    assert_true(once.is_counted);
    fs_once_end(&once);
    once = fs_once_begin(handover, 8);
    assert_false(once.is_counted);
    fs_once_end(&once);
    fs_handover_free(handover);
}

static void test_one_that_was_not_counted_is_counted_then(void **state)
{
    struct fs_handover *handover = entered();
    struct fs_once once = fs_once_begin(handover, 8);

    (void)state;
    assert_non_null(once.slot);
    fs_handover_enter(handover);
    once = fs_once_begin(handover, 8);
    assert_false(once.is_counted);
    fs_once_end(&once);
    fs_handover_free(handover);
}

static void test_what_never_comes_again_is_forgotten(void **state)
{
    struct fs_handover *handover = entered();
    uint32_t i;

    (void)state;
    for (i = 1; i <= FS_HANDOVER_ONCES; i++) {
        assert_non_null(fs_once_begin(handover, 2 * i).slot);
    }
    /* Full: what comes then is not known, which is no error. */
    assert_null(fs_once_begin(handover, 1000000).slot);
    fs_handover_enter(handover); /* it may still come again */
    assert_null(fs_once_begin(handover, 1000000).slot);
    fs_handover_enter(handover);
    assert_non_null(fs_once_begin(handover, 1000000).slot);
    fs_handover_free(handover);
}

static void test_a_request_without_a_number_is_not_known(void **state)
{
    struct fs_handover *handover = entered();
    struct fs_once once = fs_once_begin(handover, 0);

    (void)state;
    assert_null(once.slot);
    fs_once_count(&once);
    fs_once_end(&once);
    fs_handover_free(handover);
}

static void test_versions_are_found_by_number_and_bounded(void **state)
{
    struct fs_handover *handover = entered();
    struct fs_kept_version *kept = fs_handover_version(handover, 7);
    uint64_t number;

    (void)state;
    kept->n_handles = 3;
    assert_ptr_equal(fs_handover_version(handover, 7), kept);
    assert_int_equal(kept->n_handles, 3);
    for (number = 100; number < 99 + FS_HANDOVER_VERSIONS; number++) {
        assert_non_null(fs_handover_version(handover, number));
    }
    assert_null(fs_handover_version(handover, 8));
    fs_handover_drop_version(kept);
    fs_handover_drop_version(NULL);
    assert_ptr_equal(fs_handover_version(handover, 8), kept);
    assert_int_equal(kept->n_handles, 0);
    fs_handover_free(handover);
}

static void test_a_line_carries_descriptors_and_ends(void **state)
{
    struct fs_line_message message;
    struct base_err err;
    int ends[2];
    int fd = -1;
    struct fs_line line;
    uint64_t id;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    line = (struct fs_line){.fd = ends[0], .staging_fd = -1};
    assert_int_equal(fs_line_receive(ends[1], &message, &fd, &err),
                     BASE_NOT_FOUND);
    id = fs_line_keep(&line, STDERR_FILENO);
    assert_true(id > FS_LINE_STAGING);
    assert_ok(fs_line_receive(ends[1], &message, &fd, &err), &err);
    assert_int_equal(message.kind, FS_LINE_KEEP);
    assert_int_equal(message.id, id);
    assert_true(fd >= 0);
    (void)close(fd);
    fs_line_drop(&line, id);
    assert_ok(fs_line_receive(ends[1], &message, &fd, &err), &err);
    assert_int_equal(message.kind, FS_LINE_DROP);
    assert_int_equal(fd, -1);
    (void)close(ends[0]);
    assert_int_equal(fs_line_receive(ends[1], &message, &fd, &err), BASE_IO);
    assert_false(fs_line_send(ends[1], FS_LINE_PING, 0, -1));
    (void)close(ends[1]);
    /* Nobody to keep it. */
    line.fd = -1;
    assert_int_equal(fs_line_keep(&line, STDERR_FILENO), 0);
    fs_line_drop(&line, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_request_that_comes_again_counts_once),
        cmocka_unit_test(test_one_that_was_not_counted_is_counted_then),
        cmocka_unit_test(test_what_never_comes_again_is_forgotten),
        cmocka_unit_test(test_a_request_without_a_number_is_not_known),
        cmocka_unit_test(test_versions_are_found_by_number_and_bounded),
        cmocka_unit_test(test_a_line_carries_descriptors_and_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
