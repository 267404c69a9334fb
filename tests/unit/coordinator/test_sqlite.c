/* coordinator/sqlite.c: what was committed comes back, whatever happens to the
 * process, the disk or the file. */
#include "tests/unit/unit.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "coordinator/persist.h"
#include "tests/unit/base/tmp_dir.h"

struct found {
    BASE_VEC(struct coord_record) records; /* in SQLite's order */
    BASE_VEC(uint64_t) events;
    uint64_t oldest;
    uint64_t newest;
};

static struct base_str copy_of(struct base_str s)
{
    char *copy = malloc(s.len + 1);

    assert_non_null(copy);
    (void)memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return (struct base_str){copy, s.len};
}

static enum base_code
take_record(void *ctx, const struct coord_record *record, struct base_err *err)
{
    struct found *found = ctx;
    struct coord_record copy = {record->kind, copy_of(record->id),
                                copy_of(record->body)};

    (void)err;
    assert_true(base_vec_push(&found->records, copy));
    return BASE_OK;
}

static enum base_code
take_event(void *ctx, const struct persist_event *event, struct base_err *err)
{
    struct found *found = ctx;
    char text[32];

    (void)err;
    (void)snprintf(text, sizeof(text), "event %" PRIu64, event->revision);
    assert_true(base_str_eq(event->body, base_str_of(text)));
    assert_true(base_vec_push(&found->events, event->revision));
    return BASE_OK;
}

static void found_done(struct found *found)
{
    for (size_t i = 0; i < found->records.n; i++) {
        free((char *)(uintptr_t)found->records.items[i].id.ptr);
        free((char *)(uintptr_t)found->records.items[i].body.ptr);
    }
    base_vec_done(&found->records);
    base_vec_done(&found->events);
    *found = (struct found){0};
}

static void load(struct persist *persist, struct found *found)
{
    struct base_err err = {0};

    assert_ok(persist->ops->load(persist, take_record, found, &found->oldest,
                                 &found->newest, &err),
              &err);
}

static char *path_in(const struct tmp_dir *dir, const char *name)
{
    char *path = base_path("%s/%s", dir->path, name);

    assert_non_null(path);
    return path;
}

static struct persist *open_good(const char *path, uint64_t max_events)
{
    struct persist *persist = NULL;
    struct base_err err = {0};

    assert_ok(persist_sqlite_open(path, max_events, &persist, &err), &err);
    return persist;
}

static void refused(const char *path, enum base_code code, const char *says)
{
    struct persist *persist = NULL;
    struct base_err err = {0};

    assert_int_equal(persist_sqlite_open(path, 10, &persist, &err), code);
    assert_null(persist);
    if (strstr(err.text, says) == NULL || strstr(err.text, path) == NULL) {
        fail_msg("'%s' does not say '%s' of %s", err.text, says, path);
    }
}

static enum base_code put(struct persist *persist,
                          const char *id,
                          const char *body, /* NULL: removed */
                          uint64_t first,
                          size_t n,
                          struct base_err *err)
{
    const struct coord_record record = {COORD_JOB, base_str_of(id),
                                        body == NULL ? (struct base_str){0}
                                                     : base_str_of(body)};
    char texts[64][32];
    struct persist_event events[64];
    const struct persist_batch batch = {&record, 1, events, n};

    assert_true(n <= N_ITEMS(events));
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(texts[i], sizeof(texts[i]), "event %" PRIu64, first + i);
        events[i] = (struct persist_event){first + i, base_str_of(texts[i])};
    }
    return persist->ops->commit(persist, &batch, err);
}

static void put_good(struct persist *persist,
                     const char *id,
                     const char *body,
                     uint64_t first,
                     size_t n)
{
    struct base_err err = {0};

    assert_ok(put(persist, id, body, first, n, &err), &err);
}

static void events_are(struct persist *persist,
                       uint64_t from,
                       size_t max,
                       uint64_t first,
                       size_t n)
{
    struct found found = {.oldest = 0};
    struct base_err err = {0};

    assert_ok(
        persist->ops->events(persist, from, max, take_event, &found, &err),
        &err);
    assert_int_equal(found.events.n, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(found.events.items[i], first + i);
    }
    found_done(&found);
}

static void test_what_was_committed_is_loaded(void **state)
{
    BASE_AUTO_MEM char *path = path_in(*state, "db");
    struct persist *persist = open_good(path, 100);
    struct found found = {.oldest = 0};
    struct stat st;

    load(persist, &found);
    assert_int_equal(found.records.n, 0);
    assert_int_equal(found.oldest + found.newest, 0);
    put_good(persist, "a", "one", 5, 2);
    put_good(persist, "a", "two", 7, 1);
    put_good(persist, "gone", "x", 8, 0);
    put_good(persist, "gone", NULL, 8, 0);
    put_good(persist, "empty", "", 8, 0);
    persist->ops->close(persist);

    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    persist = open_good(path, 100);
    load(persist, &found);
    assert_int_equal(found.records.n, 2);
    assert_true(base_str_eq(found.records.items[0].id, BASE_STR("a")));
    assert_true(base_str_eq(found.records.items[0].body, BASE_STR("two")));
    assert_true(base_str_eq(found.records.items[1].body, BASE_STR("")));
    assert_int_equal(found.oldest, 5);
    assert_int_equal(found.newest, 7);
    found_done(&found);
    persist->ops->close(persist);
}

static void test_events_are_read_from_where_one_asks(void **state)
{
    struct persist *persist = open_good(":memory:", 100);

    (void)state;
    put_good(persist, "a", "x", 10, 20);
    events_are(persist, 1, 100, 10, 20); /* nothing was dropped */
    events_are(persist, 15, 100, 15, 15);
    events_are(persist, 15, 4, 15, 4);
    events_are(persist, 30, 100, 0, 0);
    events_are(persist, UINT64_MAX, 100, 0, 0);
    persist->ops->close(persist);
}

static void test_the_oldest_events_go_in_the_same_batch(void **state)
{
    BASE_AUTO_MEM char *path = path_in(*state, "db");
    struct persist *persist = open_good(path, 10);
    struct found found = {.oldest = 0};
    struct base_err err = {0};

    put_good(persist, "a", "x", 1, 8);
    events_are(persist, 1, 100, 1, 8);
    put_good(persist, "a", "x", 9, 5);
    events_are(persist, 4, 100, 4, 10);
    assert_int_equal(
        persist->ops->events(persist, 3, 9, take_event, &found, &err),
        BASE_NOT_FOUND);
    assert_non_null(strstr(err.text, "from 4 on"));
    put_good(persist, "a", "x", 14, 40); /* more than are kept, at once */
    events_are(persist, 44, 100, 44, 10);
    persist->ops->close(persist);

    persist = open_good(path, 5); /* fewer from the next batch on */
    events_are(persist, 44, 100, 44, 10);
    put_good(persist, "a", "x", 54, 1);
    events_are(persist, 50, 100, 50, 5);
    load(persist, &found);
    assert_int_equal(found.oldest, 50);
    assert_int_equal(found.newest, 54);
    found_done(&found);
    persist->ops->close(persist);
}

struct within {
    struct persist *persist;
    uint64_t next;
    size_t n;
};

static enum base_code commit_within(void *ctx,
                                    const struct persist_event *event,
                                    struct base_err *err)
{
    struct within *within = ctx;

    (void)event;
    (void)err;
    put_good(within->persist, "a", "x", within->next++, 1);
    within->n++;
    return BASE_OK;
}

static void test_a_batch_is_written_while_events_are_read(void **state)
{
    BASE_AUTO_MEM char *path = path_in(*state, "db");
    struct persist *persist = open_good(path, 5);
    struct within within = {persist, 6, 0};
    struct base_err err = {0};

    put_good(persist, "a", "x", 1, 5);
    /* It reads what was there when it began, though all of it is dropped. */
    assert_ok(
        persist->ops->events(persist, 1, 100, commit_within, &within, &err),
        &err);
    assert_int_equal(within.n, 5);
    events_are(persist, 6, 100, 6, 5);
    persist->ops->close(persist);
}

static void test_a_batch_that_fails_leaves_nothing(void **state)
{
    BASE_AUTO_MEM char *path = path_in(*state, "db");
    struct persist *persist = open_good(path, 100);
    struct found found = {.oldest = 0};
    struct base_err err = {0};

    put_good(persist, "a", "one", 1, 5);
    /* A revision that is there already. */
    assert_int_equal(put(persist, "a", "two", 5, 1, &err), BASE_IO);
    assert_int_equal(put(persist, "b", "two", 4, 3, &err), BASE_IO);
    load(persist, &found);
    assert_int_equal(found.records.n, 1);
    assert_true(base_str_eq(found.records.items[0].body, BASE_STR("one")));
    events_are(persist, 1, 100, 1, 5);
    put_good(persist, "a", "three", 6, 1);
    found_done(&found);
    persist->ops->close(persist);
}

static void test_a_database_in_use_is_refused_with_the_process(void **state)
{
    BASE_AUTO_MEM char *path = path_in(*state, "db");
    BASE_AUTO_MEM char *link = path_in(*state, "link");
    struct persist *persist = open_good(path, 10);
    struct persist *other = NULL;
    struct base_err err = {0};
    char says[64];

    (void)snprintf(says, sizeof(says),
                   "in use by another coordinator, "
                   "process %ld",
                   (long)getpid());
    refused(path, BASE_EXISTS, says);
    assert_int_equal(symlink(path, link), 0); /* by another name, too */
    assert_int_equal(persist_sqlite_open(link, 10, &other, &err), BASE_EXISTS);
    persist->ops->close(persist);
    persist = open_good(link, 10);
    persist->ops->close(persist);
}

static void run_sql(const char *path, const char *text)
{
    sqlite3 *db = NULL;

    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, text, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void test_what_is_no_database_of_ours_is_refused(void **state)
{
    struct tmp_dir *dir = *state;
    BASE_AUTO_MEM char *garbage = path_in(dir, "garbage");
    BASE_AUTO_MEM char *foreign = path_in(dir, "foreign");
    BASE_AUTO_MEM char *absent = path_in(dir, "no/db");
    BASE_AUTO_BUF before;
    BASE_AUTO_BUF after;
    struct base_err err = {0};

    base_buf_init(&before, 1 << 20);
    base_buf_init(&after, 1 << 20);
    assert_ok(base_file_write(dir->fd, "garbage",
                              BASE_STR("this is not a database, however long "
                                       "it is: it has no header of one"),
                              &err),
              &err);
    refused(garbage, BASE_BAD_INPUT, "not a database");
    run_sql(foreign, "CREATE TABLE t (x); PRAGMA user_version = 1");
    assert_ok(base_file_read(AT_FDCWD, foreign, &before, &err), &err);
    refused(foreign, BASE_BAD_INPUT, "of another program");
    assert_ok(base_file_read(AT_FDCWD, foreign, &after, &err), &err);
    assert_true(base_str_eq(base_buf_str(&before), base_buf_str(&after)));
    refused(absent, BASE_NOT_FOUND, "no/db");
}

static void test_a_later_schema_is_refused(void **state)
{
    BASE_AUTO_MEM char *path = path_in(*state, "db");
    struct persist *persist = open_good(path, 10);

    persist->ops->close(persist);
    run_sql(path, "PRAGMA user_version = 99");
    refused(path, BASE_BAD_INPUT, "version 99");
}

/* Flip bytes of every page but the first: none may be used. */
static void test_a_damaged_file_is_refused_by_name(void **state)
{
    BASE_AUTO_MEM char *path = path_in(*state, "db");
    struct persist *persist = open_good(path, 100);
    char bytes[64];
    int fd;

    for (uint64_t n = 0; n < 20; n++) {
        put_good(persist, "a", "some body", 1 + 5 * n, 5);
    }
    persist->ops->close(persist);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    (void)memset(bytes, 0xa5, sizeof(bytes));
    for (off_t at = 4096; at < lseek(fd, 0, SEEK_END); at += 4096) {
        assert_int_equal(pwrite(fd, bytes, sizeof(bytes), at), sizeof(bytes));
    }
    assert_int_equal(close(fd), 0);
    refused(path, BASE_BAD_INPUT, "");
}

/* A file that version 1 wrote, kept so that each later version can read it. */
static void test_a_file_of_version_1_is_read(void **state)
{
    struct tmp_dir *dir = *state;
    BASE_AUTO_MEM char *path = path_in(dir, "db");
    BASE_AUTO_MEM char *golden =
        base_path("%s/tests/golden/coordinator-1.db", getenv("RETILE_SOURCE"));
    BASE_AUTO_BUF bytes;
    struct persist *persist;
    struct found found = {.oldest = 0};
    struct base_err err = {0};

    base_buf_init(&bytes, 1 << 20);
    assert_ok(base_file_read(AT_FDCWD, golden, &bytes, &err), &err);
    assert_ok(base_file_write(dir->fd, "db", base_buf_str(&bytes), &err), &err);
    persist = open_good(path, 10);
    load(persist, &found);
    assert_int_equal(found.records.n, 2);
    assert_true(base_str_eq(found.records.items[0].id, BASE_STR("gpt")));
    assert_true(base_str_eq(found.records.items[1].body, BASE_STR("body 2")));
    assert_int_equal(found.oldest, 3);
    assert_int_equal(found.newest, 5);
    events_are(persist, 3, 10, 3, 3);
    put_good(persist, "gpt", "again", 6, 1);
    found_done(&found);
    persist->ops->close(persist);
}

/* A file system of half a MiB, seen by this process alone. */
static bool mount_small(const char *path)
{
    return unshare(CLONE_NEWNS) == 0 &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", path, "tmpfs", 0, "size=512k") == 0;
}

static void test_a_full_disk_loses_nothing_that_was_committed(void **state)
{
    struct tmp_dir *dir = *state;
    BASE_AUTO_MEM char *path = path_in(dir, "db");
    BASE_AUTO_MEM char *spare = path_in(dir, "spare");
    struct persist *persist;
    struct found found = {.oldest = 0};
    struct base_err err = {0};
    enum base_code code = BASE_OK;
    uint64_t n;
    int fd;

    if (!mount_small(dir->path)) {
        skip(); /* not root */
    }
    fd = open(spare, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(posix_fallocate(fd, 0, 128 << 10), 0);
    assert_int_equal(close(fd), 0);
    persist = open_good(path, 1000);
    for (n = 0; n < 100 && code == BASE_OK; n++) {
        code = put(persist, "a", "x", 1 + n, 1, &err);
    }
    for (; n < 1000 && code == BASE_OK; n++) {
        code = put(persist, "a", "x", 1 + n, 1, &err);
    }
    assert_int_equal(code, BASE_NO_SPACE);
    assert_non_null(strstr(err.text, path));
    persist->ops->close(persist);

    assert_int_equal(unlink(spare), 0);
    persist = open_good(path, 1000);
    load(persist, &found);
    assert_int_equal(found.records.n, 1);
    assert_int_equal(found.newest, n - 1); /* the n-th failed */
    events_are(persist, 1, 1000, 1, n - 1);
    found_done(&found);
    persist->ops->close(persist);
    assert_int_equal(umount(dir->path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tmp_dir_test(test_what_was_committed_is_loaded),
        cmocka_unit_test(test_events_are_read_from_where_one_asks),
        tmp_dir_test(test_the_oldest_events_go_in_the_same_batch),
        tmp_dir_test(test_a_batch_is_written_while_events_are_read),
        tmp_dir_test(test_a_batch_that_fails_leaves_nothing),
        tmp_dir_test(test_a_database_in_use_is_refused_with_the_process),
        tmp_dir_test(test_what_is_no_database_of_ours_is_refused),
        tmp_dir_test(test_a_later_schema_is_refused),
        tmp_dir_test(test_a_damaged_file_is_refused_by_name),
        tmp_dir_test(test_a_file_of_version_1_is_read),
        tmp_dir_test(test_a_full_disk_loses_nothing_that_was_committed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
