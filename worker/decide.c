#include "worker/decide.h"

struct decision {
    const struct worker_facts *facts;
    int64_t now_ns;
    int64_t wake_ns;
    unsigned todo;
};

/* Do it, and look again after @again_ns at the latest: it may have failed. */
static void add(struct decision *d, unsigned todo, int64_t again_ns)
{
    d->todo |= todo;
    if (d->now_ns + again_ns < d->wake_ns) {
        d->wake_ns = d->now_ns + again_ns;
    }
}

/* Has @at come?  Else that is when we want to be asked again. */
static bool is_due(struct decision *d, int64_t at_ns)
{
    if (d->now_ns >= at_ns) {
        return true;
    }
    if (at_ns < d->wake_ns) {
        d->wake_ns = at_ns;
    }
    return false;
}

static void decide_processes(struct decision *d)
{
    const struct worker_facts *facts = d->facts;
    int64_t since_ns = facts->revoked_ns;

    if (facts->alive == 0) {
        return;
    }
    if (facts->has_launcher) { /* it does it, if it can */
        since_ns += WORKER_KILL_WAIT_NS;
    }
    if (facts->revoked_ns != 0 && is_due(d, since_ns)) {
        if (facts->killed_ns == 0 ||
            is_due(d, facts->killed_ns + WORKER_KILL_AGAIN_NS)) {
            add(d, WORKER_KILL, WORKER_KILL_AGAIN_NS);
        }
    } else if (facts->is_unwatched && is_due(d, facts->scan_next_ns)) {
        add(d, WORKER_SCAN, WORKER_SCAN_NS);
    }
}

/* A mount that is there: does it do what it should? */
static void decide_mounted(struct decision *d, bool is_wanted)
{
    const struct worker_facts *facts = d->facts;

    switch (facts->mount) {
    case WORKER_MOUNT_NONE:
        break;
    case WORKER_MOUNT_STARTED:
        if (!is_wanted) {
            add(d, WORKER_MOUNT_END, WORKER_AGAIN_NS);
        } else if (is_due(d, facts->mount_since_ns + WORKER_MOUNT_WAIT_NS)) {
            add(d, WORKER_MOUNT_KILL, WORKER_AGAIN_NS);
        }
        break;
    case WORKER_MOUNT_UP:
        if (!is_wanted) {
            add(d, WORKER_MOUNT_END, WORKER_AGAIN_NS);
        } else if (facts->mount_shown < facts->mount_ordered &&
                   is_due(d, facts->ordered_ns + WORKER_MOUNT_WAIT_NS)) {
            add(d, WORKER_MOUNT_KILL, WORKER_AGAIN_NS);
        }
        break;
    case WORKER_MOUNT_ENDING:
        if (is_due(d, facts->mount_since_ns + WORKER_KILL_WAIT_NS)) {
            add(d, WORKER_MOUNT_KILL, WORKER_AGAIN_NS);
        }
        break;
    }
}

static void decide_mount(struct decision *d)
{
    const struct worker_facts *facts = d->facts;
    /* Processes go before their mount: they must not see it end. */
    bool is_ended = facts->is_gone && facts->alive == 0;
    bool is_wanted = !is_ended;

    decide_mounted(d, is_wanted);
    if (facts->mount != WORKER_MOUNT_NONE) {
        return;
    }
    if (facts->is_mount_dirty) {
        if (!facts->is_cleaning && is_due(d, facts->mount_next_ns)) {
            add(d, WORKER_MOUNT_CLEAN, WORKER_AGAIN_NS);
        }
    } else if (facts->has_target && !facts->is_gone && facts->can_show &&
               is_due(d, facts->mount_next_ns)) {
        add(d, WORKER_MOUNT_START, WORKER_AGAIN_NS);
    }
}

static void decide_generation(struct decision *d)
{
    const struct worker_facts *facts = d->facts;

    if (facts->is_probing && facts->mount == WORKER_MOUNT_UP &&
        is_due(d, facts->probing_ns + WORKER_MOUNT_WAIT_NS) &&
        is_due(d, facts->mount_since_ns + WORKER_MOUNT_WAIT_NS)) {
        add(d, WORKER_MOUNT_KILL, WORKER_AGAIN_NS); /* it does not answer */
    }
    if (facts->generation != 0 && !facts->is_gone &&
        facts->prepared < facts->generation && facts->alive == 0 &&
        !facts->is_probing && facts->mount == WORKER_MOUNT_UP &&
        facts->mount_shown == facts->generation &&
        is_due(d, facts->probe_next_ns)) {
        add(d, WORKER_PROBE, WORKER_AGAIN_NS);
    }
}

/* One thing at a time: the store's thread asks us again when it is done. */
static void decide_store(struct decision *d)
{
    const struct worker_facts *facts = d->facts;

    if (facts->attempt > facts->tried && !facts->has_attempt) {
        add(d, WORKER_ATTEMPT, WORKER_AGAIN_NS);
    } else if (facts->plan > facts->planned) {
        add(d, WORKER_PLAN, WORKER_AGAIN_NS);
    } else if (facts->has_surplus && is_due(d, facts->tidy_next_ns)) {
        add(d, WORKER_TIDY, WORKER_AGAIN_NS);
    }
}

static void decide_gone(struct decision *d)
{
    const struct worker_facts *facts = d->facts;

    if (facts->alive != 0 || facts->mount != WORKER_MOUNT_NONE ||
        facts->is_mount_dirty) {
        return;
    }
    if (facts->is_removed) {
        add(d, WORKER_GONE, WORKER_AGAIN_NS);
    } else if (!facts->is_working && is_due(d, facts->tidy_next_ns)) {
        add(d, WORKER_REMOVE, WORKER_AGAIN_NS);
    }
}

unsigned worker_decide(const struct worker_facts *facts,
                       int64_t now_ns,
                       int64_t *ret_wake_ns)
{
    struct decision d = {
        .facts = facts, .now_ns = now_ns, .wake_ns = INT64_MAX};

    decide_processes(&d);
    if (!facts->are_votes_known || facts->are_votes_open) {
        if (!facts->are_votes_known && !facts->is_working &&
            is_due(&d, facts->look_next_ns)) {
            add(&d, WORKER_LOOK_VOTES, WORKER_AGAIN_NS);
        }
    } else {
        decide_mount(&d);
        decide_generation(&d);
        if (facts->has_target && facts->is_gone) {
            decide_gone(&d);
        } else if (facts->has_target && !facts->is_working) {
            decide_store(&d);
        }
    }
    *ret_wake_ns = d.wake_ns;
    return d.todo;
}

int64_t worker_backoff_ns(unsigned n)
{
    int64_t wait_ns = WORKER_SECOND_NS / 10;

    for (unsigned i = 1; i < n && wait_ns < 30 * WORKER_SECOND_NS; i++) {
        wait_ns *= 2;
    }
    return wait_ns;
}
