/* Options that name files and directories: what is shown, where, in which
 * layout. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "fuse/options.h"
#include "fuse/options_impl.h"
#include "ptc/preset.h"
#include "store/source.h"

char *options_absolute(const char *path)
{
    BASE_AUTO_MEM char *here = NULL;
    char *joined;

    if (path[0] == '/') {
        return strdup(path);
    }
    here = getcwd(NULL, 0);
    if (here == NULL ||
        (joined = calloc(1, strlen(here) + strlen(path) + 2)) == NULL) {
        return NULL;
    }
    (void)stpcpy(stpcpy(stpcpy(joined, here), "/"), path);
    return joined;
}

enum base_code fs_options_layout(struct fs_options *options,
                                 const char *spec,
                                 struct base_err *err)
{
    const bool is_file = access(spec, F_OK) == 0;
    BASE_AUTO(ptc_spec) parsed = NULL;
    bool is_hf;

    /* A short form may want a config.json, which comes with the save. */
    if (is_file || !ptc_preset_is_short_form(base_str_of(spec))) {
        BASE_TRY(store_spec_open(spec, NULL, NULL, &parsed, &is_hf, err));
    }
    /* The file that is meant now is meant wherever we go later. */
    options->layout_file = is_file ? options_absolute(spec) : strdup(spec);
    if (options->layout_file == NULL) {
        return base_fail_errno(err, errno, "--layout %s", spec);
    }
    options->layout = options->layout_file;
    return BASE_OK;
}

/* An absolute name for a file; for what is none (a short form) a copy. */
static enum base_code
resolve(const char *option, const char *value, char **ret, struct base_err *err)
{
    const bool is_file = strcmp(value, "hf") != 0 &&
                         !ptc_preset_is_short_form(base_str_of(value));

    *ret = is_file ? options_absolute(value) : strdup(value);
    if (*ret == NULL) {
        return base_fail_errno(err, errno, "--%s %s", option, value);
    }
    return BASE_OK;
}

enum base_code fs_options_from(struct fs_options *options,
                               const char *from,
                               const char *table,
                               struct base_err *err)
{
    if (from != NULL) {
        BASE_TRY(resolve("from", from, &options->from_file, err));
    }
    if (table != NULL) {
        BASE_TRY(resolve("table", table, &options->table_file, err));
    }
    options->from = options->from_file;
    options->table = options->table_file;
    return BASE_OK;
}

/* Is @path @dir or below it?  Both absolute, without links. */
static bool is_within(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    if (strcmp(dir, "/") == 0) {
        return true;
    }
    return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

static enum base_code check_mountpoint(const char *path, struct base_err *err)
{
    struct stat found;

    if (stat(path, &found) != 0) {
        if (errno == ENOTCONN) {
            return base_fail(err, BASE_BAD_ARG,
                             "%s: a mount whose server died is there; remove "
                             "it with: fusermount3 -u %s",
                             path, path);
        }
        return base_fail_errno(err, errno, "mountpoint %s", path);
    }
    if (!S_ISDIR(found.st_mode)) {
        return base_fail(err, BASE_BAD_ARG, "mountpoint %s is no directory",
                         path);
    }
    /* Copies may carry the attribute, but not the number of our root. */
    if (found.st_ino == 1 && getxattr(path, "user.retile.table", NULL, 0) > 0) {
        return base_fail(err, BASE_BAD_ARG,
                         "%s: a checkpoint is mounted there already; remove it "
                         "with: fusermount3 -u %s",
                         path, path);
    }
    return BASE_OK;
}

enum base_code fs_options_paths(struct fs_options *options,
                                const char *source,
                                const char *mountpoint,
                                struct base_err *err)
{
    BASE_TRY(check_mountpoint(mountpoint, err));
    options->mountpoint = realpath(mountpoint, NULL);
    if (options->mountpoint == NULL) {
        return base_fail_errno(err, errno, "mountpoint %s", mountpoint);
    }
    options->source = realpath(source, NULL);
    if (options->source == NULL) {
        return base_fail_errno(err, errno, "%s", source);
    }
    if (is_within(options->mountpoint, options->source) ||
        is_within(options->source, options->mountpoint)) {
        return base_fail(err, BASE_BAD_ARG,
                         "%s and the mountpoint %s lie in each other; a mount "
                         "there would wait for itself",
                         options->source, options->mountpoint);
    }
    return BASE_OK;
}
