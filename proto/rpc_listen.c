/* Where a server listens. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/file.h"
#include "proto/rpc_server_impl.h"

/* Who may enter the directory may connect. */
static enum base_code check_directory(const char *path, struct base_err *err)
{
    const char *slash = strrchr(path, '/');
    BASE_AUTO_MEM char *directory =
        slash == NULL
            ? strdup(".")
            : strndup(path, slash == path ? 1 : (size_t)(slash - path));
    struct stat st;

    if (directory == NULL) {
        return base_fail(err, BASE_NO_MEM, "socket %s", path);
    }
    if (stat(directory, &st) != 0) {
        return base_fail_errno(err, errno, "socket's directory %s", directory);
    }
    if ((st.st_mode & 077) != 0 || (st.st_uid != geteuid() && st.st_uid != 0)) {
        return base_fail(err, BASE_DENIED,
                         "socket's directory %s is open to others: it must be "
                         "ours, mode 0700, not %03o",
                         directory, st.st_mode & 0777);
    }
    return BASE_OK;
}

/* A socket that nobody listens on was left by a process that died. */
static enum base_code check_socket(const char *path, struct base_err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    BASE_AUTO_FD fd = -1;
    struct stat st;

    if (lstat(path, &st) != 0) {
        return errno == ENOENT ? BASE_OK
                               : base_fail_errno(err, errno, "socket %s", path);
    }
    if (!S_ISSOCK(st.st_mode)) {
        return base_fail(err, BASE_EXISTS, "%s is there and no socket", path);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return base_fail_errno(err, errno, "socket %s", path);
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ||
        errno == EAGAIN) { /* its queue is full */
        return base_fail(err, BASE_EXISTS, "a process listens on %s already",
                         path);
    }
    if (errno != ECONNREFUSED) {
        return base_fail_errno(err, errno, "socket %s", path);
    }
    if (unlink(path) != 0) {
        return base_fail_errno(err, errno, "stale socket %s", path);
    }
    return BASE_OK;
}

/* Core says only that it cannot: try what it tried, for the cause. */
static enum base_code tell_why(const struct rpc_address *address,
                               const char *text,
                               const struct rpc_tls *tls,
                               struct base_err *err)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char port[8];
    int errnum = 0;
    int rc;

    if (address->family == RPC_FAMILY_UNIX) {
        return base_fail(err, BASE_IO, "cannot listen on %s", text);
    }
    (void)snprintf(port, sizeof(port), "%u", address->port);
    rc = getaddrinfo(address->host, port, &hints, &found);
    if (rc != 0) {
        return base_fail(err, BASE_NOT_FOUND, "cannot listen on %s: %s", text,
                         gai_strerror(rc));
    }
    for (struct addrinfo *at = found; at != NULL; at = at->ai_next) {
        BASE_AUTO_FD fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        const int yes = 1;

        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
        if (fd < 0 || bind(fd, at->ai_addr, at->ai_addrlen) != 0) {
            errnum = errno;
        }
    }
    freeaddrinfo(found);
    if (errnum == EADDRINUSE) {
        return base_fail(err, BASE_EXISTS,
                         "cannot listen on %s: the address is in use", text);
    }
    if (errnum == 0 && tls != NULL) {
        return base_fail(err, BASE_BAD_INPUT,
                         "cannot listen on %s: %s and %s do not fit, or are no "
                         "certificate and key",
                         text, tls->cert_path, tls->key_path);
    }
    return base_fail_errno(err, errnum != 0 ? errnum : EIO,
                           "cannot listen on %s", text);
}

enum base_code rpc_server_listen(struct rpc_server *server,
                                 const char *address,
                                 const struct rpc_tls *tls,
                                 int *ret_port,
                                 struct base_err *err)
{
    struct rpc_address parsed;
    grpc_server_credentials *credentials = NULL;
    int port;

    BASE_TRY(rpc_address_parse(address, &parsed, err));
    if (parsed.family == RPC_FAMILY_UNIX) {
        if (tls != NULL) {
            return base_fail(
                err, BASE_BAD_ARG,
                "%s: a socket's clients are known by its directory, "
                "not by certificates",
                address);
        }
        BASE_TRY(check_directory(parsed.host, err));
        BASE_TRY(check_socket(parsed.host, err));
    } else if (!parsed.is_loopback && tls == NULL) {
        return base_fail(err, BASE_DENIED,
                         "will not listen on %s without certificates: others "
                         "can reach it",
                         address);
    }
    if (tls != NULL) {
        BASE_TRY(rpc_tls_server(tls, &server->reloaders, &credentials, err));
    } else {
        credentials = grpc_insecure_server_credentials_create();
    }
    port = grpc_server_add_http2_port(
        server->core, rpc_address_uri(&parsed, address).text, credentials);
    grpc_server_credentials_release(credentials);
    if (port == 0) {
        return tell_why(&parsed, address, tls, err);
    }
    if (ret_port != NULL) {
        *ret_port = parsed.family == RPC_FAMILY_UNIX ? 0 : port;
    }
    return BASE_OK;
}
