/* The settings of a daemon: one table of keys, read from four sources.
 *
 *   defaults < FILE of --config < PROGRAM_KEY < --key
 *
 * FILE holds `key: value` lines (YAML).  The variable of `max-jobs` of
 * retile-coordinator is RETILE_COORDINATOR_MAX_JOBS, FILE may stand in
 * RETILE_COORDINATOR_CONFIG.  A key without a value in FILE, and an empty
 * variable, say nothing.
 *
 * Each key fills a field of the program's struct.  The program adds what only it
 * knows, and tells what is wrong with base_settings_fail. */
#ifndef BASE_SETTINGS_H
#define BASE_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/log.h"
#include "base/str.h"

enum {
    BASE_SETTINGS_KEYS = 64,              /* of a table, at most */
    BASE_SETTINGS_LIST = 16,              /* texts of a list */
    BASE_SETTINGS_ARENA_BYTES = 16 << 20, /* enough for any FILE that is read */
};

enum base_setting_type {
    BASE_SETTING_TEXT,   /* const char * */
    BASE_SETTING_NUMBER, /* uint32_t */
    BASE_SETTING_CHOICE, /* an enum, from 0 */
    BASE_SETTING_LIST,   /* const char *[BASE_SETTINGS_LIST + 1], NULL ends it;
                          * "A,B", or a list of YAML's; of one key at most */
};

struct base_setting {
    const char *name;
    const char *text;         /* the default; NULL: none, of a number what
                               * its field holds */
    const char *value;        /* what --help calls it: "FILE", the unit */
    const char *help;         /* one line; of a choice: what it may be */
    const char *variable;     /* NULL: PROGRAM_KEY */
    const char *const *names; /* of a choice, NULL ends them */
    size_t at;                /* of the field, in the program's struct */
    enum base_setting_type type;
    uint32_t min; /* of a number */
    uint32_t max;
    char letter; /* or 0; a list has one */
    bool is_reloaded;
};

/* For tables: the field of a key, and two keys of every daemon. */
#define BASE_SETTING_AT(kind, type_, field)                                    \
    .type = BASE_SETTING_##kind, .at = offsetof(type_, field)
#define BASE_SETTING_LOG_LEVEL(type_, field)                                   \
    .name = "log-level", BASE_SETTING_AT(CHOICE, type_, field),                \
    .text = "notice", .value = "LEVEL",                                        \
    .help = "error, warning, notice, info or debug", .variable = "RETILE_LOG", \
    .names = base_level_names
#define BASE_SETTING_LOG_FORMAT(type_, field)                                  \
    .name = "log-format", BASE_SETTING_AT(CHOICE, type_, field),               \
    .text = "text", .value = "FORMAT", .help = "text, or json: a line each",   \
    .variable = "RETILE_LOG_FORMAT", .names = base_log_format_names

struct base_settings_table {
    const char *program; /* "retile-worker"; as all below, see base/options.h */
    const char *usage;
    const char *about;
    const char *example;
    const struct base_setting *keys;
    size_t n_keys;
};

/* What was read, and where each value is from.  Lives in the arena. */
struct base_settings;

/* Read all sources into *values, the program's struct.  --help, --version and
 * --print-config are answered on stdout: then *ret is NULL, and *values may not
 * be used.  Texts are @argv's, the environment's, the table's or @arena's.  Main,
 * while no thread changes the environment.
 * Errors: BASE_BAD_ARG    "--key: 'VALUE' is not ...", "VARIABLE: ..."
 *         BASE_BAD_INPUT  "FILE:LINE: key: 'VALUE' is not ..."; of an unknown
 *                         key the nearest is named
 *         BASE_LIMIT      a list is too long
 *         BASE_NOT_FOUND, BASE_IO, BASE_NO_MEM */
enum base_code base_settings_read(const struct base_settings_table *table,
                                  int argc,
                                  char **argv,
                                  struct base_arena *arena,
                                  void *values,
                                  const struct base_settings **ret,
                                  struct base_err *err) BASE_MUST_CHECK;

/* Refuse the value of key @name, of the table: as above, with @says after the
 * value ("is not a size"). */
enum base_code base_settings_fail(const struct base_settings *s,
                                  const char *name,
                                  const char *says,
                                  struct base_err *err);

/* Each key, its value and where it is from, as a FILE that says the same. */
void base_settings_print(const struct base_settings *s, FILE *out);

#endif
