/* Servers that die, and what is found of them, whole or damaged. */
#include "tests/unit/fuse/saves_tmp.h"

#include <stdio.h>

static void test_handles_are_counted_by_the_next_server(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, make_dir(tmp, tmp->dir, "d"), "a", "hello");

    assert_int_equal(open_file(tmp, ino, O_RDWR), 0);
    assert_int_equal(open_file(tmp, ino, O_RDONLY), 0);
    saves_tmp_restart(tmp);
    assert_int_equal(step_of(tmp, 0).n_writers, 1);
    assert_int_equal(freeze(tmp, 100), EBUSY);
    assert_int_equal(fs_saves_write(tmp->saves, ino, "J", 1, 0), 0);
    fs_saves_release(tmp->saves, NULL, ino, O_RDWR);
    fs_saves_release(tmp->saves, NULL, ino, O_RDONLY);
    fs_saves_release(tmp->saves, NULL, ino, O_RDWR); /* one too many */
    assert_int_equal(step_of(tmp, 0).n_writers, 0);
    assert_text(tmp, ino, "Jello");
    assert_int_equal(freeze(tmp, 100), 0);
}

static void test_a_repeated_open_counts_once(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t ino = write_file(tmp, tmp->dir, "a", "hello");
    struct fs_turn turn;
    uint32_t backing;

    fs_turn_begin(tmp->saves, 42, &turn);
    assert_false(turn.is_again);
    assert_int_equal(fs_saves_open(tmp->saves, &turn, ino, O_RDWR, &backing),
                     0);
    saves_tmp_restart(tmp); /* before it was answered */

    fs_turn_begin(tmp->saves, 42 | UINT64_C(1) << 63, &turn);
    assert_true(turn.is_again);
    assert_int_equal(fs_saves_open(tmp->saves, &turn, ino, O_RDWR, &backing),
                     0);
    fs_turn_end(&turn);
    assert_int_equal(step_of(tmp, 0).n_writers, 1);

    fs_turn_begin(tmp->saves, 44, &turn); /* the same, of a release */
    fs_saves_release(tmp->saves, &turn, ino, O_RDWR);
    assert_int_equal(open_file(tmp, ino, O_RDWR), 0);
    saves_tmp_restart(tmp);
    fs_turn_begin(tmp->saves, 44, &turn);
    fs_saves_release(tmp->saves, &turn, ino, O_RDWR);
    fs_turn_end(&turn);
    assert_int_equal(step_of(tmp, 0).n_writers, 1);

    saves_tmp_restart(tmp); /* ended turns are not begun again */
    fs_turn_begin(tmp->saves, 42, &turn);
    assert_false(turn.is_again);
    fs_turn_end(&turn);
}

static void test_a_repeated_change_is_done_once(void **state)
{
    struct saves_tmp *tmp = *state;
    struct fs_turn turns[4];
    struct fs_saved saved;
    struct fs_saved again;
    uint32_t backing;
    uint64_t i;

    write_file(tmp, tmp->dir, "old", "");
    write_file(tmp, tmp->dir, "from", "");
    for (i = 0; i < 4; i++) {
        fs_turn_begin(tmp->saves, 2 + 2 * i, &turns[i]);
    }
    assert_int_equal(
        fs_saves_mkdir(tmp->saves, &turns[0], tmp->dir, "d", 0700, &saved), 0);
    assert_int_equal(fs_saves_unlink(tmp->saves, &turns[1], tmp->dir, "old"),
                     0);
    assert_int_equal(fs_saves_rename(tmp->saves, &turns[2], tmp->dir, "from",
                                     tmp->dir, "to", 0),
                     0);
    assert_int_equal(fs_saves_create_file(tmp->saves, &turns[3], tmp->dir, "f",
                                          0600, O_WRONLY | O_EXCL, &saved,
                                          &backing),
                     0);
    saves_tmp_restart(tmp);
    for (i = 0; i < 4; i++) {
        fs_turn_begin(tmp->saves, 2 + 2 * i, &turns[i]);
        assert_true(turns[i].is_again);
    }
    assert_int_equal(
        fs_saves_mkdir(tmp->saves, &turns[0], tmp->dir, "d", 0700, &again), 0);
    assert_int_equal(fs_saves_unlink(tmp->saves, &turns[1], tmp->dir, "old"),
                     0);
    assert_int_equal(fs_saves_rename(tmp->saves, &turns[2], tmp->dir, "from",
                                     tmp->dir, "to", 0),
                     0);
    assert_int_equal(fs_saves_create_file(tmp->saves, &turns[3], tmp->dir, "f",
                                          0600, O_WRONLY | O_EXCL, &again,
                                          &backing),
                     0);
    assert_int_equal(again.ino, saved.ino);
    assert_int_equal(again.generation, saved.generation);
    assert_int_equal(step_of(tmp, 0).n_writers, 1);
    for (i = 0; i < 4; i++) {
        fs_turn_end(&turns[i]);
    }
    /* Asked for the first time, it is an error. */
    assert_int_equal(fs_saves_create_file(tmp->saves, NULL, tmp->dir, "f", 0600,
                                          O_WRONLY | O_EXCL, &again, &backing),
                     EEXIST);
    assert_int_equal(fs_saves_unlink(tmp->saves, NULL, tmp->dir, "old"),
                     ENOENT);
}

static void test_a_repeated_exchange_is_not_undone(void **state)
{
    struct saves_tmp *tmp = *state;
    uint64_t a = write_file(tmp, tmp->dir, "a", "was a");
    struct fs_saved saved;
    struct fs_turn turn;

    write_file(tmp, tmp->dir, "b", "was b");
    fs_turn_begin(tmp->saves, 2, &turn);
    assert_int_equal(fs_saves_rename(tmp->saves, &turn, tmp->dir, "a", tmp->dir,
                                     "b", RENAME_EXCHANGE),
                     0);
    saves_tmp_restart(tmp);
    fs_turn_begin(tmp->saves, 2, &turn);
    assert_int_equal(fs_saves_rename(tmp->saves, &turn, tmp->dir, "a", tmp->dir,
                                     "b", RENAME_EXCHANGE),
                     0);
    fs_turn_end(&turn);
    assert_int_equal(fs_saves_lookup(tmp->saves, NULL, tmp->dir, "b", &saved),
                     0);
    assert_int_equal(saved.ino, a);
}

static void test_a_damaged_ledger_is_refused(void **state)
{
    struct saves_tmp *tmp = *state;
    struct fs_saves *saves;
    struct base_err err;
    int fd = openat(tmp->fd, "ledger", O_WRONLY | O_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "x", 1, 0), 1);
    assert_int_equal(fs_saves_create(tmp->fd, &saves, &err), BASE_BAD_INPUT);
    assert_int_equal(pwrite(fd, "R", 1, 0), 1);
    assert_int_equal(pwrite(fd, "\xff\xff\xff\xff", 4, 16), 4);
    assert_int_equal(fs_saves_create(tmp->fd, &saves, &err), BASE_BAD_INPUT);
    (void)close(fd); /* what was written is not needed */
}

/* Who maps a file that is cut off gets SIGBUS; the next server must not take
 * what is missing for zeros, and so for files that nobody has open. */
static void test_a_ledger_that_was_cut_off_is_refused(void **state)
{
    static const off_t sizes[] = {8191, 4096, 100, 8192, 1, 0};
    struct saves_tmp *tmp = *state;
    struct fs_saves *saves;
    struct base_err err;
    char path[96];
    size_t i;

    (void)write_file(tmp, tmp->dir, "a", "hello");
    (void)snprintf(path, sizeof(path), "%s/ledger", tmp->path);
    fs_saves_free(tmp->saves);
    tmp->saves = NULL;
    for (i = 0; i < N_ITEMS(sizes); i++) {
        assert_int_equal(truncate(path, sizes[i]), 0);
        assert_int_equal(fs_saves_create(tmp->fd, &saves, &err),
                         BASE_BAD_INPUT);
        assert_int_equal(fs_saves_create(tmp->fd, &saves, &err),
                         BASE_BAD_INPUT); /* as often as it is tried */
    }
    assert_false(saves_tmp_has(tmp, "ledger")); /* none, as was found */
    assert_int_equal(unlinkat(tmp->fd, "steps/1.100", 0), 0);
    saves_tmp_start(tmp);
}

static void test_impossible_slots_are_refused(void **state)
{
    static const struct {
        off_t offset; /* in the first slot */
        uint32_t to;
    } cases[] = {{4, 0}, {4, 0xc0000000}, {20, 77}};
    struct saves_tmp *tmp = *state;
    struct fs_saves *saves;
    struct base_err err;
    unsigned char slots[80];
    int fd = openat(tmp->fd, "ledger", O_RDWR | O_CLOEXEC);
    size_t i;

    assert_true(fd >= 0);
    (void)write_file(tmp, tmp->dir, "a", "hello");
    (void)write_file(tmp, tmp->dir, "b", "hello");
    assert_int_equal(pread(fd, slots, 80, 8192), 80);
    for (i = 0; i < N_ITEMS(cases); i++) {
        assert_int_equal(pwrite(fd, &cases[i].to, 4, 8192 + cases[i].offset),
                         4);
        assert_int_equal(fs_saves_create(tmp->fd, &saves, &err),
                         BASE_BAD_INPUT);
        assert_int_equal(pwrite(fd, slots, 80, 8192), 80);
    }
    assert_int_equal(pwrite(fd, slots, 40, 8192 + 40), 40); /* one node twice */
    assert_int_equal(fs_saves_create(tmp->fd, &saves, &err), BASE_BAD_INPUT);
    assert_int_equal(pwrite(fd, slots, 80, 8192), 80);
    (void)close(fd); /* it is as it was */
}

/* What a server does with what it has taken up. */
static void use(struct fs_saves *saves)
{
    struct fs_step steps[4];
    struct fs_saved saved;
    struct fs_turn turn;
    uint32_t backing;
    char *path;

    fs_turn_begin(saves, 5, &turn);
    if (fs_saves_steps(saves, steps, 4) > 0 &&
        fs_saves_lookup(saves, &turn, steps[0].ino, "a", &saved) == 0) {
        if (fs_saves_open(saves, NULL, saved.ino, O_RDWR, &backing) == 0) {
            (void)fs_saves_write(saves, saved.ino, "x", 1, 0);
            fs_saves_release(saves, NULL, saved.ino, O_RDWR);
        }
        fs_saves_forget(saves, saved.ino, UINT64_MAX);
    }
    fs_turn_end(&turn);
    if (fs_saves_freeze(saves, 100, 0, &path) == 0) {
        fs_saves_thaw(saves, 100);
    }
    free(path);
    fs_saves_free(saves);
}

/* Change some of the first @n_bytes of @name at random, many times. */
static void meddle(struct saves_tmp *tmp, const char *name, size_t n_bytes)
{
    unsigned char whole[10000];
    unsigned char bytes[10000];
    struct fs_saves *saves;
    struct base_err err;
    uint64_t random = 88172645463325252u;
    unsigned i;
    ssize_t n;

    for (i = 0; i < 2000; i++) {
        int fd = openat(tmp->fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        unsigned k;

        assert_true(fd >= 0);
        if (i == 0) {
            n = pread(fd, whole, sizeof(whole), 0);
            assert_true(n >= (ssize_t)n_bytes);
        }
        memcpy(bytes, whole, (size_t)n);
        for (k = 0; k <= i % 4; k++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            /* The heads and the slots, more than the zeros between them. */
            bytes[random % 2 == 0 || n_bytes < 8192
                      ? (random >> 8) % (n_bytes < 128 ? n_bytes : 128)
                      : 8192 + (random >> 8) % (n_bytes - 8192)] ^=
                (unsigned char)(1u << (random >> 40) % 8);
        }
        assert_int_equal(pwrite(fd, bytes, (size_t)n, 0), n);
        (void)close(fd); /* damaged as it is */
        if (fs_saves_create(tmp->fd, &saves, &err) == BASE_OK) {
            use(saves);
        } else {
            assert_true(err.text[0] != '\0');
        }
    }
}

static void test_whatever_is_in_the_ledger_is_survived(void **state)
{
    struct saves_tmp *tmp = *state;

    (void)write_file(tmp, tmp->dir, "a", "hello");
    (void)write_file(tmp, make_dir(tmp, tmp->dir, "d"), "b", "hello");
    fs_saves_free(tmp->saves);
    tmp->saves = NULL;
    meddle(tmp, "ledger", 8192 + 5 * 40);
    assert_int_equal(unlinkat(tmp->fd, "ledger", 0), 0);
    assert_int_equal(unlinkat(tmp->fd, "steps/1.100", 0), 0);
    saves_tmp_start(tmp);
}

static void test_whatever_is_in_a_record_is_survived(void **state)
{
    struct saves_tmp *tmp = *state;

    (void)write_file(tmp, tmp->dir, "a", "hello");
    assert_int_equal(freeze(tmp, 100), 0);
    fs_saves_seal(tmp->saves, 100, 7);
    fs_saves_free(tmp->saves);
    tmp->saves = NULL;
    meddle(tmp, "steps/1.100", 64 + 2);
    saves_tmp_start(tmp);
}

static void test_a_half_written_record_is_no_step(void **state)
{
    struct saves_tmp *tmp = *state;
    struct fs_step steps[8];
    int fd = openat(tmp->fd, "steps/1.300", O_WRONLY | O_CREAT, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "RTLSTEP1", 8), 8);
    (void)close(fd); /* damaged as it is */
    saves_tmp_restart(tmp);
    assert_int_equal(fs_saves_steps(tmp->saves, steps, 8), 1);
    assert_false(saves_tmp_has(tmp, "steps/1.300"));
}

static void test_a_damaged_record_is_no_step(void **state)
{
    static const struct {
        off_t offset;
        char byte;
    } cases[] = {{0, 'x'}, {8, 9},  {12, 1}, {52, 1},
                 {16, 9},  {24, 9}, {32, 0}, {38, 1}};
    struct saves_tmp *tmp = *state;
    struct fs_step steps[8];
    size_t i;

    for (i = 0; i < N_ITEMS(cases); i++) {
        char name[32];
        uint64_t ino;
        int fd;

        assert_int_equal(fs_saves_begin(tmp->saves, 1, 300 + i, &ino), 0);
        (void)snprintf(name, sizeof(name), "steps/1.%zu", 300 + i);
        fd = openat(tmp->fd, name, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, &cases[i].byte, 1, cases[i].offset), 1);
        (void)close(fd); /* damaged as it is */
        saves_tmp_restart(tmp);
        assert_int_equal(fs_saves_steps(tmp->saves, steps, 8), 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        saves_test(test_handles_are_counted_by_the_next_server),
        saves_test(test_a_repeated_open_counts_once),
        saves_test(test_a_repeated_change_is_done_once),
        saves_test(test_a_repeated_exchange_is_not_undone),
        saves_test(test_a_damaged_ledger_is_refused),
        saves_test(test_a_ledger_that_was_cut_off_is_refused),
        saves_test(test_impossible_slots_are_refused),
        saves_test(test_whatever_is_in_the_ledger_is_survived),
        saves_test(test_whatever_is_in_a_record_is_survived),
        saves_test(test_a_half_written_record_is_no_step),
        saves_test(test_a_damaged_record_is_no_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
