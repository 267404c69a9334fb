/* Which devices a generation gets, and when they are free again: not when it
 * ends, but when its host says that no process of it is left. */
#include "coordinator/core/impl.h"

static bool is_usable(const struct coord_host *host,
                      const struct coord_job *job,
                      uint32_t index)
{
    const struct coord_slot *slot = &host->slots[index];

    return device_state(host, index) == DEVICE_READY &&
           (slot->job == NULL || slot->job == job);
}

bool place_on(const struct coord_host *host,
              const struct coord_job *job,
              uint32_t n,
              uint32_t *ret,
              uint32_t *ret_n)
{
    const Retile__Coordinator__JobRecord *rec =
        job != NULL && job->host == host ? job->rec : NULL;
    uint32_t n_found = 0;

    *ret_n = 0;
    if (host->session == 0) {
        return false;
    }
    for (size_t i = 0; rec != NULL && i < rec->n_wanted; i++) {
        uint32_t index = rec->wanted[i]->index;

        if (index < host->rec->n_devices && is_usable(host, job, index)) {
            if (n_found < n && ret != NULL) {
                ret[n_found] = index;
            }
            n_found++;
        }
    }
    if (n_found >= n && n > 0 && rec != NULL && rec->n_wanted > 0) {
        *ret_n = n_found;
        return true;
    }
    n_found = 0;
    for (uint32_t i = 0; i < host->rec->n_devices; i++) {
        if (is_usable(host, job, i)) {
            if (n_found < n && ret != NULL) {
                ret[n_found] = i;
            }
            n_found++;
        }
    }
    *ret_n = n_found;
    return n_found >= n;
}

struct coord_host *place_choose(const struct coord *coord, uint32_t n)
{
    struct coord_host *best = NULL;
    uint32_t n_best = 0;

    for (size_t i = 0; i < coord->hosts.n; i++) {
        struct coord_host *host = coord->hosts.items[i];
        uint32_t n_free = 0;

        if (place_on(host, NULL, n, NULL, &n_free) && host->session != 0 &&
            (best == NULL || n_free > n_best)) {
            best = host;
            n_best = n_free;
        }
    }
    return best;
}

void place_take(struct coord *coord, struct coord_job *job)
{
    const Retile__V1__Generation *generation = job->rec->job->generation;

    (void)coord;
    if (generation == NULL || job->host == NULL) {
        return;
    }
    for (size_t i = 0; i < generation->n_placements; i++) {
        uint32_t device = generation->placements[i]->device;

        if (device < job->host->rec->n_devices &&
            (job->host->slots[device].job == NULL ||
             job->host->slots[device].job == job)) {
            job->host->slots[device].job = job;
            job->host->slots[device].generation = generation->number;
        }
    }
}

/* May processes of a generation that had the slot be left? */
static bool is_clear(const struct coord_job *job, const struct coord_slot *slot)
{
    if (!job->is_heard || job->is_ended ||
        job->seen_revision < job->end_revision) {
        return false;
    }
    if (job->shown_generation == 0) {
        return true;
    }
    return job->shown_generation > slot->generation ? job->is_prepared
                                                    : job->is_clear;
}

void place_free(struct coord *coord, struct coord_job *job, bool is_all)
{
    const Retile__V1__Generation *current = generation_current(job);
    struct coord_host *host = job->host;
    bool has_freed = false;

    for (uint32_t i = 0; host != NULL && i < host->rec->n_devices; i++) {
        struct coord_slot *slot = &host->slots[i];

        if (slot->job != job ||
            (!is_all && current != NULL &&
             slot->generation == current->number) ||
            (!is_all && !is_clear(job, slot))) {
            continue;
        }
        slot->job = NULL;
        has_freed = true;
    }
    if (has_freed) {
        job_wake_host(coord, host);
    }
}
