#include "fuse/events.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct event {
    struct timespec first;
    struct timespec last;
    uint64_t n_times;
    enum base_level level;
    const char *what; /* static */
    char *file;
    char *reason;
};

struct fs_events {
    pthread_mutex_t lock;
    struct event ring[FS_EVENTS_MAX]; /* guarded by lock */
    uint64_t n_added;                 /* guarded by lock; the next goes to
                                         n_added modulo the ring */
};

struct fs_events *fs_events_create(void)
{
    struct fs_events *events = calloc(1, sizeof(*events));

    if (events != NULL) {
        (void)pthread_mutex_init(&events->lock, NULL); /* never fails here */
    }
    return events;
}

static void event_done(struct event *event)
{
    free(event->file);
    free(event->reason);
    *event = (struct event){0};
}

void fs_events_free(struct fs_events *events)
{
    size_t i;

    if (events == NULL) {
        return;
    }
    for (i = 0; i < FS_EVENTS_MAX; i++) {
        event_done(&events->ring[i]);
    }
    (void)pthread_mutex_destroy(&events->lock);
    free(events);
}

static bool is_same(const struct event *event,
                    const char *what,
                    const char *file,
                    const char *reason)
{
    return event->what == what && strcmp(event->file, file) == 0 &&
           strcmp(event->reason, reason) == 0;
}

/* Lock held. */
static void ring_add(struct fs_events *events,
                     enum base_level level,
                     const char *what,
                     const char *file,
                     const char *reason)
{
    struct event *event;
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail */
    if (events->n_added > 0) {
        event = &events->ring[(events->n_added - 1) % FS_EVENTS_MAX];
        if (is_same(event, what, file, reason)) {
            event->last = now;
            event->n_times++;
            return;
        }
    }
    event = &events->ring[events->n_added % FS_EVENTS_MAX];
    event_done(event);
    event->file = strdup(file);
    event->reason = strdup(reason);
    if (event->file == NULL || event->reason == NULL) {
        event_done(event); /* logged all the same */
        return;
    }
    event->first = now;
    event->last = now;
    event->n_times = 1;
    event->level = level;
    event->what = what;
    events->n_added++;
}

void fs_events_add(struct fs_events *events,
                   enum base_level level,
                   const char *what,
                   const char *file,
                   const char *reason)
{
    (void)pthread_mutex_lock(&events->lock);
    ring_add(events, level, what, file, reason);
    (void)pthread_mutex_unlock(&events->lock);
    base_log(level, what, "file", file, "reason", reason);
}

static void add_time(struct base_buf *buf, const struct timespec *time)
{
    struct tm tm;
    char text[32];

    if (gmtime_r(&time->tv_sec, &tm) == NULL ||
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0) {
        (void)snprintf(text, sizeof(text), "?");
    }
    (void)base_buf_addf(buf, "\"%s.%03ldZ\"", text, time->tv_nsec / 1000000);
}

static const char *level_text(enum base_level level)
{
    switch (level) {
    case BASE_ERROR:
        return "error";
    case BASE_WARNING:
        return "warning";
    case BASE_NOTICE:
        return "notice";
    case BASE_INFO:
        return "info";
    case BASE_DEBUG:
        return "debug";
    }
    return "?";
}

static void add_event(struct base_buf *buf, const struct event *event)
{
    (void)base_buf_addf(buf, "{\"time\":");
    add_time(buf, &event->first);
    if (event->n_times > 1) {
        (void)base_buf_addf(buf,
                            ",\"times\":%" PRIu64 ",\"last\":", event->n_times);
        add_time(buf, &event->last);
    }
    (void)base_buf_addf(
        buf, ",\"level\":\"%s\",\"event\":", level_text(event->level));
    (void)base_buf_add_json(buf, base_str_of(event->what));
    (void)base_buf_addf(buf, ",\"file\":");
    (void)base_buf_add_json(buf, base_str_of(event->file));
    (void)base_buf_addf(buf, ",\"reason\":");
    (void)base_buf_add_json(buf, base_str_of(event->reason));
    (void)base_buf_addf(buf, "}\n");
}

enum base_code fs_events_format(struct fs_events *events,
                                struct base_buf *buf,
                                struct base_err *err)
{
    uint64_t i;

    (void)pthread_mutex_lock(&events->lock);
    i = events->n_added > FS_EVENTS_MAX ? events->n_added - FS_EVENTS_MAX : 0;
    for (; i < events->n_added; i++) {
        const struct event *event = &events->ring[i % FS_EVENTS_MAX];

        if (event->what != NULL) {
            add_event(buf, event); /* sticky, checked below */
        }
    }
    (void)pthread_mutex_unlock(&events->lock);
    return base_buf_check(buf, err);
}
