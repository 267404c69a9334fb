/* Import: a source's bytes, copied once into blobs. */
#include "store/draft.h"
#include "store/pack.h"
#include "store/source_priv.h"
#include "store/vote_priv.h"

enum base_code store_import(struct store_root *root,
                            const char *job,
                            const struct store_source *source,
                            const struct store_import_options *options,
                            const struct store_attempt *attempt,
                            uint64_t *ret_number,
                            struct base_err *err)
{
    struct ptc_manifest_head head = {.origin = BASE_STR("import")};
    STORE_AUTO_PACK pack = {.options = options};
    BASE_AUTO(store_change) change = NULL;
    uint64_t number = 0;

    BASE_TRY(store_vote_find(root, job, attempt, "import", UINT64_MAX, &number,
                             err));
    if (number != 0) {
        *ret_number = number;
        return BASE_OK;
    }
    BASE_TRY(store_pack_plan(&pack, source, err));
    pack.all_bytes = 2 * pack.file_bytes + pack.object_bytes;
    BASE_TRY(store_read_position(source, &head.step, &head.samples, err));
    BASE_TRY(store_change_begin(root, job, pack.file_bytes + pack.object_bytes,
                                attempt, &change, err));
    BASE_TRY(store_pack_make(&pack, change, NULL, err));
    BASE_TRY(store_change_unlock(change, err));
    BASE_TRY(store_pack_write(&pack, err));
    return store_draft_publish(&pack.draft, change, pack.layout, pack.pieces,
                               &head, ret_number, err);
}
