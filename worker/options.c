#include "worker/options.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"
#include "base/settings.h"
#include "worker/device.h"

enum { PATH_BYTES = 4096, MAX_CHECK_S = 86400 };

/* The options, and what becomes some of them. */
struct said {
    struct worker_options options;
    const char *budget;
    const char *user;
};

static void said_done(struct said *said)
{
    worker_options_done(&said->options);
}

#define AT(kind, field)     BASE_SETTING_AT(kind, struct said, field)
#define TEXT(field)         AT(TEXT, options.field)
#define NUMBER(field, max_) AT(NUMBER, options.field), .max = (max_)

/* clang-format off */
static const struct base_setting keys[] = {
    {.name = "coordinator", TEXT(coordinator), .value = "ADDR",
     .text = "unix:/run/retile-coordinator/coordinator.sock",
     .help = "where the coordinator listens"},
    {.name = "store", TEXT(store), .value = "ROOT",
     .help = "the host's store, which the agent owns"},
    {.name = "budget", AT(TEXT, budget), .value = "SIZE",
     .help = "make the store when there is none; most that it takes (0: all)"},
    {.name = "run", TEXT(run), .value = "DIR", .text = "/run/retile-worker",
     .help = "its socket and what it remembers"},
    {.name = "mounts", TEXT(mounts), .value = "DIR",
     .help = "mountpoints (default: RUN/mnt)"},
    {.name = "fuse", TEXT(fuse), .value = "PATH",
     .help = "the program that mounts (default: retile-fuse beside this one)"},
    {.name = "host", TEXT(host), .value = "NAME",
     .help = "the host's name (default: the machine's)"},
    {.name = "address", TEXT(address), .value = "ADDR", .text = "127.0.0.1",
     .help = "where other hosts reach its ranks"},
    {.name = "user", AT(TEXT, user), .value = "NAME",
     .help = "whose the training processes are, when they are not the agent's"},
    {.name = "slots", NUMBER(n_slots, WORKER_MAX_DEVICES), .value = "N",
     .text = "0", .help = "numbered slots in place of GPUs"},
    {.name = "cudart", TEXT(cudart), .value = "FILE",
     .help = "the CUDA runtime (default: libcudart.so, as it is found)"},
    {.name = "device-check", NUMBER(device_check_s, MAX_CHECK_S),
     .value = "SECONDS", .text = "60",
     .help = "how often GPUs are looked at again (0: never)"},
    {.name = "tls-ca", TEXT(tls_ca), .value = "FILE",
     .help = "who signed the coordinator's certificate; PEM"},
    {.name = "tls-cert", TEXT(tls_cert), .value = "FILE",
     .help = "our certificate"},
    {.name = "tls-key", TEXT(tls_key), .value = "FILE", .help = "its key"},
    {.name = "tls-name", TEXT(tls_name), .value = "NAME",
     .help = "the name in the coordinator's certificate (default: its host)"},
    {.name = "token-file", TEXT(token_file), .value = "FILE",
     .help = "a token to show it"},
    {BASE_SETTING_LOG_LEVEL(struct said, options.log_level)},
    {BASE_SETTING_LOG_FORMAT(struct said, options.log_format)},
};
/* clang-format on */

static const struct base_settings_table table = {
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
    .keys = keys,
    .n_keys = sizeof(keys) / sizeof(keys[0]),
};

/* --- what the texts become -------------------------------------------------- */

static enum base_code take_budget(struct said *said,
                                  const struct base_settings *settings,
                                  struct base_err *err)
{
    said->options.has_budget = said->budget != NULL;
    if (said->budget != NULL && !base_parse_size(base_str_of(said->budget),
                                                 &said->options.budget_bytes)) {
        return base_settings_fail(settings, "budget", "is not a size, like 64G",
                                  err);
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

static enum base_code take_paths(struct worker_options *options,
                                 struct base_err *err)
{
    BASE_AUTO_MEM char *mounts = NULL;

    if (options->store == NULL) {
        return base_fail(err, BASE_BAD_ARG, "--store ROOT is needed");
    }
    BASE_TRY(absolute(options->arena, options->store, &options->store, err));
    BASE_TRY(absolute(options->arena, options->run, &options->run, err));
    mounts = options->mounts != NULL ? strdup(options->mounts)
                                     : base_path("%s/mnt", options->run);
    if (mounts == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    BASE_TRY(absolute(options->arena, mounts, &options->mounts, err));
    return options->fuse != NULL
               ? absolute(options->arena, options->fuse, &options->fuse, err)
               : find_fuse(options->arena, &options->fuse, err);
}

/* A name, or a number, which need not have a name: then its group is the same
 * number. */
static enum base_code take_user(struct said *said,
                                const struct base_settings *settings,
                                struct base_err *err)
{
    struct worker_options *options = &said->options;
    const struct passwd *found;
    uint64_t number = 0;
    bool is_number;

    if (said->user == NULL) {
        return BASE_OK;
    }
    is_number = base_parse_u64(base_str_of(said->user), &number);
    if (is_number && number >= UINT32_MAX) {
        return base_settings_fail(settings, "user", "is no user's number", err);
    }
    /* No thread yet. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    found = is_number ? getpwuid((uid_t)number) : getpwnam(said->user);
    if (found == NULL && !is_number) {
        return base_settings_fail(settings, "user", "is no user's name", err);
    }
    options->uid = found != NULL ? found->pw_uid : (uid_t)number;
    options->gid = found != NULL ? found->pw_gid : (gid_t)number;
    options->has_user = options->uid != geteuid();
    if (options->has_user && geteuid() != 0) {
        return base_settings_fail(
            settings, "user",
            "is another user, whom only an agent of root's serves", err);
    }
    return BASE_OK;
}

static enum base_code take_secrets(struct worker_options *options,
                                   const struct base_settings *settings,
                                   struct base_err *err)
{
    BASE_AUTO_BUF text;
    const int n = (options->tls_ca != NULL) + (options->tls_cert != NULL) +
                  (options->tls_key != NULL);

    base_buf_init(&text, 4096);
    if (n != 0 && n != 3) {
        return base_fail(err, BASE_BAD_ARG,
                         "tls-ca, tls-cert and tls-key go together");
    }
    if (options->token_file == NULL) {
        return BASE_OK;
    }
    BASE_TRY(base_file_read(AT_FDCWD, options->token_file, &text, err));
    while (text.len > 0 && isspace((unsigned char)text.ptr[text.len - 1])) {
        text.ptr[--text.len] = '\0';
    }
    if (text.len == 0 || strlen(text.ptr) != text.len) {
        return base_settings_fail(settings, "token-file",
                                  "is not a file of one line of text", err);
    }
    options->token = base_steal(&text.ptr);
    return BASE_OK;
}

void worker_options_done(struct worker_options *options)
{
    free(options->token);
    base_arena_free(options->arena);
    *options = (struct worker_options){0};
}

enum base_code worker_options_read(int argc,
                                   char **argv,
                                   struct worker_options *ret,
                                   bool *ret_is_done,
                                   struct base_err *err)
{
    __attribute__((cleanup(said_done))) struct said said = {
        .options.arena = base_arena_create(BASE_SETTINGS_ARENA_BYTES)};
    const struct base_settings *settings = NULL;

    if (said.options.arena == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    BASE_TRY(base_settings_read(&table, argc, argv, said.options.arena, &said,
                                &settings, err));
    if (settings != NULL) {
        BASE_TRY(take_budget(&said, settings, err));
        BASE_TRY(take_paths(&said.options, err));
        BASE_TRY(take_user(&said, settings, err));
        BASE_TRY(take_secrets(&said.options, settings, err));
        *ret = said.options;
        said.options = (struct worker_options){0};
    }
    *ret_is_done = settings == NULL;
    return BASE_OK;
}
