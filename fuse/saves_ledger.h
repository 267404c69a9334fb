/* The ledger: what the kernel knows and has open of saved nodes.
 *
 * A file in the job's staging, mapped, so that a server that is killed at any
 * instruction leaves it whole to the next one.
 *
 *   0      magic "RTLEDG01"
 *   8      era: how often a server took it up
 *   16     slots that were ever used
 *   20     the intent: a change of one slot under way (below)
 *   72     zero
 *   128    the journal: requests under way, FS_LEDGER_TURNS x 16 bytes
 *   8192   slots of 40 bytes, one per node
 *
 * All in the machine's byte order: it does not outlive a reboot.
 *
 * A slot changes by an intent, so that its counts and the note that a request
 * has counted change together: the new counts are written beside it, the
 * intent is declared, they are copied, the intent is withdrawn.  Who finds a
 * declared intent copies again.
 *
 * Owner: fs_saves' lock, but for the journal's entries (atomics). */
#ifndef FUSE_SAVES_LEDGER_H
#define FUSE_SAVES_LEDGER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"

#define FS_LEDGER_NONE  UINT32_MAX
#define FS_LEDGER_SLOTS (1u << 20)
enum { FS_LEDGER_TURNS = 256 };

struct fs_ledger_slot {
    uint64_t ino; /* 0: free */
    uint64_t n_lookups;
    uint32_t n_open;     /* handles */
    uint32_t n_write;    /* of them: may write */
    uint32_t backing;    /* of the handles; 0: without */
    uint32_t was_passed; /* to who may write: it may be mapped yet */
    uint64_t padding;
};

struct fs_ledger;

/* @dir_fd: where the file "ledger" is, or is made.
 * Errors: BASE_BAD_INPUT  it is damaged; to go on without it would be to commit
 *                         files that somebody still writes
 *         BASE_NO_SPACE, BASE_NO_MEM, the system's */
enum base_code fs_ledger_open(int dir_fd,
                              struct fs_ledger **ret,
                              struct base_err *err) BASE_MUST_CHECK;
void fs_ledger_free(struct fs_ledger *ledger);
BASE_AUTO_DEFINE(fs_ledger);

/* There was none, or only zeros. */
bool fs_ledger_is_new(const struct fs_ledger *ledger);
/* Slots [0, n) may be in use. */
uint32_t fs_ledger_n_slots(const struct fs_ledger *ledger);
const struct fs_ledger_slot *fs_ledger_slot(const struct fs_ledger *ledger,
                                            uint32_t slot);

/* A free slot, not in use before fs_ledger_set.  FS_LEDGER_NONE: there is none,
 * or no room for more. */
uint32_t fs_ledger_take(struct fs_ledger *ledger);
/* Set @slot; with @entry (or FS_LEDGER_NONE) noted as having counted.  With ino
 * 0 it is free again. */
void fs_ledger_set(struct fs_ledger *ledger,
                   uint32_t slot,
                   const struct fs_ledger_slot *to,
                   uint32_t entry);

/* The journal.  *ret_is_again: a dead server had begun it. */
uint32_t fs_ledger_begin(struct fs_ledger *ledger,
                         uint64_t unique,
                         bool *ret_is_again,
                         bool *ret_is_counted);
void fs_ledger_end(struct fs_ledger *ledger, uint32_t entry);

#endif
