/* SPEC on a command line: `hf`, a short form, or a YAML file.  Words come
 * before files: a file called `bert` is ./bert. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/io.h"
#include "base/num.h"
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

/* config.json beside @path, when it is there. */
static enum base_code read_config(const char *path,
                                  struct base_buf *config,
                                  char **ret_at,
                                  struct base_err *err)
{
    struct stat st;

    *ret_at = config_path(path);
    if (*ret_at == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for a path");
    }
    if (stat(*ret_at, &st) == 0) {
        return base_file_read(AT_FDCWD, *ret_at, config, err);
    }
    if (errno != ENOENT && errno != ENOTDIR) {
        return base_fail_errno(err, errno, "%s: cannot read", *ret_at);
    }
    return BASE_OK;
}

/* The job object config.json of a version, when it has one. */
static enum base_code read_object(const struct store_source *source,
                                  struct base_buf *config,
                                  char **ret_at,
                                  struct base_err *err)
{
    const struct store_blob *blob = NULL;
    char chunk[16384];

    *ret_at = base_path("%s/config.json", store_source_path(source));
    if (*ret_at == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for a path");
    }
    BASE_TRY(store_source_object(source, BASE_STR("config.json"), PTC_NONE,
                                 &blob, err));
    for (uint64_t at = 0; blob != NULL && at < blob->n_bytes;) {
        size_t n = (size_t)base_min_u64(sizeof(chunk), blob->n_bytes - at);

        BASE_TRY(base_io_pread(blob->fd, chunk, n, at, *ret_at, err));
        (void)base_buf_add(config, chunk, n); /* sticky, checked below */
        at += n;
    }
    return base_buf_check(config, err);
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

/* Where config.json is: beside @path, of @source, or nowhere. */
static enum base_code open_short_form(const char *text,
                                      const char *path,
                                      const struct store_source *source,
                                      const struct ptc_table *table,
                                      struct ptc_spec **ret,
                                      struct base_err *err)
{
    BASE_AUTO_BUF config;
    BASE_AUTO_MEM char *config_at = NULL;

    base_buf_init(&config, CONFIG_MAX_BYTES);
    if (source != NULL && store_source_form(source) == STORE_FORM_VERSION) {
        BASE_TRY(read_object(source, &config, &config_at, err));
    } else if (path != NULL) {
        BASE_TRY(read_config(path, &config, &config_at, err));
    }
    return ptc_preset_expand(base_str_of(text), base_buf_str(&config),
                             config_at, table, ret, err);
}

static enum base_code open_any(const char *text,
                               const char *path,
                               const struct store_source *source,
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
        BASE_TRY(open_short_form(text, path, source, table, ret, err));
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

enum base_code store_spec_open(const char *text,
                               const char *path,
                               const struct ptc_table *table,
                               struct ptc_spec **ret,
                               bool *ret_is_hf,
                               struct base_err *err)
{
    return open_any(text, path, NULL, table, ret, ret_is_hf, err);
}

enum base_code store_spec_open_source(const char *text,
                                      const struct store_source *source,
                                      struct ptc_spec **ret,
                                      bool *ret_is_hf,
                                      struct base_err *err)
{
    return open_any(text, store_source_path(source), source,
                    store_source_table(source), ret, ret_is_hf, err);
}
