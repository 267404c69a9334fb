/* What lies in a store: jobs, and their versions. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/root.h"
#include "store/root_priv.h"

enum base_code store_root_jobs(const struct store_root *root,
                               char ***ret_names,
                               size_t *ret_n,
                               struct base_err *err)
{
    STORE_AUTO_LISTING all = {0};
    size_t n = 0;

    BASE_TRY(store_list(root, "jobs", &all, err));
    for (size_t i = 0; i < all.n; i++) {
        if (store_job_check(all.names[i], NULL) == BASE_OK) {
            char *name = all.names[i];

            all.names[i] = all.names[n];
            all.names[n++] = name;
        }
    }
    while (all.n > n) {
        free(all.names[--all.n]);
    }
    *ret_names = base_steal(&all.names);
    *ret_n = n;
    all.n = 0;
    return BASE_OK;
}

/* "no job 'x'; there are: a, b" */
static enum base_code job_missing(const struct store_root *root,
                                  const char *job,
                                  struct base_err *err)
{
    STORE_AUTO_LISTING jobs = {0};
    BASE_AUTO_BUF names;

    base_buf_init(&names, 160);
    BASE_TRY(store_root_jobs(root, &jobs.names, &jobs.n, err));
    for (size_t i = 0; i < jobs.n; i++) {
        (void)base_buf_addf(&names, "%s%s", i > 0 ? ", " : "", jobs.names[i]);
    }
    return base_fail(err, BASE_NOT_FOUND, "%s: no job '%s'%s%.*s%s",
                     store_root_path(root), job,
                     jobs.n > 0 ? "; there is: " : "; there is none yet",
                     (int)names.len, names.len > 0 ? names.ptr : "",
                     names.failed != BASE_OK ? ", ..." : "");
}

static int number_cmp(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;

    return (*x > *y) - (*x < *y);
}

/* A job whose first version was never published may have no versions/. */
static enum base_code job_check_made(const struct store_root *root,
                                     const char *job,
                                     struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("jobs/%s", job);
    struct stat st;

    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "job '%s': cannot list", job);
    }
    if (fstatat(store_root_fd(root), path, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        return BASE_OK;
    }
    return errno == ENOENT
               ? job_missing(root, job, err)
               : base_fail_errno(err, errno, "%s: cannot stat", path);
}

enum base_code store_root_versions(const struct store_root *root,
                                   const char *job,
                                   uint64_t **ret,
                                   size_t *ret_n,
                                   struct base_err *err)
{
    STORE_AUTO_LISTING all = {0};
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    BASE_AUTO_MEM char *path = NULL;
    enum base_code code;
    size_t n = 0;

    BASE_TRY(store_job_check(job, err));
    path = base_path("jobs/%s/versions", job);
    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "job '%s': cannot list", job);
    }
    code = store_list(root, path, &all, err);
    if (code == BASE_NOT_FOUND) {
        code = job_check_made(root, job, err);
    }
    BASE_TRY(code);
    numbers = calloc(all.n + 1, sizeof(*numbers));
    if (numbers == NULL) {
        return base_fail(err, BASE_NO_MEM, "job '%s': cannot list", job);
    }
    for (size_t i = 0; i < all.n; i++) {
        n += store_number_parse(all.names[i], &numbers[n]);
    }
    qsort(numbers, n, sizeof(*numbers), number_cmp);
    *ret = base_steal(&numbers);
    *ret_n = n;
    return BASE_OK;
}
