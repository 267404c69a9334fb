#include "worker/places.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "worker/agent.h"

static enum base_code make_directory(const char *path, struct base_err *err)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        return base_fail_errno(err, errno, "%s: cannot make it", path);
    }
    return BASE_OK;
}

/* 0700 and 0711 are modes that we give; what has another one is somebody else's,
 * and stays so. */
static enum base_code open_run(const struct worker_options *options,
                               struct base_err *err)
{
    mode_t mode = options->has_user ? 0711 : 0700;
    BASE_AUTO_FD fd = -1;
    struct stat st;

    BASE_TRY(make_directory(options->run, err));
    fd = open(options->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        return base_fail_errno(err, errno, "%s", options->run);
    }
    st.st_mode &= ALLPERMS;
    if (st.st_uid == geteuid() && (st.st_mode == 0700 || st.st_mode == 0711)) {
        return fchmod(fd, mode) == 0
                   ? BASE_OK
                   : base_fail_errno(err, errno, "%s", options->run);
    }
    return options->has_user
               ? base_fail(err, BASE_DENIED,
                           "%s must be ours, mode 0700 or 0711, not %04o",
                           options->run, st.st_mode)
               : BASE_OK; /* who listens there looks at it */
}

static enum base_code open_own(struct worker_agent *agent, struct base_err *err)
{
    BASE_AUTO_MEM char *own = base_path("%s/own", agent->options->run);

    if (own == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    BASE_TRY(make_directory(own, err));
    free(agent->listen);
    agent->listen = base_path("unix:%s/agent.sock", own);
    return agent->listen != NULL ? BASE_OK
                                 : base_fail(err, BASE_NO_MEM, "out of memory");
}

enum base_code worker_places_make(struct worker_agent *agent,
                                  struct base_err *err)
{
    const struct worker_options *options = agent->options;
    BASE_AUTO_MEM char *records = base_path("%s/jobs", options->run);

    agent->socket = base_path("unix:%s/agent.sock", options->run);
    agent->listen = base_path("unix:%s/agent.sock", options->run);
    if (records == NULL || agent->socket == NULL || agent->listen == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    BASE_TRY(open_run(options, err));
    if (options->has_user) {
        BASE_TRY(open_own(agent, err));
    }
    if (strlen(agent->listen) - strlen("unix:") >=
        sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
        return base_fail(err, BASE_BAD_ARG,
                         "%s: too long for a socket's name (--run)",
                         options->run);
    }
    BASE_TRY(make_directory(records, err));
    BASE_TRY(make_directory(options->mounts, err));
    agent->mounts = realpath(options->mounts, NULL); /* as mountinfo says */
    if (agent->mounts == NULL) {
        return base_fail_errno(err, errno, "%s", options->mounts);
    }
    agent->records_fd = open(records, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (agent->records_fd < 0) {
        return base_fail_errno(err, errno, "%s", records);
    }
    return BASE_OK;
}

/* --- the socket ------------------------------------------------------------ */

static const char *path_of(const char *address)
{
    return address + strlen("unix:");
}

enum base_code worker_places_show(const struct worker_agent *agent,
                                  struct base_err *err)
{
    const struct worker_options *options = agent->options;
    const char *made = path_of(agent->listen);
    BASE_AUTO_MEM char *other = NULL;

    if (!options->has_user) {
        return BASE_OK;
    }
    other = base_path("%s/own/link", options->run);
    if (other == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    (void)unlink(other); /* of one that died */
    if (chmod(made, 0600) != 0 ||
        lchown(made, options->uid, options->gid) != 0 ||
        link(made, other) != 0 || rename(other, path_of(agent->socket)) != 0) {
        return base_fail_errno(err, errno, "%s", path_of(agent->socket));
    }
    return BASE_OK;
}

void worker_places_hide(const struct worker_agent *agent)
{
    if (agent->options->has_user) {
        (void)unlink(path_of(agent->socket)); /* a name for nothing */
    }
}
