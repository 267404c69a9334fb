#include "coordinator/config.h"

#include <inttypes.h>

#define AT(kind, field) BASE_SETTING_AT(kind, struct coord_config, field)
#define TEXT(field)     AT(TEXT, field)
#define NUMBER(field, min_, max_)                                              \
    AT(NUMBER, field), .min = (min_), .max = (max_)
/* Its default is the core's. */
#define LIMIT(field, min, max) NUMBER(limits.field, min, max)

/* clang-format off */
static const struct base_setting keys[] = {
    {.name = "listen", AT(LIST, listen), .letter = 'l', .value = "ADDRESS",
     .text = "unix:/run/retile-coordinator/coordinator.sock",
     .help = "unix:PATH or HOST:PORT; several times for several"},
    {.name = "db", TEXT(db), .value = "FILE",
     .text = "/var/lib/retile-coordinator/coordinator.db",
     .help = "where the state is kept (SQLite)"},
    {.name = "tls-cert", TEXT(tls_cert), .text = "", .value = "FILE",
     .help = "our certificate, PEM"},
    {.name = "tls-key", TEXT(tls_key), .text = "", .value = "FILE",
     .help = "its key"},
    {.name = "tls-ca", TEXT(tls_ca), .text = "", .value = "FILE",
     .help = "who signs the clients' certificates"},
    {.name = "token-file", TEXT(token_file), .text = "", .value = "FILE",
     .help = "what clients without a certificate must show"},
    {.name = "cluster", TEXT(cluster), .text = "", .value = "NAME",
     .help = "the CLUSTER in certificates; any when it is empty"},
    {BASE_SETTING_LOG_LEVEL(struct coord_config, log_level),
     .is_reloaded = true},
    {BASE_SETTING_LOG_FORMAT(struct coord_config, log_format)},
    {.name = "max-events", NUMBER(max_events, 1, 100000000), .text = "100000",
     .value = "N", .help = "events that a watch can resume from"},
    {.name = "max-watchers", NUMBER(max_watchers, 1, 1000000), .text = "4096",
     .value = "N", .help = "watches at a time"},
    {.name = "stall-ms", NUMBER(stall_ms, 100, 86400000), .text = "30000",
     .value = "MS",
     .help = "how long a watcher may take nothing; then it is ended"},
    {.name = "max-calls", NUMBER(max_calls, 1, 1000000), .text = "4096",
     .value = "N", .help = "calls that wait for the core at a time"},
    {.name = "max-stream-bytes", NUMBER(max_stream_bytes, 1 << 20, 1 << 30),
     .text = "8388608", .value = "BYTES",
     .help = "that wait for an agent; then it is ended"},
    {.name = "grace-ms", NUMBER(grace_ms, 0, 600000), .text = "5000",
     .value = "MS", .help = "how long calls may still take when it stops"},
    {.name = "max-jobs", LIMIT(max_jobs, 1, 65536), .value = "N",
     .help = "jobs"},
    {.name = "max-hosts", LIMIT(max_hosts, 1, 65536), .value = "N",
     .help = "hosts"},
    {.name = "max-devices", LIMIT(max_devices, 1, 1024), .value = "N",
     .help = "devices of a host"},
    {.name = "max-versions", LIMIT(max_versions, 3, 4096), .value = "N",
     .help = "versions of a job, pinned ones too"},
    {.name = "max-requests", LIMIT(max_requests, 1, 65536), .value = "N",
     .help = "answers kept for calls that are repeated"},
    {.name = "history", LIMIT(history, 1, 1024), .value = "N",
     .help = "generations of a job that are kept"},
    {.name = "lease-ms", LIMIT(lease_ms, 100, 86400000), .value = "MS",
     .help = "a host that is not heard of for so long is lost"},
    {.name = "renew-ms", LIMIT(renew_ms, 10, 86400000), .value = "MS",
     .help = "how often a host is to renew"},
    {.name = "make-wait-ms", LIMIT(make_wait_ms, 100, 604800000), .value = "MS",
     .help = "for a version to be made"},
    {.name = "start-wait-ms", LIMIT(start_wait_ms, 100, 86400000),
     .value = "MS", .help = "for a generation to be prepared"},
    {.name = "backoff-ms", LIMIT(backoff_ms, 0, 86400000), .value = "MS",
     .help = "before the first restart; doubles with each"},
    {.name = "max-backoff-ms", LIMIT(max_backoff_ms, 0, 86400000),
     .value = "MS", .help = "before any restart"},
};
/* clang-format on */

static const struct base_settings_table table = {
    .program = "retile-coordinator",
    .usage = "[--listen ADDRESS]... [--db FILE] [options]",
    .about =
        "Decide, for a cluster, where jobs run and which versions they have."
        "\nAgents (retile-worker) and people (retile) call it; on a Unix"
        "\nsocket or loopback whoever can reach it, elsewhere with"
        "\ncertificates of both sides.  One per cluster.  Every option is a"
        "\nkey of --config's file, and RETILE_COORDINATOR_KEY in the"
        "\nenvironment; options win over it, and it over the file.",
    .example =
        "retile-coordinator --listen unix:/tmp/r/c.sock --db /tmp/r/c.db\n"
        "retile-coordinator --listen 0.0.0.0:7070 --tls-cert c.pem "
        "--tls-key c.key --tls-ca ca.pem",
    .keys = keys,
    .n_keys = sizeof(keys) / sizeof(keys[0]),
};

static enum base_code check_together(const struct coord_config *config,
                                     const struct base_settings *settings,
                                     struct base_err *err)
{
    const bool has_cert = config->tls_cert[0] != '\0';
    const bool has_key = config->tls_key[0] != '\0';
    const bool has_ca = config->tls_ca[0] != '\0';

    if (config->db[0] == '\0') {
        return base_settings_fail(settings, "db", "is not a file's name", err);
    }
    if (has_cert != has_key || has_key != has_ca) {
        return base_fail(err, BASE_BAD_ARG,
                         "tls-cert, tls-key and tls-ca go together");
    }
    if (config->limits.renew_ms * UINT64_C(2) > config->limits.lease_ms) {
        return base_fail(err, BASE_BAD_ARG,
                         "renew-ms %" PRIu32 " is more than half of lease-ms "
                         "%" PRIu32 ": one lost message would lose a host",
                         config->limits.renew_ms, config->limits.lease_ms);
    }
    return BASE_OK;
}

void coord_config_done(struct coord_config *config)
{
    base_arena_free(config->arena);
    *config = (struct coord_config){0};
}

enum base_code coord_config_read(int argc,
                                 char **argv,
                                 struct coord_config *config,
                                 bool *ret_is_done,
                                 struct base_err *err)
{
    COORD_AUTO_CONFIG fresh = {.arena =
                                   base_arena_create(BASE_SETTINGS_ARENA_BYTES),
                               .argc = argc,
                               .argv = argv};
    const struct base_settings *settings = NULL;

    if (fresh.arena == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot read the settings");
    }
    coord_limits_init(&fresh.limits);
    BASE_TRY(base_settings_read(&table, argc, argv, fresh.arena, &fresh,
                                &settings, err));
    if (settings != NULL) {
        BASE_TRY(check_together(&fresh, settings, err));
        coord_config_done(config);
        *config = fresh;
        fresh.arena = NULL;
    }
    *ret_is_done = settings == NULL;
    return BASE_OK;
}
