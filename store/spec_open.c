/* SPEC on a command line: `hf`, a short form, or a YAML file.  Words come
 * before files: a file called `bert` is ./bert. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "ptc/preset.h"
#include "store/source.h"

enum { MAX_PRESETS = 32, CONFIG_MAX_BYTES = 16 << 20 };

/* The directory of config.json: @path itself, or where the file @path lies. */
static char *config_path(const char *path)
{
    struct stat st;
    const char *slash;

    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
        slash = strrchr(path, '/');
        return slash == NULL
                   ? strdup("config.json")
                   : base_path("%.*s/config.json", (int)(slash - path), path);
    }
    return base_path("%s/config.json", path);
}

static enum base_code open_short_form(const char *text,
                                      const char *path,
                                      const struct ptc_table *table,
                                      struct ptc_spec **ret,
                                      struct base_err *err)
{
    BASE_AUTO_BUF config;
    BASE_AUTO_MEM char *config_at = NULL;
    struct stat st;

    base_buf_init(&config, CONFIG_MAX_BYTES);
    if (path != NULL) {
        config_at = config_path(path);
        if (config_at == NULL) {
            return base_fail(err, BASE_NO_MEM, "no memory for a path");
        }
        if (stat(config_at, &st) == 0) {
            BASE_TRY(base_file_read(AT_FDCWD, config_at, &config, err));
        } else if (errno != ENOENT && errno != ENOTDIR) {
            return base_fail_errno(err, errno, "%s: cannot read", config_at);
        }
    }
    return ptc_preset_expand(base_str_of(text), base_buf_str(&config),
                             config_at, table, ret, err);
}

static enum base_code no_such_spec(const char *text, struct base_err *err)
{
    const char *names[MAX_PRESETS] = {"hf"};
    const char *colon = strchr(text, ':');
    struct base_str word = {text, colon == NULL ? strlen(text)
                                                : (size_t)(colon - text)};
    /* With a colon it was meant as a short form, else perhaps as a path. */
    enum base_code code = colon == NULL ? BASE_NOT_FOUND : BASE_BAD_ARG;
    const char *nearest;
    size_t n = 1;

    for (unsigned i = 0; n < MAX_PRESETS && ptc_preset_info(i) != NULL; i++) {
        names[n++] = ptc_preset_info(i)->name;
    }
    nearest = base_str_nearest(word, names, n);
    if (nearest != NULL) {
        return base_fail(err, code,
                         "%s: no such file, and no such preset; did you mean "
                         "%s?",
                         text, nearest);
    }
    return base_fail(err, code,
                     "%s: neither a file nor `hf` nor a preset "
                     "(`retile help presets` lists them)",
                     text);
}

enum base_code store_spec_open(const char *text,
                               const char *path,
                               const struct ptc_table *table,
                               struct ptc_spec **ret,
                               bool *ret_is_hf,
                               struct base_err *err)
{
    BASE_AUTO_BUF yaml = {0};
    struct stat st;

    if (strcmp(text, "hf") == 0) {
        BASE_TRY(ptc_spec_whole(ret, err));
        *ret_is_hf = true;
        return BASE_OK;
    }
    if (ptc_preset_is_short_form(base_str_of(text))) {
        BASE_TRY(open_short_form(text, path, table, ret, err));
        *ret_is_hf = false;
        return BASE_OK;
    }
    if (stat(text, &st) != 0) {
        if (errno == ENOENT || errno == ENOTDIR) {
            return no_such_spec(text, err);
        }
        return base_fail_errno(err, errno, "%s: cannot read", text);
    }
    base_buf_init(&yaml, PTC_SPEC_MAX_BYTES);
    BASE_TRY(base_file_read(AT_FDCWD, text, &yaml, err));
    BASE_TRY(ptc_spec_parse(base_buf_str(&yaml), text, ret, err));
    *ret_is_hf = false;
    return BASE_OK;
}
