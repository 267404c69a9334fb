#include "fuse/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "base/parallel.h"
#include "fuse/fuse_compat.h"
#include "fuse/options_impl.h"

enum {
    MAX_THREADS_DEFAULT = 8,
    MAX_THREADS = 64,
    MAX_LAYOUTS = 256,
    MAX_VALUE_BYTES = 64 << 10,
    VIEW_BYTES_DEFAULT = 64 << 20,
    HANG_S_DEFAULT = 30,
    RESTARTS_DEFAULT = 10,
    MAX_RESTARTS = 1000,
    COMMIT_WAIT_S_DEFAULT = 10,
    DECIDE_WAIT_S_DEFAULT = 30,
    SAVE_EXPIRE_S_DEFAULT = 3600,
    MAX_WAIT_S = 30 * 24 * 3600,
};

/* One option: @value is NULL when none was given. */
typedef enum base_code (*option_fn)(struct fs_options *options,
                                    const char *name,
                                    const char *value,
                                    struct base_err *err);

void fs_options_init(struct fs_options *options)
{
    unsigned n_cpus = base_n_cpus();

    *options = (struct fs_options){0};
    options->n_threads =
        n_cpus < MAX_THREADS_DEFAULT ? n_cpus : MAX_THREADS_DEFAULT;
    if (options->n_threads < 2) {
        options->n_threads = 2; /* one may wait for a disk */
    }
    options->view_bytes = VIEW_BYTES_DEFAULT;
    options->uid = getuid();
    options->gid = getgid();
    options->commit_wait_s = COMMIT_WAIT_S_DEFAULT;
    options->decide_wait_s = DECIDE_WAIT_S_DEFAULT;
    options->save_expire_s = SAVE_EXPIRE_S_DEFAULT;
    options->is_digesting = true;
    options->hang_s = HANG_S_DEFAULT;
    options->max_restarts = RESTARTS_DEFAULT;
    options->is_compacting = true;
    base_buf_init(&options->kernel, MAX_VALUE_BYTES);
}

void fs_options_done(struct fs_options *options)
{
    size_t i;

    for (i = 0; i < options->layouts.n; i++) {
        free(options->layouts.items[i].name);
        free(options->layouts.items[i].file);
    }
    base_vec_done(&options->layouts);
    base_buf_done(&options->kernel);
    free(options->source);
    free(options->mountpoint);
    free(options->log);
    free(options->layout_file);
    free(options->from_file);
    free(options->table_file);
}

static enum base_code
bad_value(const char *name, const char *value, struct base_err *err)
{
    return base_fail(err, BASE_BAD_ARG, "-o %s=%s: bad value", name, value);
}

static enum base_code add_allow_other(struct fs_options *options,
                                      const char *name,
                                      const char *value,
                                      struct base_err *err)
{
    (void)name;
    (void)value;
    (void)err;
    options->allow_other = true;
    return BASE_OK;
}

static enum base_code add_new(struct fs_options *options,
                              const char *name,
                              const char *value,
                              struct base_err *err)
{
    (void)name;
    (void)value;
    (void)err;
    options->is_new = true;
    return BASE_OK;
}

static enum base_code add_verify(struct fs_options *options,
                                 const char *name,
                                 const char *value,
                                 struct base_err *err)
{
    if (strcmp(value, "read") != 0 && strcmp(value, "off") != 0) {
        return bad_value(name, value, err);
    }
    options->is_verifying = strcmp(value, "read") == 0;
    return BASE_OK;
}

static enum base_code add_cache(struct fs_options *options,
                                const char *name,
                                const char *value,
                                struct base_err *err)
{
    if (strcmp(value, "page") != 0 && strcmp(value, "auto") != 0) {
        return bad_value(name, value, err);
    }
    options->is_page_cache = strcmp(value, "page") == 0;
    return BASE_OK;
}

static enum base_code add_mask(struct fs_options *options,
                               const char *name,
                               const char *value,
                               struct base_err *err)
{
    while (*value != '\0') {
        size_t n = strcspn(value, "+");
        uint64_t bits;

        if (!fs_feature_parse((struct base_str){value, n}, &bits)) {
            return bad_value(name, value, err);
        }
        options->masked |= bits;
        value += n + (value[n] == '+');
    }
    return BASE_OK;
}

static enum base_code add_threads(struct fs_options *options,
                                  const char *name,
                                  const char *value,
                                  struct base_err *err)
{
    uint64_t n;

    if (!base_parse_u64(base_str_of(value), &n) || n < 2 || n > MAX_THREADS) {
        return bad_value(name, value, err);
    }
    options->n_threads = (unsigned)n;
    return BASE_OK;
}

static enum base_code add_views(struct fs_options *options,
                                const char *name,
                                const char *value,
                                struct base_err *err)
{
    if (!base_parse_size(base_str_of(value), &options->view_bytes)) {
        return bad_value(name, value, err);
    }
    return BASE_OK;
}

static enum base_code add_log(struct fs_options *options,
                              const char *name,
                              const char *value,
                              struct base_err *err)
{
    (void)name;
    free(options->log);
    options->log = options_absolute(value);
    if (options->log == NULL) {
        return base_fail_errno(err, errno, "-o log");
    }
    return BASE_OK;
}

static enum base_code add_layout(struct fs_options *options,
                                 const char *name,
                                 const char *value,
                                 struct base_err *err)
{
    const char *colon = strchr(value, ':');
    struct fs_layout_option layout;

    if (colon == NULL || colon == value || colon[1] == '\0') {
        return base_fail(err, BASE_BAD_ARG, "-o %s=%s: expected NAME:FILE",
                         name, value);
    }
    if (options->layouts.n == MAX_LAYOUTS) {
        return base_fail(err, BASE_LIMIT, "more than %d layouts", MAX_LAYOUTS);
    }
    layout.name = strndup(value, (size_t)(colon - value));
    layout.file = options_absolute(colon + 1);
    if (layout.name == NULL || layout.file == NULL ||
        !base_vec_push(&options->layouts, layout)) {
        free(layout.name);
        free(layout.file);
        return base_fail(err, BASE_NO_MEM, "-o %s", name);
    }
    return BASE_OK;
}

/* Whom everything belongs to: another than who mounts, so only root may say. */
static enum base_code parse_id(const char *name,
                               const char *value,
                               uint64_t *ret,
                               struct base_err *err)
{
    if (!base_parse_u64(base_str_of(value), ret) || *ret >= UINT32_MAX) {
        return bad_value(name, value, err);
    }
    if (geteuid() != 0) {
        return base_fail(err, BASE_BAD_ARG, "-o %s: only root may say that",
                         name);
    }
    return BASE_OK;
}

static enum base_code add_uid(struct fs_options *options,
                              const char *name,
                              const char *value,
                              struct base_err *err)
{
    uint64_t id;

    BASE_TRY(parse_id(name, value, &id, err));
    options->uid = (uid_t)id;
    return BASE_OK;
}

static enum base_code add_gid(struct fs_options *options,
                              const char *name,
                              const char *value,
                              struct base_err *err)
{
    uint64_t id;

    BASE_TRY(parse_id(name, value, &id, err));
    options->gid = (gid_t)id;
    return BASE_OK;
}

/* Saves. */

static enum base_code add_replicas(struct fs_options *options,
                                   const char *name,
                                   const char *value,
                                   struct base_err *err)
{
    if (strcmp(value, "warn") != 0 && strcmp(value, "refuse") != 0) {
        return bad_value(name, value, err);
    }
    options->replicas = strcmp(value, "warn") == 0 ? STORE_REPLICAS_WARN
                                                   : STORE_REPLICAS_REFUSE;
    return BASE_OK;
}

static enum base_code parse_seconds(const char *name,
                                    const char *value,
                                    uint64_t *ret,
                                    struct base_err *err)
{
    uint64_t n;

    if (!base_parse_u64(base_str_of(value), &n) || n > MAX_WAIT_S) {
        return bad_value(name, value, err);
    }
    *ret = n;
    return BASE_OK;
}

static enum base_code add_commit_wait(struct fs_options *options,
                                      const char *name,
                                      const char *value,
                                      struct base_err *err)
{
    return parse_seconds(name, value, &options->commit_wait_s, err);
}

static enum base_code add_decide_wait(struct fs_options *options,
                                      const char *name,
                                      const char *value,
                                      struct base_err *err)
{
    return parse_seconds(name, value, &options->decide_wait_s, err);
}

static enum base_code add_save_expire(struct fs_options *options,
                                      const char *name,
                                      const char *value,
                                      struct base_err *err)
{
    return parse_seconds(name, value, &options->save_expire_s, err);
}

static enum base_code parse_switch(const char *name,
                                   const char *value,
                                   bool *ret,
                                   struct base_err *err)
{
    if (strcmp(value, "on") != 0 && strcmp(value, "off") != 0) {
        return bad_value(name, value, err);
    }
    *ret = strcmp(value, "on") == 0;
    return BASE_OK;
}

static enum base_code add_digest(struct fs_options *options,
                                 const char *name,
                                 const char *value,
                                 struct base_err *err)
{
    return parse_switch(name, value, &options->is_digesting, err);
}

static enum base_code add_compact(struct fs_options *options,
                                  const char *name,
                                  const char *value,
                                  struct base_err *err)
{
    return parse_switch(name, value, &options->is_compacting, err);
}

static enum base_code add_hang(struct fs_options *options,
                               const char *name,
                               const char *value,
                               struct base_err *err)
{
    return parse_seconds(name, value, &options->hang_s, err);
}

static enum base_code add_restarts(struct fs_options *options,
                                   const char *name,
                                   const char *value,
                                   struct base_err *err)
{
    if (!base_parse_u64(base_str_of(value), &options->max_restarts) ||
        options->max_restarts > MAX_RESTARTS) {
        return bad_value(name, value, err);
    }
    return BASE_OK;
}

/* What every mount of ours has anyway. */
static enum base_code add_nothing(struct fs_options *options,
                                  const char *name,
                                  const char *value,
                                  struct base_err *err)
{
    (void)options;
    (void)name;
    (void)value;
    (void)err;
    return BASE_OK;
}

static enum base_code add_kernel(struct fs_options *options,
                                 const char *name,
                                 const char *value,
                                 struct base_err *err)
{
    (void)value;
    (void)base_buf_addf(&options->kernel, ",%s", name);
    return base_buf_check(&options->kernel, err);
}

static const struct {
    const char *name;
    const char *value; /* NULL: takes none */
    const char *help;  /* NULL: accepted, not worth a line */
    option_fn add;
} table[] = {
    {"allow_other", NULL, "other users may read, too", add_allow_other},
    {"cache", "auto|page",
     "page: always through the page cache; auto (default): direct I/O where "
     "the kernel can map such files",
     add_cache},
    {"commit_wait", "SECONDS",
     "how long a commit waits for files that are still open for writing (10)",
     add_commit_wait},
    {"compact", "on|off",
     "rewrite the current version in the background when it is in small "
     "pieces, or its blobs hold mostly what nobody needs (on)",
     add_compact},
    {"decide_wait", "SECONDS",
     "under an agent: how long a commit waits until it is decided (30)",
     add_decide_wait},
    {"digest", "on|off", "digest saved versions in the background (on)",
     add_digest},
    {"gid", "GID", "the group that everything belongs to (root's mounts)",
     add_gid},
    {"hang", "SECONDS",
     "restart a server that answers nothing for so long (30; 0: never)",
     add_hang},
    {"layout", "NAME:FILE", "show the layout in a YAML file as as/NAME",
     add_layout},
    {"log", "FILE", "append messages to FILE (without -f)", add_log},
    {"mask", "FEATURE[+...]",
     "do not use a feature of the kernel: passthrough, allow_mmap, "
     "parallel_dirops, killpriv_v2, readdirplus, max_pages, async_read, "
     "resend, init_ext",
     add_mask},
    {"new", NULL, "JOB is a new one, of which the store has no version",
     add_new},
    {"replicas", "warn|refuse",
     "what becomes of a save in which ranks wrote different bytes for the same "
     "tensor: it is told afterwards (warn), or not committed",
     add_replicas},
    {"restarts", "N",
     "how often within a minute a server that died is started again (10)",
     add_restarts},
    {"save_expire", "SECONDS",
     "drop a save that was not written to for so long (3600; 0: never)",
     add_save_expire},
    {"threads", "N", "threads that serve requests (2 to 64)", add_threads},
    {"uid", "UID", "the user whom everything belongs to (root's mounts)",
     add_uid},
    {"verify", "off|read",
     "read: compare what is read of a version with its digests first; nothing "
     "of a version is passed through then (off)",
     add_verify},
    {"views", "SIZE", "memory for indices of closed files (64M)", add_views},
    {"noexec", NULL, "as for mount(8)", add_kernel},
    {"noatime", NULL, NULL, add_kernel},
    {"ro", NULL, NULL, add_nothing},
    {"nosuid", NULL, NULL, add_nothing},
    {"nodev", NULL, NULL, add_nothing},
};

enum { N_OPTIONS = sizeof(table) / sizeof(table[0]) };

void fs_options_help(FILE *out)
{
    size_t i;

    (void)fprintf(out, "options of -o, separated by commas:\n");
    for (i = 0; i < N_OPTIONS; i++) {
        if (table[i].help != NULL) {
            (void)fprintf(out, "  %s%s%s\n      %s\n", table[i].name,
                          table[i].value != NULL ? "=" : "",
                          table[i].value != NULL ? table[i].value : "",
                          table[i].help);
        }
    }
}

static enum base_code unknown(struct base_str name, struct base_err *err)
{
    const char *names[N_OPTIONS];
    const char *nearest;
    size_t i;

    for (i = 0; i < N_OPTIONS; i++) {
        names[i] = table[i].name;
    }
    nearest = base_str_nearest(name, names, N_OPTIONS);
    return base_fail(
        err, BASE_BAD_ARG, "unknown option -o %.*s%s%s%s", BASE_STR_FMT(name),
        nearest != NULL ? "; did you mean " : "",
        nearest != NULL ? nearest : "", nearest != NULL ? "?" : "");
}

/* @word is NAME or NAME=VALUE, and ours to change. */
static enum base_code
add_word(struct fs_options *options, char *word, struct base_err *err)
{
    char *equals = strchr(word, '=');
    const char *value = NULL;
    size_t i;

    if (equals != NULL) {
        *equals = '\0';
        value = equals + 1;
    }
    for (i = 0; i < N_OPTIONS && strcmp(table[i].name, word) != 0; i++) {
    }
    if (i == N_OPTIONS) {
        return unknown(base_str_of(word), err);
    }
    if ((value != NULL) != (table[i].value != NULL)) {
        return base_fail(err, BASE_BAD_ARG, "-o %s: %s", word,
                         value != NULL ? "takes no value" : "needs a value");
    }
    return table[i].add(options, word, value, err);
}

enum base_code fs_options_add(struct fs_options *options,
                              const char *list,
                              struct base_err *err)
{
    BASE_AUTO_MEM char *word = calloc(1, strlen(list) + 1);
    size_t n = 0;

    if (word == NULL) {
        return base_fail(err, BASE_NO_MEM, "-o %.40s", list);
    }
    for (;; list++) {
        if (*list != ',' && *list != '\0') {
            if (*list == '\\' && (list[1] == ',' || list[1] == '\\')) {
                list++;
            }
            word[n++] = *list;
            continue;
        }
        word[n] = '\0';
        if (n > 0) {
            BASE_TRY(add_word(options, word, err));
        }
        n = 0;
        if (*list == '\0') {
            return BASE_OK;
        }
    }
}
