/* What is, of one job, as worker_decide wants it. */
#include <string.h>

#include "worker/agent.h"

bool worker_job_is_wanted(const struct worker_job *job, uint64_t generation)
{
    const Retile__V1__JobTarget *target = job->target;

    return target != NULL && !target->is_gone && target->generation != NULL &&
           target->generation->number == generation;
}

static bool has_version(const struct worker_job *job, uint64_t number)
{
    for (size_t i = 0; i < job->versions.n; i++) {
        if (job->versions.items[i]->number == number) {
            return true;
        }
    }
    return false;
}

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
    return number > target->highest;
}

/* A version to be released (never the newest), or a pin that differs. */
static bool has_surplus(const struct worker_job *job)
{
    const Retile__V1__JobTarget *target = job->target;

    for (size_t i = 0; i < job->versions.n; i++) {
        const Retile__V1__Version *version = job->versions.items[i];
        const char *pin = wanted_pin(target, version->number);

        if (strcmp(pin, version->pinned) != 0 ||
            (i + 1 < job->versions.n && pin[0] == '\0' &&
             !is_kept(target, version->number))) {
            return true;
        }
    }
    return false;
}

static void add_wanted(const struct worker_job *job, struct worker_facts *facts)
{
    const Retile__V1__JobTarget *target = job->target;

    facts->has_target = true;
    facts->is_gone = target->is_gone;
    facts->generation =
        target->generation != NULL ? target->generation->number : 0;
    facts->attempt = target->attempt != NULL ? target->attempt->number : 0;
    facts->plan = target->plan != NULL ? target->plan->number : 0;
    facts->can_show = job->versions.n > 0 || target->layout[0] != '\0' ||
                      facts->generation != 0;
    facts->has_attempt = has_version(job, facts->attempt);
    facts->has_surplus = has_surplus(job);
}

static void add_mount(const struct worker_mount *mount,
                      struct worker_facts *facts)
{
    facts->mount = mount->state;
    facts->mount_since_ns = mount->since_ns;
    facts->mount_next_ns = mount->next_ns;
    facts->mount_shown = mount->shown;
    facts->mount_ordered = mount->ordered;
    facts->ordered_ns = mount->ordered_ns;
    facts->is_mount_dirty = mount->is_dirty;
    facts->is_cleaning = mount->is_cleaning;
}

struct worker_facts worker_job_facts(const struct worker_job *job)
{
    const struct worker_record *record = &job->record;
    struct worker_facts facts = {0};
    bool is_alive = record->is_started && !record->is_clear;

    if (job->target != NULL) {
        add_wanted(job, &facts);
    }
    facts.are_votes_known = job->are_votes_known;
    facts.are_votes_open = job->votes.n > 0;
    add_mount(&job->mount, &facts);
    facts.alive = is_alive ? record->generation : 0;
    facts.has_launcher = job->launcher.call != NULL;
    facts.is_unwatched = is_alive && !worker_launcher_has(job);
    facts.revoked_ns = job->revoked_ns;
    facts.killed_ns = job->killed_ns;
    facts.scan_next_ns = job->scan_next_ns;
    facts.prepared = record->generation;
    facts.is_probing = job->is_probing;
    facts.probing_ns = job->probing_ns;
    facts.probe_next_ns = job->probe_next_ns;
    facts.is_working = job->n_working > 0;
    facts.tried = job->tried;
    facts.planned = job->plan != NULL ? job->plan->number : 0;
    facts.tidy_next_ns = job->tidy_next_ns;
    facts.is_removed = job->is_removed;
    facts.look_next_ns = job->look_next_ns;
    return facts;
}
