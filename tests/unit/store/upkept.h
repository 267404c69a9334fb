/* What tests of upkeep (digesting, compaction, scrub, sweep) do to a small store,
 * and a job of it with two versions over the same blobs. */
#ifndef UNIT_STORE_UPKEPT_H
#define UNIT_STORE_UPKEPT_H

#include "store/change.h"
#include "store/compact.h"
#include "store/digest.h"
#include "store/source.h"
#include "tests/unit/store/small_store.h"

/* Findings are counted; the last one is kept. */
struct upkeep_told {
    uint64_t n;
    char text[512];
};

/* A job "j": @1 as imported, @2 the same over its blobs as four ranks. */
struct upkept {
    struct small_store *store; /* for its directory and root */
    struct store_root *root;
    char *dir; /* what was imported as j@1 */
};

void upkept_make(struct upkept *world, struct small_store *store);
void upkept_done(struct upkept *world);
#define UPKEPT __attribute__((cleanup(upkept_done))) struct upkept

extern const struct store_import_options upkeep_two_threads;

struct upkeep_told upkeep_scrub(struct store_root *root);
void upkeep_assert_clean(struct store_root *root);
/* Given: store_version_free. */
struct store_version *
upkeep_open_version(struct store_root *root, const char *job, uint64_t number);
/* How many regions of the version are not digested. */
uint32_t
upkeep_undigested(struct store_root *root, const char *job, uint64_t number);
/* How many blobs it removed. */
uint64_t upkeep_sweep(struct store_root *root);
uint64_t upkeep_used(const struct store_root *root);
/* j's newest version under the spec @yaml; its number. */
uint64_t upkeep_rescale(struct store_root *root, const char *yaml);
/* Of j@number; given: store_source_free. */
struct store_source *upkeep_open_source(struct store_root *root,
                                        uint64_t number);
/* It has the content of the directory @dir. */
void upkeep_assert_same(const struct store_source *source, const char *dir);
/* j@number (0: the newest) has the content that was imported. */
void upkeep_must_equal(const struct upkept *world, uint64_t number);
struct store_worth upkeep_worth_of(const struct upkept *world, uint64_t number);

#endif
