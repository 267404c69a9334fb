/* retile-coordinator: decides, for a cluster, where jobs run and which versions
 * they have.
 *
 *   persistence <- driver (the core's loop) <- services <- RPC server
 *                     \-> watch (events) ----------^
 *
 * made from left to right, ended from right to left. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/io.h"
#include "base/log.h"
#include "base/notify.h"
#include "coordinator/config.h"
#include "coordinator/driver.h"
#include "coordinator/services.h"
#include "coordinator/watch.h"
#include "proto/check.h"

enum { TOKEN_BYTES = 4096 };

struct coordinator {
    struct coord_config config;
    struct base_buf token;
    struct coord_access access;
    struct persist *persist;
    struct coord_watch *watch;
    struct coord_driver *driver;
    struct coord_services *services;
    struct rpc_server *server;
    sigset_t signals; /* blocked in every thread; waited for in main */
};

static void coordinator_done(struct coordinator *c)
{
    if (c->server != NULL) {
        rpc_server_stop(c->server, c->config.grace_ms);
    }
    coord_driver_free(c->driver);
    coord_watch_free(c->watch);
    rpc_server_free(c->server);
    coord_services_free(c->services);
    if (c->persist != NULL) {
        c->persist->ops->close(c->persist);
    }
    base_buf_done(&c->token);
    coord_config_done(&c->config);
}

static void on_events(void *ctx, const struct persist_event *events, size_t n)
{
    struct coordinator *c = ctx;

    coord_watch_publish(c->watch, events, n);
}

/* Memory is ahead of what is durable: whoever comes next starts from the file. */
static void on_failed(void *ctx, const struct base_err *err)
{
    (void)ctx;
    base_log(BASE_ERROR, "the coordinator ends: it cannot go on", "error",
             err->text);
    _exit(EXIT_FAILURE);
}

static void on_rpc_log(bool is_error, const char *text)
{
    base_log(is_error ? BASE_WARNING : BASE_DEBUG, "the RPC layer says", "text",
             text);
}

static enum base_code read_token(struct coordinator *c, struct base_err *err)
{
    const char *path = c->config.token_file;
    BASE_AUTO_FD fd = -1;
    struct stat st;

    c->access.token = "";
    if (path[0] == '\0') {
        return BASE_OK;
    }
    BASE_TRY(base_io_open(AT_FDCWD, path, O_RDONLY, 0, path, &fd, err));
    if (fstat(fd, &st) != 0) {
        return base_fail_errno(err, errno, "%s", path);
    }
    if ((st.st_mode & 077) != 0) {
        return base_fail(err, BASE_DENIED,
                         "%s: a token is its owner's alone: chmod 600", path);
    }
    BASE_TRY(base_file_read(AT_FDCWD, path, &c->token, err));
    while (c->token.len > 0 && (c->token.ptr[c->token.len - 1] == '\n' ||
                                c->token.ptr[c->token.len - 1] == '\r')) {
        c->token.ptr[--c->token.len] = '\0';
    }
    if (c->token.len == 0) {
        return base_fail(err, BASE_BAD_INPUT, "%s: the token is empty", path);
    }
    c->access.token = c->token.ptr;
    return BASE_OK;
}

static enum base_code listen_on_all(struct coordinator *c, struct base_err *err)
{
    const struct coord_config *config = &c->config;
    const struct rpc_tls tls = {.ca_path = config->tls_ca,
                                .cert_path = config->tls_cert,
                                .key_path = config->tls_key};
    const bool has_tls = config->tls_cert[0] != '\0';

    for (size_t i = 0; config->listen[i] != NULL; i++) {
        struct rpc_address address;
        char port_text[16];
        int port = 0;

        BASE_TRY(rpc_address_parse(config->listen[i], &address, err));
        BASE_TRY(rpc_server_listen(
            c->server, config->listen[i],
            has_tls && address.family != RPC_FAMILY_UNIX ? &tls : NULL, &port,
            err));
        (void)snprintf(port_text, sizeof(port_text), "%d", port); /* fits */
        base_log(BASE_NOTICE, "listening", "address", config->listen[i], "port",
                 port_text, "tls",
                 has_tls && address.family != RPC_FAMILY_UNIX ? "yes" : "no");
    }
    return BASE_OK;
}

static enum base_code start(struct coordinator *c, struct base_err *err)
{
    struct coord_driver_options driver = {.limits = c->config.limits,
                                          .max_calls = c->config.max_calls,
                                          .on_events = on_events,
                                          .on_failed = on_failed,
                                          .ctx = c};
    const struct rpc_server_options server = {
        .check = rpc_check,
        .authorize = coord_access_authorize,
        .authorize_ctx = &c->access,
        .max_message_bytes = RPC_HELLO_MAX_BYTES,
        .send_max_bytes = c->config.max_stream_bytes,
        .send_high_bytes = c->config.max_stream_bytes / 32,
        .max_calls = c->config.limits.max_hosts + c->config.max_watchers +
                     c->config.max_calls};
    uint64_t newest;

    c->access.cluster = c->config.cluster;
    BASE_TRY(read_token(c, err));
    BASE_TRY(persist_sqlite_open(c->config.db, c->config.max_events,
                                 &c->persist, err));
    driver.persist = c->persist;
    BASE_TRY(coord_driver_create(&driver, &c->driver, &newest, err));
    BASE_TRY(coord_watch_start(c->persist, newest, c->config.max_watchers,
                               c->config.stall_ms, &c->watch, err));
    BASE_TRY(coord_services_create(c->driver, c->watch, c->persist, &c->access,
                                   &c->services, err));
    rpc_log_to(on_rpc_log);
    BASE_TRY(rpc_server_create(&server, &c->server, err));
    BASE_TRY(coord_services_add(c->services, c->server, err));
    BASE_TRY(listen_on_all(c, err));
    BASE_TRY(coord_driver_start(c->driver, err));
    return rpc_server_start(c->server, err);
}

/* The settings that may change while we run; certificates are looked at by
 * each handshake. */
static void reload(struct coordinator *c)
{
    COORD_AUTO_CONFIG fresh = {0};
    struct base_err err = {0};
    bool is_done;

    if (coord_config_read(c->config.argc, c->config.argv, &fresh, &is_done,
                          &err) != BASE_OK) {
        base_log(BASE_WARNING, "the settings stay as they were", "error",
                 err.text);
        return;
    }
    base_log_set_level(fresh.log_level);
    base_log(BASE_NOTICE, "the settings were read again");
}

static void log_stats(struct coordinator *c)
{
    const struct coord_driver_stats stats = coord_driver_stats_get(c->driver);
    char steps[24];
    char commits[24];
    char sessions[24];

    (void)snprintf(steps, sizeof(steps), "%llu",
                   (unsigned long long)stats.n_steps); /* fits, as all */
    (void)snprintf(commits, sizeof(commits), "%llu",
                   (unsigned long long)stats.n_commits);
    (void)snprintf(sessions, sizeof(sessions), "%zu", stats.n_sessions);
    base_log(BASE_NOTICE, "stopping", "steps", steps, "commits", commits,
             "sessions", sessions);
}

static void wait_for_end(struct coordinator *c)
{
    int number;

    for (;;) {
        if (sigwait(&c->signals, &number) != 0) {
            continue; /* only EINVAL, which the set rules out */
        }
        if (number == SIGHUP) {
            reload(c);
            continue;
        }
        log_stats(c);
        base_notify("STOPPING=1");
        return;
    }
}

static enum base_code
run(int argc, char **argv, struct coordinator *c, struct base_err *err)
{
    bool is_done;

    BASE_TRY(base_fault_init(err));
    BASE_TRY(coord_config_read(argc, argv, &c->config, &is_done, err));
    if (is_done) {
        return BASE_OK;
    }
    base_log_set_level(c->config.log_level);
    base_log_set_format(c->config.log_format);
    (void)sigemptyset(&c->signals); /* good numbers: none can fail */
    (void)sigaddset(&c->signals, SIGTERM);
    (void)sigaddset(&c->signals, SIGINT);
    (void)sigaddset(&c->signals, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &c->signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    BASE_TRY(start(c, err));
    base_log(BASE_NOTICE, "serving", "db", c->config.db);
    base_notify("READY=1");
    wait_for_end(c);
    return BASE_OK;
}

int main(int argc, char **argv)
{
    struct coordinator c = {0};
    struct base_err err = {0};
    enum base_code code;

    base_log_init("retile-coordinator");
    base_buf_init(&c.token, TOKEN_BYTES);
    code = run(argc, argv, &c, &err);
    coordinator_done(&c);
    if (code == BASE_OK && fflush(stdout) != 0) {
        code = base_fail_errno(&err, errno, "stdout");
    }
    if (code != BASE_OK) {
        (void)fprintf(stderr, "retile-coordinator: %s\n", err.text);
    }
    return base_code_exit(code);
}
