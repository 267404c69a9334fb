/* Backing ids of open nodes, with a kernel that is played here. */
#include "tests/unit/unit.h"

#include <string.h>

#include "fuse/fs.h"
#include "fuse/fuse_compat.h"
#include "fuse/handover.h"
#include "fuse/options.h"
#include "fuse/passthrough.h"

enum { MAX_IDS = 100 };

static struct {
    struct fs_handover *handover;
    struct fs_options options;
    struct fs fs;
    bool is_open[MAX_IDS];
    uint32_t last_id;
    bool was_named; /* by a node, when an id was closed */
} kernel;

bool fs_channel_has_passthrough(const struct fs_channel *channel)
{
    (void)channel;
    return true;
}

uint32_t fs_channel_backing_open(const struct fs_channel *channel, int fd)
{
    (void)channel;
    assert_true(fd >= 0);
    if (kernel.last_id + 1 == MAX_IDS) {
        return 0;
    }
    kernel.is_open[++kernel.last_id] = true;
    return kernel.last_id;
}

void fs_channel_backing_close(const struct fs_channel *channel, uint32_t id)
{
    uint32_t i;

    (void)channel;
    assert_true(kernel.is_open[id]);
    kernel.is_open[id] = false;
    for (i = 0; i < FS_HANDOVER_NODES; i++) {
        const struct fs_open_node *node = &kernel.handover->nodes[i];

        kernel.was_named |= node->ino != 0 && node->backing_id == id;
    }
}

static int setup(void **state)
{
    struct base_err err;

    (void)state;
    memset(&kernel, 0, sizeof(kernel));
    assert_ok(fs_handover_create(&kernel.handover, &err), &err);
    fs_handover_enter(kernel.handover);
    kernel.fs.options = &kernel.options;
    kernel.fs.handover = kernel.handover;
    kernel.fs.backings = fs_backings_create(kernel.handover);
    assert_non_null(kernel.fs.backings);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fs_backings_free(kernel.fs.backings);
    fs_handover_free(kernel.handover);
    return 0;
}

static void next_server(void)
{
    fs_backings_free(kernel.fs.backings);
    fs_handover_enter(kernel.handover);
    kernel.fs.backings = fs_backings_create(kernel.handover);
    assert_non_null(kernel.fs.backings);
}

static uint32_t use(uint64_t ino)
{
    return fs_backing_use(&kernel.fs, ino, 5, true);
}

static void test_a_node_has_one_id_until_its_last_handle(void **state)
{
    const uint32_t id = use(7);

    (void)state;
    assert_true(kernel.is_open[id]);
    assert_int_equal(use(7), id);
    assert_int_not_equal(use(8), id);
    fs_backing_release(&kernel.fs, 7);
    assert_true(kernel.is_open[id]);
    fs_backing_release(&kernel.fs, 7);
    assert_false(kernel.is_open[id]);
    assert_int_not_equal(use(7), id);
}

static void test_ids_and_counts_outlive_their_server(void **state)
{
    const uint32_t id = use(7);

    (void)state;
    next_server();
    assert_int_equal(use(7), id);
    /* This open was counted by the server before. */
    assert_int_equal(fs_backing_use(&kernel.fs, 7, 5, false), id);
    next_server();
    fs_backing_release(&kernel.fs, 7);
    assert_true(kernel.is_open[id]);
    fs_backing_release(&kernel.fs, 7);
    assert_false(kernel.is_open[id]);
}

/* Else the server after one that dies just then opens with a closed id. */
static void test_no_node_names_an_id_when_it_is_closed(void **state)
{
    (void)state;
    assert_int_not_equal(use(7), 0);
    fs_backing_release(&kernel.fs, 7);
    assert_false(kernel.was_named);
}

static void test_a_node_opened_without_has_none_while_it_is_open(void **state)
{
    (void)state;
    assert_int_equal(fs_backing_use(&kernel.fs, 7, -1, true), 0);
    assert_int_equal(use(7), 0);
    fs_backing_release(&kernel.fs, 7);
    fs_backing_release(&kernel.fs, 7);
    assert_int_not_equal(use(7), 0);
}

/* Its first handle was not counted: an id would be closed before the last. */
static void test_a_node_that_had_no_slot_gets_no_id_later(void **state)
{
    uint64_t ino;
    uint32_t id;

    (void)state;
    id = use(1);
    for (ino = 2; ino <= FS_HANDOVER_NODES; ino++) {
        (void)use(ino);
    }
    assert_int_equal(use(ino), 0);
    fs_backing_release(&kernel.fs, 2);
    kernel.last_id = id; /* ids are free again */
    assert_int_equal(use(ino), 0);
    next_server();
    assert_int_equal(use(ino), 0);
    /* One that has an id keeps it. */
    assert_int_equal(use(1), id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_a_node_has_one_id_until_its_last_handle, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_ids_and_counts_outlive_their_server, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_no_node_names_an_id_when_it_is_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(
            test_a_node_opened_without_has_none_while_it_is_open, setup,
            teardown),
        cmocka_unit_test_setup_teardown(
            test_a_node_that_had_no_slot_gets_no_id_later, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
