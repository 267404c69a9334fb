#include "fuse/saves_ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/io.h"

#define LABEL "the ledger of saved files"

enum {
    SLOTS_OFFSET = 8192,
    GROW_BYTES = 1 << 16, /* this much more file at a time */
};

static const char magic[8] = {'R', 'T', 'L', 'E', 'D', 'G', '0', '1'};

struct turn {
    atomic_uint_fast64_t unique; /* 0: free */
    atomic_uint is_counted;
    atomic_uint era;
};

struct map {
    char magic[8];
    uint64_t era;
    uint32_t n_slots;
    uint32_t is_declared; /* the intent */
    uint32_t slot;
    uint32_t entry;
    struct fs_ledger_slot to;
    char zero[128 - 32 - sizeof(struct fs_ledger_slot)];
    struct turn turns[FS_LEDGER_TURNS];
};

_Static_assert(sizeof(struct fs_ledger_slot) == 40, "slots are 40 bytes");
_Static_assert(offsetof(struct map, turns) == 128, "the journal's place");
_Static_assert(sizeof(struct map) <= SLOTS_OFFSET, "the head fits");

struct fs_ledger {
    int fd;
    struct map *map;
    struct fs_ledger_slot *slots;
    uint64_t n_bytes; /* of the file: what may be touched */
    uint32_t *free;   /* slots below n_slots */
    uint32_t n_free;
    uint32_t cap_free;
    bool is_new;
    atomic_uint n_left; /* turns of the dead server */
};

/* Only the order of our own instructions counts: what a process had stored
 * when it was killed stays stored. */
static void in_order(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

static const size_t max_bytes =
    SLOTS_OFFSET + (size_t)FS_LEDGER_SLOTS * sizeof(struct fs_ledger_slot);

static bool grow(struct fs_ledger *ledger, uint64_t n_bytes)
{
    int rc;

    if (n_bytes <= ledger->n_bytes) {
        return true;
    }
    n_bytes = (n_bytes + GROW_BYTES - 1) / GROW_BYTES * GROW_BYTES;
    /* The space too: a map that has none is SIGBUS. */
    rc = posix_fallocate(ledger->fd, 0, (off_t)n_bytes);
    if (rc != 0) {
        return false;
    }
    ledger->n_bytes = n_bytes;
    return true;
}

static void apply_intent(struct map *map, struct fs_ledger_slot *slots)
{
    slots[map->slot] = map->to;
    if (map->entry < FS_LEDGER_TURNS) {
        map->turns[map->entry].is_counted = 1;
    }
    in_order();
    map->is_declared = 0;
    in_order();
}

static bool push_free(struct fs_ledger *ledger, uint32_t slot)
{
    if (ledger->n_free == ledger->cap_free) {
        uint32_t cap = ledger->cap_free == 0 ? 256 : 2 * ledger->cap_free;
        uint32_t *items = reallocarray(ledger->free, cap, sizeof(*items));

        if (items == NULL) {
            return false;
        }
        ledger->free = items;
        ledger->cap_free = cap;
    }
    ledger->free[ledger->n_free++] = slot;
    return true;
}

/* Requests that an earlier server than the last one left will not come again:
 * they were answered, or the last one would have begun them. */
static void take_up_turns(struct fs_ledger *ledger)
{
    struct map *map = ledger->map;
    unsigned i;

    for (i = 0; i < FS_LEDGER_TURNS; i++) {
        struct turn *turn = &map->turns[i];

        if (turn->unique != 0 && turn->era != (unsigned)map->era) {
            turn->unique = 0;
        }
        ledger->n_left += turn->unique != 0;
    }
    map->era++;
}

/* Each slot by itself; that no two are of one node is seen by who takes up the
 * nodes. */
static bool is_slot_possible(const struct fs_ledger_slot *slot)
{
    return slot->ino == 0 ||
           (slot->ino >> 62 == 2 && slot->n_write <= slot->n_open);
}

/* @n_left: bytes that the dead server left. */
static enum base_code
take_up(struct fs_ledger *ledger, uint64_t n_left, struct base_err *err)
{
    struct map *map = ledger->map;
    uint64_t n_needed =
        SLOTS_OFFSET + (uint64_t)map->n_slots * sizeof(struct fs_ledger_slot);
    uint32_t i;

    if (memcmp(map->magic, magic, sizeof(magic)) != 0 ||
        map->n_slots > FS_LEDGER_SLOTS || n_needed > n_left ||
        (map->is_declared != 0 && map->slot >= map->n_slots)) {
        return base_fail(err, BASE_BAD_INPUT, "%s is damaged", LABEL);
    }
    if (map->is_declared != 0) {
        apply_intent(map, ledger->slots);
    }
    for (i = map->n_slots; i-- > 0;) {
        if (!is_slot_possible(&ledger->slots[i])) {
            return base_fail(err, BASE_BAD_INPUT, "%s is damaged, slot %u",
                             LABEL, i);
        }
        if (ledger->slots[i].ino == 0 && !push_free(ledger, i)) {
            return base_fail(err, BASE_NO_MEM, "%s: no memory", LABEL);
        }
    }
    take_up_turns(ledger);
    return BASE_OK;
}

enum base_code
fs_ledger_open(int dir_fd, struct fs_ledger **ret, struct base_err *err)
{
    BASE_AUTO(fs_ledger) ledger = calloc(1, sizeof(*ledger));
    struct stat stat;
    uint64_t n_left;

    if (ledger == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: no memory", LABEL);
    }
    ledger->fd = -1;
    BASE_TRY(base_io_open(dir_fd, "ledger", O_RDWR | O_CREAT | O_NOFOLLOW, 0600,
                          LABEL, &ledger->fd, err));
    if (fstat(ledger->fd, &stat) != 0) {
        return base_fail_errno(err, errno, "cannot stat %s", LABEL);
    }
    if (!S_ISREG(stat.st_mode)) {
        return base_fail(err, BASE_BAD_INPUT, "%s is no file", LABEL);
    }
    n_left = ledger->n_bytes = (uint64_t)stat.st_size;
    if (n_left > 0 && n_left < SLOTS_OFFSET) { /* before it grows */
        return base_fail(err, BASE_BAD_INPUT, "%s was cut off", LABEL);
    }
    if (!grow(ledger, SLOTS_OFFSET)) {
        return base_fail(err, BASE_NO_SPACE, "no room for %s", LABEL);
    }
    ledger->map = mmap(NULL, max_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                       ledger->fd, 0);
    if (ledger->map == MAP_FAILED) {
        ledger->map = NULL;
        return base_fail_errno(err, errno, "cannot map %s", LABEL);
    }
    ledger->slots = (void *)((char *)ledger->map + SLOTS_OFFSET);
    if (ledger->map->magic[0] == '\0') { /* new; all is zero */
        memcpy(ledger->map->magic, magic, sizeof(magic));
        n_left = ledger->n_bytes;
        ledger->is_new = true;
    }
    BASE_TRY(take_up(ledger, n_left, err));
    *ret = base_steal(&ledger);
    return BASE_OK;
}

void fs_ledger_free(struct fs_ledger *ledger)
{
    if (ledger == NULL) {
        return;
    }
    if (ledger->map != NULL) {
        (void)munmap(ledger->map, max_bytes); /* ours: cannot fail */
    }
    if (ledger->fd >= 0) {
        (void)close(ledger->fd); /* the map was written, not it */
    }
    free(ledger->free);
    free(ledger);
}

bool fs_ledger_is_new(const struct fs_ledger *ledger)
{
    return ledger->is_new;
}

uint32_t fs_ledger_n_slots(const struct fs_ledger *ledger)
{
    return ledger->map->n_slots;
}

const struct fs_ledger_slot *fs_ledger_slot(const struct fs_ledger *ledger,
                                            uint32_t slot)
{
    return &ledger->slots[slot];
}

uint32_t fs_ledger_take(struct fs_ledger *ledger)
{
    uint32_t slot = ledger->map->n_slots;

    if (ledger->n_free > 0) {
        return ledger->free[--ledger->n_free];
    }
    if (slot >= FS_LEDGER_SLOTS ||
        !grow(ledger, SLOTS_OFFSET + (uint64_t)(slot + 1) *
                                         sizeof(struct fs_ledger_slot))) {
        return FS_LEDGER_NONE;
    }
    ledger->map->n_slots = slot + 1;
    return slot;
}

void fs_ledger_set(struct fs_ledger *ledger,
                   uint32_t slot,
                   const struct fs_ledger_slot *to,
                   uint32_t entry)
{
    struct map *map = ledger->map;

    map->slot = slot;
    map->to = *to;
    map->entry = entry;
    in_order();
    map->is_declared = 1;
    in_order();
    apply_intent(map, ledger->slots);
    if (to->ino == 0) {
        (void)push_free(ledger, slot); /* else lost until the next server */
    }
}

/* The journal. */

static uint32_t begin_again(struct fs_ledger *ledger, uint64_t unique)
{
    uint32_t i;

    for (i = 0; i < FS_LEDGER_TURNS; i++) {
        struct turn *turn = &ledger->map->turns[i];

        if (turn->unique == unique) {
            turn->era = (unsigned)ledger->map->era;
            ledger->n_left--;
            return i;
        }
    }
    return FS_LEDGER_NONE;
}

uint32_t fs_ledger_begin(struct fs_ledger *ledger,
                         uint64_t unique,
                         bool *ret_is_again,
                         bool *ret_is_counted)
{
    uint32_t entry = FS_LEDGER_NONE;
    uint32_t i;

    *ret_is_again = false;
    *ret_is_counted = false;
    if (ledger->n_left > 0) {
        entry = begin_again(ledger, unique);
    }
    if (entry != FS_LEDGER_NONE) {
        *ret_is_again = true;
        *ret_is_counted = ledger->map->turns[entry].is_counted != 0;
        return entry;
    }
    for (i = 0; i < FS_LEDGER_TURNS; i++) { /* the kernel counts by twos */
        uint32_t at = (uint32_t)((unique / 2 + i) % FS_LEDGER_TURNS);
        struct turn *turn = &ledger->map->turns[at];
        uint_fast64_t none = 0;

        if (turn->unique == 0 &&
            atomic_compare_exchange_strong(&turn->unique, &none, unique)) {
            turn->is_counted = 0;
            turn->era = (unsigned)ledger->map->era;
            return at;
        }
    }
    return FS_LEDGER_NONE; /* more requests at a time than there are threads */
}

void fs_ledger_end(struct fs_ledger *ledger, uint32_t entry)
{
    if (entry < FS_LEDGER_TURNS) {
        ledger->map->turns[entry].is_counted = 0;
        in_order();
        ledger->map->turns[entry].unique = 0;
    }
}
