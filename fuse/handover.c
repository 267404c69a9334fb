#include "fuse/handover.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#define TAKEN UINT64_C(1) /* no request has this number */

enum base_code fs_handover_create(struct fs_handover **ret,
                                  struct base_err *err)
{
    struct fs_handover *handover =
        mmap(NULL, sizeof(*handover), PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (handover == MAP_FAILED) {
        return base_fail_errno(err, errno, "memory for the mount");
    }
    *ret = handover;
    return BASE_OK;
}

void fs_handover_free(struct fs_handover *handover)
{
    if (handover != NULL) {
        (void)munmap(handover, sizeof(*handover)); /* ours: cannot fail */
    }
}

void fs_handover_keep(struct fs_handover *handover,
                      const struct fs_generations *all)
{
    const unsigned idx = handover->generations_at == 1 ? 1 : 0;

    handover->generations[idx] = *all;
    handover->generations_at = idx + 1; /* in this order: it is atomic */
}

const struct fs_generations *
fs_handover_generations(const struct fs_handover *handover)
{
    const unsigned at = handover->generations_at;

    return at == 1 || at == 2 ? &handover->generations[at - 1] : NULL;
}

void fs_handover_ask(struct fs_handover *handover, const char *request)
{
    const unsigned idx = handover->requests_at == 1 ? 1 : 0;

    (void)snprintf(handover->requests[idx], FS_REQUEST_BYTES, "%s", request);
    handover->requests_at = idx + 1; /* in this order: it is atomic */
}

const char *fs_handover_asked(const struct fs_handover *handover)
{
    const unsigned at = handover->requests_at;

    return at == 1 || at == 2 ? handover->requests[at - 1] : "";
}

bool fs_handover_closes(const struct fs_handover *handover, uint64_t attempt)
{
    uint32_t i;

    for (i = 0; i < FS_HANDOVER_CLOSES; i++) {
        if (attempt != 0 && handover->closes[i] == attempt) {
            return true;
        }
    }
    return false;
}

void fs_handover_enter(struct fs_handover *handover)
{
    const unsigned now = handover->incarnation + 1;
    uint32_t i;

    handover->incarnation = now;
    for (i = 0; i < FS_HANDOVER_ONCES; i++) {
        struct fs_once_slot *slot = &handover->onces[i];

        /* What the last server began may come again, nothing older. */
        if (slot->incarnation + 1 < now || slot->unique == TAKEN) {
            slot->unique = 0;
        }
    }
}

struct fs_kept_version *fs_handover_version(struct fs_handover *handover,
                                            uint64_t number)
{
    struct fs_kept_version *unused = NULL;
    uint32_t i;

    for (i = 0; i < FS_HANDOVER_VERSIONS; i++) {
        struct fs_kept_version *kept = &handover->versions[i];

        if (kept->number == number) {
            return kept;
        }
        if (kept->number == 0 && unused == NULL) {
            unused = kept;
        }
    }
    if (unused != NULL) {
        unused->n_lookups = 0;
        unused->n_handles = 0;
        unused->n_layouts = 0;
        unused->number = number;
    }
    return unused;
}

void fs_handover_drop_version(struct fs_kept_version *kept)
{
    if (kept != NULL) {
        kept->number = 0;
    }
}

static struct fs_once_slot *find_once(struct fs_handover *handover,
                                      uint64_t unique)
{
    uint32_t i;

    for (i = 0; i < FS_HANDOVER_ONCES; i++) {
        if (handover->onces[i].unique == unique) {
            return &handover->onces[i];
        }
    }
    return NULL;
}

static struct fs_once_slot *take_once(struct fs_handover *handover,
                                      uint64_t unique)
{
    uint32_t i;

    for (i = 0; i < FS_HANDOVER_ONCES; i++) {
        struct fs_once_slot *slot =
            &handover->onces[(unique / 2 + i) % FS_HANDOVER_ONCES];
        uint_fast64_t none = 0;

        if (atomic_compare_exchange_strong(&slot->unique, &none, TAKEN)) {
            slot->is_counted = false;
            slot->incarnation = handover->incarnation;
            slot->unique = unique;
            return slot;
        }
    }
    return NULL;
}

struct fs_once fs_once_begin(struct fs_handover *handover, uint64_t unique)
{
    struct fs_once once = {.slot = NULL};

    if (unique == 0) {
        return once;
    }
    if (handover->incarnation > 1) {
        once.slot = find_once(handover, unique);
    }
    if (once.slot != NULL) {
        once.is_counted = once.slot->is_counted;
        once.slot->incarnation = handover->incarnation;
    } else {
        once.slot = take_once(handover, unique);
    }
    return once;
}

void fs_once_count(struct fs_once *once)
{
    if (once->slot != NULL) {
        once->slot->is_counted = true;
    }
}

void fs_once_end(struct fs_once *once)
{
    if (once->slot != NULL) {
        once->slot->unique = 0;
        once->slot = NULL;
    }
}
