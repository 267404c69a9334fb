/* The record of a step, steps/GENERATION.STEP:
 *
 *   0      magic "RTLSTEP1"
 *   8      state: 0 open, 1 frozen, 2 sealed
 *   12     number of names
 *   16     generation
 *   24     step
 *   32     sequence: in link numbers; no two records have the same
 *   40     version, of a sealed one
 *   48     bytes of names
 *   56     attempt, 0: none
 *   64     names, each with a NUL: what the directory had at its top
 *
 * In the machine's byte order: it does not outlive a reboot.  The names are
 * written first; the head, within one page, at once.  The file's number is that
 * of the step's directory in the mount. */
#include "fuse/saves_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io.h"

#define LABEL "the record of a step"

enum {
    NAMES_OFFSET = 64,
    MAX_NAMES_BYTES = 64 << 20,
    MAX_NAME_BYTES = 255,
    RECORD_NAME_BYTES = 64,
};

#define MAX_SEQUENCE (UINT64_C(1) << 40) /* link numbers have place for it */

static const char magic[8] = {'R', 'T', 'L', 'S', 'T', 'E', 'P', '1'};

struct head {
    char magic[8];
    uint32_t state;
    uint32_t n_names;
    uint64_t generation;
    uint64_t step;
    uint64_t sequence;
    uint64_t version;
    uint64_t names_bytes;
    uint64_t attempt;
};

_Static_assert(sizeof(struct head) == NAMES_OFFSET, "a head has no holes");

static void name_of(const struct saved_step *step, char ret[RECORD_NAME_BYTES])
{
    (void)snprintf(ret, RECORD_NAME_BYTES, "steps/%" PRIu64 ".%" PRIu64,
                   step->generation, step->step);
}

static int write_names(const struct saved_step *step, uint64_t *ret_bytes)
{
    BASE_AUTO_BUF text;
    struct base_err err;
    enum base_code rc;
    size_t i;

    base_buf_init(&text, MAX_NAMES_BYTES);
    for (i = 0; i < step->n_names; i++) { /* failures stick */
        (void)base_buf_add(&text, step->names[i], strlen(step->names[i]) + 1);
    }
    if (text.failed != BASE_OK) {
        return ENOMEM;
    }
    rc = base_io_pwrite(step->record_fd, text.ptr, text.len, NAMES_OFFSET,
                        LABEL, &err);
    *ret_bytes = text.len;
    return saves_errno(rc);
}

int saves_record_write(const struct saved_step *step)
{
    struct head head = {
        .state = (uint32_t)step->state,
        .n_names = (uint32_t)step->n_names,
        .generation = step->generation,
        .step = step->step,
        .sequence = step->sequence,
        .version = step->version,
        .attempt = step->attempt,
    };
    struct base_err err;
    int rc;

    memcpy(head.magic, magic, sizeof(magic));
    rc = step->n_names > 0 ? write_names(step, &head.names_bytes) : 0;
    if (rc != 0) {
        return rc;
    }
    return saves_errno(
        base_io_pwrite(step->record_fd, &head, sizeof(head), 0, LABEL, &err));
}

int saves_record_make(int dir_fd, struct saved_step *step, struct stat *ret)
{
    char name[RECORD_NAME_BYTES];
    int rc;

    name_of(step, name);
    step->record_fd =
        openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (step->record_fd < 0) {
        return errno;
    }
    rc = saves_record_write(step);
    if (rc == 0 && fstat(step->record_fd, ret) != 0) {
        rc = errno;
    }
    if (rc != 0) {
        (void)unlinkat(dir_fd, name, 0); /* made just now */
        (void)close(step->record_fd);
        step->record_fd = -1;
    }
    return rc;
}

void saves_record_remove(int dir_fd, const struct saved_step *step)
{
    char name[RECORD_NAME_BYTES];

    name_of(step, name);
    (void)unlinkat(dir_fd, name, 0); /* the mount's end removes all */
}

/* EBADMSG: it ends before that. */
static int read_all(int fd, void *bytes, size_t n, uint64_t offset)
{
    struct base_err err;
    enum base_code rc = base_io_pread(fd, bytes, n, offset, LABEL, &err);

    return rc == BASE_CHANGED ? EBADMSG : saves_errno(rc);
}

static int read_names(struct saved_step *step, const struct head *head)
{
    size_t n_bytes = (size_t)head->names_bytes;
    BASE_AUTO_MEM char *text = malloc(n_bytes + 1);
    const char *at = text;
    size_t n_name;
    uint32_t i;
    int rc;

    step->names = calloc(head->n_names, sizeof(*step->names));
    if (text == NULL || step->names == NULL) {
        return ENOMEM;
    }
    rc = read_all(step->record_fd, text, n_bytes, NAMES_OFFSET);
    if (rc != 0) {
        return rc;
    }
    text[n_bytes] = '\0';
    for (i = 0; i < head->n_names; i++) {
        if (at >= text + n_bytes) {
            return EBADMSG;
        }
        n_name = strlen(at);
        if (n_name == 0 || n_name > MAX_NAME_BYTES || strchr(at, '/') != NULL) {
            return EBADMSG;
        }
        step->names[i] = strdup(at);
        if (step->names[i] == NULL) {
            return ENOMEM;
        }
        step->n_names++;
        at += n_name + 1;
    }
    return 0;
}

int saves_record_read(int dir_fd, const char *name, struct saved_step *ret)
{
    char own_name[RECORD_NAME_BYTES];
    struct stat stat;
    struct head head;
    int rc;

    ret->record_fd = openat(dir_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (ret->record_fd < 0) {
        return errno;
    }
    rc = read_all(ret->record_fd, &head, sizeof(head), 0);
    if (rc != 0 || fstat(ret->record_fd, &stat) != 0) {
        return rc != 0 ? rc : errno;
    }
    if (memcmp(head.magic, magic, sizeof(magic)) != 0 ||
        head.state > FS_STEP_SEALED || head.names_bytes > MAX_NAMES_BYTES ||
        head.n_names > head.names_bytes || head.sequence == 0 ||
        head.sequence >= MAX_SEQUENCE) {
        return EBADMSG;
    }
    ret->state = (enum fs_step_state)head.state;
    ret->generation = head.generation;
    ret->step = head.step;
    ret->sequence = head.sequence;
    ret->version = head.version;
    ret->attempt = head.attempt;
    ret->time = stat.st_mtim;
    name_of(ret, own_name);
    if (strcmp(own_name, name) != 0) {
        return EBADMSG;
    }
    return head.n_names > 0 ? read_names(ret, &head) : 0;
}

void saves_step_free(struct saved_step *step)
{
    size_t i;

    if (step == NULL) {
        return;
    }
    if (step->record_fd >= 0) {
        (void)close(step->record_fd); /* written by pwrite, whole */
    }
    for (i = 0; i < step->n_names; i++) {
        free(step->names[i]);
    }
    free(step->names);
    free(step);
}
