#include "fuse/generation.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/num.h"

/* Generations. */

static struct fs_generation *slot_of(struct fs_generations *all,
                                     uint64_t number)
{
    return &all->ring[number % FS_GENERATIONS_MAX];
}

static void judge(struct fs_generations *all, struct fs_published version)
{
    all->seen = version.number;
    all->next_step = 0;
    if (version.number != 0 && version.step != UINT64_MAX) {
        all->next_step = version.step + 1;
    }
}

static void begin(struct fs_generations *all,
                  uint64_t number,
                  uint64_t load,
                  int64_t now_ns)
{
    *slot_of(all, number) = (struct fs_generation){
        .number = number, .load = load, .since_ns = now_ns};
    all->n_saved = 0;
    all->current = number;
}

static void begin_next(struct fs_generations *all,
                       struct fs_published version,
                       int64_t now_ns)
{
    begin(all, all->current + 1, version.number, now_ns);
    judge(all, version);
}

void fs_generations_begin(struct fs_generations *all,
                          struct fs_published version,
                          int64_t now_ns)
{
    *all = (struct fs_generations){0};
    begin_next(all, version, now_ns);
}

void fs_generations_await(struct fs_generations *all)
{
    *all = (struct fs_generations){.is_ordered = true};
}

enum fs_ordered fs_generations_order(struct fs_generations *all,
                                     const struct fs_order *order,
                                     int64_t now_ns)
{
    if (order->generation == 0 || order->generation < all->current) {
        return FS_ORDERED_NOTHING;
    }
    if (order->generation == all->current) {
        const bool was_revoked = all->is_revoked;

        all->next_step = base_max_u64(all->next_step, order->next_step);
        all->is_revoked = was_revoked || order->is_revoked;
        return all->is_revoked && !was_revoked ? FS_ORDERED_REVOKED
                                               : FS_ORDERED_NOTHING;
    }
    begin(all, order->generation, order->load, now_ns);
    all->seen = order->load;
    all->next_step = order->next_step;
    all->is_revoked = order->is_revoked;
    return FS_ORDERED_BEGUN;
}

void fs_generations_saved(struct fs_generations *all,
                          uint64_t step,
                          uint64_t version)
{
    if (version <= all->seen) {
        return; /* told twice */
    }
    judge(all, (struct fs_published){version, step});
    all->n_saved++;
}

bool fs_generations_follow(struct fs_generations *all,
                           struct fs_published version,
                           int64_t now_ns)
{
    if (all->is_ordered || version.number <= all->seen) {
        return false;
    }
    begin_next(all, version, now_ns);
    return true;
}

const struct fs_generation *
fs_generations_find(const struct fs_generations *all, uint64_t number)
{
    const struct fs_generation *found = &all->ring[number % FS_GENERATIONS_MAX];

    return number != 0 && found->number == number ? found : NULL;
}

uint64_t fs_generations_next(const struct fs_generations *all, uint64_t number)
{
    uint64_t least = 0;
    size_t i;

    for (i = 0; i < FS_GENERATIONS_MAX; i++) {
        const uint64_t other = all->ring[i].number;

        if (other > number && (least == 0 || other < least)) {
            least = other;
        }
    }
    return least;
}

uint64_t fs_generations_revoked(const struct fs_generations *all)
{
    return all->current + (all->is_revoked ? 1 : 0);
}

/* Each is in its place, and none is after the current one. */
static bool are_in_place(const struct fs_generations *all)
{
    size_t i;

    for (i = 0; i < FS_GENERATIONS_MAX; i++) {
        const uint64_t number = all->ring[i].number;

        if (number != 0 &&
            (number % FS_GENERATIONS_MAX != i || number > all->current)) {
            return false;
        }
    }
    return true;
}

bool fs_generations_invariant(const struct fs_generations *all)
{
    uint64_t number = all->current < FS_GENERATIONS_MAX
                          ? 1
                          : all->current - FS_GENERATIONS_MAX + 1;
    uint64_t load = 0;

    if (all->is_ordered) { /* numbers and loads are as somebody else says */
        return are_in_place(all) &&
               (all->current == 0 ||
                fs_generations_find(all, all->current) != NULL);
    }
    if (all->current == 0 || all->is_revoked) {
        return false;
    }
    for (; number <= all->current; number++) {
        const struct fs_generation *one = fs_generations_find(all, number);

        if (one == NULL || one->load < load || one->load > all->seen) {
            return false;
        }
        load = one->load;
    }
    return true;
}

/* Verdicts. */

int fs_verdict_errno(enum fs_verdict verdict)
{
    switch (verdict) {
#define X(name, errnum)                                                        \
    case name:                                                                 \
        return errnum;
        FS_VERDICTS(X)
#undef X
    }
    return EIO; /* not a verdict */
}

bool fs_step_parse(struct base_str name, uint64_t *ret_step, bool *ret_is_tmp)
{
    const struct base_str suffix = BASE_STR(".tmp");
    const bool is_tmp = base_str_ends(name, suffix);

    if (is_tmp) {
        name.len -= suffix.len;
    }
    if (name.len == 0 || (name.ptr[0] == '0' && name.len > 1) ||
        !base_parse_u64(name, ret_step) || *ret_step > FS_MAX_STEP) {
        return false;
    }
    *ret_is_tmp = is_tmp;
    return true;
}

const struct fs_step *
fs_step_find(struct fs_steps steps, uint64_t generation, uint64_t step)
{
    uint32_t i;

    for (i = 0; i < steps.n; i++) {
        if (steps.items[i].generation == generation &&
            steps.items[i].step == step) {
            return &steps.items[i];
        }
    }
    return NULL;
}

/* The table: what a request does to a step in a state.  Absent comes last, as
 * it is no state of fs_step. */
enum request { MKDIR_TMP, RENAME_TMP, RMDIR_TMP, RMDIR_STEP, N_REQUESTS };
enum { STEP_ABSENT = FS_STEP_SEALED + 1, N_STATES };

static const enum fs_verdict verdicts[N_STATES][N_REQUESTS] = {
    [FS_STEP_OPEN] = {FS_THERE, FS_ALLOWED, FS_ALLOWED, FS_ABSENT},
    [FS_STEP_FROZEN] = {FS_BUSY, FS_BUSY, FS_BUSY, FS_ABSENT},
    [FS_STEP_SEALED] = {FS_SAVED, FS_DONE, FS_ABSENT, FS_SEALED},
    [STEP_ABSENT] = {FS_ALLOWED, FS_ABSENT, FS_ABSENT, FS_ABSENT},
};

static enum fs_verdict look_up(struct fs_steps steps,
                               uint64_t generation,
                               uint64_t step,
                               enum request request,
                               struct base_err *err)
{
    const struct fs_step *found = fs_step_find(steps, generation, step);
    const enum fs_verdict verdict =
        verdicts[found != NULL ? (unsigned)found->state : STEP_ABSENT][request];

    switch (verdict) {
    case FS_ALLOWED:
    case FS_DONE:
    case FS_REVOKED: /* not in the table, nor are these */
    case FS_BAD_NAME:
    case FS_BAD_STEP:
        break;
    case FS_SEALED:
        (void)base_fail(err, BASE_DENIED,
                        "step %" PRIu64 " is saved and stays as it is", step);
        break;
    case FS_SAVED:
        (void)base_fail(err, BASE_EXISTS,
                        "step %" PRIu64
                        " is saved already, as version %" PRIu64,
                        step, found->version);
        break;
    case FS_THERE:
        (void)base_fail(err, BASE_EXISTS, "%" PRIu64 ".tmp is there already",
                        step);
        break;
    case FS_BUSY:
        (void)base_fail(err, BASE_EXISTS, "step %" PRIu64 " is being committed",
                        step);
        break;
    case FS_ABSENT:
        (void)base_fail(err, BASE_NOT_FOUND, "no step %" PRIu64 " is open",
                        step);
        break;
    }
    return verdict;
}

static enum fs_verdict judge_generation(const struct fs_generations *all,
                                        uint64_t generation,
                                        struct base_err *err)
{
    const struct fs_generation *now = fs_generations_find(all, all->current);

    if (generation == all->current && !all->is_revoked) {
        return FS_ALLOWED;
    }
    if (generation == all->current) {
        (void)base_fail(err, BASE_DENIED,
                        "generation %" PRIu64
                        " is revoked: the coordinator has ended it",
                        generation);
        return FS_REVOKED;
    }
    (void)base_fail(err, BASE_DENIED,
                    "generation %" PRIu64 " is revoked: generation %" PRIu64
                    " began, from version %" PRIu64,
                    generation, all->current, now != NULL ? now->load : 0);
    return FS_REVOKED;
}

static enum fs_verdict
bad_name(struct base_str name, const char *expected, struct base_err *err)
{
    (void)base_fail(err, BASE_BAD_ARG, "\"%.*s\" is not %s", BASE_STR_FMT(name),
                    expected);
    return FS_BAD_NAME;
}

enum fs_verdict fs_judge_mkdir(const struct fs_generations *all,
                               struct fs_steps steps,
                               uint64_t generation,
                               struct base_str name,
                               uint64_t *ret_step,
                               struct base_err *err)
{
    enum fs_verdict verdict = judge_generation(all, generation, err);
    bool is_tmp = false;
    uint32_t i;

    if (verdict != FS_ALLOWED) {
        return verdict;
    }
    if (!fs_step_parse(name, ret_step, &is_tmp) || !is_tmp) {
        return bad_name(name, "STEP.tmp, with a decimal step", err);
    }
    verdict = look_up(steps, generation, *ret_step, MKDIR_TMP, err);
    if (verdict != FS_ALLOWED) {
        return verdict;
    }
    for (i = 0; i < steps.n; i++) {
        if (steps.items[i].state != FS_STEP_SEALED) {
            (void)base_fail(err, BASE_EXISTS,
                            "step %" PRIu64 " is open: one is saved at a time",
                            steps.items[i].step);
            return FS_BUSY;
        }
    }
    if (*ret_step < all->next_step) {
        (void)base_fail(err, BASE_BAD_ARG,
                        "step %" PRIu64
                        " is not after the step of version %" PRIu64
                        ", which is %" PRIu64,
                        *ret_step, all->seen, all->next_step - 1);
        return FS_BAD_STEP;
    }
    return FS_ALLOWED;
}

enum fs_verdict fs_judge_rename(const struct fs_generations *all,
                                struct fs_steps steps,
                                uint64_t generation,
                                struct base_str from,
                                uint64_t to_generation,
                                struct base_str to,
                                uint64_t *ret_step,
                                struct base_err *err)
{
    uint64_t to_step = 0;
    bool is_tmp = false;
    bool is_to_tmp = true;
    enum fs_verdict verdict;

    if (!fs_step_parse(from, ret_step, &is_tmp)) {
        return bad_name(from, "STEP.tmp, with a decimal step", err);
    }
    if (!is_tmp) {
        return look_up(steps, generation, *ret_step, RMDIR_STEP, err);
    }
    verdict = look_up(steps, generation, *ret_step, RENAME_TMP, err);
    if (verdict == FS_ABSENT) {
        return verdict;
    }
    if (to_generation != generation ||
        !fs_step_parse(to, &to_step, &is_to_tmp) || is_to_tmp ||
        to_step != *ret_step) {
        return bad_name(to, "the step itself, which alone commits it", err);
    }
    if (verdict == FS_ALLOWED || verdict == FS_BUSY) {
        enum fs_verdict current = judge_generation(all, generation, err);

        return current != FS_ALLOWED ? current : verdict;
    }
    return verdict;
}

enum fs_verdict fs_judge_rmdir(const struct fs_generations *all,
                               struct fs_steps steps,
                               uint64_t generation,
                               struct base_str name,
                               uint64_t *ret_step,
                               struct base_err *err)
{
    bool is_tmp = false;
    enum fs_verdict verdict;

    if (!fs_step_parse(name, ret_step, &is_tmp)) {
        (void)base_fail(err, BASE_NOT_FOUND, "no step \"%.*s\"",
                        BASE_STR_FMT(name));
        return FS_ABSENT;
    }
    verdict = look_up(steps, generation, *ret_step,
                      is_tmp ? RMDIR_TMP : RMDIR_STEP, err);
    return verdict == FS_ALLOWED ? judge_generation(all, generation, err)
                                 : verdict;
}
