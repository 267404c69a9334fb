/* Looking at a save: its source, held against the version that it follows, or
 * has become; and its replicas. */
#include <fcntl.h>
#include <stdlib.h>

#include "base/file.h"
#include "store/copy.h"
#include "store/save_priv.h"

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory for a save");
}

void store_looked_done(struct store_looked *looked)
{
    store_dir_files_free(looked->files, looked->n_files);
    store_source_free(looked->source);
    store_version_free(looked->parent);
    base_vec_done(&looked->job_objects);
    base_vec_done(&looked->objects);
    base_vec_done(&looked->object_replicas);
}

/* --- opening ------------------------------------------------------------ */

static enum base_code check_name(const char *name, struct base_err *err)
{
    BASE_TRY(ptc_name_check(base_str_of(name), "save", err));
    return name[0] != '.'
               ? BASE_OK
               : base_fail(err, BASE_BAD_ARG,
                           "save '%s': the name begins with '.'", name);
}

/* The version before it: layout and the job's objects. */
static enum base_code use_version(struct store_looked *looked,
                                  struct store_dir_save *how,
                                  struct base_err *err)
{
    const struct ptc_manifest *manifest =
        store_version_manifest(looked->parent);

    how->table = store_version_table(looked->parent);
    for (uint32_t i = 0; i < ptc_manifest_n_objects(manifest); i++) {
        struct ptc_manifest_object object = ptc_manifest_object(manifest, i);

        if (object.rank == PTC_NONE &&
            !base_str_eq(object.name, BASE_STR("retile.json")) &&
            !base_vec_push(&looked->job_objects, object.name)) {
            return no_mem(err);
        }
    }
    how->job_objects = looked->job_objects.items;
    how->n_job_objects = (uint32_t)looked->job_objects.n;
    return ptc_spec_parse(ptc_manifest_head(manifest)->layout,
                          store_version_label(looked->parent), &how->spec, err);
}

enum base_code store_looked_open(const struct store_root *root,
                                 const char *job,
                                 int staging_fd,
                                 const char *staging_path,
                                 const struct store_save *save,
                                 uint64_t number,
                                 struct store_looked *ret,
                                 struct base_err *err)
{
    BASE_AUTO_MEM char *path = base_path("%s/%s", staging_path, save->name);
    struct store_dir_save how = {.parent_fd = staging_fd,
                                 .name = save->name,
                                 .path = path,
                                 .step = save->step,
                                 .problems = &ret->problems};
    uint64_t before = number != 0 ? number : save->parent;

    ret->save = save;
    if (number == 0) {
        ret->problems.tell = save->tell;
        ret->problems.ctx = save->ctx;
    }
    if (path == NULL) {
        return no_mem(err);
    }
    BASE_TRY(check_name(save->name, err));
    if (before != 0) {
        BASE_TRY(store_version_open(root, job, before, &ret->parent, err));
        BASE_TRY(use_version(ret, &how, err));
    } else {
        how.layout = save->layout;
    }
    BASE_TRY(store_source_open_save(&how, &ret->source, err));
    ret->files = how.files;
    ret->n_files = how.n_files;
    return BASE_OK;
}

/* --- replicas ----------------------------------------------------------- */

struct comparing {
    struct store_looked *looked;
    const struct store_source *to;
    uint32_t *map; /* all PTC_NONE but those that are asked for */
    struct store_copy_options options;
    bool is_refusal;
    uint64_t n;
};

/* Tensors [begin, end). */
static enum base_code compare_some(struct comparing *c,
                                   uint32_t begin,
                                   uint32_t end,
                                   struct base_err *err)
{
    const struct store_source *source = c->looked->source;
    enum base_code code;

    for (uint32_t i = begin; i < end; i++) {
        c->map[i] = i;
    }
    code = store_compare(source, store_source_replicas(source), c->to,
                         store_source_pieces(c->to), c->map, &c->options, err);
    for (uint32_t i = begin; i < end; i++) {
        c->map[i] = PTC_NONE;
    }
    return code;
}

/* Something in [begin, end) differs: tell each tensor that does. */
static enum base_code tell_some(struct comparing *c,
                                uint32_t begin,
                                uint32_t end,
                                struct base_err *err)
{
    struct store_problems *problems = &c->looked->problems;
    uint32_t middle = begin + (end - begin) / 2;
    enum base_code code;

    if (c->n >= STORE_PROBLEMS_MAX_TOLD) {
        return BASE_OK; /* enough is known */
    }
    code = compare_some(c, begin, end, err);
    if (code != BASE_MISMATCH) {
        return code;
    }
    if (end - begin > 1) {
        BASE_TRY(tell_some(c, begin, middle, err));
        return tell_some(c, middle, end, err);
    }
    c->n++;
    if (c->is_refusal) {
        store_problems_add(problems, code, "%s", err->text);
    } else {
        store_problems_note(problems, "%s; the lowest rank's counts",
                            err->text);
    }
    return BASE_OK;
}

enum base_code store_looked_compare(struct store_looked *looked,
                                    const struct store_source *to,
                                    bool is_refusal,
                                    bool (*progress)(void *ctx,
                                                     uint64_t done_bytes,
                                                     uint64_t all_bytes),
                                    void *ctx,
                                    uint64_t *ret_n,
                                    struct base_err *err)
{
    uint32_t n = ptc_table_n_tensors(store_source_table(looked->source));
    BASE_AUTO_MEM uint32_t *map = calloc((size_t)n + 1, sizeof(*map));
    struct comparing c = {
        .looked = looked,
        .to = to,
        .map = map,
        .options = {.progress = progress, .progress_ctx = ctx},
        .is_refusal = is_refusal};
    enum base_code code;

    if (map == NULL) {
        return no_mem(err);
    }
    memset(map, 0xff, ((size_t)n + 1) * sizeof(*map)); /* PTC_NONE each */
    code = ptc_pieces_n(store_source_replicas(looked->source)) == 0
               ? BASE_OK
               : compare_some(&c, 0, n, err);
    if (code == BASE_MISMATCH) {
        c.options = (struct store_copy_options){.n_threads = 1};
        code = tell_some(&c, 0, n, err);
    }
    BASE_TRY(code);
    BASE_TRY(store_looked_compare_objects(looked, is_refusal, &c.n, err));
    *ret_n = c.n;
    return BASE_OK;
}
