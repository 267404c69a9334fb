/* fsck, first part: do the root, jobs/ and every version's directory have only
 * what belongs there?  Versions that open are kept, and thereby held. */
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "store/check_priv.h"
#include "store/root_priv.h"
#include "store/vote_priv.h"

static bool is_kind(const struct check *check, const char *path, mode_t kind)
{
    struct stat st;

    return fstatat(store_root_fd(check->root), path, &st,
                   AT_SYMLINK_NOFOLLOW) == 0 &&
           (st.st_mode & S_IFMT) == kind;
}

static bool
is_one_of(const char *name, const char *const *names, size_t n_names)
{
    for (size_t i = 0; i < n_names; i++) {
        if (strcmp(name, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Tell what @path has besides @names. */
static enum base_code check_entries(struct check *check,
                                    const char *path,
                                    const char *const *names,
                                    size_t n_names,
                                    struct base_err *err)
{
    STORE_AUTO_LISTING all = {0};

    BASE_TRY(check_list(check, path, &all, err));
    for (size_t i = 0; i < all.n; i++) {
        if (!is_one_of(all.names[i], names, n_names)) {
            check_tell(check, "%s%s%s: does not belong to the store",
                       strcmp(path, ".") == 0 ? "" : path,
                       strcmp(path, ".") == 0 ? "" : "/", all.names[i]);
        }
    }
    return BASE_OK;
}

static enum base_code check_root(struct check *check, struct base_err *err)
{
    static const char *const names[] = {"id",   "lock",    "blobs", "tables",
                                        "jobs", "staging", "owner"};
    enum { N_NEEDED = 6 }; /* of these */

    BASE_TRY(check_entries(check, ".", names, sizeof(names) / sizeof(names[0]),
                           err));
    for (size_t i = 0; i < N_NEEDED; i++) {
        if (!is_kind(check, names[i], i < 2 ? S_IFREG : S_IFDIR)) {
            check_tell(check, "%s: is missing, or no %s", names[i],
                       i < 2 ? "regular file" : "directory");
        }
    }
    return BASE_OK;
}

/* What @name, in staging/ at @path, is: has it no owner, neither a mount or a
 * change that lives, nor, a vote, one who decides about it?  A change holds the
 * store's lock, then perhaps its own, then the store's again; so who holds
 * neither in this order, and still has a directory, is dead. */
static enum base_code is_left(const struct check *check,
                              const char *name,
                              const char *path,
                              bool *ret,
                              struct base_err *err)
{
    bool is_held = true;
    bool is_busy = true;
    bool is_cast = false;
    struct store_vote vote;
    struct stat st;

    *ret = false;
    BASE_TRY(store_staging_is_held(check->root, path, &is_held, err));
    if (is_held) {
        return BASE_OK;
    }
    BASE_TRY(store_root_is_busy(check->root, &is_busy, err));
    if (is_busy) {
        return BASE_OK;
    }
    if (store_vote_name_parse(name, &vote)) {
        BASE_TRY(store_vote_is_cast(check->root, path, &is_cast, err));
    }
    *ret = !is_cast && fstatat(store_root_fd(check->root), path, &st,
                               AT_SYMLINK_NOFOLLOW) == 0;
    return BASE_OK;
}

static enum base_code check_staging(struct check *check, struct base_err *err)
{
    STORE_AUTO_LISTING left = {0};
    bool is_busy;

    BASE_TRY(check_list(check, "staging", &left, err));
    BASE_TRY(store_root_is_busy(check->root, &is_busy, err));
    for (size_t i = 0; i < left.n && !is_busy; i++) {
        BASE_AUTO_MEM char *path = base_path("staging/%s", left.names[i]);
        bool is_dead = false;

        if (path == NULL) {
            return base_fail(err, BASE_NO_MEM, "staging: cannot check");
        }
        BASE_TRY(is_left(check, left.names[i], path, &is_dead, err));
        if (is_dead) {
            check_tell(check,
                       "%s: left by a change that died; the next change "
                       "removes it",
                       path);
        }
    }
    return BASE_OK;
}

/* Keep an open version for what is looked at later; taken. */
static enum base_code keep_version(struct check *check,
                                   struct store_version **version,
                                   struct base_err *err)
{
    struct check_version item = {.version = *version};

    if (!base_vec_push(&check->versions, item)) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot check",
                         store_version_label(*version));
    }
    *version = NULL;
    return BASE_OK;
}

/* A manifest that was replaced: as long as it is there, readers may use it. */
static enum base_code check_replaced(struct check *check,
                                     const char *job,
                                     uint64_t number,
                                     uint64_t k,
                                     struct base_err *err)
{
    BASE_AUTO(store_version) v = NULL;
    enum base_code code =
        store_version_open_replaced(check->root, job, number, k, &v, err);

    if (code == BASE_NOT_FOUND) {
        return BASE_OK; /* swept, or released, meanwhile */
    }
    if (check_is_finding(code)) {
        check_tell(check, "%s", err->text);
        return BASE_OK;
    }
    BASE_TRY(code);
    return keep_version(check, &v, err);
}

/* What a version's directory has. */
static enum base_code check_files(struct check *check,
                                  const char *job,
                                  uint64_t number,
                                  struct base_err *err)
{
    static const char *const names[] = {"manifest", "lock", "pin"};
    BASE_AUTO_MEM char *path = store_version_path(job, number, "");
    STORE_AUTO_LISTING all = {0};

    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot check", job);
    }
    BASE_TRY(check_list(check, path, &all, err));
    for (size_t i = 0; i < all.n; i++) {
        uint64_t k;

        if (store_replaced_parse(all.names[i], &k)) {
            BASE_TRY(check_replaced(check, job, number, k, err));
        } else if (!is_one_of(all.names[i], names,
                              sizeof(names) / sizeof(names[0]))) {
            check_tell(check, "%s/%s: does not belong to the store", path,
                       all.names[i]);
        }
    }
    return BASE_OK;
}

static enum base_code check_version(struct check *check,
                                    const char *job,
                                    uint64_t number,
                                    struct base_err *err)
{
    BASE_AUTO(store_version) v = NULL;
    BASE_AUTO_MEM char *why = NULL;
    enum base_code code =
        store_version_open_manifest(check->root, job, number, &v, err);

    if (code == BASE_NOT_FOUND) {
        return BASE_OK; /* released meanwhile */
    }
    if (check_is_finding(code)) {
        check_tell(check, "%s", err->text);
        return BASE_OK;
    }
    BASE_TRY(code);
    code = store_version_pin_why(check->root, job, number, &why, err);
    if (check_is_finding(code)) {
        check_tell(check, "%s", err->text);
    } else {
        BASE_TRY(code);
    }
    BASE_TRY(keep_version(check, &v, err)); /* held from here on */
    return check_files(check, job, number, err);
}

/* A job's `last`, when there is one. */
static enum base_code
check_last(struct check *check, const char *job, struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("jobs/%s/last", job);
    BASE_AUTO_BUF text;
    enum base_code code;
    uint64_t number;

    base_buf_init(&text, 32);
    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot check", job);
    }
    code = base_file_read(store_root_fd(check->root), path, &text, err);
    if (code == BASE_NOT_FOUND) {
        return BASE_OK;
    }
    if (check_is_finding(code)) {
        check_tell(check, "%s", err->text);
        return BASE_OK;
    }
    BASE_TRY(code);
    if (text.len > 0 && text.ptr[text.len - 1] == '\n') {
        text.ptr[--text.len] = '\0';
    }
    if (strlen(text.ptr) != text.len ||
        !store_number_parse(text.ptr, &number)) {
        check_tell(check, "%s: is not a number", path);
    }
    return BASE_OK;
}

static enum base_code
check_job(struct check *check, const char *job, struct base_err *err)
{
    static const char *const names[] = {"versions", "last"};
    BASE_AUTO_MEM char *path = base_path("jobs/%s", job);
    BASE_AUTO_MEM char *versions = base_path("jobs/%s/versions", job);
    STORE_AUTO_LISTING all = {0};

    if (path == NULL || versions == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot check", job);
    }
    if (store_job_check(job, NULL) != BASE_OK ||
        !is_kind(check, path, S_IFDIR)) {
        check_tell(check, "%s: is no job", path);
        return BASE_OK;
    }
    BASE_TRY(check_entries(check, path, names, sizeof(names) / sizeof(names[0]),
                           err));
    BASE_TRY(check_last(check, job, err));
    BASE_TRY(check_list(check, versions, &all, err));
    for (size_t i = 0; i < all.n; i++) {
        uint64_t number;

        if (!store_number_parse(all.names[i], &number)) {
            check_tell(check, "%s/%s: is no version", versions, all.names[i]);
            continue;
        }
        BASE_TRY(check_version(check, job, number, err));
    }
    return BASE_OK;
}

/* A vote's version, which nobody removes while it is open. */
static enum base_code check_vote(struct check *check,
                                 const struct store_vote *vote,
                                 struct base_err *err)
{
    BASE_AUTO(store_version) v = NULL;
    enum base_code code;

    if (vote->is_damaged) {
        check_tell(check,
                   "job '%s', attempt %" PRIu64 ": its vote is malformed",
                   vote->job, vote->number);
        return BASE_OK;
    }
    code = store_vote_open(check->root, vote->job, vote->number, &v, err);
    if (code == BASE_NOT_FOUND) {
        return BASE_OK; /* decided meanwhile */
    }
    if (check_is_finding(code)) {
        check_tell(check, "%s", err->text);
        return BASE_OK;
    }
    BASE_TRY(code);
    if (!base_digest_eq(ptc_manifest_digest(store_version_manifest(v)),
                        vote->manifest)) {
        check_tell(check, "%s: its manifest is not the one voted for",
                   store_version_label(v));
    }
    return keep_version(check, &v, err);
}

static enum base_code check_votes(struct check *check, struct base_err *err)
{
    BASE_AUTO_MEM struct store_vote *votes = NULL;
    size_t n = 0;
    enum base_code code = store_vote_list(check->root, &votes, &n, err);

    if (code == BASE_NOT_FOUND) { /* no staging/: told */
        return BASE_OK;
    }
    BASE_TRY(code);
    for (size_t i = 0; i < n; i++) {
        BASE_TRY(check_vote(check, &votes[i], err));
    }
    return BASE_OK;
}

/* Votes come last: a blob that a version names, too, is told with that. */
enum base_code check_tree(struct check *check, struct base_err *err)
{
    STORE_AUTO_LISTING jobs = {0};

    BASE_TRY(check_root(check, err));
    BASE_TRY(check_staging(check, err));
    BASE_TRY(check_list(check, "jobs", &jobs, err));
    for (size_t i = 0; i < jobs.n; i++) {
        BASE_TRY(check_job(check, jobs.names[i], err));
    }
    return check_votes(check, err);
}
