/* Which devices a generation gets, and when they are free again: not when it
 * ends, but when its host says that no process of it is left. */
#include "coordinator/core/impl.h"

static struct coord_hold *hold_find(const struct coord_job *job, uint32_t index)
{
    for (size_t i = 0; i < job->holds.n; i++) {
        if (job->holds.items[i].device == index) {
            return &job->holds.items[i];
        }
    }
    return NULL;
}

bool place_holds(const struct coord_job *job, uint32_t index)
{
    return hold_find(job, index) != NULL;
}

static bool is_usable(const struct coord_host *host,
                      const struct coord_job *job,
                      uint32_t index)
{
    uint32_t n_own =
        job != NULL && job->host == host && place_holds(job, index);

    return device_state(host, index) == DEVICE_READY &&
           host->slots[index].n_holders == n_own;
}

struct coord_job *place_user(const struct coord_host *host, uint32_t index)
{
    struct coord_job *user = NULL;

    for (size_t i = 0; i < host->jobs.n && host->slots[index].n_holders > 0;
         i++) {
        struct coord_job *job = host->jobs.items[i];
        const struct coord_hold *hold = hold_find(job, index);
        const Retile__V1__Generation *current = generation_current(job);

        if (hold != NULL && current != NULL &&
            hold->generation == current->number) {
            return job;
        }
        user = hold != NULL ? job : user;
    }
    return user;
}

bool place_any(const struct coord_host *host,
               const struct coord_job *job,
               uint32_t n,
               uint32_t *ret,
               uint32_t *ret_n)
{
    uint32_t n_found = 0;

    *ret_n = 0;
    if (host->session == 0 || !host_is_clear(host, job) ||
        (job->host == NULL && host_is_stranger(host, job->rec->job->name))) {
        return false;
    }
    for (uint32_t i = 0; i < host->rec->n_devices; i++) {
        if (is_usable(host, job, i)) {
            if (n_found < n) {
                ret[n_found] = i;
            }
            n_found++;
        }
    }
    *ret_n = n_found;
    return n_found >= n;
}

bool place_on(const struct coord_host *host,
              const struct coord_job *job,
              uint32_t n,
              uint32_t *ret,
              uint32_t *ret_n)
{
    const Retile__Coordinator__JobRecord *rec = job->rec;
    uint32_t n_found = 0;

    if (!place_any(host, job, n, ret, ret_n)) {
        return false;
    }
    if (job->host != host || rec->n_wanted != n) {
        return true;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t index = rec->wanted[i]->index;

        n_found += index < host->rec->n_devices && is_usable(host, job, index);
    }
    for (uint32_t i = 0; n_found == n && i < n; i++) {
        ret[i] = rec->wanted[i]->index;
    }
    return true;
}

uint32_t place_free_of(const struct coord_host *host)
{
    uint32_t n_free = 0;

    if (host->session == 0 || !host_is_clear(host, NULL)) {
        return 0;
    }
    for (uint32_t i = 0; i < host->rec->n_devices; i++) {
        n_free += is_usable(host, NULL, i);
    }
    return n_free;
}

struct coord_host *
place_choose(struct coord *coord, const struct coord_job *job, uint32_t n)
{
    struct coord_host *best = NULL;
    uint32_t n_best = 0;
    uint32_t n_most = 0;

    if (n > coord->most_free) {
        return NULL; /* or each of many jobs would ask each of many hosts */
    }
    for (size_t i = 0; i < coord->hosts.n; i++) {
        struct coord_host *host = coord->hosts.items[i];
        uint32_t n_free = place_free_of(host);

        n_most = n_free > n_most ? n_free : n_most;
        if (n_free >= n && (best == NULL || n_free > n_best) &&
            host->session != 0 && host_is_clear(host, NULL) &&
            !host_is_stranger(host, job->rec->job->name)) {
            best = host;
            n_best = n_free;
        }
    }
    coord->most_free = n_most;
    return best;
}

void place_take(struct coord *coord,
                struct coord_job *job,
                const Retile__V1__Generation *generation)
{
    for (size_t i = 0; i < generation->n_placements; i++) {
        uint32_t device = generation->placements[i]->device;
        struct coord_hold *hold = hold_find(job, device);

        if (device >= job->host->rec->n_devices ||
            strcmp(generation->placements[i]->host, job->host->rec->name) !=
                0) {
            continue; /* of a host that was forgotten */
        }
        if (hold != NULL) {
            hold->generation = generation->number > hold->generation
                                   ? generation->number
                                   : hold->generation;
        } else if (base_vec_push(
                       &job->holds,
                       ((struct coord_hold){device, generation->number}))) {
            job->host->slots[device].n_holders++;
        } else {
            coord_no_mem(coord);
        }
    }
}

void place_take_again(struct coord *coord, struct coord_job *job)
{
    const Retile__V1__Job *rec = job->rec->job;
    const Retile__V1__Generation *generation = rec->generation;

    for (size_t i = 0; generation != NULL; i++) {
        place_take(coord, job, generation);
        if (generation->ready_ns != 0 || i >= rec->n_history) {
            return;
        }
        generation = rec->history[i];
    }
}

/* Is no process left of a generation, and of those before it? */
static bool is_clear(const struct coord_job *job, uint64_t generation)
{
    if (!job->is_heard || job->is_ended ||
        job->seen_revision < job->end_revision) {
        return false;
    }
    if (job->shown_generation == 0) {
        return true;
    }
    return job->shown_generation > generation ? job->is_prepared
                                              : job->is_clear;
}

void place_free(struct coord *coord, struct coord_job *job, bool is_all)
{
    const Retile__V1__Generation *current = generation_current(job);
    struct coord_host *host = job->host;
    bool has_freed = false;

    for (size_t i = job->holds.n; i-- > 0;) {
        struct coord_hold hold = job->holds.items[i];

        if (is_all ||
            ((current == NULL || hold.generation != current->number) &&
             is_clear(job, hold.generation))) {
            host->slots[hold.device].n_holders--;
            job->holds.items[i] = job->holds.items[--job->holds.n];
            has_freed = true;
        }
    }
    if (has_freed) {
        job_wake_host(coord, host);
    }
}
