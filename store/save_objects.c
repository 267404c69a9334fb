/* The objects of a save.
 *
 * A rank's object stands for all ranks that agree in the axes it varies over:
 * of these the lowest that wrote it counts, and it is kept under the lowest of
 * them, where a view looks for it; what others wrote is compared.  Either all such sets of ranks have one or
 * none.  Job objects that the save lacks are its parent's. */
#include <inttypes.h>
#include <stdlib.h>

#include "store/copy.h"
#include "store/draft.h"
#include "store/save_priv.h"

#define POSITION_NAME BASE_STR("retile.json")

static enum base_code no_mem(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory for a save's objects");
}

static enum base_code add(struct store_looked *looked,
                          struct base_str name,
                          ptc_rank rank,
                          uint32_t blob,
                          uint32_t kept,
                          struct base_err *err)
{
    struct store_saved_object object = {name, rank, blob, kept};

    return base_vec_push(&looked->objects, object) ? BASE_OK : no_mem(err);
}

/* Ranks' objects [begin, end) of one name, in order of rank. */
static enum base_code add_ranks(struct store_looked *looked,
                                uint32_t begin,
                                uint32_t end,
                                uint32_t *writer, /* per rank, all PTC_NONE */
                                struct base_err *err)
{
    const struct store_source *source = looked->source;
    const struct ptc_layout *layout = store_source_layout(source);
    struct base_str name = store_source_object_at(source, begin)->name;
    uint32_t n_ranks = ptc_layout_n_ranks(layout);

    for (uint32_t i = begin; i < end; i++) {
        ptc_rank rank = store_source_object_at(source, i)->rank;
        ptc_rank as = PTC_NONE;

        if (rank >= n_ranks) {
            continue; /* told already */
        }
        BASE_TRY(ptc_object_source(layout, layout, name, rank, &as, err));
        if (writer[as] == PTC_NONE) {
            writer[as] = i;
        } else {
            struct store_saved_replica replica = {i, writer[as]};

            if (!base_vec_push(&looked->object_replicas, replica)) {
                return no_mem(err);
            }
        }
    }
    for (ptc_rank rank = 0; rank < n_ranks; rank++) {
        ptc_rank as = PTC_NONE;

        BASE_TRY(ptc_object_source(layout, layout, name, rank, &as, err));
        if (as != rank) {
            continue;
        }
        if (writer[rank] == PTC_NONE) {
            store_problems_add(
                &looked->problems, BASE_MISMATCH,
                "%s/ranks/%03u/%.*s: missing, though rank %u has one",
                store_source_path(source), rank, BASE_STR_FMT(name),
                store_source_object_at(source, begin)->rank);
            continue;
        }
        BASE_TRY(add(looked, name, rank,
                     store_source_object_at(source, writer[rank])->blob,
                     PTC_NONE, err));
    }
    return BASE_OK;
}

static enum base_code add_own(struct store_looked *looked, struct base_err *err)
{
    const struct store_source *source = looked->source;
    uint32_t n = store_source_n_objects(source);
    uint32_t n_ranks = ptc_layout_n_ranks(store_source_layout(source));
    BASE_AUTO_MEM uint32_t *writer = calloc(n_ranks, sizeof(*writer));
    uint32_t end;

    if (writer == NULL) {
        return no_mem(err);
    }
    for (uint32_t i = 0; i < n; i = end) {
        const struct store_object *object = store_source_object_at(source, i);

        for (end = i + 1;
             end < n && base_str_eq(store_source_object_at(source, end)->name,
                                    object->name);
             end++) {
        }
        if (object->rank == PTC_NONE) {
            BASE_TRY(add(looked, object->name, PTC_NONE, object->blob, PTC_NONE,
                         err));
            continue;
        }
        memset(writer, 0xff, n_ranks * sizeof(*writer)); /* PTC_NONE each */
        BASE_TRY(add_ranks(looked, i, end, writer, err));
    }
    return BASE_OK;
}

/* The parent's: the job's are kept, but for the position; of the ranks' it is
 * said when nobody wrote them. */
static enum base_code add_kept(struct store_looked *looked,
                               struct base_err *err)
{
    const struct ptc_manifest *manifest;
    struct base_str told = {0};

    if (looked->parent == NULL) {
        return BASE_OK;
    }
    manifest = store_version_manifest(looked->parent);
    for (uint32_t i = 0; i < ptc_manifest_n_objects(manifest); i++) {
        struct ptc_manifest_object object = ptc_manifest_object(manifest, i);

        if (store_source_has_object(looked->source, object.name)) {
            continue;
        }
        if (object.rank != PTC_NONE) {
            if (told.ptr == NULL || !base_str_eq(told, object.name)) {
                store_problems_note(&looked->problems,
                                    "%s: no rank wrote %.*s, which %s has",
                                    store_source_path(looked->source),
                                    BASE_STR_FMT(object.name),
                                    store_version_label(looked->parent));
            }
            told = object.name;
        } else if (!base_str_eq(object.name, POSITION_NAME)) {
            BASE_TRY(add(looked, object.name, PTC_NONE, PTC_NONE, i, err));
        }
    }
    return BASE_OK;
}

enum base_code store_looked_compare_objects(struct store_looked *looked,
                                            bool is_refusal,
                                            uint64_t *n,
                                            struct base_err *err)
{
    const struct store_source *source = looked->source;
    struct store_problems *problems = &looked->problems;

    for (size_t i = 0; i < looked->object_replicas.n; i++) {
        const struct store_saved_replica *replica =
            &looked->object_replicas.items[i];
        uint32_t a = store_source_object_at(source, replica->object)->blob;
        uint32_t b = store_source_object_at(source, replica->lowest)->blob;
        enum base_code code = store_compare_blobs(
            store_source_blob(source, a), store_source_blob(source, b), err);

        if (code == BASE_MISMATCH && is_refusal) {
            store_problems_add(problems, code, "%s", err->text);
        } else if (code == BASE_MISMATCH) {
            store_problems_note(problems, "%s; the lowest rank's counts",
                                err->text);
        } else {
            BASE_TRY(code);
        }
        *n += code == BASE_MISMATCH;
    }
    return BASE_OK;
}

static enum base_code check_position(struct store_looked *looked,
                                     struct base_err *err)
{
    uint64_t step = UINT64_MAX;
    enum base_code code =
        store_read_position(looked->source, &step, &looked->samples, err);

    BASE_TRY(store_problems_take(&looked->problems, code, err));
    if (code == BASE_OK && step != UINT64_MAX && step != looked->save->step) {
        store_problems_add(&looked->problems, BASE_MISMATCH,
                           "%s/retile.json: is of step %" PRIu64
                           ", the save is of step %" PRIu64,
                           store_source_path(looked->source), step,
                           looked->save->step);
    }
    if (code == BASE_OK &&
        !store_source_has_object(looked->source, POSITION_NAME)) {
        store_problems_note(&looked->problems,
                            "%s: has no retile.json, so no data position",
                            store_source_path(looked->source));
    }
    return BASE_OK;
}

enum base_code store_looked_objects(struct store_looked *looked,
                                    struct base_err *err)
{
    looked->samples = UINT64_MAX;
    BASE_TRY(add_own(looked, err));
    BASE_TRY(add_kept(looked, err));
    return check_position(looked, err);
}
