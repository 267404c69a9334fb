/* Votes in staging/: their names, whether they wait, what they say. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/file.h"
#include "store/root_priv.h"
#include "store/vote_priv.h"

#define PREFIX "vote."

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory for a vote");
}

/* --- names -------------------------------------------------------------- */

enum base_code
store_vote_check_name(const char *job, uint64_t number, struct base_err *err)
{
    BASE_TRY(store_job_check(job, err));
    if (strlen(job) > STORE_VOTE_JOB_MAX) {
        return base_fail(err, BASE_BAD_ARG,
                         "job '%s': the name is too long for one that a "
                         "coordinator decides about",
                         job);
    }
    if (number == 0 || number > INT64_MAX) {
        return base_fail(err, BASE_BAD_ARG,
                         "job '%s': %" PRIu64 " is no attempt's number", job,
                         number);
    }
    return BASE_OK;
}

char *store_vote_path(const char *job, uint64_t number, const char *file)
{
    return base_path("staging/" PREFIX "%s.%" PRIu64 "%s", job, number, file);
}

bool store_vote_name_parse(const char *name, struct store_vote *ret)
{
    const char *dot = strrchr(name, '.');
    size_t n_job;

    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0 ||
        dot < name + strlen(PREFIX)) {
        return false;
    }
    name += strlen(PREFIX);
    n_job = (size_t)(dot - name);
    if (n_job > STORE_VOTE_JOB_MAX) {
        return false;
    }
    *ret = (struct store_vote){.step = UINT64_MAX};
    memcpy(ret->job, name, n_job);
    return store_number_parse(dot + 1, &ret->number) &&
           store_vote_check_name(ret->job, ret->number, NULL) == BASE_OK;
}

/* --- does it wait? ------------------------------------------------------ */

static enum base_code is_there(const struct store_root *root,
                               const char *folder,
                               const char *name,
                               bool *ret,
                               struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("%s/%s", folder, name);
    struct stat st;

    if (path == NULL) {
        return no_mem(err);
    }
    *ret = fstatat(store_root_fd(root), path, &st, AT_SYMLINK_NOFOLLOW) == 0;
    return *ret || errno == ENOENT || errno == ENOTDIR
               ? BASE_OK
               : base_fail_errno(err, errno, "%s: cannot stat", path);
}

/* Publishing takes `version` away first, then the vote. */
enum base_code store_vote_is_cast(const struct store_root *root,
                                  const char *path,
                                  bool *ret,
                                  struct base_err *err)
{
    bool has_vote = false;
    bool has_version = false;

    BASE_TRY(is_there(root, path, "vote", &has_vote, err));
    BASE_TRY(is_there(root, path, "version", &has_version, err));
    *ret = has_vote && has_version;
    return BASE_OK;
}

enum base_code store_vote_clear(const struct store_root *root,
                                const char *path,
                                struct base_err *err)
{
    bool is_cast = false;
    bool is_held = false;
    bool is_published = false;
    struct store_vote vote;
    BASE_AUTO_MEM char *versions = NULL;

    BASE_TRY(store_vote_is_cast(root, path, &is_cast, err));
    if (is_cast) {
        return BASE_OK;
    }
    BASE_TRY(store_staging_is_held(root, path, &is_held, err));
    if (is_held) { /* a change that copies */
        return BASE_OK;
    }
    BASE_TRY(is_there(root, path, "vote", &is_published, err));
    if (is_published &&
        store_vote_name_parse(path + strlen("staging/"), &vote)) {
        /* It is the last that tells of a rename that need not be on disk. */
        versions = base_path("jobs/%s/versions", vote.job);
        if (versions == NULL) {
            return no_mem(err);
        }
        BASE_TRY(base_dir_sync(store_root_fd(root), versions, err));
    }
    return base_dir_remove(store_root_fd(root), path, err);
}

/* --- what it says ------------------------------------------------------- */

enum base_code store_vote_read(const struct store_root *root,
                               const char *job,
                               uint64_t number,
                               struct store_vote_file *ret,
                               struct base_err *err)
{
    BASE_AUTO_MEM char *path = store_vote_path(job, number, "/vote");
    BASE_AUTO_BUF text;
    enum base_code code;

    base_buf_init(&text, STORE_VOTE_MAX_BYTES);
    if (path == NULL) {
        return no_mem(err);
    }
    code = base_file_read(store_root_fd(root), path, &text, err);
    if (code == BASE_LIMIT) {
        return base_wrap(err, BASE_BAD_INPUT, "a vote");
    }
    BASE_TRY(code);
    BASE_TRY(store_vote_parse(base_buf_str(&text), path, ret, err));
    if (strcmp(ret->vote.job, job) != 0 || ret->vote.number != number) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s: is that of job '%s', attempt %" PRIu64, path,
                         ret->vote.job, ret->vote.number);
    }
    return BASE_OK;
}

/* As what was it made? */
static enum base_code check_made(const struct store_attempt *attempt,
                                 const char *job,
                                 const char *origin,
                                 uint64_t step,
                                 const struct store_vote *made,
                                 struct base_err *err)
{
    if (strcmp(made->origin, origin) == 0 &&
        (step == UINT64_MAX || step == made->step) &&
        made->generation == attempt->generation) {
        return BASE_OK;
    }
    return base_fail(err, BASE_CHANGED,
                     "job '%s': attempt %" PRIu64
                     " was made already, as a %s for generation %" PRIu64,
                     job, attempt->number, made->origin, made->generation);
}

/* The version that it has become; *ret_is_there false: none. */
static enum base_code read_published(const struct store_root *root,
                                     const char *job,
                                     const struct store_attempt *attempt,
                                     struct store_vote *ret,
                                     bool *ret_is_there,
                                     struct base_err *err)
{
    BASE_AUTO(store_version) version = NULL;
    const struct ptc_manifest_head *head;
    enum base_code code;

    code =
        store_version_open_manifest(root, job, attempt->number, &version, err);
    *ret_is_there = code == BASE_OK;
    if (code != BASE_OK) {
        return code == BASE_NOT_FOUND ? BASE_OK : code;
    }
    head = ptc_manifest_head(store_version_manifest(version));
    *ret = (struct store_vote){.generation = attempt->generation, /* not kept */
                               .step = head->step};
    (void)snprintf(ret->origin, sizeof(ret->origin), "%.*s",
                   BASE_STR_FMT(head->origin)); /* at most 32 bytes */
    return BASE_OK;
}

/* Who cast it may have died before it was on disk. */
static enum base_code sync_vote(const struct store_root *root,
                                const char *job,
                                uint64_t number,
                                struct base_err *err)
{
    BASE_AUTO_MEM char *path = store_vote_path(job, number, "");

    if (path == NULL) {
        return no_mem(err);
    }
    BASE_TRY(base_dir_sync(store_root_fd(root), path, err));
    return base_dir_sync(store_root_fd(root), "staging", err);
}

enum base_code store_vote_find(const struct store_root *root,
                               const char *job,
                               const struct store_attempt *attempt,
                               const char *origin,
                               uint64_t step,
                               uint64_t *ret_number,
                               struct base_err *err)
{
    STORE_AUTO_VOTE_FILE file = {0};
    bool is_made = true;
    enum base_code code;

    *ret_number = 0;
    if (attempt == NULL || attempt->number == 0) {
        return BASE_OK;
    }
    BASE_TRY(store_vote_check_name(job, attempt->number, err));
    code = store_vote_read(root, job, attempt->number, &file, err);
    if (code == BASE_OK) {
        code = sync_vote(root, job, attempt->number, err);
    }
    if (code == BASE_NOT_FOUND) { /* it may have been published meanwhile */
        code = read_published(root, job, attempt, &file.vote, &is_made, err);
    }
    BASE_TRY(code);
    if (is_made) {
        BASE_TRY(check_made(attempt, job, origin, step, &file.vote, err));
        *ret_number = attempt->number;
    }
    return BASE_OK;
}
