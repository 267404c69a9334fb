/* The settings of retile-coordinator: one table of key, type, default, unit, help.
 *
 *   defaults < FILE of --config < RETILE_COORDINATOR_KEY < options
 *
 * Text belongs to the configuration.  Owner: main. */
#ifndef COORDINATOR_CONFIG_H
#define COORDINATOR_CONFIG_H

#include <stdbool.h>
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "coordinator/core/core.h"

enum { COORD_CONFIG_LISTEN = 16 };

struct coord_config {
    struct coord_limits limits;
    const char *listen[COORD_CONFIG_LISTEN + 1]; /* NULL ends it */
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
    unsigned char *origins; /* of each key */
    char **argv;            /* to read it again */
    int argc;
};

void coord_config_done(struct coord_config *config);
#define COORD_AUTO_CONFIG                                                      \
    __attribute__((cleanup(coord_config_done))) struct coord_config

/* What a command line asks for beside settings. */
struct coord_config_asks {
    bool help;
    bool version;
    bool print;
};

/* Read all of it; *config is to be zeroed or as this left it.  @argv is borrowed
 * for the configuration's life.
 * Errors: BASE_BAD_ARG    an option or a variable (named)
 *         BASE_BAD_INPUT  the file: "FILE:LINE: ..."; the nearest key is named
 *         BASE_NOT_FOUND, BASE_IO, BASE_NO_MEM */
enum base_code coord_config_read(int argc,
                                 char **argv,
                                 struct coord_config *config,
                                 struct coord_config_asks *ret_asks,
                                 struct base_err *err) BASE_MUST_CHECK;

/* Each key, its value and where it is from, as YAML that can be read again. */
void coord_config_print(const struct coord_config *config, FILE *out);
void coord_config_help(FILE *out);

#endif
