/* Hosts: sessions, leases, and what an agent says when it comes. */
#include <stdio.h>

#include "coordinator/core/impl.h"

static const char *host_name(const void *item)
{
    return ((const struct coord_host *)item)->rec->name;
}

struct coord_host *host_find(const struct coord *coord, const char *name)
{
    size_t at =
        coord_lower(coord->hosts.items, coord->hosts.n, name, host_name);

    if (at < coord->hosts.n &&
        strcmp(host_name(coord->hosts.items[at]), name) == 0) {
        return coord->hosts.items[at];
    }
    return NULL;
}

void host_free(struct coord_host *host)
{
    if (host == NULL) {
        return;
    }
    for (size_t i = 0; host->slots != NULL && i < host->rec->n_devices; i++) {
        free(host->slots[i].why);
    }
    free(host->slots);
    base_vec_done(&host->jobs);
    base_vec_done(&host->strangers);
    coord_message_free(host->rec);
    free(host);
}

struct coord_host *host_add(struct coord *coord, Retile__V1__Host *rec)
{
    struct coord_host *host = calloc(1, sizeof(*host));
    size_t at;

    if (host != NULL) {
        host->rec = rec;
        host->slots = calloc(rec->n_devices + 1, sizeof(*host->slots));
    } else {
        coord_message_free(rec);
    }
    if (host == NULL || host->slots == NULL ||
        !base_vec_reserve(&coord->hosts, coord->hosts.n + 1)) {
        coord_no_mem(coord);
        host_free(host);
        return NULL;
    }
    host->lease =
        (struct coord_timer){.at_ns = NO_NS, .owner = host, .is_host = true};
    at = coord_lower(coord->hosts.items, coord->hosts.n, rec->name, host_name);
    memmove(coord->hosts.items + at + 1, coord->hosts.items + at,
            (coord->hosts.n - at) * sizeof(*coord->hosts.items));
    coord->hosts.items[at] = host;
    coord->hosts.n++;
    return host;
}

void host_dirty(struct coord *coord, struct coord_host *host)
{
    if (!host->is_dirty) {
        if (!base_vec_push(&coord->dirty_hosts, host)) {
            coord_no_mem(coord);
            return;
        }
        host->is_dirty = true;
    }
}

/* Sessions, by number. */
static size_t session_at(const struct coord *coord, uint64_t number)
{
    size_t begin = 0;
    size_t end = coord->sessions.n;

    while (begin < end) {
        size_t middle = begin + (end - begin) / 2;

        if (coord->sessions.items[middle].number < number) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return begin;
}

struct coord_host *host_of_session(const struct coord *coord, uint64_t session)
{
    size_t at = session_at(coord, session);

    if (at < coord->sessions.n && coord->sessions.items[at].number == session) {
        return coord->sessions.items[at].host;
    }
    return NULL;
}

static void session_drop(struct coord *coord, struct coord_host *host)
{
    size_t at = session_at(coord, host->session);

    if (host->session == 0) {
        return;
    }
    memmove(coord->sessions.items + at, coord->sessions.items + at + 1,
            (coord->sessions.n - at - 1) * sizeof(*coord->sessions.items));
    coord->sessions.n--;
    host->session = 0;
    for (size_t i = 0; i < host->jobs.n; i++) {
        struct coord_job *job = host->jobs.items[i];

        plan_end(coord, job, RPC_UNAVAILABLE, "the host's session is over");
        attempt_refuse_waiting(coord, job, "the host's session is over");
        job->is_heard = false;
        job_wake(coord, job);
    }
}

static void end_session(struct coord *coord,
                        uint64_t session,
                        enum rpc_code code,
                        const char *text)
{
    struct coord_send send = {.session = session, .status.code = code};

    (void)snprintf(send.status.text, sizeof(send.status.text), "%s", text);
    if (!base_vec_push(&coord->actions->sends, send)) {
        coord_no_mem(coord);
    }
}

static void
send(struct coord *coord, uint64_t session, const Retile__V1__ToAgent *message)
{
    if (!base_vec_push(
            &coord->actions->sends,
            ((struct coord_send){.session = session,
                                 .message = coord_copy_out(coord, message)}))) {
        coord_no_mem(coord);
    }
}

static void heard(struct coord *coord, struct coord_host *host)
{
    host->rec->heard_ns = coord->now.wall_ns;
    coord_timer_set(coord, &host->lease,
                    coord->now.mono_ns +
                        (int64_t)coord->limits.lease_ms * NS_PER_MS);
}

static Retile__V1__Device *
new_device(struct coord *coord, const struct coord_host *host, uint32_t index)
{
    Retile__V1__Device *device = malloc(sizeof(*device));

    if (device == NULL) {
        coord_no_mem(coord);
        return NULL;
    }
    retile__v1__device__init(device);
    coord_text(coord, &device->host, "%s", host->rec->name);
    device->index = index;
    device->state = RETILE__V1__DEVICE_STATE__DEVICE_READY;
    return device;
}

static bool
grow_devices(struct coord *coord, struct coord_host *host, uint32_t n)
{
    while (host->rec->n_devices < n) {
        uint32_t index = (uint32_t)host->rec->n_devices;
        Retile__V1__Device *device;
        struct coord_slot *slots;

        if (!coord_list_grow(coord, &host->rec->devices, index,
                             sizeof(device))) {
            return false;
        }
        slots = reallocarray(host->slots, (size_t)index + 2, sizeof(*slots));
        if (slots == NULL) {
            coord_no_mem(coord);
            return false;
        }
        host->slots = slots;
        memset(&slots[index], 0, 2 * sizeof(*slots));
        device = new_device(coord, host, index);
        if (device == NULL) {
            return false;
        }
        host->rec->devices[host->rec->n_devices++] = device;
        host_dirty(coord, host);
    }
    return true;
}

/* Devices that are not named any more are broken, so that nothing is lost of
 * what was set. */
static void take_devices(struct coord *coord,
                         struct coord_host *host,
                         const Retile__V1__Hello *hello)
{
    uint32_t n = 0;

    for (size_t i = 0; i < hello->n_devices; i++) {
        n = hello->devices[i]->index >= n ? hello->devices[i]->index + 1 : n;
    }
    if (!grow_devices(coord, host, n)) {
        return;
    }
    for (uint32_t i = 0; i < host->rec->n_devices; i++) {
        const Retile__V1__Device *shown = NULL;
        Retile__V1__Device *device = host->rec->devices[i];

        for (size_t k = 0; k < hello->n_devices && shown == NULL; k++) {
            shown = hello->devices[k]->index == i ? hello->devices[k] : NULL;
        }
        if (shown == NULL) {
            device_found(coord, host, i, true, "its host has it no more");
            continue;
        }
        if (strcmp(device->kind, shown->kind) != 0 ||
            strcmp(device->label, shown->label) != 0 ||
            device->memory_bytes != shown->memory_bytes) {
            coord_text(coord, &device->kind, "%s", shown->kind);
            coord_text(coord, &device->label, "%s", shown->label);
            device->memory_bytes = shown->memory_bytes;
            host_dirty(coord, host);
        }
        device_found(coord, host, i, (int)shown->state == DEVICE_FAILED,
                     shown->reason);
    }
}

static bool set_if_other(struct coord *coord, char **field, const char *text)
{
    if (strcmp(*field, text) == 0) {
        return false;
    }
    coord_text(coord, field, "%s", text);
    return true;
}

static void take_hello(struct coord *coord,
                       struct coord_host *host,
                       const Retile__V1__Hello *hello)
{
    bool is_other = set_if_other(coord, &host->rec->address, hello->address);

    is_other |= set_if_other(coord, &host->rec->version, hello->version);
    if (strcmp(host->rec->store_id, hello->store_id) != 0) {
        if (host->rec->store_id[0] != '\0') {
            coord_tell(coord,
                       &(struct coord_about){.kind = EVENT_HOST,
                                             .host = host->rec->name,
                                             .device = -1},
                       "store %s is gone, it has store %s now",
                       host->rec->store_id, hello->store_id);
            report_lost_store(coord, host);
        }
        coord_text(coord, &host->rec->store_id, "%s", hello->store_id);
        is_other = true;
    }
    is_other |= host->rec->store_budget_bytes != hello->store_budget_bytes;
    host->rec->store_budget_bytes = hello->store_budget_bytes;
    host->rec->store_used_bytes = hello->store_used_bytes;
    if ((int)host->rec->state != HOST_UP) {
        host_move(coord, host, HOST_UP, "");
    }
    if (is_other) {
        host_dirty(coord, host);
    }
    take_devices(coord, host, hello);
}

static struct coord_stranger *stranger_find(const struct coord_host *host,
                                            const char *job)
{
    for (size_t i = 0; i < host->strangers.n; i++) {
        if (strcmp(host->strangers.items[i].name, job) == 0) {
            return &host->strangers.items[i];
        }
    }
    return NULL;
}

bool host_is_stranger(const struct coord_host *host, const char *job)
{
    return stranger_find(host, job) != NULL;
}

bool host_is_clear(const struct coord_host *host, const struct coord_job *job)
{
    for (size_t i = 0; i < host->jobs.n; i++) {
        if (host->jobs.items[i] != job && host->jobs.items[i]->is_astray) {
            return false;
        }
    }
    for (size_t i = 0; i < host->strangers.n; i++) {
        if (!host->strangers.items[i].is_clear) {
            return false;
        }
    }
    return true;
}

static void see_stranger(struct coord *coord,
                         struct coord_host *host,
                         const Retile__V1__JobStatus *status)
{
    struct coord_stranger *known = stranger_find(host, status->job);
    struct coord_stranger stranger = {0};
    bool is_new = known == NULL;

    if (status->revision > coord->revision && status->revision <= MAX_NUMBER) {
        coord->revision = status->revision;
    }
    if (status->is_gone) {
        if (known != NULL) {
            *known = host->strangers.items[--host->strangers.n];
            job_wake_host(coord, host);
        }
        return;
    }
    if (known == NULL && host->strangers.n >= coord->limits.max_jobs) {
        end_session(coord, host->session, RPC_RESOURCE_EXHAUSTED,
                    "the host has too many jobs that are not known");
        session_drop(coord, host);
        return;
    }
    if (known == NULL) {
        (void)snprintf(stranger.name, sizeof(stranger.name), "%s", status->job);
        if (!base_vec_push(&host->strangers, stranger)) {
            coord_no_mem(coord);
            return;
        }
        known = &host->strangers.items[host->strangers.n - 1];
    }
    known->is_clear =
        status->generation == NULL || status->generation->is_clear;
    if (known->is_clear) {
        job_wake_host(coord, host);
    }
    if (is_new) {
        target_stranger(coord, host, status->job);
    }
}

/* The host has a job that has no host yet: we are an old copy, it is this one. */
static bool
is_found(struct coord *coord, struct coord_host *host, struct coord_job *job)
{
    if (job == NULL || job->host != NULL || job_is_over(job)) {
        return false;
    }
    job_set_host(coord, job, host);
    coord_text(coord, &job->rec->job->host, "%s", host->rec->name);
    return coord->failed == BASE_OK;
}

/* All that the agent has, and so all that it has not. */
static void take_jobs(struct coord *coord,
                      struct coord_host *host,
                      const Retile__V1__Hello *hello)
{
    host->strangers.n = 0;
    for (size_t i = 0; coord->n_homeless > 0 && i < coord->jobs.n; i++) {
        struct coord_job *job = coord->jobs.items[i];

        if (job->host == NULL &&
            strcmp(job->rec->job->host, host->rec->name) == 0) {
            job_set_host(coord, job, host); /* it was lost with the host */
        }
    }
    for (size_t i = host->jobs.n; i-- > 0;) {
        struct coord_job *job = host->jobs.items[i];
        const Retile__V1__JobStatus *status = NULL;

        for (size_t k = 0; k < hello->n_jobs && status == NULL; k++) {
            status = strcmp(hello->jobs[k]->job, job->rec->job->name) == 0
                         ? hello->jobs[k]
                         : NULL;
        }
        job_report(coord, host, job, status, true);
        if (!job->is_gone) {
            target_publish(coord, job, true);
        }
    }
    for (size_t k = 0; k < hello->n_jobs; k++) {
        struct coord_job *job = job_find(coord, hello->jobs[k]->job);

        if (is_found(coord, host, job)) {
            job_report(coord, host, job, hello->jobs[k], true);
            target_publish(coord, job, true);
        }
        if (host->session != 0 && (job == NULL || job->host != host)) {
            see_stranger(coord, host, hello->jobs[k]);
        }
    }
}

/* The host of a Hello; NULL: it was refused. */
static struct coord_host *
admit(struct coord *coord, uint64_t session, const Retile__V1__Hello *hello)
{
    struct coord_host *host = host_find(coord, hello->host);
    Retile__V1__Host *rec;
    char text[WHY_BYTES];

    for (size_t i = 0; i < hello->n_devices; i++) {
        if (hello->devices[i]->index >= coord->limits.max_devices) {
            (void)snprintf(text, sizeof(text),
                           "device %" PRIu32 ": a host has at most %" PRIu32,
                           hello->devices[i]->index, coord->limits.max_devices);
            end_session(coord, session, RPC_RESOURCE_EXHAUSTED, text);
            return NULL;
        }
    }
    if (host != NULL) {
        if (host->session != 0 &&
            strcmp(host->rec->store_id, hello->store_id) != 0) {
            end_session(coord, session, RPC_FAILED_PRECONDITION,
                        "another agent, with another store, has this name");
            return NULL;
        }
        return host;
    }
    if (coord->hosts.n >= coord->limits.max_hosts) {
        (void)snprintf(text, sizeof(text), "there are %zu hosts already",
                       coord->hosts.n);
        end_session(coord, session, RPC_RESOURCE_EXHAUSTED, text);
        return NULL;
    }
    rec = malloc(sizeof(*rec));
    if (rec == NULL) {
        coord_no_mem(coord);
        return NULL;
    }
    retile__v1__host__init(rec);
    coord_text(coord, &rec->name, "%s", hello->host);
    host = host_add(coord, rec);
    if (host != NULL) {
        host_dirty(coord, host);
    }
    return host;
}

void session_open(struct coord *coord,
                  uint64_t session,
                  const Retile__V1__FromAgent *message)
{
    const Retile__V1__Hello *hello =
        message->what_case == RETILE__V1__FROM_AGENT__WHAT_HELLO
            ? message->hello
            : NULL;
    struct coord_host *host;
    Retile__V1__ToAgent reply;
    Retile__V1__Welcome welcome;
    size_t at;

    if (hello == NULL) {
        end_session(coord, session, RPC_INVALID_ARGUMENT,
                    "a session begins with Hello");
        return;
    }
    host = admit(coord, session, hello);
    if (host == NULL) {
        return;
    }
    if (host->session != 0) {
        end_session(coord, host->session, RPC_ABORTED,
                    "a later session of this host has come");
        session_drop(coord, host);
    }
    if (!base_vec_reserve(&coord->sessions, coord->sessions.n + 1)) {
        coord_no_mem(coord);
        return;
    }
    at = session_at(coord, session);
    memmove(coord->sessions.items + at + 1, coord->sessions.items + at,
            (coord->sessions.n - at) * sizeof(*coord->sessions.items));
    coord->sessions.items[at] = (struct coord_session){session, host};
    coord->sessions.n++;
    host->session = session;
    heard(coord, host);
    retile__v1__welcome__init(&welcome);
    welcome.session = session;
    welcome.lease_ms = coord->limits.lease_ms;
    welcome.renew_ms = coord->limits.renew_ms;
    retile__v1__to_agent__init(&reply);
    reply.what_case = RETILE__V1__TO_AGENT__WHAT_WELCOME;
    reply.welcome = &welcome;
    send(coord, session, &reply);
    take_hello(coord, host, hello);
    take_jobs(coord, host, hello);
    job_wake_host(coord, host);
}

static void renewed(struct coord *coord,
                    struct coord_host *host,
                    const Retile__V1__Renew *renew)
{
    Retile__V1__ToAgent reply;
    Retile__V1__Renewed answer;

    host->rec->store_used_bytes = renew->store_used_bytes;
    retile__v1__renewed__init(&answer);
    answer.sequence = renew->sequence;
    retile__v1__to_agent__init(&reply);
    reply.what_case = RETILE__V1__TO_AGENT__WHAT_RENEWED;
    reply.renewed = &answer;
    send(coord, host->session, &reply);
}

void session_says(struct coord *coord,
                  uint64_t session,
                  const Retile__V1__FromAgent *message)
{
    struct coord_host *host = host_of_session(coord, session);
    struct coord_job *job;

    if (host == NULL) {
        return; /* it was ended, and the agent learns of it */
    }
    heard(coord, host);
    switch ((int)message->what_case) {
    case RETILE__V1__FROM_AGENT__WHAT_RENEW:
        renewed(coord, host, message->renew);
        break;
    case RETILE__V1__FROM_AGENT__WHAT_JOB:
        job = job_find(coord, message->job->job);
        if (job != NULL && job->host == host) {
            job_report(coord, host, job, message->job, false);
        } else {
            see_stranger(coord, host, message->job);
        }
        break;
    case RETILE__V1__FROM_AGENT__WHAT_DEVICE:
        if (message->device->index < host->rec->n_devices) {
            device_found(coord, host, message->device->index,
                         message->device->is_failed, message->device->reason);
        }
        break;
    default:
        end_session(coord, session, RPC_INVALID_ARGUMENT, "Hello comes once");
        session_drop(coord, host);
        break;
    }
}

void session_closed(struct coord *coord, uint64_t session)
{
    struct coord_host *host = host_of_session(coord, session);

    if (host != NULL) {
        session_drop(coord, host);
    }
}

void host_due(struct coord *coord, struct coord_host *host)
{
    char why[WHY_BYTES];

    coord_timer_set(coord, &host->lease, NO_NS);
    if (host->session != 0) {
        end_session(coord, host->session, RPC_ABORTED, "the lease has run out");
        session_drop(coord, host);
    }
    if ((int)host->rec->state == HOST_UP) {
        (void)snprintf(why, sizeof(why), "not heard of for %" PRIu32 " ms",
                       coord->limits.lease_ms);
        host_move(coord, host, HOST_LOST, why);
    }
    job_wake_host(coord, host);
}

/* Its jobs are not there any more. */
void host_forget(struct coord *coord, struct coord_host *host)
{
    struct coord_stranger gone = {0};
    size_t at;

    while (host->jobs.n > 0) {
        struct coord_job *job = host->jobs.items[host->jobs.n - 1];

        if (job->rec->job->state == JOB_REMOVING) {
            job_remove(coord, job);
            continue;
        }
        job_report(coord, host, job, NULL, true);
        job_set_host(coord, job, NULL);
        if (job->rec->job->state != JOB_LOST) { /* it may come back */
            coord_text(coord, &job->rec->job->host, "%s", "");
        }
        job_touch(coord, job);
    }
    coord_tell(coord,
               &(struct coord_about){
                   .kind = EVENT_HOST, .host = host->rec->name, .device = -1},
               "forgotten");
    (void)snprintf(gone.name, sizeof(gone.name), "%s", host->rec->name);
    if (!base_vec_push(&coord->gone_hosts, gone)) {
        coord_no_mem(coord);
        return;
    }
    coord_timer_set(coord, &host->lease, NO_NS);
    at = coord_lower(coord->hosts.items, coord->hosts.n, host->rec->name,
                     host_name);
    memmove(coord->hosts.items + at, coord->hosts.items + at + 1,
            (coord->hosts.n - at - 1) * sizeof(*coord->hosts.items));
    coord->hosts.n--;
    for (size_t i = 0; i < coord->dirty_hosts.n; i++) {
        if (coord->dirty_hosts.items[i] == host) {
            coord->dirty_hosts.items[i] =
                coord->dirty_hosts.items[--coord->dirty_hosts.n];
            break;
        }
    }
    host_free(host);
}
