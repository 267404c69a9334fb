#include "worker/options.h"

#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"
#include "base/options.h"
#include "base/version.h"
#include "ptc/yaml.h"
#include "worker/device.h"

enum {
    FILE_MAX_BYTES = 1 << 16,
    ARENA_BYTES = 1 << 20,
    PATH_BYTES = 4096,
    MAX_CHECK_S = 86400
};

/* key, value, default, what it is. */
#define KEYS(X)                                                                \
    X(coordinator, "coordinator", "ADDR",                                      \
      "unix:/run/retile-coordinator/coordinator.sock",                         \
      "where the coordinator listens")                                         \
    X(store, "store", "ROOT", NULL, "the host's store, which the agent owns")  \
    X(budget, "budget", "SIZE", NULL,                                          \
      "make the store when there is none; most that it takes (0: all)")        \
    X(run, "run", "DIR", "/run/retile-worker",                                 \
      "its socket and what it remembers")                                      \
    X(mounts, "mounts", "DIR", NULL, "mountpoints (default: RUN/mnt)")         \
    X(fuse, "fuse", "PATH", NULL,                                              \
      "the program that mounts (default: retile-fuse beside this one)")        \
    X(host, "host", "NAME", NULL, "the host's name (default: the machine's)")  \
    X(address, "address", "ADDR", "127.0.0.1",                                 \
      "where other hosts reach its ranks")                                     \
    X(user, "user", "NAME", NULL,                                              \
      "whose the training processes are, when they are not the agent's")       \
    X(slots, "slots", "N", "0", "numbered slots in place of GPUs")             \
    X(cudart, "cudart", "FILE", NULL,                                          \
      "the CUDA runtime (default: libcudart.so, as it is found)")              \
    X(device_check, "device-check", "SECONDS", "60",                           \
      "how often GPUs are looked at again (0: never)")                         \
    X(tls_ca, "tls-ca", "FILE", NULL,                                          \
      "who signed the coordinator's certificate; PEM")                         \
    X(tls_cert, "tls-cert", "FILE", NULL, "our certificate")                   \
    X(tls_key, "tls-key", "FILE", NULL, "its key")                             \
    X(tls_name, "tls-name", "NAME", NULL,                                      \
      "the name in the coordinator's certificate (default: its host)")         \
    X(token_file, "token-file", "FILE", NULL, "a token to show it")            \
    X(log_format, "log-format", "text|json", "text", "lines of the log")

enum key {
#define X(id, name, value, fallback, help) KEY_##id,
    KEYS(X)
#undef X
        KEY_N
};

static const char *values[KEY_N];
static const char *origins[KEY_N]; /* where it was said, for errors */
static const char *option_values[KEY_N];
static const char *config_path;
static bool is_version;
static bool is_print;

static const char *const names[KEY_N] = {
#define X(id, name, value, fallback, help) [KEY_##id] = (name),
    KEYS(X)
#undef X
};

static const char *const defaults[KEY_N] = {
#define X(id, name, value, fallback, help) [KEY_##id] = (fallback),
    KEYS(X)
#undef X
};

static const struct base_option options_table[] = {
#define X(id, name, value, fallback, help)                                     \
    {(name), 0, (value), (help), &option_values[KEY_##id], NULL},
    KEYS(X)
#undef X
        {"config", 0, "FILE", "YAML: lines `key: value` of these options",
         &config_path, NULL},
    {"print-config", 0, NULL, "print each setting and where it is from", NULL,
     &is_print},
    {"version", 0, NULL, "print the version", NULL, &is_version},
};

static const struct base_command command = {
    .program = "retile-worker",
    .usage = "--store ROOT [options]",
    .about =
        "The agent of a host: owns its store, runs the mounts of its "
        "jobs, and\n"
        "makes what the coordinator wants of it.\n"
        "Each option can stand in the file of --config, as `key: value`, or "
        "in the\n"
        "environment, as RETILE_WORKER_KEY; the command line decides.",
    .example = "retile-worker --store /dev/shm/store --budget 64G --slots 8",
    .options = options_table,
    .n_options = sizeof(options_table) / sizeof(options_table[0]),
    .min_args = 0,
    .max_args = 0,
};

/* --- where values come from ------------------------------------------------ */

static enum base_code set_key(struct base_str key,
                              const char *value,
                              const char *origin,
                              struct base_err *err)
{
    const char *near;

    for (size_t i = 0; i < KEY_N; i++) {
        if (base_str_eq(key, base_str_of(names[i]))) {
            values[i] = value != NULL ? value : defaults[i];
            origins[i] = origin;
            return BASE_OK;
        }
    }
    near = base_str_nearest(key, names, KEY_N);
    return base_fail(err, BASE_BAD_ARG, "%s: unknown key '%.*s'%s%s%s", origin,
                     BASE_STR_FMT(key), near != NULL ? "; did you mean '" : "",
                     near != NULL ? near : "", near != NULL ? "'?" : "");
}

static enum base_code
take_file(struct base_arena *arena, const char *path, struct base_err *err)
{
    BASE_AUTO_BUF text;
    const struct ptc_yaml_node *root = NULL;

    base_buf_init(&text, FILE_MAX_BYTES);
    BASE_TRY(base_file_read(AT_FDCWD, path, &text, err));
    BASE_TRY(ptc_yaml_parse(base_buf_str(&text), path, arena, &root, err));
    if (root->kind == PTC_YAML_NULL) {
        return BASE_OK; /* empty: all defaults */
    }
    if (root->kind != PTC_YAML_MAP) {
        return base_fail(err, BASE_BAD_ARG, "%s:%u: is not `key: value` lines",
                         path, root->line);
    }
    for (const struct ptc_yaml_node *node = root->children; node != NULL;
         node = node->next) {
        BASE_AUTO_MEM char *where = base_path("%s:%u", path, node->line);
        struct base_str origin = {0};
        struct base_str value = {0};

        if (node->kind != PTC_YAML_TEXT && node->kind != PTC_YAML_NULL) {
            return base_fail(err, BASE_BAD_ARG, "%s:%u: one value is needed",
                             path, node->line);
        }
        if (where != NULL) {
            origin = base_arena_str(arena, base_str_of(where));
        }
        if (node->kind == PTC_YAML_TEXT) {
            value = base_arena_str(arena, node->text);
        }
        if (origin.ptr == NULL ||
            (node->kind == PTC_YAML_TEXT && value.ptr == NULL)) {
            return base_fail(err, BASE_NO_MEM, "%s: out of memory", path);
        }
        BASE_TRY(set_key(node->key, value.ptr, origin.ptr, err));
    }
    return BASE_OK;
}

/* RETILE_WORKER_TLS_CA and so on. */
static void take_environment(struct base_arena *arena)
{
    for (size_t i = 0; i < KEY_N; i++) {
        BASE_AUTO_MEM char *name = base_path("RETILE_WORKER_%s", names[i]);
        const char *value;

        for (char *at = name; at != NULL && *at != '\0'; at++) {
            int upper = toupper((unsigned char)*at);

            if (upper == '-') {
                upper = '_';
            }
            *at = (char)upper;
        }
        /* No thread yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
        value = name != NULL ? getenv(name) : NULL;
        if (value != NULL && value[0] != '\0') {
            struct base_str origin = base_arena_str(arena, base_str_of(name));

            values[i] = value;
            origins[i] = origin.ptr != NULL ? origin.ptr : "the environment";
        }
    }
}

/* --- what they mean --------------------------------------------------------- */

static enum base_code bad(enum key key, const char *what, struct base_err *err)
{
    return base_fail(err, BASE_BAD_ARG, "%s: %s: %s", origins[key], names[key],
                     what);
}

static enum base_code take_numbers(struct worker_options *ret,
                                   struct base_err *err)
{
    /* No thread yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *format = getenv("RETILE_LOG_FORMAT");
    uint64_t n_slots;
    uint64_t check_s;

    if (!base_parse_u64(base_str_of(values[KEY_slots]), &n_slots) ||
        n_slots > WORKER_MAX_DEVICES) {
        return bad(KEY_slots, "a number of slots, at most 256, is needed", err);
    }
    ret->n_slots = (uint32_t)n_slots;
    if (!base_parse_u64(base_str_of(values[KEY_device_check]), &check_s) ||
        check_s > MAX_CHECK_S) {
        return bad(KEY_device_check, "a number of seconds is needed", err);
    }
    ret->device_check_s = (uint32_t)check_s;
    ret->has_budget = values[KEY_budget] != NULL;
    if (ret->has_budget &&
        !base_parse_size(base_str_of(values[KEY_budget]), &ret->budget_bytes)) {
        return bad(KEY_budget, "a size, like 64G, is needed", err);
    }
    if (format != NULL && /* as every program's */
        values[KEY_log_format] == defaults[KEY_log_format]) {
        values[KEY_log_format] = format;
        origins[KEY_log_format] = "RETILE_LOG_FORMAT";
    }
    ret->is_json = strcmp(values[KEY_log_format], "json") == 0;
    if (!ret->is_json && strcmp(values[KEY_log_format], "text") != 0) {
        return bad(KEY_log_format, "text or json is needed", err);
    }
    return BASE_OK;
}

/* @path from where we stand, as an absolute one. */
static enum base_code absolute(struct base_arena *arena,
                               const char *path,
                               const char **ret,
                               struct base_err *err)
{
    char folder[PATH_BYTES];
    BASE_AUTO_MEM char *text = NULL;
    struct base_str kept;

    if (path[0] != '/' && getcwd(folder, sizeof(folder)) != NULL) {
        text = base_path("%s/%s", folder, path);
    } else {
        text = strdup(path);
    }
    kept = text != NULL ? base_arena_str(arena, base_str_of(text))
                        : (struct base_str){0};
    if (kept.ptr == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: out of memory", path);
    }
    *ret = kept.ptr;
    return BASE_OK;
}

/* retile-fuse in our own directory. */
static enum base_code
find_fuse(struct base_arena *arena, const char **ret, struct base_err *err)
{
    char own[PATH_BYTES];
    ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
    BASE_AUTO_MEM char *path = NULL;

    if (n <= 0) {
        return base_fail(err, BASE_NOT_FOUND,
                         "cannot find retile-fuse (--fuse)");
    }
    own[n] = '\0';
    *strrchr(own, '/') = '\0';
    path = base_path("%s/retile-fuse", own);
    return path != NULL ? absolute(arena, path, ret, err)
                        : base_fail(err, BASE_NO_MEM, "out of memory");
}

static enum base_code take_paths(struct worker_options *ret,
                                 struct base_err *err)
{
    BASE_AUTO_MEM char *mounts = NULL;

    if (values[KEY_store] == NULL) {
        return base_fail(err, BASE_BAD_ARG, "--store ROOT is needed");
    }
    BASE_TRY(absolute(ret->arena, values[KEY_store], &ret->store, err));
    BASE_TRY(absolute(ret->arena, values[KEY_run], &ret->run, err));
    mounts = values[KEY_mounts] != NULL ? strdup(values[KEY_mounts])
                                        : base_path("%s/mnt", ret->run);
    if (mounts == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    BASE_TRY(absolute(ret->arena, mounts, &ret->mounts, err));
    return values[KEY_fuse] != NULL
               ? absolute(ret->arena, values[KEY_fuse], &ret->fuse, err)
               : find_fuse(ret->arena, &ret->fuse, err);
}

/* A name, or a number, which need not have a name: then its group is the same
 * number. */
static enum base_code take_user(struct worker_options *ret,
                                struct base_err *err)
{
    const char *text = values[KEY_user];
    const struct passwd *found;
    uint64_t number = 0;
    bool is_number;

    if (text == NULL) {
        return BASE_OK;
    }
    is_number = base_parse_u64(base_str_of(text), &number);
    if (is_number && number >= UINT32_MAX) {
        return bad(KEY_user, "there is no such number", err);
    }
    /* No thread yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    found = is_number ? getpwuid((uid_t)number) : getpwnam(text);
    if (found == NULL && !is_number) {
        return bad(KEY_user, "there is no such user", err);
    }
    ret->uid = found != NULL ? found->pw_uid : (uid_t)number;
    ret->gid = found != NULL ? found->pw_gid : (gid_t)number;
    ret->has_user = ret->uid != geteuid();
    if (ret->has_user && geteuid() != 0) {
        return bad(KEY_user, "only an agent of root's serves another user",
                   err);
    }
    return BASE_OK;
}

static enum base_code take_secrets(struct worker_options *ret,
                                   struct base_err *err)
{
    BASE_AUTO_BUF text;
    int n = (values[KEY_tls_ca] != NULL) + (values[KEY_tls_cert] != NULL) +
            (values[KEY_tls_key] != NULL);

    base_buf_init(&text, 4096);
    if (n != 0 && n != 3) {
        return base_fail(err, BASE_BAD_ARG,
                         "tls-ca, tls-cert and tls-key go together");
    }
    ret->tls_ca = values[KEY_tls_ca];
    ret->tls_cert = values[KEY_tls_cert];
    ret->tls_key = values[KEY_tls_key];
    ret->tls_name = values[KEY_tls_name];
    ret->token_file = values[KEY_token_file];
    if (ret->token_file == NULL) {
        return BASE_OK;
    }
    BASE_TRY(base_file_read(AT_FDCWD, ret->token_file, &text, err));
    while (text.len > 0 && isspace((unsigned char)text.ptr[text.len - 1])) {
        text.ptr[--text.len] = '\0';
    }
    if (text.len == 0 || strlen(text.ptr) != text.len) {
        return bad(KEY_token_file, "one line of text is needed in it", err);
    }
    ret->token = base_steal(&text.ptr);
    return BASE_OK;
}

void worker_options_done(struct worker_options *options)
{
    free(options->token);
    base_arena_free(options->arena);
    *options = (struct worker_options){0};
}

/* Each key, its value and where it is from, as YAML that can be read again. */
static void print_values(FILE *out)
{
    for (size_t i = 0; i < KEY_N; i++) {
        BASE_AUTO_BUF quoted;

        base_buf_init(&quoted, FILE_MAX_BYTES);
        if (values[i] != NULL &&
            base_buf_add_json(&quoted, base_str_of(values[i])) != BASE_OK) {
            continue; /* no file's or option's value is so long */
        }
        (void)fprintf(out, "%s: %s  # %s\n", names[i],
                      values[i] != NULL ? quoted.ptr : "", origins[i]);
    }
}

static void gather_values(void)
{
    for (size_t i = 0; i < KEY_N; i++) {
        if (option_values[i] != NULL) {
            values[i] = option_values[i];
            origins[i] = "the command line";
        }
    }
}

static enum base_code take_values(struct worker_options *ret,
                                  struct base_err *err)
{
    for (size_t i = 0; i < KEY_N; i++) {
        values[i] = defaults[i];
        origins[i] = "the default";
    }
    if (config_path == NULL) {
        /* No thread yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
        config_path = getenv("RETILE_WORKER_CONFIG");
    }
    if (config_path != NULL) {
        BASE_TRY(take_file(ret->arena, config_path, err));
    }
    take_environment(ret->arena);
    gather_values();
    BASE_TRY(take_numbers(ret, err));
    if (is_print) { /* also of one that says no store yet */
        print_values(stdout);
        return BASE_OK;
    }
    BASE_TRY(take_paths(ret, err));
    BASE_TRY(take_user(ret, err));
    BASE_TRY(take_secrets(ret, err));
    ret->coordinator = values[KEY_coordinator];
    ret->host = values[KEY_host];
    ret->address = values[KEY_address];
    ret->cudart = values[KEY_cudart];
    return BASE_OK;
}

enum base_code worker_options_read(int argc,
                                   char **argv,
                                   struct worker_options *ret,
                                   bool *ret_is_done,
                                   struct base_err *err)
{
    char **args;
    int n_args;
    bool is_help = false;

    *ret = (struct worker_options){.arena = base_arena_create(ARENA_BYTES)};
    if (ret->arena == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    BASE_TRY(base_options_parse(&command, argc, argv, &args, &n_args, &is_help,
                                err));
    *ret_is_done = is_help || is_version;
    if (is_help) {
        base_options_help(&command, stdout);
    } else if (is_version) {
        (void)printf("retile-worker %s\n", RETILE_VERSION);
    }
    if (*ret_is_done) {
        return BASE_OK;
    }
    *ret_is_done = is_print;
    return take_values(ret, err);
}
