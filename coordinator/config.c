/* Every value is a text until the last source was read; then it is parsed once. */
#include "coordinator/config.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/num.h"
#include "base/options.h"
#include "ptc/yaml.h"

enum {
    FILE_BYTES = 1 << 20,
    ARENA_BYTES = 16 << 20,
};

enum type {
    TYPE_TEXT,
    TYPE_NUMBER,
    TYPE_LIST, /* the one: listen */
    TYPE_LEVEL,
    TYPE_FORMAT,
};

enum origin { FROM_DEFAULT, FROM_FILE, FROM_ENVIRONMENT, FROM_OPTION };
static const char *const origin_names[] = {"default", "file", "environment",
                                           "option"};

struct key {
    const char *name;
    size_t at;         /* in struct coord_config */
    const char *text;  /* the default; NULL: the core's limit */
    const char *value; /* what --help calls it: the unit, or FILE */
    const char *help;
    enum type type;
    uint32_t min; /* of a number */
    uint32_t max;
    bool is_reloaded; /* by SIGHUP */
};

#define AT(field) offsetof(struct coord_config, field)
#define LIMIT(name, field, unit, help, min, max)                               \
    {                                                                          \
        name, AT(limits.field), NULL, unit, help, TYPE_NUMBER, min, max, false \
    }
#define TEXT(name, field, text, value, help)                                   \
    {                                                                          \
        name, AT(field), text, value, help, TYPE_TEXT, 0, 0, false             \
    }
#define NUMBER(name, field, text, unit, help, min, max)                        \
    {                                                                          \
        name, AT(field), text, unit, help, TYPE_NUMBER, min, max, false        \
    }

static const struct key keys[] = {
    {"listen", AT(listen), "unix:/run/retile-coordinator/coordinator.sock",
     "ADDRESS", "unix:PATH or HOST:PORT; several times for several", TYPE_LIST,
     0, 0, false},
    TEXT("db",
         db,
         "/var/lib/retile-coordinator/coordinator.db",
         "FILE",
         "where the state is kept (SQLite)"),
    TEXT("tls-cert", tls_cert, "", "FILE", "our certificate, PEM"),
    TEXT("tls-key", tls_key, "", "FILE", "its key"),
    TEXT("tls-ca", tls_ca, "", "FILE", "who signs the clients' certificates"),
    TEXT("token-file",
         token_file,
         "",
         "FILE",
         "what clients without a certificate must show"),
    TEXT("cluster",
         cluster,
         "",
         "NAME",
         "the CLUSTER in certificates; any when it is empty"),
    {"log-level", AT(log_level), "notice", "LEVEL",
     "error, warning, notice, info or debug", TYPE_LEVEL, 0, 0, true},
    {"log-format", AT(log_format), "text", "FORMAT",
     "text, or json: a line each", TYPE_FORMAT, 0, 0, false},
    NUMBER("max-events",
           max_events,
           "100000",
           "N",
           "events that a watch can resume from",
           1,
           100000000),
    NUMBER("max-watchers",
           max_watchers,
           "4096",
           "N",
           "watches at a time",
           1,
           1000000),
    NUMBER("stall-ms",
           stall_ms,
           "30000",
           "MS",
           "how long a watcher may take nothing; then it is ended",
           100,
           86400000),
    NUMBER("max-calls",
           max_calls,
           "4096",
           "N",
           "calls that wait for the core at a time",
           1,
           1000000),
    NUMBER("max-stream-bytes",
           max_stream_bytes,
           "8388608",
           "BYTES",
           "that wait for an agent; then it is ended",
           1 << 20,
           1 << 30),
    NUMBER("grace-ms",
           grace_ms,
           "5000",
           "MS",
           "how long calls may still take when it stops",
           0,
           600000),
    LIMIT("max-jobs", max_jobs, "N", "jobs", 1, 65536),
    LIMIT("max-hosts", max_hosts, "N", "hosts", 1, 65536),
    LIMIT("max-devices", max_devices, "N", "devices of a host", 1, 1024),
    LIMIT("max-versions",
          max_versions,
          "N",
          "versions of a job, pinned ones too",
          3,
          4096),
    LIMIT("max-requests",
          max_requests,
          "N",
          "answers kept for calls that are repeated",
          1,
          65536),
    LIMIT(
        "history", history, "N", "generations of a job that are kept", 1, 1024),
    LIMIT("lease-ms",
          lease_ms,
          "MS",
          "a host that is not heard of for so long is lost",
          100,
          86400000),
    LIMIT("renew-ms",
          renew_ms,
          "MS",
          "how often a host is to renew",
          10,
          86400000),
    LIMIT("make-wait-ms",
          make_wait_ms,
          "MS",
          "for a version to be made",
          100,
          604800000),
    LIMIT("start-wait-ms",
          start_wait_ms,
          "MS",
          "for a generation to be prepared",
          100,
          86400000),
    LIMIT("backoff-ms",
          backoff_ms,
          "MS",
          "before the first restart; doubles with each",
          0,
          86400000),
    LIMIT("max-backoff-ms",
          max_backoff_ms,
          "MS",
          "before any restart",
          0,
          86400000),
};
enum { N_KEYS = sizeof(keys) / sizeof(keys[0]), N_EXTRA = 3 };

/* The texts of one source, or of all. */
struct values {
    const char *text[N_KEYS]; /* NULL: not said */
    enum origin origin[N_KEYS];
    unsigned line[N_KEYS]; /* of the file, FROM_FILE */
    const char *listen[COORD_CONFIG_LISTEN + 1];
    const char *file; /* of --config */
};

static const char *own(struct coord_config *config, const char *text)
{
    return base_arena_str(config->arena, base_str_of(text)).ptr;
}

static enum base_code no_memory(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot read the settings");
}

/* --- the sources ---------------------------------------------------------- */

static enum base_code
add_listen(const char **list, const char *address, struct base_err *err)
{
    size_t n = 0;

    while (list[n] != NULL) {
        n++;
    }
    if (n == COORD_CONFIG_LISTEN) {
        return base_fail(err, BASE_LIMIT, "more than %d addresses to listen on",
                         COORD_CONFIG_LISTEN);
    }
    list[n] = address;
    return BASE_OK;
}

/* "A,B" */
static enum base_code split_listen(struct coord_config *config,
                                   struct values *values,
                                   const char *text,
                                   struct base_err *err)
{
    (void)memset(values->listen, 0, sizeof(values->listen));
    while (*text != '\0') {
        const size_t n = strcspn(text, ",");
        const char *one =
            base_arena_str(config->arena, (struct base_str){text, n}).ptr;

        if (one == NULL) {
            return no_memory(err);
        }
        if (n > 0) {
            BASE_TRY(add_listen(values->listen, one, err));
        }
        text += n + (text[n] == ',' ? 1 : 0);
    }
    return BASE_OK;
}

static enum base_code fail_key(const char *file,
                               const struct ptc_yaml_node *node,
                               struct base_err *err)
{
    const char *names[N_KEYS];
    const char *nearest;

    for (size_t i = 0; i < N_KEYS; i++) {
        names[i] = keys[i].name;
    }
    nearest = base_str_nearest(node->key, names, N_KEYS);
    return base_fail(err, BASE_BAD_INPUT, "%s:%u: unknown key '%.*s'%s%s%s",
                     file, node->line, BASE_STR_FMT(node->key),
                     nearest != NULL ? "; did you mean '" : "",
                     nearest != NULL ? nearest : "",
                     nearest != NULL ? "'?" : "");
}

static enum base_code take_node(struct coord_config *config,
                                struct values *values,
                                const struct ptc_yaml_node *node,
                                struct base_err *err)
{
    size_t i = 0;

    while (i < N_KEYS && !base_str_eq(node->key, base_str_of(keys[i].name))) {
        i++;
    }
    if (i == N_KEYS) {
        return fail_key(values->file, node, err);
    }
    values->origin[i] = FROM_FILE;
    values->line[i] = node->line;
    if (keys[i].type == TYPE_LIST && node->kind == PTC_YAML_LIST) {
        (void)memset(values->listen, 0, sizeof(values->listen));
        for (const struct ptc_yaml_node *item = node->children; item != NULL;
             item = item->next) {
            const char *text;

            if (item->kind != PTC_YAML_TEXT) {
                return base_fail(err, BASE_BAD_INPUT,
                                 "%s:%u: an address is a text", values->file,
                                 item->line);
            }
            text = own(config, item->text.ptr);
            if (text == NULL) {
                return no_memory(err);
            }
            BASE_TRY(add_listen(values->listen, text, err));
        }
        values->text[i] = "";
        return BASE_OK;
    }
    if (node->kind != PTC_YAML_TEXT && node->kind != PTC_YAML_NULL) {
        return base_fail(err, BASE_BAD_INPUT, "%s:%u: %s is one value",
                         values->file, node->line, keys[i].name);
    }
    values->text[i] =
        node->kind == PTC_YAML_NULL ? "" : own(config, node->text.ptr);
    if (values->text[i] == NULL) {
        return no_memory(err);
    }
    return keys[i].type == TYPE_LIST
               ? split_listen(config, values, values->text[i], err)
               : BASE_OK;
}

static enum base_code take_file(struct coord_config *config,
                                struct values *values,
                                struct base_err *err)
{
    BASE_AUTO_BUF bytes;
    const struct ptc_yaml_node *root = NULL;

    base_buf_init(&bytes, FILE_BYTES);
    BASE_TRY(base_file_read(AT_FDCWD, values->file, &bytes, err));
    BASE_TRY(ptc_yaml_parse(base_buf_str(&bytes), values->file, config->arena,
                            &root, err));
    if (root->kind == PTC_YAML_NULL) {
        return BASE_OK; /* empty: all defaults */
    }
    if (root->kind != PTC_YAML_MAP) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s:%u: is not `key: value` lines", values->file,
                         root->line);
    }
    for (const struct ptc_yaml_node *node = root->children; node != NULL;
         node = node->next) {
        BASE_TRY(take_node(config, values, node, err));
    }
    return BASE_OK;
}

/* "RETILE_COORDINATOR_MAX_JOBS"; of the log, as every program's: "RETILE_LOG" */
static void variable_of(const struct key *key, char *text, size_t n)
{
    if (key->type == TYPE_LEVEL || key->type == TYPE_FORMAT) {
        (void)snprintf(text, n, "RETILE_LOG%s",
                       key->type == TYPE_LEVEL ? "" : "_FORMAT");
        return;
    }
    (void)snprintf(text, n, "RETILE_COORDINATOR_%s", key->name);
    for (char *at = text; *at != '\0'; at++) {
        if (*at >= 'a' && *at <= 'z') {
            *at = (char)(*at - 'a' + 'A');
        } else if (*at == '-') {
            *at = '_';
        }
    }
}

static enum base_code take_environment(struct coord_config *config,
                                       struct values *values,
                                       struct base_err *err)
{
    for (size_t i = 0; i < N_KEYS; i++) {
        char name[64];
        const char *text;

        variable_of(&keys[i], name, sizeof(name));
        /* No thread changes it. NOLINTNEXTLINE(concurrency-mt-unsafe) */
        text = getenv(name);
        if (text == NULL) {
            continue;
        }
        values->text[i] = text;
        values->origin[i] = FROM_ENVIRONMENT;
        if (keys[i].type == TYPE_LIST) {
            BASE_TRY(split_listen(config, values, text, err));
        }
    }
    return BASE_OK;
}

/* --- the command line ---------------------------------------------------- */

struct line {
    struct base_option options[N_KEYS + N_EXTRA];
    const char *text[N_KEYS];
    const char *listen[COORD_CONFIG_LISTEN + 1];
    const char *file;
    bool is_print;
    bool is_version;
    struct base_command command;
};

static void line_init(struct line *line)
{
    *line = (struct line){0};
    for (size_t i = 0; i < N_KEYS; i++) {
        line->options[i] = (struct base_option){
            .name = keys[i].name,
            .letter = keys[i].type == TYPE_LIST ? 'l' : '\0',
            .value = keys[i].value,
            .help = keys[i].help,
            .text = &line->text[i]};
    }
    line->options[N_KEYS] = (struct base_option){
        "config",    'c', "FILE", "settings, `key: value` lines (YAML)",
        &line->file, NULL};
    line->options[N_KEYS + 1] = (struct base_option){
        "print-config", 0,
        NULL,           "print each setting and where it is from",
        NULL,           &line->is_print};
    line->options[N_KEYS + 2] = (struct base_option){
        "version", 0, NULL, "print the version", NULL, &line->is_version};
    line->command = (struct base_command){
        .program = "retile-coordinator",
        .usage = "[--listen ADDRESS]... [--db FILE] [options]",
        .about =
            "Decide, for a cluster, where jobs run and which versions they "
            "have."
            "\nAgents (retile-worker) and people (retile) call it; on a Unix"
            "\nsocket or loopback whoever can reach it, elsewhere with"
            "\ncertificates of both sides.  One per cluster.  Every option is a"
            "\nkey of --config's file, and RETILE_COORDINATOR_KEY in the"
            "\nenvironment; options win over it, and it over the file.",
        .example =
            "retile-coordinator --listen unix:/tmp/r/c.sock --db /tmp/r/c.db\n"
            "retile-coordinator --listen 0.0.0.0:7070 --tls-cert c.pem "
            "--tls-key c.key --tls-ca ca.pem",
        .options = line->options,
        .n_options = N_KEYS + N_EXTRA,
        .max_args = 0,
        .list_letter = 'l',
        .list = line->listen,
        .list_room = COORD_CONFIG_LISTEN + 1};
}

void coord_config_help(FILE *out)
{
    struct line line;

    line_init(&line);
    base_options_help(&line.command, out);
}

static void take_line(const struct line *line, struct values *values)
{
    for (size_t i = 0; i < N_KEYS; i++) {
        const bool is_list = keys[i].type == TYPE_LIST;

        if (is_list ? line->listen[0] == NULL : line->text[i] == NULL) {
            continue;
        }
        values->text[i] = is_list ? "" : line->text[i];
        values->origin[i] = FROM_OPTION;
        if (is_list) {
            (void)memcpy(values->listen, line->listen, sizeof(line->listen));
        }
    }
}

/* --- values -------------------------------------------------------------- */

static enum base_code bad_value(const struct values *values,
                                size_t i,
                                const char *says,
                                struct base_err *err)
{
    const char *name = keys[i].name;
    const char *text = values->text[i];
    char variable[64];

    switch (values->origin[i]) {
    case FROM_FILE:
        return base_fail(err, BASE_BAD_INPUT, "%s:%u: %s: '%s' is not %s",
                         values->file, values->line[i], name, text, says);
    case FROM_ENVIRONMENT:
        variable_of(&keys[i], variable, sizeof(variable));
        return base_fail(err, BASE_BAD_ARG, "%s: '%s' is not %s", variable,
                         text, says);
    case FROM_DEFAULT:
    case FROM_OPTION:
        break;
    }
    return base_fail(err, BASE_BAD_ARG, "--%s: '%s' is not %s", name, text,
                     says);
}

static enum base_code set_choice(const struct values *values,
                                 size_t i,
                                 const char *const *names,
                                 size_t n,
                                 unsigned *ret,
                                 struct base_err *err)
{
    for (size_t c = 0; c < n; c++) {
        if (strcmp(values->text[i], names[c]) == 0) {
            *ret = (unsigned)c;
            return BASE_OK;
        }
    }
    return bad_value(values, i, keys[i].help, err);
}

static const char *const level_names[] = {"error", "warning", "notice", "info",
                                          "debug"};
static const char *const format_names[] = {"text", "json"};

static enum base_code set_value(struct coord_config *config,
                                const struct values *values,
                                size_t i,
                                struct base_err *err)
{
    void *at = (char *)config + keys[i].at;
    uint64_t number;
    unsigned choice = 0;
    char says[64];

    switch (keys[i].type) {
    case TYPE_TEXT:
        *(const char **)at = values->text[i];
        return BASE_OK;
    case TYPE_LIST:
        if (values->listen[0] == NULL) {
            return bad_value(values, i, "an address", err);
        }
        (void)memcpy(at, values->listen, sizeof(values->listen));
        return BASE_OK;
    case TYPE_LEVEL:
        BASE_TRY(set_choice(values, i, level_names,
                            sizeof(level_names) / sizeof(char *), &choice,
                            err));
        *(enum base_level *)at = (enum base_level)choice;
        return BASE_OK;
    case TYPE_FORMAT:
        BASE_TRY(set_choice(values, i, format_names,
                            sizeof(format_names) / sizeof(char *), &choice,
                            err));
        *(enum base_log_format *)at = (enum base_log_format)choice;
        return BASE_OK;
    case TYPE_NUMBER:
        if (values->text[i] == NULL) {
            return BASE_OK; /* the core's default is there */
        }
        if (!base_parse_u64(base_str_of(values->text[i]), &number) ||
            number < keys[i].min || number > keys[i].max) {
            (void)snprintf(says, sizeof(says),
                           "a number from %" PRIu32 " to %" PRIu32, keys[i].min,
                           keys[i].max);
            return bad_value(values, i, says, err);
        }
        *(uint32_t *)at = (uint32_t)number;
        return BASE_OK;
    }
    return BASE_OK;
}

static enum base_code check_together(const struct coord_config *config,
                                     struct base_err *err)
{
    const bool has_cert = config->tls_cert[0] != '\0';
    const bool has_key = config->tls_key[0] != '\0';
    const bool has_ca = config->tls_ca[0] != '\0';

    if (config->db[0] == '\0') {
        return base_fail(err, BASE_BAD_ARG, "db: a file's name is needed");
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

static enum base_code read_all(struct coord_config *config,
                               const struct line *line,
                               struct base_err *err)
{
    struct values values = {.file = line->file};

    for (size_t i = 0; i < N_KEYS; i++) {
        values.text[i] = keys[i].text;
        if (keys[i].type == TYPE_LIST) {
            BASE_TRY(split_listen(config, &values, keys[i].text, err));
        }
    }
    if (values.file != NULL) {
        BASE_TRY(take_file(config, &values, err));
    }
    BASE_TRY(take_environment(config, &values, err));
    take_line(line, &values);
    coord_limits_init(&config->limits);
    for (size_t i = 0; i < N_KEYS; i++) {
        BASE_TRY(set_value(config, &values, i, err));
        config->origins[i] = (unsigned char)values.origin[i];
    }
    return check_together(config, err);
}

void coord_config_done(struct coord_config *config)
{
    base_arena_free(config->arena);
    *config = (struct coord_config){0};
}

enum base_code coord_config_read(int argc,
                                 char **argv,
                                 struct coord_config *config,
                                 struct coord_config_asks *ret_asks,
                                 struct base_err *err)
{
    COORD_AUTO_CONFIG fresh = {.argc = argc, .argv = argv};
    BASE_AUTO_MEM char **copy = calloc((size_t)argc + 1, sizeof(*copy));
    struct line line;
    char **args;
    int n_args;

    fresh.arena = base_arena_create(ARENA_BYTES);
    if (copy == NULL || fresh.arena == NULL) {
        return no_memory(err);
    }
    fresh.origins = base_arena_alloc(fresh.arena, N_KEYS, 1);
    if (fresh.origins == NULL) {
        return no_memory(err);
    }
    (void)memcpy(copy, argv, (size_t)argc * sizeof(*copy)); /* it is permuted */
    line_init(&line);
    *ret_asks = (struct coord_config_asks){0};
    BASE_TRY(base_options_parse(&line.command, argc, copy, &args, &n_args,
                                &ret_asks->help, err));
    ret_asks->version = line.is_version;
    ret_asks->print = line.is_print;
    if (ret_asks->help || ret_asks->version) {
        return BASE_OK;
    }
    BASE_TRY(read_all(&fresh, &line, err));
    coord_config_done(config);
    *config = fresh;
    fresh.arena = NULL;
    return BASE_OK;
}

static void print_text(const char *text, FILE *out)
{
    BASE_AUTO_BUF quoted;

    base_buf_init(&quoted, FILE_BYTES);
    if (base_buf_add_json(&quoted, base_str_of(text)) == BASE_OK) {
        (void)fprintf(out, "%s", quoted.ptr);
    }
}

void coord_config_print(const struct coord_config *config, FILE *out)
{
    for (size_t i = 0; i < N_KEYS; i++) {
        const void *at = (const char *)config + keys[i].at;

        (void)fprintf(out, "%s: ", keys[i].name);
        switch (keys[i].type) {
        case TYPE_TEXT:
            print_text(*(const char *const *)at, out);
            break;
        case TYPE_LIST:
            for (const char *const *one = at; *one != NULL; one++) {
                (void)fprintf(out, "%s",
                              one == (const char *const *)at ? "[" : ", ");
                print_text(*one, out);
            }
            (void)fprintf(out, "]");
            break;
        case TYPE_LEVEL:
            (void)fprintf(out, "%s", level_names[*(const enum base_level *)at]);
            break;
        case TYPE_FORMAT:
            (void)fprintf(out, "%s",
                          format_names[*(const enum base_log_format *)at]);
            break;
        case TYPE_NUMBER:
            (void)fprintf(out, "%" PRIu32, *(const uint32_t *)at);
            break;
        }
        (void)fprintf(out, "  # %s%s\n", origin_names[config->origins[i]],
                      keys[i].is_reloaded ? ", read again at SIGHUP" : "");
    }
}
