/* What is to be done next about one job: a pure function of what is wanted
 * (the target), what is, and the time.
 *
 * It is asked after everything that happens, so it never remembers: what was
 * done already shows in the facts.  The order of its rules:
 *
 *   1. What a dead process has voted for is decided before anything else.
 *   2. Processes of another generation than the wanted one are killed: by their
 *      launcher, and past WORKER_KILL_WAIT_NS by us.  Those that nobody watches
 *      are looked for.
 *   3. The mount is there as long as the job is wanted and can be shown.
 *   4. A generation is prepared once the mount shows it.
 *   5. An attempt is made, a plan answered, versions are pinned and released.
 *   6. A job that is gone loses processes, mount and versions, in this order. */
#ifndef WORKER_DECIDE_H
#define WORKER_DECIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORKER_SECOND_NS ((int64_t)1000000000)
/* A launcher has so long to kill what is revoked. */
#define WORKER_KILL_WAIT_NS (5 * WORKER_SECOND_NS)
/* What was killed is looked for again after so long. */
#define WORKER_KILL_AGAIN_NS (WORKER_SECOND_NS / 10)
/* A mount has so long to call us, to show what it is ordered to, to end. */
#define WORKER_MOUNT_WAIT_NS (20 * WORKER_SECOND_NS)
/* Processes that nobody watches are looked for so often. */
#define WORKER_SCAN_NS (WORKER_SECOND_NS / 2)
/* What could not be done (the store was busy, a reader held a version) is tried
 * again after so long. */
#define WORKER_AGAIN_NS (2 * WORKER_SECOND_NS)

enum worker_mount_state {
    WORKER_MOUNT_NONE,
    WORKER_MOUNT_STARTED, /* a process; it has not called us */
    WORKER_MOUNT_UP,
    WORKER_MOUNT_ENDING, /* asked to end */
};

/* Grouped by what belongs together.
 * NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct worker_facts {
    /* Wanted. */
    bool has_target;
    bool is_gone;
    bool can_show;       /* it has a version, a layout or a generation */
    uint64_t generation; /* 0: none */
    uint64_t attempt;    /* 0: none */
    uint64_t plan;       /* 0: none */

    /* Votes that were found. */
    bool are_votes_known; /* looked for since their mount is dead or new */
    bool are_votes_open;  /* some are not decided */

    /* The mount. */
    enum worker_mount_state mount;
    int64_t mount_since_ns; /* when it came into that state */
    int64_t mount_next_ns;  /* not started before */
    uint64_t mount_shown;   /* the newest generation that it shows */
    uint64_t mount_ordered; /* what it was told last */
    int64_t ordered_ns;     /* when */
    bool is_mount_dirty;    /* a dead one lies on the mountpoint */
    bool is_cleaning;       /* it is being taken away */

    /* Processes: of one generation at a time. */
    uint64_t alive; /* the one that was started and is not clear; or 0 */
    bool has_launcher;
    bool is_unwatched;    /* no launcher has processes of it, as far as told */
    int64_t revoked_ns;   /* since when it is not the wanted one; 0: it is */
    int64_t killed_ns;    /* when we killed last; 0: never */
    int64_t scan_next_ns; /* not looked for before */

    /* Preparing. */
    uint64_t prepared;  /* the newest generation that is */
    bool is_probing;    /* being looked at */
    int64_t probing_ns; /* since when */
    int64_t probe_next_ns;

    /* The store's thread. */
    bool is_working;      /* it does something for this job */
    bool has_attempt;     /* the wanted attempt is published */
    uint64_t tried;       /* the newest attempt that was begun here */
    uint64_t planned;     /* the newest plan that was answered */
    bool has_surplus;     /* versions that are not to be kept, or pins differ */
    int64_t tidy_next_ns; /* not tried before */
    bool is_removed;      /* nothing of it is in the store */
    int64_t look_next_ns; /* votes are not looked for before */
};

/* What to do now; several at once. */
enum worker_todo {
    WORKER_LOOK_VOTES = 1 << 0,
    WORKER_KILL = 1 << 1,        /* what is left of `alive` */
    WORKER_MOUNT_CLEAN = 1 << 2, /* take a dead mount away */
    WORKER_MOUNT_START = 1 << 3,
    WORKER_MOUNT_END = 1 << 4,  /* ask it to */
    WORKER_MOUNT_KILL = 1 << 5, /* it hangs */
    WORKER_PROBE = 1 << 6,      /* look at `load`, find a port */
    WORKER_ATTEMPT = 1 << 7,
    WORKER_PLAN = 1 << 8,
    WORKER_TIDY = 1 << 9, /* pins, releases */
    WORKER_REMOVE = 1 << 10,
    WORKER_GONE = 1 << 11, /* nothing is left: say so */
    WORKER_SCAN = 1 << 12, /* is anything left of `alive`? */
};

/* A set of enum worker_todo.  *ret_wake_ns: when to ask again at the latest
 * even if nothing happens; INT64_MAX: no need. */
unsigned worker_decide(const struct worker_facts *facts,
                       int64_t now_ns,
                       int64_t *ret_wake_ns);

/* How long to wait before the @n-th start in a row, from 1. */
int64_t worker_backoff_ns(unsigned n);

#endif
