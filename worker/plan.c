#include "worker/plan.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/num.h"
#include "proto/describe.h"
#include "proto/rpc.h"
#include "ptc/preset.h"
#include "ptc/spec.h"
#include "store/change.h"
#include "store/target.h"
#include "worker/inventory.h"
#include "worker/loop.h"

enum { MAX_DROPPED = 1000 }; /* named in a summary */

/* --- what `to` means ------------------------------------------------------ */

/* "tp=2,pp=1": no preset, no YAML. */
static bool is_axis_list(struct base_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (strchr("{}:\n#", text.ptr[i]) != NULL) {
            return false;
        }
    }
    return memchr(text.ptr, '=', text.len) != NULL;
}

/* "llama:tp=2", also of a preset that there is not; no file's name. */
static bool is_short_form(struct base_str text)
{
    const char *colon = memchr(text.ptr, ':', text.len);

    return memchr(text.ptr, '\n', text.len) == NULL &&
           memchr(text.ptr, '/', text.len) == NULL &&
           (ptc_preset_is_short_form(text) ||
            (colon != NULL && colon[1] > ' ')); /* a NUL follows the text */
}

static enum base_code
set_axis(struct ptc_mesh *mesh, struct base_str item, struct base_err *err)
{
    const char *equals = memchr(item.ptr, '=', item.len);
    struct base_str name = {
        item.ptr, equals == NULL ? item.len : (size_t)(equals - item.ptr)};
    uint32_t axis = ptc_mesh_find(mesh, name);
    uint64_t size;

    if (equals == NULL ||
        !base_parse_u64((struct base_str){equals + 1, item.len - name.len - 1},
                        &size) ||
        size == 0 || size > PTC_MAX_RANKS) {
        return base_fail(err, BASE_BAD_ARG,
                         "'%.*s': AXIS=SIZE is needed, SIZE from 1",
                         BASE_STR_FMT(item));
    }
    if (axis == PTC_NONE) {
        BASE_AUTO_BUF names;

        base_buf_init(&names, 320);
        for (uint32_t i = 0; i < mesh->n_axes; i++) {
            (void)base_buf_addf(&names, "%s%.*s", i == 0 ? "" : ", ",
                                BASE_STR_FMT(mesh->axes[i].name));
        }
        return base_fail(
            err, BASE_BAD_ARG, "the job's mesh has no axis '%.*s'; it has: %s",
            BASE_STR_FMT(name), names.len > 0 ? names.ptr : "none");
    }
    mesh->axes[axis].size = (uint32_t)size;
    return BASE_OK;
}

/* The source's own layout with other sizes.  What is read again is checked as
 * any spec is. */
static enum base_code resize(struct base_str list,
                             const struct ptc_spec *old,
                             struct ptc_spec **ret,
                             struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO_BUF text;
    struct base_str rest = list;

    base_buf_init(&text, PTC_SPEC_MAX_BYTES);
    BASE_TRY(ptc_spec_format(old, &text, err));
    BASE_TRY(ptc_spec_parse(base_buf_str(&text), "the layout", &spec, err));
    while (rest.len > 0) {
        const char *comma = memchr(rest.ptr, ',', rest.len);
        struct base_str item = {
            rest.ptr, comma == NULL ? rest.len : (size_t)(comma - rest.ptr)};

        BASE_TRY(set_axis(&spec->meshes[0], item, err));
        rest.ptr += item.len + (comma != NULL);
        rest.len -= item.len + (comma != NULL);
    }
    text.len = 0;
    BASE_TRY(ptc_spec_format(spec, &text, err));
    return ptc_spec_parse(base_buf_str(&text), "the layout", ret, err);
}

enum base_code worker_spec_for(const char *to,
                               const struct store_source *source,
                               struct ptc_spec **ret,
                               struct base_err *err)
{
    const struct base_str text = base_str_of(to);
    BASE_AUTO(ptc_spec) spec = NULL;
    bool is_hf = false;

    if (text.len == 0) {
        BASE_TRY(resize(text, ptc_layout_spec(store_source_layout(source)), ret,
                        err));
        return BASE_OK;
    }
    if (is_short_form(text)) {
        BASE_TRY(store_spec_open_source(to, source, ret, &is_hf, err));
        return BASE_OK;
    }
    if (is_axis_list(text)) {
        return resize(text, ptc_layout_spec(store_source_layout(source)), ret,
                      err);
    }
    BASE_TRY(ptc_spec_parse(text, "the layout", &spec, err));
    *ret = base_steal(&spec);
    return BASE_OK;
}

/* --- the summary ----------------------------------------------------------- */

static uint64_t
manifest_bytes(const struct store_root *root, const char *job, uint64_t number)
{
    BASE_AUTO_MEM char *path =
        base_path("jobs/%s/versions/%" PRIu64 "/manifest", job, number);
    struct stat st;

    if (path == NULL || fstatat(store_root_fd(root), path, &st, 0) < 0) {
        return 0;
    }
    return (uint64_t)st.st_size;
}

static void add_dropped(Retile__V1__PlanSummary *summary,
                        const struct store_target *target,
                        char **room)
{
    uint32_t n = store_target_n_dropped(target);

    for (uint32_t i = 0; i < n && i < MAX_DROPPED; i++) {
        union {
            const char *shown;
            char *field; /* a message's texts are not const */
        } path = {.shown = store_target_dropped(target, i)};

        room[summary->n_dropped++] = path.field;
    }
    summary->dropped = room;
}

/* Copy the answer while what it borrows is there. */
static enum base_code answer(const struct store_root *root,
                             const char *job,
                             const struct store_source *source,
                             const struct store_target *target,
                             int64_t begin_ns,
                             Retile__V1__StatusPlan *said,
                             Retile__V1__StatusPlan **ret,
                             struct base_err *err)
{
    const struct store_version *version = store_source_version(source);
    const struct ptc_layout *layout = store_target_layout(target);
    Retile__V1__PlanSummary summary = RETILE__V1__PLAN_SUMMARY__INIT;
    BASE_AUTO_MEM char **dropped =
        calloc((size_t)store_target_n_dropped(target) + 1, sizeof(char *));
    Retile__V1__Version *described = rpc_version_describe(version);
    BASE_AUTO_MEM char *mesh = rpc_mesh_text(ptc_layout_spec(layout));
    BASE_AUTO_BUF text;
    enum base_code code;

    base_buf_init(&text, PTC_SPEC_MAX_BYTES);
    code = ptc_spec_format(ptc_layout_spec(layout), &text, err);
    if (dropped == NULL || described == NULL || mesh == NULL) {
        code = base_fail(err, BASE_NO_MEM, "%s: cannot plan", job);
    } else if (code == BASE_OK) {
        summary.state_bytes = described->n_bytes;
        summary.peak_bytes = manifest_bytes(root, job, described->number);
        summary.n_ranks = ptc_layout_n_ranks(layout);
        add_dropped(&summary, target, dropped);
        /* Making it is this once more, and its manifest written. */
        summary.predicted_s = (double)(worker_now_ns() - begin_ns) / 1e9 + 0.01;
        said->layout = text.ptr;
        said->mesh = mesh;
        said->summary = &summary;
        *ret = rpc_message_copy(&said->base);
        said->layout = NULL; /* what they point to ends here */
        said->mesh = NULL;
        said->summary = NULL;
    }
    if (described != NULL) {
        rpc_message_free(&described->base);
    }
    return code;
}

static enum base_code bind(const struct store_root *root,
                           const char *job,
                           const Retile__V1__TargetPlan *wanted,
                           Retile__V1__StatusPlan *said,
                           Retile__V1__StatusPlan **ret,
                           struct base_err *err)
{
    const int64_t begin_ns = worker_now_ns();
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(store_source) source = NULL;
    BASE_AUTO(ptc_spec) spec = NULL;
    BASE_AUTO(store_target) target = NULL;

    BASE_TRY(store_version_open(root, job, 0, &version, err));
    BASE_TRY(store_source_open_version(root, &version, &source, err));
    BASE_TRY(worker_spec_for(wanted->to, source, &spec, err));
    BASE_TRY(store_target_open(source, &spec, &target, err));
    return answer(root, job, source, target, begin_ns, said, ret, err);
}

Retile__V1__StatusPlan *worker_plan_make(const struct store_root *root,
                                         const char *job,
                                         const Retile__V1__TargetPlan *wanted)
{
    Retile__V1__StatusPlan said = RETILE__V1__STATUS_PLAN__INIT;
    Retile__V1__StatusPlan *made = NULL;
    struct base_err err = {0};

    said.number = wanted->number;
    if (bind(root, job, wanted, &said, &made, &err) != BASE_OK) {
        said = (Retile__V1__StatusPlan)RETILE__V1__STATUS_PLAN__INIT;
        said.number = wanted->number;
        said.is_failed = true;
        said.reason = err.text;
        made = rpc_message_copy(&said.base);
    }
    return made;
}
