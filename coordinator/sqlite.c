/* coordinator/persist.h over SQLite: docs/formats.md has the tables.
 *
 * Two connections: one writes (owner: the thread that commits), one reads events
 * (guarded by lock), so that a watch that catches up does not hold up a commit.
 * WAL with synchronous=FULL: what COMMIT has answered survives a loss of power.
 *
 * A lock file beside the database keeps other processes out; SQLite's own locks
 * would let two coordinators take turns. */
#include "coordinator/persist.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"

enum {
    APPLICATION_ID = 0x52544c43, /* "RTLC" */
    BUSY_MS = 5000,
    WAL_PAGES = 1000,           /* then it is checkpointed */
    WAL_MAX_BYTES = 64 << 20,   /* it is cut to so much when it is */
    MAX_BODY_BYTES = 512 << 20, /* of one record */
};

/* Step i takes a database of version i to i + 1.  A step is never changed once
 * it was released: add one. */
static const char *const steps[] = {
    "CREATE TABLE record (kind INTEGER NOT NULL, id BLOB NOT NULL,"
    " body BLOB NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;"
    "CREATE TABLE event (revision INTEGER PRIMARY KEY, body BLOB NOT NULL);"
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "INSERT INTO meta VALUES ('dropped', 0);",
};
enum { SCHEMA_VERSION = sizeof(steps) / sizeof(steps[0]) };

enum statement {
    BEGIN,
    COMMIT,
    ROLLBACK,
    PUT_RECORD,
    DROP_RECORD,
    PUT_EVENT,
    NTH_EVENT,
    DROP_EVENTS,
    SET_DROPPED,
    N_STATEMENTS
};
static const char *const statement_texts[N_STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [PUT_RECORD] = ("INSERT INTO record VALUES (?1, ?2, ?3)"
                    " ON CONFLICT DO UPDATE SET body = ?3"),
    [DROP_RECORD] = "DELETE FROM record WHERE kind = ?1 AND id = ?2",
    [PUT_EVENT] = "INSERT INTO event VALUES (?1, ?2)",
    [NTH_EVENT] =
        "SELECT revision FROM event ORDER BY revision LIMIT 1 OFFSET ?1",
    [DROP_EVENTS] = "DELETE FROM event WHERE revision <= ?1",
    [SET_DROPPED] = "UPDATE meta SET value = ?1 WHERE key = 'dropped'",
};

struct sqlite {
    struct persist persist; /* the first: a persist is one of these */
    char *path;
    int lock_fd;
    uint64_t max_events;
    uint64_t n_events;                      /* owner: who commits */
    sqlite3 *writer;                        /* owner: who commits */
    sqlite3_stmt *statements[N_STATEMENTS]; /* the writer's */
    pthread_mutex_t lock;
    sqlite3 *reader; /* guarded by lock; the writer itself for ":memory:" */
};

static void sqlite_free(struct sqlite *sqlite)
{
    if (sqlite == NULL) {
        return;
    }
    for (unsigned i = 0; i < N_STATEMENTS; i++) {
        (void)sqlite3_finalize(sqlite->statements[i]); /* its last error */
    }
    if (sqlite->reader != sqlite->writer) {
        (void)sqlite3_close(sqlite->reader); /* nothing of it is open */
    }
    (void)sqlite3_close(sqlite->writer);
    if (sqlite->lock_fd >= 0) {
        (void)close(sqlite->lock_fd); /* which unlocks */
    }
    (void)pthread_mutex_destroy(&sqlite->lock);
    free(sqlite->path);
    free(sqlite);
}
BASE_AUTO_DEFINE(sqlite);

static void finalize(sqlite3_stmt **statement)
{
    (void)sqlite3_finalize(*statement); /* the error was told by step */
}
#define AUTO_STATEMENT __attribute__((cleanup(finalize))) sqlite3_stmt

/* What went wrong last on @db, in our words. */
static enum base_code
failed(const struct sqlite *sqlite, sqlite3 *db, struct base_err *err)
{
    int code = db == NULL ? SQLITE_NOMEM : sqlite3_extended_errcode(db);
    int errnum = db == NULL ? 0 : sqlite3_system_errno(db);
    const char *text = db == NULL ? "out of memory" : sqlite3_errmsg(db);
    enum base_code ours = BASE_IO;

    switch (code & 0xff) {
    case SQLITE_NOMEM:
        ours = BASE_NO_MEM;
        break;
    case SQLITE_FULL:
        ours = BASE_NO_SPACE;
        break;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        ours = BASE_BAD_INPUT;
        break;
    case SQLITE_IOERR:
        if (errnum == ENOSPC || errnum == EDQUOT) {
            ours = BASE_NO_SPACE;
        }
        break;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_READONLY:
        ours = errnum == ENOENT ? BASE_NOT_FOUND : BASE_DENIED;
        break;
    default:
        break;
    }
    return base_fail(err, ours, "%s: %s (SQLite %d)", sqlite->path, text, code);
}

static enum base_code run(const struct sqlite *sqlite,
                          sqlite3 *db,
                          const char *text,
                          struct base_err *err)
{
    if (sqlite3_exec(db, text, NULL, NULL, NULL) != SQLITE_OK) {
        return failed(sqlite, db, err);
    }
    return BASE_OK;
}

/* The first column of the first row, a number; else 0, so that the analyzer need
 * not see that an error is one. */
static enum base_code ask_number(const struct sqlite *sqlite,
                                 sqlite3 *db,
                                 const char *text,
                                 int64_t *ret,
                                 struct base_err *err)
{
    AUTO_STATEMENT *statement = NULL;

    *ret = 0;
    if (sqlite3_prepare_v2(db, text, -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW) {
        return failed(sqlite, db, err);
    }
    *ret = sqlite3_column_int64(statement, 0);
    return BASE_OK;
}

/* Step a statement that gives no row, and make it ready for the next time. */
static enum base_code
finish(const struct sqlite *sqlite, enum statement which, struct base_err *err)
{
    sqlite3_stmt *statement = sqlite->statements[which];

    if (sqlite3_step(statement) != SQLITE_DONE) {
        enum base_code code = failed(sqlite, sqlite->writer, err);

        (void)sqlite3_reset(statement); /* gives the same error again */
        return code;
    }
    (void)sqlite3_reset(statement); /* it succeeded */
    return BASE_OK;
}

static enum base_code put_record(struct sqlite *sqlite,
                                 const struct coord_record *record,
                                 struct base_err *err)
{
    const bool is_removed = record->body.ptr == NULL;
    const enum statement which = is_removed ? DROP_RECORD : PUT_RECORD;
    sqlite3_stmt *statement = sqlite->statements[which];

    if (sqlite3_bind_int(statement, 1, (int)record->kind) != SQLITE_OK ||
        sqlite3_bind_blob64(statement, 2, record->id.ptr, record->id.len,
                            SQLITE_STATIC) != SQLITE_OK ||
        (!is_removed &&
         sqlite3_bind_blob64(statement, 3, record->body.ptr, record->body.len,
                             SQLITE_STATIC) != SQLITE_OK)) {
        return failed(sqlite, sqlite->writer, err);
    }
    return finish(sqlite, which, err);
}

static enum base_code put_event(struct sqlite *sqlite,
                                const struct persist_event *event,
                                struct base_err *err)
{
    sqlite3_stmt *statement = sqlite->statements[PUT_EVENT];

    if (sqlite3_bind_int64(statement, 1, (int64_t)event->revision) !=
            SQLITE_OK ||
        sqlite3_bind_blob64(statement, 2, event->body.ptr, event->body.len,
                            SQLITE_STATIC) != SQLITE_OK) {
        return failed(sqlite, sqlite->writer, err);
    }
    return finish(sqlite, PUT_EVENT, err);
}

/* Drop the oldest so that, with @n_new that were put, max_events stay. */
static enum base_code
trim(struct sqlite *sqlite, uint64_t n_new, struct base_err *err)
{
    const uint64_t n = sqlite->n_events + n_new;
    sqlite3_stmt *nth = sqlite->statements[NTH_EVENT];
    int64_t revision;

    if (n <= sqlite->max_events) {
        return BASE_OK;
    }
    if (sqlite3_bind_int64(nth, 1, (int64_t)(n - sqlite->max_events - 1)) !=
            SQLITE_OK ||
        sqlite3_step(nth) != SQLITE_ROW) {
        enum base_code code = failed(sqlite, sqlite->writer, err);

        (void)sqlite3_reset(nth); /* gives the same error again */
        return code;
    }
    revision = sqlite3_column_int64(nth, 0);
    (void)sqlite3_reset(nth); /* it succeeded */
    if (sqlite3_bind_int64(sqlite->statements[DROP_EVENTS], 1, revision) !=
            SQLITE_OK ||
        sqlite3_bind_int64(sqlite->statements[SET_DROPPED], 1, revision) !=
            SQLITE_OK) {
        return failed(sqlite, sqlite->writer, err);
    }
    BASE_TRY(finish(sqlite, DROP_EVENTS, err));
    return finish(sqlite, SET_DROPPED, err);
}

static enum base_code write_batch(struct sqlite *sqlite,
                                  const struct persist_batch *batch,
                                  struct base_err *err)
{
    BASE_TRY(finish(sqlite, BEGIN, err));
    for (size_t i = 0; i < batch->n_records; i++) {
        BASE_TRY(put_record(sqlite, &batch->records[i], err));
    }
    for (size_t i = 0; i < batch->n_events; i++) {
        BASE_TRY(put_event(sqlite, &batch->events[i], err));
    }
    BASE_TRY(trim(sqlite, batch->n_events, err));
    return finish(sqlite, COMMIT, err);
}

static enum base_code sqlite_commit(struct persist *persist,
                                    const struct persist_batch *batch,
                                    struct base_err *err)
{
    struct sqlite *sqlite = (struct sqlite *)persist;
    const bool is_shared = sqlite->reader == sqlite->writer;
    enum base_code code;

    if (is_shared) {
        (void)pthread_mutex_lock(&sqlite->lock);
    }
    code = write_batch(sqlite, batch, err);
    if (code != BASE_OK && sqlite3_get_autocommit(sqlite->writer) == 0) {
        /* The first error is what counts. */
        (void)finish(sqlite, ROLLBACK, NULL);
    }
    if (is_shared) {
        (void)pthread_mutex_unlock(&sqlite->lock);
    }
    if (code == BASE_OK) {
        sqlite->n_events = base_min_u64(sqlite->n_events + batch->n_events,
                                        sqlite->max_events);
    }
    return code;
}

static struct base_str column(sqlite3_stmt *statement, int i)
{
    /* The pointer first: asking for it may convert, which sets the length. */
    const char *ptr = sqlite3_column_blob(statement, i);
    int len = sqlite3_column_bytes(statement, i);

    /* An empty blob is NULL to SQLite, and a removed record to us. */
    return (struct base_str){ptr == NULL ? "" : ptr, (size_t)len};
}

static enum base_code sqlite_load(struct persist *persist,
                                  persist_record_fn fn,
                                  void *ctx,
                                  uint64_t *ret_oldest,
                                  uint64_t *ret_newest,
                                  struct base_err *err)
{
    struct sqlite *sqlite = (struct sqlite *)persist;
    AUTO_STATEMENT *statement = NULL;
    int64_t oldest;
    int64_t newest;
    int code;

    if (sqlite3_prepare_v2(sqlite->writer, "SELECT kind, id, body FROM record",
                           -1, &statement, NULL) != SQLITE_OK) {
        return failed(sqlite, sqlite->writer, err);
    }
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        const struct coord_record record = {
            .kind = (enum coord_record_kind)sqlite3_column_int(statement, 0),
            .id = column(statement, 1),
            .body = column(statement, 2)};

        BASE_TRY(fn(ctx, &record, err));
    }
    if (code != SQLITE_DONE) {
        return failed(sqlite, sqlite->writer, err);
    }
    BASE_TRY(ask_number(sqlite, sqlite->writer,
                        "SELECT ifnull(min(revision), 0) FROM event", &oldest,
                        err));
    BASE_TRY(ask_number(sqlite, sqlite->writer,
                        "SELECT ifnull(max(revision), 0) FROM event", &newest,
                        err));
    *ret_oldest = (uint64_t)oldest;
    *ret_newest = (uint64_t)newest;
    return BASE_OK;
}

/* The newest revision that is no longer kept. */
static enum base_code
dropped_get(const struct sqlite *sqlite, int64_t *ret, struct base_err *err)
{
    return ask_number(sqlite, sqlite->reader,
                      "SELECT value FROM meta WHERE key = 'dropped'", ret, err);
}

static enum base_code visit_events(struct sqlite *sqlite,
                                   uint64_t from,
                                   size_t max,
                                   persist_event_fn fn,
                                   void *ctx,
                                   struct base_err *err)
{
    AUTO_STATEMENT *statement = NULL;
    int64_t dropped;
    int code;

    BASE_TRY(dropped_get(sqlite, &dropped, err));
    if (from > 0 && from <= (uint64_t)dropped) {
        return base_fail(err, BASE_NOT_FOUND,
                         "revision %" PRIu64 " is no longer kept; from %" PRId64
                         " on they are",
                         from, dropped + 1);
    }
    if (sqlite3_prepare_v2(sqlite->reader,
                           "SELECT revision, body FROM event WHERE revision >="
                           " ?1 ORDER BY revision LIMIT ?2",
                           -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_bind_int64(statement, 1, (int64_t)from) != SQLITE_OK ||
        sqlite3_bind_int64(
            statement, 2, (int64_t)base_min_u64(max, INT64_MAX)) != SQLITE_OK) {
        return failed(sqlite, sqlite->reader, err);
    }
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        const struct persist_event event = {
            .revision = (uint64_t)sqlite3_column_int64(statement, 0),
            .body = column(statement, 1)};

        BASE_TRY(fn(ctx, &event, err));
    }
    return code == SQLITE_DONE ? BASE_OK : failed(sqlite, sqlite->reader, err);
}

static enum base_code sqlite_events(struct persist *persist,
                                    uint64_t from,
                                    size_t max,
                                    persist_event_fn fn,
                                    void *ctx,
                                    struct base_err *err)
{
    struct sqlite *sqlite = (struct sqlite *)persist;
    enum base_code code;

    if (from > INT64_MAX) {
        return BASE_OK; /* there are none */
    }
    (void)pthread_mutex_lock(&sqlite->lock);
    /* One snapshot: what is dropped meanwhile is still read. */
    code = sqlite->reader == sqlite->writer
               ? BASE_OK
               : run(sqlite, sqlite->reader, "BEGIN", err);
    if (code == BASE_OK) {
        code = visit_events(sqlite, from, max, fn, ctx, err);
        if (sqlite->reader != sqlite->writer) {
            (void)run(sqlite, sqlite->reader, "ROLLBACK",
                      NULL); /* a reader's */
        }
    }
    (void)pthread_mutex_unlock(&sqlite->lock);
    return code;
}

static void sqlite_close(struct persist *persist)
{
    sqlite_free((struct sqlite *)persist);
}

static const struct persist_ops sqlite_ops = {
    .name = "sqlite",
    .load = sqlite_load,
    .commit = sqlite_commit,
    .events = sqlite_events,
    .close = sqlite_close,
};

/* Take PATH.lock, which is never removed: its name must stay one file's. */
static enum base_code take_lock(struct sqlite *sqlite, struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("%s.lock", sqlite->path);
    char pid[24] = {0};
    int n;

    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot open a database");
    }
    sqlite->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (sqlite->lock_fd < 0) {
        return base_fail_errno(err, errno, "%s", path);
    }
    if (flock(sqlite->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) {
            return base_fail_errno(err, errno, "%s", path);
        }
        if (pread(sqlite->lock_fd, pid, sizeof(pid) - 1, 0) <= 0) {
            (void)snprintf(pid, sizeof(pid), "unknown"); /* fits */
        }
        pid[strcspn(pid, "\n")] = '\0';
        return base_fail(err, BASE_EXISTS,
                         "%s is in use by another coordinator, process %s",
                         sqlite->path, pid);
    }
    n = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    if (ftruncate(sqlite->lock_fd, 0) != 0 ||
        pwrite(sqlite->lock_fd, pid, (size_t)n, 0) != n) {
        return base_fail_errno(err, errno, "%s", path);
    }
    return BASE_OK;
}

/* Make the file ourselves: SQLite would let everybody read it.  Its name is the
 * one that its lock has, whatever links lead to it. */
static enum base_code make_file(struct sqlite *sqlite, struct base_err *err)
{
    BASE_AUTO_FD fd = open(sqlite->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    BASE_AUTO_MEM char *path = NULL;
    BASE_AUTO_MEM char *parent = NULL;
    char *slash;

    if (fd < 0) {
        return base_fail_errno(err, errno, "%s", sqlite->path);
    }
    path = realpath(sqlite->path, NULL);
    if (path == NULL) {
        return base_fail_errno(err, errno, "%s", sqlite->path);
    }
    free(sqlite->path);
    sqlite->path = base_steal(&path);
    parent = strdup(sqlite->path);
    if (parent == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot open a database");
    }
    slash = strrchr(parent, '/');
    slash[slash == parent ? 1 : 0] = '\0';
    return base_dir_sync(AT_FDCWD, parent, err);
}

static enum base_code check_is_whole(struct sqlite *sqlite,
                                     struct base_err *err)
{
    AUTO_STATEMENT *statement = NULL;
    const char *text;

    if (sqlite3_prepare_v2(sqlite->writer, "PRAGMA quick_check(1)", -1,
                           &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW) {
        return failed(sqlite, sqlite->writer, err);
    }
    text = (const char *)sqlite3_column_text(statement, 0);
    if (text == NULL || strcmp(text, "ok") != 0) {
        return base_fail(err, BASE_BAD_INPUT, "%s is damaged: %s", sqlite->path,
                         text == NULL ? "out of memory" : text);
    }
    return BASE_OK;
}

/* Whose is it, and of which version?  Bring it to ours. */
static enum base_code migrate(struct sqlite *sqlite, struct base_err *err)
{
    char text[96];
    int64_t id;
    int64_t version;
    int64_t n_tables;

    BASE_TRY(
        ask_number(sqlite, sqlite->writer, "PRAGMA application_id", &id, err));
    BASE_TRY(ask_number(sqlite, sqlite->writer, "PRAGMA user_version", &version,
                        err));
    BASE_TRY(ask_number(sqlite, sqlite->writer,
                        "SELECT count(*) FROM sqlite_schema", &n_tables, err));
    if (id != APPLICATION_ID && (n_tables > 0 || id != 0 || version != 0)) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s is a database of another program", sqlite->path);
    }
    if (version < 0 || version > SCHEMA_VERSION) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s has version %" PRId64
                         ", this program knows up to %d: it is older than the "
                         "one that wrote it",
                         sqlite->path, version, (int)SCHEMA_VERSION);
    }
    for (; version < SCHEMA_VERSION; version++) {
        (void)snprintf(text, sizeof(text),
                       "PRAGMA application_id = %d; PRAGMA user_version = %d;"
                       " COMMIT",
                       APPLICATION_ID, (int)version + 1); /* fits */
        BASE_TRY(run(sqlite, sqlite->writer, "BEGIN IMMEDIATE", err));
        BASE_TRY(run(sqlite, sqlite->writer, steps[version], err));
        BASE_TRY(run(sqlite, sqlite->writer, text, err));
    }
    return BASE_OK;
}

static enum base_code
open_connection(struct sqlite *sqlite, sqlite3 **ret, struct base_err *err)
{
    /* A connection has one thread at a time. */
    const int flags =
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;

    if (sqlite3_open_v2(sqlite->path, ret, flags, NULL) != SQLITE_OK) {
        return failed(sqlite, *ret, err);
    }
    (void)sqlite3_extended_result_codes(*ret, 1); /* cannot fail */
    (void)sqlite3_busy_timeout(*ret, BUSY_MS);
    (void)sqlite3_limit(*ret, SQLITE_LIMIT_LENGTH, MAX_BODY_BYTES);
    return BASE_OK;
}

static enum base_code
open_writer(struct sqlite *sqlite, bool is_memory, struct base_err *err)
{
    char text[160];
    int64_t n;

    BASE_TRY(open_connection(sqlite, &sqlite->writer, err));
    BASE_TRY(check_is_whole(sqlite, err));
    BASE_TRY(migrate(sqlite, err));
    (void)snprintf(text, sizeof(text),
                   "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                   "PRAGMA wal_autocheckpoint = %d;"
                   "PRAGMA journal_size_limit = %d",
                   WAL_PAGES, WAL_MAX_BYTES); /* fits */
    if (!is_memory) { /* behind migrate: it may not have been ours */
        BASE_TRY(run(sqlite, sqlite->writer, text, err));
    }
    for (unsigned i = 0; i < N_STATEMENTS; i++) {
        if (sqlite3_prepare_v3(sqlite->writer, statement_texts[i], -1,
                               SQLITE_PREPARE_PERSISTENT,
                               &sqlite->statements[i], NULL) != SQLITE_OK) {
            return failed(sqlite, sqlite->writer, err);
        }
    }
    BASE_TRY(ask_number(sqlite, sqlite->writer, "SELECT count(*) FROM event",
                        &n, err));
    sqlite->n_events = (uint64_t)n;
    return BASE_OK;
}

enum base_code persist_sqlite_open(const char *path,
                                   uint64_t max_events,
                                   struct persist **ret,
                                   struct base_err *err)
{
    BASE_AUTO(sqlite) sqlite = calloc(1, sizeof(*sqlite));
    int64_t dropped;
    const bool is_memory = strcmp(path, ":memory:") == 0;

    if (sqlite == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot open a database");
    }
    *sqlite = (struct sqlite){.persist = {&sqlite_ops},
                              .lock_fd = -1,
                              .lock = PTHREAD_MUTEX_INITIALIZER,
                              .max_events = base_max_u64(max_events, 1)};
    sqlite->path = strdup(path);
    if (sqlite->path == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot open a database");
    }
    if (!is_memory) {
        BASE_TRY(make_file(sqlite, err));
        BASE_TRY(take_lock(sqlite, err));
    }
    BASE_TRY(open_writer(sqlite, is_memory, err));
    if (is_memory) {
        sqlite->reader = sqlite->writer;
    } else {
        BASE_TRY(open_connection(sqlite, &sqlite->reader, err));
        BASE_TRY(run(sqlite, sqlite->reader, "PRAGMA query_only = ON", err));
        /* It opens its files with its first read: now, when there are
         * descriptors. */
        BASE_TRY(dropped_get(sqlite, &dropped, err));
    }
    *ret = &base_steal(&sqlite)->persist;
    return BASE_OK;
}
