/* The settings of retile-coordinator: base/settings.h, with our table.
 * Text belongs to the configuration.  Owner: main. */
#ifndef COORDINATOR_CONFIG_H
#define COORDINATOR_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/settings.h"
#include "coordinator/core/core.h"

struct coord_config {
    struct coord_limits limits;
    const char *listen[BASE_SETTINGS_LIST + 1]; /* NULL ends it */
    const char *db;
    const char *tls_cert; /* empty: none, as all below */
    const char *tls_key;
    const char *tls_ca;
    const char *token_file;
    const char *cluster;
    enum base_level log_level;
    enum base_log_format log_format;
    uint32_t max_events;
    uint32_t max_watchers;
    uint32_t stall_ms;
    uint32_t max_calls;
    uint32_t max_stream_bytes;
    uint32_t grace_ms;
    struct base_arena *arena;
    char **argv; /* to read it again */
    int argc;
};

void coord_config_done(struct coord_config *config);
#define COORD_AUTO_CONFIG                                                      \
    __attribute__((cleanup(coord_config_done))) struct coord_config

/* Read all of it; *config is to be zeroed or as this left it.  @argv is borrowed
 * for the configuration's life.
 * *ret_is_done: --help, --version or --print-config was answered; *config is as
 * it was.
 * Errors: as base_settings_read(); BASE_BAD_ARG  what does not go together */
enum base_code coord_config_read(int argc,
                                 char **argv,
                                 struct coord_config *config,
                                 bool *ret_is_done,
                                 struct base_err *err) BASE_MUST_CHECK;

#endif
