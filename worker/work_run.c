/* What each kind of work does, on the store's thread. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "proto/describe.h"
#include "proto/rpc.h"
#include "store/change.h"
#include "worker/plan.h"
#include "worker/work.h"

/* Works are repeated: none waits long for a lock that a mount has. */
#define LOCK_WAIT_NS ((int64_t)10 * 1000000000)

struct run {
    struct worker_work *work;
    struct store_root *root;
    struct worker_inventory *inventory;
    bool (*progress)(void *ctx, uint64_t done_bytes, uint64_t all_bytes);
    void *ctx;
};

static enum base_code no_mem(struct base_err *err, const char *job)
{
    return base_fail(err, BASE_NO_MEM, "%s: out of memory", job);
}

/* --- votes --------------------------------------------------------------- */

static enum base_code
add_vote(struct run *run, const struct store_vote *vote, struct base_err *err)
{
    BASE_AUTO(store_version) version = NULL;
    struct worker_found found = {.number = vote->number,
                                 .generation = vote->generation,
                                 .is_damaged = vote->is_damaged};
    enum base_code code = BASE_OK;

    if (!found.is_damaged) {
        code =
            store_vote_open(run->root, vote->job, vote->number, &version, err);
    }
    if (code == BASE_NOT_FOUND) { /* its mount was told meanwhile */
        return BASE_OK;
    }
    if (code == BASE_BAD_INPUT || code == BASE_MISMATCH) {
        found.is_damaged = true;
        code = BASE_OK;
    }
    BASE_TRY(code);
    if (version != NULL) {
        found.version = rpc_version_describe(version);
        if (found.version == NULL) {
            return no_mem(err, vote->job);
        }
    }
    if (!base_vec_push(&run->work->votes, found)) {
        rpc_message_free(found.version != NULL ? &found.version->base : NULL);
        return no_mem(err, vote->job);
    }
    return BASE_OK;
}

/* Those of the job: all, or one. */
static enum base_code
find_votes(struct run *run, uint64_t number, struct base_err *err)
{
    BASE_AUTO_MEM struct store_vote *votes = NULL;
    size_t n = 0;

    BASE_TRY(store_vote_list(run->root, &votes, &n, err));
    for (size_t i = 0; i < n; i++) {
        if (strcmp(votes[i].job, run->work->job) == 0 &&
            (number == 0 || votes[i].number == number)) {
            BASE_TRY(add_vote(run, &votes[i], err));
        }
    }
    return BASE_OK;
}

/* --- attempts ------------------------------------------------------------ */

/* The layout of an import is what the directory is in, where it does not say
 * so itself. */
static enum base_code import(struct run *run,
                             const Retile__V1__TargetAttempt *wanted,
                             const struct store_attempt *attempt,
                             struct base_err *err)
{
    struct store_source_options source_options = {
        .from = wanted->layout[0] != '\0' ? wanted->layout : NULL};
    struct store_import_options options = {
        .progress = run->progress,
        .progress_ctx = run->ctx,
    };
    BASE_AUTO(store_source) source = NULL;
    uint64_t number;

    if (wanted->import_dir[0] != '/') {
        return base_fail(err, BASE_BAD_ARG,
                         "%s: is no absolute path of this host",
                         wanted->import_dir);
    }
    BASE_TRY(store_source_open_dir(wanted->import_dir, &source_options, &source,
                                   err));
    return store_import(run->root, run->work->job, source, &options, attempt,
                        &number, err);
}

static enum base_code rescale(struct run *run,
                              const Retile__V1__TargetAttempt *wanted,
                              const struct store_attempt *attempt,
                              struct base_err *err)
{
    BASE_AUTO(store_version) version = NULL;
    BASE_AUTO(store_source) source = NULL;
    BASE_AUTO(ptc_spec) spec = NULL;
    uint64_t number;

    BASE_TRY(store_version_open(run->root, run->work->job, wanted->parent,
                                &version, err));
    BASE_TRY(store_source_open_version(run->root, &version, &source, err));
    BASE_TRY(worker_spec_for(wanted->layout, source, &spec, err));
    return store_rescale_source(run->root, run->work->job, source, &spec, NULL,
                                NULL, attempt, &number, err);
}

static enum base_code make(struct run *run,
                           const Retile__V1__TargetAttempt *wanted,
                           struct base_err *err)
{
    const struct store_attempt attempt = {.number = wanted->number};
    const char *job = run->work->job;
    uint64_t number;

    switch (wanted->kind) {
    case RETILE__V1__ATTEMPT_KIND__ATTEMPT_RESCALE:
        return rescale(run, wanted, &attempt, err);
    case RETILE__V1__ATTEMPT_KIND__ATTEMPT_ROLLBACK:
        return store_rollback(run->root, job, wanted->parent, &attempt, &number,
                              err);
    case RETILE__V1__ATTEMPT_KIND__ATTEMPT_IMPORT:
        return import(run, wanted, &attempt, err);
    case RETILE__V1__ATTEMPT_KIND__ATTEMPT_COPY:
        return store_copy_version(run->root, job, wanted->from_job,
                                  wanted->parent, &attempt, &number, err);
    default:
        return base_fail(err, BASE_UNSUPPORTED,
                         "attempt %" PRIu64 ": an agent makes none of kind %d",
                         wanted->number, (int)wanted->kind);
    }
}

static enum base_code attempt(struct run *run, struct base_err *err)
{
    const Retile__V1__TargetAttempt *wanted = run->work->target->attempt;

    BASE_TRY(make(run, wanted, err));
    BASE_TRY(base_fault_check(BASE_FAULT_agent_voted, err));
    return find_votes(run, wanted->number, err);
}

/* --- pins, releases ------------------------------------------------------ */

static const char *wanted_pin(const Retile__V1__JobTarget *target,
                              uint64_t number)
{
    for (size_t i = 0; i < target->n_pins; i++) {
        if (target->pins[i]->version == number) {
            return target->pins[i]->why;
        }
    }
    return "";
}

static bool is_kept(const Retile__V1__JobTarget *target, uint64_t number)
{
    for (size_t i = 0; i < target->n_keep; i++) {
        if (target->keep[i] == number) {
            return true;
        }
    }
    return wanted_pin(target, number)[0] != '\0';
}

static enum base_code
pin(struct run *run, const Retile__V1__Version *version, struct base_err *err)
{
    const char *why = wanted_pin(run->work->target, version->number);

    if (strcmp(why, version->pinned) == 0) {
        return BASE_OK;
    }
    return store_version_pin(run->root, run->work->job, version->number,
                             why[0] != '\0' ? why : NULL, err);
}

/* Neither the newest, nor one that was made after the target was written. */
static enum base_code
tidy_locked(struct run *run, struct worker_versions *all, struct base_err *err)
{
    const Retile__V1__JobTarget *target = run->work->target;
    struct store_sweep sweep;
    bool is_any = false;

    for (size_t i = 0; i < all->n; i++) {
        const Retile__V1__Version *version = all->items[i];
        enum base_code code;

        BASE_TRY(pin(run, version, err));
        if (i + 1 == all->n || version->number > target->highest ||
            is_kept(target, version->number)) {
            continue;
        }
        code = store_version_release(run->root, run->work->job, version->number,
                                     err);
        if (code == BASE_EXISTS) { /* somebody reads it */
            run->work->is_incomplete = true;
            continue;
        }
        BASE_TRY(code);
        is_any = true;
    }
    return is_any ? store_sweep(run->root, &sweep, err) : BASE_OK;
}

static enum base_code tidy(struct run *run, struct base_err *err)
{
    struct worker_versions all = {0};
    BASE_AUTO_MEM char *damaged = NULL;
    enum base_code code;

    BASE_TRY(worker_inventory_list(run->inventory, run->root, run->work->job,
                                   &all, &damaged, err));
    code = store_root_lock(run->root, LOCK_WAIT_NS, err);
    if (code == BASE_OK) {
        code = tidy_locked(run, &all, err);
        store_root_take_unlinked(run->root, &run->work->unlinked,
                                 &run->work->n_unlinked);
        store_root_unlock(run->root);
    }
    worker_versions_done(&all);
    return code;
}

static enum base_code remove_job(struct run *run, struct base_err *err)
{
    struct store_sweep sweep;
    enum base_code code;

    worker_inventory_forget(run->inventory, run->work->job);
    BASE_TRY(store_root_lock(run->root, LOCK_WAIT_NS, err));
    code = store_job_remove(run->root, run->work->job, err);
    if (code == BASE_OK) {
        code = store_sweep(run->root, &sweep, err);
    }
    store_root_unlock(run->root);
    if (code == BASE_EXISTS) {
        run->work->is_incomplete = true;
    }
    BASE_TRY(code);
    return base_fault_check(BASE_FAULT_agent_removed, err);
}

/* --- what came of it ----------------------------------------------------- */

/* A plan's failure is an answer, not an error. */
static enum base_code plan(struct run *run, struct base_err *err)
{
    run->work->plan =
        worker_plan_make(run->root, run->work->job, run->work->target->plan);
    return run->work->plan != NULL ? BASE_OK : no_mem(err, run->work->job);
}

static enum base_code do_it(struct run *run, struct base_err *err)
{
    struct worker_work *work = run->work;

    switch (work->kind) {
    case WORKER_WORK_LOOK:
        return BASE_OK;
    case WORKER_WORK_VOTES:
        return find_votes(run, 0, err);
    case WORKER_WORK_ATTEMPT:
        return attempt(run, err);
    case WORKER_WORK_PUBLISH:
        BASE_TRY(base_fault_check(BASE_FAULT_agent_publish, err));
        BASE_TRY(store_vote_publish(run->root, work->job, work->number, err));
        return base_fault_check(BASE_FAULT_agent_published, err);
    case WORKER_WORK_DISCARD:
        return store_vote_remove(run->root, work->job, work->number, err);
    case WORKER_WORK_PLAN:
        return plan(run, err);
    case WORKER_WORK_TIDY:
        return tidy(run, err);
    case WORKER_WORK_REMOVE:
        return remove_job(run, err);
    }
    return BASE_OK;
}

void worker_work_run(struct worker_work *work,
                     struct store_root *root,
                     struct worker_inventory *inventory,
                     bool (*progress)(void *ctx,
                                      uint64_t done_bytes,
                                      uint64_t all_bytes),
                     void *ctx)
{
    struct run run = {work, root, inventory, progress, ctx};
    struct base_err err = {0};

    work->code = do_it(&run, &work->err);
    work->has_versions =
        worker_inventory_list(inventory, root, work->job, &work->versions,
                              &work->damaged, &err) == BASE_OK;
    if (!work->has_versions && work->code == BASE_OK) {
        work->code = err.code;
        work->err = err;
    }
}
