/* Devices that break while the agent runs.
 *
 * A thread starts the child that looks (device.h), with its deadline.  When the
 * runtime as a whole fails, every device has. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "worker/agent.h"

struct check {
    struct worker_post post; /* first */
    struct worker_agent *agent;
    struct worker_devices found;
    enum base_code code;
    struct base_err err;
};

static void tell(struct worker_agent *agent, uint32_t index)
{
    struct worker_device *device = &agent->devices.items[index];
    Retile__V1__FromAgent message = RETILE__V1__FROM_AGENT__INIT;
    Retile__V1__DeviceReport report = RETILE__V1__DEVICE_REPORT__INIT;

    report.index = index;
    report.is_failed = device->is_failed;
    report.reason = device->reason;
    message.what_case = RETILE__V1__FROM_AGENT__WHAT_DEVICE;
    message.device = &report;
    /* Without a session the next Hello says it. */
    (void)worker_session_send(agent->session, &message);
    base_log(device->is_failed ? BASE_ERROR : BASE_NOTICE,
             device->is_failed ? "a device has failed"
                               : "a device is well again",
             "device", device->label, "why", device->reason);
}

/* What @check found of device @index; false: it is well. */
static bool is_broken(const struct check *check, uint32_t index, char *ret_why)
{
    const char *why = NULL;

    if (check->code != BASE_OK) {
        why = check->err.text;
    } else if (index >= check->found.n) {
        why = "the CUDA runtime does not find it any more";
    } else if (check->found.items[index].is_failed) {
        why = check->found.items[index].reason;
    }
    (void)snprintf(ret_why, BASE_ERR_TEXT_BYTES, "%s", why == NULL ? "" : why);
    return why != NULL;
}

static void on_found(struct worker_post *post)
{
    struct check *check = (struct check *)(void *)post;
    struct worker_agent *agent = check->agent;

    agent->is_checking = false;
    for (uint32_t i = 0; i < agent->devices.n && !agent->is_ending; i++) {
        struct worker_device *device = &agent->devices.items[i];
        bool was_failed = device->is_failed;

        device->is_failed = is_broken(check, i, device->reason);
        if (device->is_failed != was_failed) {
            tell(agent, i);
        }
    }
    free(check);
}

static void *run(void *ctx)
{
    struct check *check = ctx;
    struct worker_agent *agent = check->agent;

    check->code =
        worker_devices_find(0, agent->options->cudart, WORKER_PROBE_WAIT_MS,
                            &check->found, &check->err);
    check->post.fn = on_found;
    worker_loop_post(agent->loop, &check->post);
    /* Last: whoever waits for it frees the agent. */
    (void)atomic_fetch_sub(&agent->n_aside, 1);
    return NULL;
}

static void start(struct worker_agent *agent)
{
    struct check *check = calloc(1, sizeof(*check));
    pthread_t thread;

    if (check == NULL) {
        return; /* next time */
    }
    check->agent = agent;
    (void)atomic_fetch_add(&agent->n_aside, 1);
    if (pthread_create(&thread, NULL, run, check) != 0) {
        (void)atomic_fetch_sub(&agent->n_aside, 1);
        free(check);
        return;
    }
    (void)pthread_detach(thread); /* ours, not joined */
    agent->is_checking = true;
}

int64_t worker_check_turn(struct worker_agent *agent, int64_t now_ns)
{
    int64_t interval_ns =
        (int64_t)agent->options->device_check_s * WORKER_SECOND_NS;

    if (interval_ns == 0 || agent->options->n_slots > 0 || agent->is_checking) {
        return INT64_MAX;
    }
    if (agent->check_ns == 0) {
        agent->check_ns = now_ns + interval_ns;
    }
    if (now_ns >= agent->check_ns) {
        start(agent);
        agent->check_ns = now_ns + interval_ns;
    }
    return agent->check_ns;
}
