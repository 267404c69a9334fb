/* worker/decide.h, by a table: a job at rest, what differs from that, what is to
 * be done, and when to ask again. */
#include "tests/unit/unit.h"

#include "worker/decide.h"

#define S   WORKER_SECOND_NS
#define NOW (1000 * S)

/* Running generation 3 from version 7, nothing to do. */
static struct worker_facts at_rest(void)
{
    return (struct worker_facts){
        .has_target = true,
        .can_show = true,
        .generation = 3,
        .are_votes_known = true,
        .mount = WORKER_MOUNT_UP,
        .mount_since_ns = NOW - 100 * S,
        .mount_shown = 3,
        .mount_ordered = 3,
        .ordered_ns = NOW - 100 * S,
        .alive = 3,
        .has_launcher = true,
        .prepared = 3,
    };
}

struct row {
    const char *name;
    void (*change)(struct worker_facts *facts);
    unsigned todo;
    int64_t wake_ns; /* 0: not looked at */
};

#define CHANGE(name, ...)                                                      \
    static void name(struct worker_facts *f)                                   \
    {                                                                          \
        __VA_ARGS__;                                                           \
    }

CHANGE(nothing, (void)f)
CHANGE(revoked, f->generation = 4; f->mount_ordered = 3; f->revoked_ns = NOW)
CHANGE(revoked_long, revoked(f); f->revoked_ns = NOW - 6 * S)
CHANGE(revoked_alone, revoked(f); f->has_launcher = false;
       f->is_unwatched = true)
CHANGE(just_killed, revoked_long(f); f->killed_ns = NOW - S / 20)
CHANGE(killed_before, revoked_long(f); f->killed_ns = NOW - S)
CHANGE(all_exited, f->is_unwatched = true)
CHANGE(launcher_killed_them, revoked(f); f->is_unwatched = true)
CHANGE(looked_just_now, f->is_unwatched = true; f->scan_next_ns = NOW + S)
CHANGE(votes_unknown, f->are_votes_known = false)
CHANGE(votes_unknown_busy, f->are_votes_known = false; f->is_working = true)
CHANGE(votes_open, f->are_votes_open = true; f->attempt = 9;
       f->mount = WORKER_MOUNT_NONE)
CHANGE(votes_open_revoked, votes_open(f); f->alive = 3; f->has_launcher = false;
       f->revoked_ns = NOW;
       f->generation = 4)
CHANGE(no_mount, f->mount = WORKER_MOUNT_NONE)
CHANGE(no_mount_yet, no_mount(f); f->mount_next_ns = NOW + 2 * S)
CHANGE(no_mount_no_target, no_mount(f); f->has_target = false;
       f->generation = 0)
CHANGE(nothing_to_show, no_mount(f); f->can_show = false; f->generation = 0;
       f->alive = 0)
CHANGE(dead_mount, no_mount(f); f->is_mount_dirty = true)
CHANGE(cleaning, dead_mount(f); f->is_cleaning = true)
CHANGE(mute, f->mount = WORKER_MOUNT_STARTED; f->mount_shown = 0)
CHANGE(starting, mute(f); f->mount_since_ns = NOW - S)
CHANGE(does_not_show, f->mount_ordered = 4; f->generation = 4; f->alive = 0)
CHANGE(will_not_end, f->mount = WORKER_MOUNT_ENDING)
CHANGE(ending, f->mount = WORKER_MOUNT_ENDING; f->mount_since_ns = NOW - S)
CHANGE(shows_next, f->alive = 0; f->generation = 4; f->mount_shown = 4;
       f->mount_ordered = 4)
CHANGE(shows_next_alive, shows_next(f); f->alive = 3; f->revoked_ns = NOW)
CHANGE(shows_next_probing, shows_next(f); f->is_probing = true;
       f->probing_ns = NOW)
CHANGE(probe_hangs, shows_next_probing(f); f->probing_ns = NOW - 21 * S)
CHANGE(probe_failed, shows_next(f); f->probe_next_ns = NOW + S)
CHANGE(shows_older, shows_next(f); f->mount_shown = 3; f->ordered_ns = NOW)
CHANGE(attempt, f->attempt = 9; f->tried = 8)
CHANGE(attempt_busy, attempt(f); f->is_working = true)
CHANGE(attempt_tried, f->attempt = 9; f->tried = 9)
CHANGE(attempt_there, attempt(f); f->has_attempt = true)
CHANGE(plan, f->plan = 2; f->planned = 1)
CHANGE(plan_answered, f->plan = 2; f->planned = 2)
CHANGE(surplus, f->has_surplus = true)
CHANGE(surplus_held, f->has_surplus = true; f->tidy_next_ns = NOW + S)
CHANGE(gone_running, f->is_gone = true; f->revoked_ns = NOW)
CHANGE(gone_mounted, f->is_gone = true; f->alive = 0)
CHANGE(gone_stored, gone_mounted(f); f->mount = WORKER_MOUNT_NONE)
CHANGE(gone_votes, gone_stored(f); f->are_votes_open = true)
CHANGE(gone_used, gone_stored(f); f->tidy_next_ns = NOW + S)
CHANGE(gone_all, gone_stored(f); f->is_removed = true)
CHANGE(away, f->has_target = false; f->generation = 0; f->has_surplus = true)

static const struct row rows[] = {
    {"at rest", nothing, 0, INT64_MAX},
    {"its launcher kills first", revoked, 0, NOW + 5 * S},
    {"a launcher that does not", revoked_long, WORKER_KILL, 0},
    {"no launcher", revoked_alone, WORKER_KILL, 0},
    {"just killed", just_killed, 0, NOW + S / 20},
    {"killed, and there", killed_before, WORKER_KILL, 0},
    {"all exited: is it so", all_exited, WORKER_SCAN, 0},
    {"killed by its launcher", launcher_killed_them, WORKER_SCAN, 0},
    {"looked just now", looked_just_now, 0, NOW + S},
    {"votes first", votes_unknown, WORKER_LOOK_VOTES, 0},
    {"votes are looked for", votes_unknown_busy, 0, 0},
    {"undecided: nothing else", votes_open, 0, 0},
    {"undecided: but killed", votes_open_revoked, WORKER_KILL, 0},
    {"a mount died", no_mount, WORKER_MOUNT_START, 0},
    {"it died before", no_mount_yet, 0, NOW + 2 * S},
    {"nobody wants one now", no_mount_no_target, 0, 0},
    {"nothing to show", nothing_to_show, 0, 0},
    {"a dead one first", dead_mount, WORKER_MOUNT_CLEAN, 0},
    {"being taken away", cleaning, 0, 0},
    {"it never called", mute, WORKER_MOUNT_KILL, 0},
    {"it has time", starting, 0, NOW + 19 * S},
    {"does not show it", does_not_show, WORKER_MOUNT_KILL, 0},
    {"will not end", will_not_end, WORKER_MOUNT_KILL, 0},
    {"is ending", ending, 0, NOW + 4 * S},
    {"shown: look", shows_next, WORKER_PROBE, 0},
    {"not before the last is clear", shows_next_alive, 0, 0},
    {"being looked at", shows_next_probing, 0, 0},
    {"a look that hangs", probe_hangs, WORKER_MOUNT_KILL, 0},
    {"looked, not there", probe_failed, 0, NOW + S},
    {"not shown yet", shows_older, 0, NOW + 20 * S},
    {"an attempt", attempt, WORKER_ATTEMPT, 0},
    {"one thing at a time", attempt_busy, 0, 0},
    {"tried once", attempt_tried, 0, INT64_MAX},
    {"published already", attempt_there, 0, INT64_MAX},
    {"a plan", plan, WORKER_PLAN, 0},
    {"an old plan", plan_answered, 0, INT64_MAX},
    {"versions not kept", surplus, WORKER_TIDY, 0},
    {"held by a reader", surplus_held, 0, NOW + S},
    {"gone: processes first", gone_running, 0, NOW + 5 * S},
    {"then the mount", gone_mounted, WORKER_MOUNT_END, 0},
    {"then versions", gone_stored, WORKER_REMOVE, 0},
    {"not what is undecided", gone_votes, 0, 0},
    {"not what is in use", gone_used, 0, NOW + S},
    {"then it is said", gone_all, WORKER_GONE, 0},
    {"the coordinator is away", away, 0, INT64_MAX},
};

static void test_each_fact_asks_for_what_it_must(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ITEMS(rows); i++) {
        struct worker_facts facts = at_rest();
        int64_t wake_ns = 0;
        unsigned todo;

        rows[i].change(&facts);
        todo = worker_decide(&facts, NOW, &wake_ns);
        if (todo != rows[i].todo ||
            (rows[i].wake_ns != 0 && wake_ns != rows[i].wake_ns)) {
            fail_msg("%s: to do 0x%x, not 0x%x; again at %lld, not %lld",
                     rows[i].name, todo, rows[i].todo, (long long)wake_ns,
                     (long long)rows[i].wake_ns);
        }
    }
}

/* Asked at the time that it named, it does something, or names a later one. */
static void test_a_wake_is_never_for_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_ITEMS(rows); i++) {
        struct worker_facts facts = at_rest();
        int64_t wake_ns = 0;
        int64_t later_ns = 0;
        unsigned before;
        unsigned after;

        rows[i].change(&facts);
        before = worker_decide(&facts, NOW, &wake_ns);
        if (before != 0 && wake_ns > NOW + 2 * S) {
            fail_msg("%s: what may have failed is not looked at", rows[i].name);
        }
        if (before != 0 || wake_ns == INT64_MAX) {
            continue;
        }
        assert_true(wake_ns > NOW);
        after = worker_decide(&facts, wake_ns, &later_ns);
        if (after == 0 && later_ns <= wake_ns) {
            fail_msg("%s: woken for nothing", rows[i].name);
        }
    }
}

static void test_backoff_doubles_up_to_a_limit(void **state)
{
    (void)state;
    assert_int_equal(worker_backoff_ns(1), S / 10);
    assert_int_equal(worker_backoff_ns(2), S / 5);
    assert_true(worker_backoff_ns(1000) <= 60 * S);
    assert_true(worker_backoff_ns(1000) >= 30 * S);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_fact_asks_for_what_it_must),
        cmocka_unit_test(test_a_wake_is_never_for_nothing),
        cmocka_unit_test(test_backoff_doubles_up_to_a_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
