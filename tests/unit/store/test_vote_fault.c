/* A vote that is cast, published or removed by a process that is killed, or
 * fails, anywhere: it is there whole or not at all, what ended it can be asked
 * for again, and nothing is left over.
 *
 * At some passes of each point; RETILE_CASES: at every one. */
#include "tests/unit/store/saved.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "store/blob.h"
#include "store/vote.h"

/* A kind has fewer passes of each in one of the three. */
enum { MAX_PASSES = 400 };

static uint64_t number; /* of the attempt at work */

static size_t n_votes(const struct saved *saved)
{
    struct store_vote *all = NULL;
    struct base_err err = {0};
    size_t n = 0;

    assert_ok(store_vote_list(saved->root, &all, &n, &err), &err);
    free(all);
    return n;
}

static bool is_version(const struct saved *saved)
{
    return access(saved_at(saved, "store/jobs/j/versions/%" PRIu64, number),
                  F_OK) == 0;
}

/* What the next change does; then nothing is left but what waits. */
static void must_be_clean(const struct saved *saved)
{
    char **names = NULL;
    size_t n = 0;
    struct store_sweep swept;
    struct base_err err = {0};

    assert_ok(store_root_lock(saved->root, 0, &err), &err);
    assert_ok(store_sweep(saved->root, &swept, &err), &err);
    store_root_unlock(saved->root);
    saved_must_be_sound(saved);
    assert_ok(base_dir_list(AT_FDCWD, saved_at(saved, "store/staging"), 100,
                            &names, &n, &err),
              &err);
    base_names_free(names, n);
    assert_int_equal(n, 1 + n_votes(saved)); /* and save.j */
}

static enum base_code cast(struct saved *saved, struct base_err *err)
{
    uint64_t got = 0;
    enum base_code code;

    saved->attempt = (struct store_attempt){number, 1};
    code = saved_commit(saved, 10, 0, STORE_REPLICAS_WARN, &got, err);
    assert_int_equal(got, code == BASE_OK ? number : 0);
    return code;
}

static enum base_code publish(struct saved *saved, struct base_err *err)
{
    return store_vote_publish(saved->root, "j", number, err);
}

static enum base_code discard(struct saved *saved, struct base_err *err)
{
    return store_vote_remove(saved->root, "j", number, err);
}

/* So that it stays small: numbers are not given again all the same. */
static void forget(struct saved *saved)
{
    struct base_err err = {0};

    assert_ok(base_dir_remove(
                  AT_FDCWD,
                  saved_at(saved, "store/jobs/j/versions/%" PRIu64, number),
                  &err),
              &err);
    must_be_clean(saved);
    number++;
}

typedef enum base_code (*step_fn)(struct saved *saved, struct base_err *err);

static void must(struct saved *saved, step_fn step)
{
    struct base_err err = {0};

    assert_ok(step(saved, &err), &err);
}

/* The attempt did not come to its vote, or did. */
static void after_cast(struct saved *saved)
{
    assert_false(is_version(saved));
    must_be_clean(saved);
    if (n_votes(saved) == 0) {
        number++; /* the number may be gone: the next try has another */
    }
    must(saved, cast);
    assert_int_equal(n_votes(saved), 1);
    must(saved, publish);
    assert_true(is_version(saved));
    saved_must_equal(saved, number);
    forget(saved);
}

static void before_end(struct saved *saved)
{
    must(saved, cast);
}

static void after_publish(struct saved *saved)
{
    assert_int_equal(n_votes(saved) + is_version(saved), 1);
    must_be_clean(saved);
    assert_int_equal(n_votes(saved) + is_version(saved), 1);
    must(saved, publish);
    assert_int_equal(n_votes(saved), 0);
    assert_true(is_version(saved));
    saved_must_equal(saved, number);
    forget(saved);
}

static void after_discard(struct saved *saved)
{
    assert_false(is_version(saved));
    must_be_clean(saved);
    must(saved, discard);
    assert_int_equal(n_votes(saved), 0);
    must_be_clean(saved);
    number++;
}

static void nothing_before(struct saved *saved)
{
    (void)saved;
}

static const struct step {
    const char *name;
    void (*before)(struct saved *saved);
    step_fn run;
    void (*after)(struct saved *saved);
} steps[] = {
    {"cast", nothing_before, cast, after_cast},
    {"publish", before_end, publish, after_publish},
    {"remove", before_end, discard, after_discard},
};

static const struct step *at_work;

static void in_child(struct saved *saved)
{
    struct base_err err = {0};

    if (at_work->run(saved, &err) != BASE_OK) {
        _exit(3);
    }
}

/* Of the passes: the first few, then some. */
static unsigned next(unsigned pass)
{
    return pass + 1 + (getenv("RETILE_CASES") != NULL ? 0 : pass / 2);
}

static void prepare(struct saved *saved)
{
    number = 1;
    saved_write_whole(saved);
    saved_write(saved, 10);
}

static void test_who_is_killed_leaves_a_whole_vote_or_none(void **state)
{
    /* name, and how often it is passed at least: by cast, publish, remove. */
    static const struct {
        const char *name;
        unsigned n[3];
    } points[] = {
        {"vote.made", {1, 0, 0}},    {"vote.voted", {1, 0, 0}},
        {"vote.publish", {0, 1, 0}}, {"vote.published", {0, 1, 0}},
        {"vote.removed", {0, 0, 1}}, {"save.adopted", {5, 0, 0}},
        {"store.sealed", {1, 0, 0}}, {"io.rename", {2, 1, 1}},
        {"io.sync", {5, 1, 1}},
    };
    struct saved *saved = *state;

    prepare(saved);
    for (size_t i = 0; i < N_ITEMS(points); i++) {
        for (size_t k = 0; k < N_ITEMS(steps); k++) {
            char point[64];
            unsigned pass = 1;
            unsigned n_killed = 0;
            bool is_killed;

            at_work = &steps[k];
            do {
                (void)snprintf(point, sizeof(point), "%s@%u", points[i].name,
                               pass);
                at_work->before(saved);
                is_killed = saved_is_killed(saved, point, in_child);
                at_work->after(saved);
                n_killed += is_killed;
                pass = next(pass);
            } while (is_killed && pass < MAX_PASSES);
            if (n_killed < points[i].n[k] || pass >= MAX_PASSES) {
                fail_msg("%s: %s: killed %u times", at_work->name,
                         points[i].name, n_killed);
            }
        }
    }
}

/* Whether it failed before or after its rename: asked again it succeeds. */
static void test_what_fails_can_be_asked_for_again(void **state)
{
    static const char *const kinds[] = {"io.open",   "io.read", "io.write",
                                        "io.rename", "io.sync", "vote.made",
                                        "vote.voted"};
    struct saved *saved = *state;

    prepare(saved);
    for (size_t i = 0; i < N_ITEMS(kinds); i++) {
        for (size_t k = 0; k < N_ITEMS(steps); k++) {
            enum base_code code;
            unsigned pass = 1;

            do {
                struct base_err err = {0};

                steps[k].before(saved);
                saved_arm("%s=error@%u", kinds[i], pass);
                code = steps[k].run(saved, &err);
                saved_disarm();
                if (code != BASE_OK && code != BASE_IO) {
                    fail_msg("%s: %s@%u: code %d: %s", steps[k].name, kinds[i],
                             pass, code, err.text);
                }
                if (steps[k].run != cast && code != BASE_OK) {
                    must(saved, steps[k].run); /* at once */
                }
                steps[k].after(saved);
                pass = next(pass);
            } while (code != BASE_OK && pass < MAX_PASSES);
            assert_in_range(pass, 2, MAX_PASSES - 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        saved_test(test_who_is_killed_leaves_a_whole_vote_or_none),
        saved_test(test_what_fails_can_be_asked_for_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
