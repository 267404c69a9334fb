#include "store/draft.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

#include "base/io.h"
#include "ptc/json.h"
#include "store/digest.h"

#define POSITION_NAME "retile.json"

enum { POSITION_MAX_BYTES = 1 << 20 };

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot allocate a manifest");
}

void store_draft_done(struct store_draft *draft)
{
    base_vec_done(&draft->blobs);
    base_vec_done(&draft->regions);
    base_vec_done(&draft->objects);
    free(draft->chunks);
    draft->chunks = NULL;
}

enum base_code store_draft_add_blob(struct store_draft *draft,
                                    const struct ptc_blob_name *name,
                                    uint64_t n_bytes,
                                    struct base_err *err)
{
    struct ptc_manifest_blob blob = {*name, n_bytes};

    return base_vec_push(&draft->blobs, blob) ? BASE_OK : no_mem(err);
}

enum base_code store_draft_add_region(struct store_draft *draft,
                                      uint32_t tensor,
                                      uint64_t offset,
                                      uint64_t n_bytes,
                                      bool is_digested,
                                      struct base_err *err)
{
    struct ptc_manifest_region region = {.tensor = tensor,
                                         .blob = (uint32_t)draft->blobs.n - 1,
                                         .offset = offset,
                                         .n_bytes = n_bytes,
                                         .first_chunk = draft->n_chunks,
                                         .is_digested = is_digested};

    draft->n_chunks += store_digest_n_chunks(n_bytes);
    return base_vec_push(&draft->regions, region) ? BASE_OK : no_mem(err);
}

enum base_code store_draft_add_object(struct store_draft *draft,
                                      struct base_str name,
                                      ptc_rank rank,
                                      bool is_digested,
                                      struct base_err *err)
{
    struct ptc_manifest_object object = {name, rank,
                                         (uint32_t)draft->regions.n};
    uint64_t n_bytes = draft->blobs.items[draft->blobs.n - 1].n_bytes;

    BASE_TRY(
        store_draft_add_region(draft, PTC_NONE, 0, n_bytes, is_digested, err));
    return base_vec_push(&draft->objects, object) ? BASE_OK : no_mem(err);
}

enum base_code store_draft_make_chunks(struct store_draft *draft,
                                       struct base_err *err)
{
    draft->chunks = calloc((size_t)draft->n_chunks + 1, sizeof(*draft->chunks));
    return draft->chunks != NULL ? BASE_OK : no_mem(err);
}

/* --- the data position -------------------------------------------------- */

static enum base_code get_number(const json_t *json,
                                 const char *key,
                                 uint64_t *ret,
                                 struct base_err *err)
{
    return json_object_get(json, key) == NULL
               ? BASE_OK
               : ptc_json_get_u64(json, key, ret, err);
}

enum base_code store_read_position(const struct store_source *source,
                                   uint64_t *ret_step,
                                   uint64_t *ret_samples,
                                   struct base_err *err)
{
    const struct store_blob *blob = NULL;
    BASE_AUTO_MEM char *text = NULL;
    PTC_JSON_AUTO json = NULL;
    enum base_code rc;

    *ret_step = *ret_samples = UINT64_MAX;
    BASE_TRY(store_source_object(source, BASE_STR(POSITION_NAME), PTC_NONE,
                                 &blob, err));
    if (blob == NULL) {
        return BASE_OK;
    }
    if (blob->n_bytes > POSITION_MAX_BYTES) {
        return base_fail(err, BASE_LIMIT,
                         "%s: has %" PRIu64 " bytes, the limit is %d",
                         blob->label, blob->n_bytes, POSITION_MAX_BYTES);
    }
    text = malloc((size_t)blob->n_bytes + 1);
    if (text == NULL) {
        return no_mem(err);
    }
    BASE_TRY(base_io_pread(blob->fd, text, (size_t)blob->n_bytes, 0,
                           blob->label, err));
    BASE_TRY(ptc_json_load((struct base_str){text, (size_t)blob->n_bytes},
                           blob->label, &json, err));
    rc = get_number(json, "step", ret_step, err);
    if (rc == BASE_OK) {
        rc = get_number(json, "samples", ret_samples, err);
    }
    return rc == BASE_OK ? rc : base_wrap(err, rc, "%s", blob->label);
}

/* --- publishing --------------------------------------------------------- */

static int object_cmp(const void *va, const void *vb)
{
    const struct ptc_manifest_object *a = va;
    const struct ptc_manifest_object *b = vb;
    int order = base_str_cmp(a->name, b->name);

    return order != 0 ? order : (a->rank > b->rank) - (a->rank < b->rank);
}

struct ptc_manifest_new store_draft_manifest(struct store_draft *draft,
                                             const struct ptc_table *table,
                                             const struct ptc_pieces *pieces)
{
    if (draft->objects.n > 0) {
        qsort(draft->objects.items, draft->objects.n,
              sizeof(*draft->objects.items), object_cmp);
    }
    return (struct ptc_manifest_new){.blobs = draft->blobs.items,
                                     .n_blobs = (uint32_t)draft->blobs.n,
                                     .regions = draft->regions.items,
                                     .n_regions = (uint32_t)draft->regions.n,
                                     .chunks = draft->chunks,
                                     .n_chunks = draft->n_chunks,
                                     .objects = draft->objects.items,
                                     .n_objects = (uint32_t)draft->objects.n,
                                     .table = table,
                                     .pieces = pieces};
}

enum base_code store_draft_publish(struct store_draft *draft,
                                   struct store_change *change,
                                   const struct ptc_layout *layout,
                                   const struct ptc_pieces *pieces,
                                   const struct ptc_manifest_head *head,
                                   uint64_t *ret_number,
                                   struct base_err *err)
{
    const struct ptc_table *table = ptc_layout_table(layout);
    struct ptc_manifest_new manifest =
        store_draft_manifest(draft, table, pieces);
    struct timespec now = {0};
    BASE_AUTO_BUF text;

    base_buf_init(&text, (size_t)PTC_SPEC_MAX_BYTES * 4);
    BASE_TRY(ptc_spec_format(ptc_layout_spec(layout), &text, err));
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
    manifest.head = *head;
    manifest.head.created_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    manifest.head.table = ptc_table_digest(table);
    manifest.head.layout = base_buf_str(&text);
    return store_change_publish(change, &manifest, ret_number, err);
}
