/* The text, a line each:
 *
 *   retile agent 1
 *   highest 12 3                 version, generation
 *   generation 3 41234 1 0       number, port, is started, is clear
 *   launcher 4711 123456         pid, start
 *   rank 0 2 0 0 4712 123460     rank, state, exit code, signal, pid, start
 *   end                          else it is damaged
 */
#include "worker/record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/num.h"

enum { MAX_BYTES = 4 << 20, MAX_RANKS = 65536 };

#define HEAD "retile agent 1"

void worker_record_done(struct worker_record *record)
{
    base_vec_done(&record->ranks);
    *record = (struct worker_record){0};
}

void worker_record_begin(struct worker_record *record,
                         uint64_t generation,
                         uint32_t port)
{
    record->generation = generation;
    record->port = port;
    record->is_started = false;
    record->is_clear = true;
    record->launcher = (struct worker_proc){0};
    record->ranks.n = 0;
}

struct worker_rank *worker_record_rank(struct worker_record *record,
                                       uint32_t rank)
{
    for (size_t i = 0; i < record->ranks.n; i++) {
        if (record->ranks.items[i].rank == rank) {
            return &record->ranks.items[i];
        }
    }
    return NULL;
}

/* @n numbers behind @head, a blank before each, and nothing more. */
static bool
read_numbers(const char *line, const char *head, uint64_t *ret, size_t n)
{
    size_t n_head = strlen(head);

    if (strncmp(line, head, n_head) != 0) {
        return false;
    }
    line += n_head;
    for (size_t i = 0; i < n; i++) {
        size_t len;

        if (*line != ' ') {
            return false;
        }
        line++;
        len = strcspn(line, " ");
        if (!base_parse_u64((struct base_str){line, len}, &ret[i])) {
            return false;
        }
        line += len;
    }
    return *line == '\0';
}

static bool read_rank(const char *line, struct worker_record *record)
{
    enum { RANK, STATE, EXIT_CODE, SIGNAL, PID, START, N };
    struct worker_rank rank = {0};
    uint64_t numbers[N];

    if (!read_numbers(line, "rank", numbers, N) || numbers[RANK] > UINT32_MAX ||
        numbers[STATE] > WORKER_RANK_EXITED ||
        numbers[EXIT_CODE] > UINT32_MAX || numbers[SIGNAL] > UINT32_MAX ||
        numbers[PID] > INT32_MAX || record->ranks.n >= MAX_RANKS) {
        return false;
    }
    rank.rank = (uint32_t)numbers[RANK];
    rank.state = (enum worker_rank_state)numbers[STATE];
    rank.exit_code = (int32_t)numbers[EXIT_CODE];
    rank.signal = (int32_t)numbers[SIGNAL];
    rank.proc.pid = (pid_t)numbers[PID];
    rank.proc.start = numbers[START];
    return base_vec_push(&record->ranks, rank);
}

/* *ret_is_end: it was the last. */
static bool
read_line(const char *line, struct worker_record *record, bool *ret_is_end)
{
    uint64_t numbers[4];

    *ret_is_end = strcmp(line, "end") == 0;
    if (*ret_is_end || strcmp(line, HEAD) == 0) {
        return true;
    }
    if (read_numbers(line, "highest", numbers, 2)) {
        record->highest = numbers[0];
        record->highest_generation = numbers[1];
        return true;
    }
    if (read_numbers(line, "generation", numbers, 4) &&
        numbers[1] <= UINT16_MAX) {
        record->generation = numbers[0];
        record->port = (uint32_t)numbers[1];
        record->is_started = numbers[2] != 0;
        record->is_clear = numbers[3] != 0;
        return true;
    }
    if (read_numbers(line, "launcher", numbers, 2) && numbers[0] <= INT32_MAX) {
        record->launcher.pid = (pid_t)numbers[0];
        record->launcher.start = numbers[1];
        return true;
    }
    return read_rank(line, record);
}

void worker_record_read(int dir_fd, const char *job, struct worker_record *ret)
{
    struct worker_record record = {.is_clear = true};
    BASE_AUTO_BUF buf;
    bool is_good = true;
    bool is_end = false;

    base_buf_init(&buf, MAX_BYTES);
    is_good = base_file_read(dir_fd, job, &buf, NULL) == BASE_OK;
    for (size_t at = 0; is_good && !is_end && at < buf.len;) {
        char *newline = memchr(buf.ptr + at, '\n', buf.len - at);

        if (newline == NULL) {
            break;
        }
        *newline = '\0';
        is_good = read_line(buf.ptr + at, &record, &is_end);
        at = (size_t)(newline - buf.ptr) + 1;
    }
    if (!is_good || !is_end) {
        worker_record_done(&record);
        record.is_clear = true;
    }
    *ret = record;
}

static void format(const struct worker_record *record, struct base_buf *buf)
{
    (void)base_buf_addf(buf,
                        HEAD "\nhighest %" PRIu64 " %" PRIu64 "\n"
                             "generation %" PRIu64 " %" PRIu32 " %d %d\n"
                             "launcher %d %" PRIu64 "\n",
                        record->highest, record->highest_generation,
                        record->generation, record->port, record->is_started,
                        record->is_clear, (int)record->launcher.pid,
                        record->launcher.start); /* sticky */
    for (size_t i = 0; i < record->ranks.n; i++) {
        const struct worker_rank *rank = &record->ranks.items[i];

        (void)base_buf_addf(
            buf, "rank %" PRIu32 " %d %" PRIu32 " %" PRIu32 " %d %" PRIu64 "\n",
            rank->rank, (int)rank->state, (uint32_t)rank->exit_code,
            (uint32_t)rank->signal, (int)rank->proc.pid, rank->proc.start);
    }
    (void)base_buf_add_str(buf, BASE_STR("end\n"));
}

enum base_code worker_record_write(int dir_fd,
                                   const char *job,
                                   const struct worker_record *record,
                                   struct base_err *err)
{
    /* Jobs' names begin with no dot. */
    BASE_AUTO_MEM char *tmp = base_path(".%s", job);
    BASE_AUTO_BUF buf;

    base_buf_init(&buf, MAX_BYTES);
    format(record, &buf);
    BASE_TRY(base_buf_check(&buf, err));
    if (tmp == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot write", job);
    }
    (void)unlinkat(dir_fd, tmp, 0); /* of one that died */
    BASE_TRY(base_file_write(dir_fd, tmp, base_buf_str(&buf), err));
    BASE_TRY(base_fault_check(BASE_FAULT_io_rename, err));
    if (renameat(dir_fd, tmp, dir_fd, job) < 0) {
        return base_fail_errno(err, errno, "jobs/%s: cannot write", job);
    }
    return BASE_OK;
}

void worker_record_remove(int dir_fd, const char *job)
{
    (void)unlinkat(dir_fd, job, 0); /* not there: as wanted */
}
