/* The processes and mounts of a trial cluster, as /proc shows them: all that has
 * its directory in its command line.  So nothing has to be remembered, and what a
 * crash has left is found as well. */
#ifndef CLI_DEV_PROC_H
#define CLI_DEV_PROC_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/str.h"

enum cli_dev_role {
    CLI_DEV_LAUNCH, /* in the order in which they are ended */
    CLI_DEV_WORKER,
    CLI_DEV_FUSE,
    CLI_DEV_COORDINATOR,
    CLI_DEV_N_ROLES,
};

struct cli_dev_proc {
    pid_t pid;
    enum cli_dev_role role;
};

typedef BASE_VEC(struct cli_dev_proc) cli_dev_procs;

/* Ours that belong to @dir (absolute, without links), by role.  *ret is to be
 * freed with base_vec_done, also after an error.
 * Errors: BASE_NO_MEM, BASE_IO */
enum base_code cli_dev_find(const char *dir,
                            cli_dev_procs *ret,
                            struct base_err *err) BASE_MUST_CHECK;

/* The first of a role; 0: none. */
pid_t cli_dev_pid(const cli_dev_procs *procs, enum cli_dev_role role);

/* End all of @role that belong to @dir: SIGTERM, after @grace_ms SIGKILL, and wait
 * until they are gone.
 * Errors: BASE_TIMEOUT (one is left), BASE_NO_MEM, BASE_IO */
enum base_code cli_dev_end(const char *dir,
                           enum cli_dev_role role,
                           int grace_ms,
                           struct base_err *err) BASE_MUST_CHECK;

/* Mountpoints below @dir, the innermost first; free with base_names_free.
 * Errors: BASE_NO_MEM, BASE_IO, BASE_LIMIT */
enum base_code cli_dev_mounts(const char *dir,
                              char ***ret,
                              size_t *ret_n,
                              struct base_err *err) BASE_MUST_CHECK;

/* Unmount it, in use or not. */
enum base_code cli_dev_unmount(const char *path,
                               struct base_err *err) BASE_MUST_CHECK;

#endif
