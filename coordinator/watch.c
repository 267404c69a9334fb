/* Batches come in through the inbox, and are kept in a ring by the thread; each
 * watcher is nothing but the revision that it wants next.
 *
 *   next > newest        up to date
 *   it is full           nothing, until it has taken some; ended when it does not
 *   next in the ring     the batch is sent, packed once
 *   else                 a page of events is read
 *
 * Owner of ring and list: the thread.  Of a watcher: the thread, but for its
 * flags, which callbacks of its call set. */
#include "coordinator/watch.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <retile/v1/watch.pb-c.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/num.h"

enum {
    RING = 256,       /* batches */
    PAGE = 256,       /* events of a message */
    MAX_INBOX = 4096, /* batches; more are read out of persistence */
};

struct batch {
    struct batch *next; /* in the inbox */
    uint64_t first;
    uint64_t last;
    struct rpc_packed *whole; /* made when it is first sent */
    size_t n;
    Retile__V1__Event **events;
};

struct coord_watcher {
    struct coord_watch *watch;
    struct coord_watcher *next;
    struct rpc_call *call;
    uint64_t wants; /* the next revision */
    char job[129];
    int64_t full_ns;     /* since when it is full, if it is */
    bool is_ended;       /* we have ended it */
    atomic_bool is_full; /* its queue; on_writable clears it */
    atomic_bool is_over; /* its call is */
};

struct coord_watch {
    struct persist *persist;
    unsigned max_watchers;
    unsigned stall_ms;
    struct batch *ring[RING]; /* from ring_begin on, n_ring of them */
    size_t ring_begin;
    size_t n_ring;
    uint64_t sent_newest;      /* the newest that the thread knows */
    uint64_t ring_floor;       /* what is below is not in the ring */
    struct coord_watcher *all; /* the thread's */
    pthread_t thread;
    bool is_started;

    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct batch *inbox; /* guarded by lock, as all below */
    struct batch **inbox_tail;
    unsigned n_inbox;
    bool has_gap; /* batches were not taken in: the ring is void */
    uint64_t newest;
    struct coord_watcher *added;
    size_t n_watchers;
    bool is_dirty;
    bool is_stopping;
};

static void batch_free(struct batch *batch)
{
    if (batch == NULL) {
        return;
    }
    for (size_t i = 0; i < batch->n; i++) {
        retile__v1__event__free_unpacked(batch->events[i], NULL);
    }
    free(batch->events);
    rpc_packed_unref(batch->whole);
    free(batch);
}
BASE_AUTO_DEFINE(batch);

static struct batch *batch_create(const struct persist_event *events, size_t n)
{
    BASE_AUTO(batch) batch = calloc(1, sizeof(*batch));

    if (batch == NULL) {
        return NULL;
    }
    batch->events = calloc(n, sizeof(batch->events[0]));
    if (batch->events == NULL) {
        return NULL;
    }
    for (; batch->n < n; batch->n++) {
        const struct persist_event *event = &events[batch->n];

        batch->events[batch->n] = retile__v1__event__unpack(
            NULL, event->body.len, (const uint8_t *)event->body.ptr);
        if (batch->events[batch->n] == NULL) {
            return NULL;
        }
    }
    batch->first = events[0].revision;
    batch->last = events[n - 1].revision;
    return base_steal(&batch);
}

/* --- any thread ---------------------------------------------------------- */

static void mark_dirty(struct coord_watch *watch)
{
    (void)pthread_mutex_lock(&watch->lock);
    watch->is_dirty = true;
    (void)pthread_cond_signal(&watch->wake);
    (void)pthread_mutex_unlock(&watch->lock);
}

static void publish(struct coord_watch *watch,
                    const struct persist_event *events,
                    size_t n_events)
{
    BASE_AUTO(batch) batch = batch_create(events, n_events);

    (void)pthread_mutex_lock(&watch->lock);
    if (batch == NULL || watch->n_inbox >= MAX_INBOX) {
        watch->has_gap = true;
    } else {
        watch->n_inbox++;
        *watch->inbox_tail = batch;
        watch->inbox_tail = &base_steal(&batch)->next;
    }
    watch->newest = events[n_events - 1].revision;
    watch->is_dirty = true;
    (void)pthread_cond_signal(&watch->wake);
    (void)pthread_mutex_unlock(&watch->lock);
}

void coord_watch_publish(struct coord_watch *watch,
                         const struct persist_event *events,
                         size_t n_events)
{
    for (size_t at = 0; at < n_events; at += PAGE) {
        publish(watch, events + at, base_min_u64(PAGE, n_events - at));
    }
}

uint64_t coord_watch_newest(struct coord_watch *watch)
{
    uint64_t newest;

    (void)pthread_mutex_lock(&watch->lock);
    newest = watch->newest;
    (void)pthread_mutex_unlock(&watch->lock);
    return newest;
}

size_t coord_watch_count(struct coord_watch *watch)
{
    size_t n;

    (void)pthread_mutex_lock(&watch->lock);
    n = watch->n_watchers;
    (void)pthread_mutex_unlock(&watch->lock);
    return n;
}

/* With the lock held. */
static enum base_code admit(struct coord_watch *watch,
                            struct coord_watcher *watcher,
                            uint64_t from,
                            struct base_err *err)
{
    if (watch->n_watchers >= watch->max_watchers) {
        return base_fail(err, BASE_LIMIT, "%u watch already",
                         watch->max_watchers);
    }
    if (from > watch->newest + 1) {
        return base_fail(err, BASE_CHANGED,
                         "revision %" PRIu64 " has not been; the newest is "
                         "%" PRIu64,
                         from, watch->newest);
    }
    watcher->wants = from == 0 ? watch->newest + 1 : from;
    watcher->next = watch->added;
    watch->added = watcher;
    watch->n_watchers++;
    watch->is_dirty = true;
    (void)pthread_cond_signal(&watch->wake);
    return BASE_OK;
}

enum base_code coord_watch_add(struct coord_watch *watch,
                               struct rpc_call *call,
                               uint64_t from,
                               const char *job,
                               struct coord_watcher **ret,
                               struct base_err *err)
{
    BASE_AUTO_MEM struct coord_watcher *watcher = calloc(1, sizeof(*watcher));
    enum base_code code;

    if (watcher == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot watch");
    }
    watcher->watch = watch;
    watcher->call = rpc_call_ref(call);
    (void)strncpy(watcher->job, job, sizeof(watcher->job) - 1); /* checked */
    *ret = watcher; /* before the thread may end it */
    (void)pthread_mutex_lock(&watch->lock);
    code = admit(watch, watcher, from, err);
    (void)pthread_mutex_unlock(&watch->lock);
    if (code != BASE_OK) {
        rpc_call_unref(watcher->call);
        *ret = NULL;
        return code;
    }
    (void)base_steal(&watcher); /* the thread's */
    return BASE_OK;
}

void coord_watch_writable(struct coord_watcher *watcher)
{
    atomic_store(&watcher->is_full, false);
    mark_dirty(watcher->watch);
}

void coord_watch_close(struct coord_watcher *watcher)
{
    struct coord_watch *watch = watcher->watch;

    atomic_store(&watcher->is_over, true); /* from here on it may be freed */
    mark_dirty(watch);
}

/* --- the thread ---------------------------------------------------------- */

static struct batch *ring_at(const struct coord_watch *watch, size_t i)
{
    return watch->ring[(watch->ring_begin + i) % RING];
}

static void ring_drop(struct coord_watch *watch)
{
    struct batch *oldest = ring_at(watch, 0);

    watch->ring_floor = oldest->last + 1;
    watch->ring_begin = (watch->ring_begin + 1) % RING;
    watch->n_ring--;
    batch_free(oldest);
}

static void ring_add(struct coord_watch *watch, struct batch *batch)
{
    if (watch->n_ring == RING) {
        ring_drop(watch);
    }
    watch->ring[(watch->ring_begin + watch->n_ring) % RING] = batch;
    watch->n_ring++;
}

/* The batch that has @revision, or the first above it. */
static struct batch *ring_find(const struct coord_watch *watch,
                               uint64_t revision)
{
    size_t begin = 0;
    size_t end = watch->n_ring;

    while (begin < end) {
        size_t middle = (begin + end) / 2;

        if (ring_at(watch, middle)->last < revision) {
            begin = middle + 1;
        } else {
            end = middle;
        }
    }
    return begin < watch->n_ring ? ring_at(watch, begin) : NULL;
}

static int64_t now_ns(void)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* it is always there */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* false: the call is over. */
static bool send(struct coord_watcher *watcher, struct rpc_packed *packed)
{
    enum rpc_sent sent;

    if (packed == NULL) {
        rpc_call_finish(watcher->call, RPC_RESOURCE_EXHAUSTED, "out of memory");
        return false;
    }
    /* Full first, so that on_writable, which may be faster, has the last word. */
    watcher->full_ns = now_ns();
    atomic_store(&watcher->is_full, true);
    sent = rpc_call_send_packed(watcher->call, packed);
    if (sent == RPC_SENT) {
        atomic_store(&watcher->is_full, false);
    }
    return sent != RPC_SENT_NOT;
}

/* Send those of @events that @watcher wants; false when the call is over. */
static bool send_some(struct coord_watcher *watcher,
                      Retile__V1__Event *const *events,
                      size_t n)
{
    Retile__V1__WatchResponse response = RETILE__V1__WATCH_RESPONSE__INIT;
    Retile__V1__Event *wanted[PAGE];
    struct rpc_packed *packed;
    bool is_alive;

    assert(n <= PAGE);
    response.events = wanted;
    for (size_t i = 0; i < n; i++) {
        if (events[i]->revision >= watcher->wants &&
            (watcher->job[0] == '\0' ||
             strcmp(watcher->job, events[i]->job) == 0)) {
            wanted[response.n_events++] = events[i];
        }
    }
    if (response.n_events == 0) {
        return true;
    }
    packed = rpc_packed_create(&response.base);
    is_alive = send(watcher, packed);
    rpc_packed_unref(packed);
    return is_alive;
}

static bool send_batch(struct coord_watcher *watcher, struct batch *batch)
{
    Retile__V1__WatchResponse response = RETILE__V1__WATCH_RESPONSE__INIT;

    if (watcher->job[0] != '\0' || watcher->wants > batch->first) {
        return send_some(watcher, batch->events, batch->n);
    }
    if (batch->whole == NULL) {
        response.events = batch->events;
        response.n_events = batch->n;
        batch->whole = rpc_packed_create(&response.base);
    }
    return send(watcher, batch->whole);
}

struct page {
    BASE_VEC(Retile__V1__Event *) events;
};

static enum base_code
page_add(void *ctx, const struct persist_event *event, struct base_err *err)
{
    struct page *page = ctx;
    Retile__V1__Event *unpacked = retile__v1__event__unpack(
        NULL, event->body.len, (const uint8_t *)event->body.ptr);

    if (unpacked == NULL || !base_vec_push(&page->events, unpacked)) {
        retile__v1__event__free_unpacked(unpacked, NULL);
        return base_fail(err, BASE_NO_MEM, "event %" PRIu64 " cannot be read",
                         event->revision);
    }
    return BASE_OK;
}

/* One page out of persistence; false when the watcher has got what it can now
 * or is ended. */
static bool send_page(struct coord_watch *watch, struct coord_watcher *watcher)
{
    struct page page = {{0}};
    struct base_err err = {0};
    enum base_code code = watch->persist->ops->events(
        watch->persist, watcher->wants, PAGE, page_add, &page, &err);
    bool is_alive = code == BASE_OK;

    if (code == BASE_NOT_FOUND) {
        rpc_call_finish(watcher->call, RPC_OUT_OF_RANGE, "%s", err.text);
    } else if (code != BASE_OK) {
        rpc_call_fail(watcher->call, code, &err);
    } else if (page.events.n == 0) {
        watcher->wants = watch->sent_newest + 1; /* there is a gap of numbers */
    } else {
        is_alive = send_some(watcher, page.events.items, page.events.n);
        watcher->wants = page.events.items[page.events.n - 1]->revision + 1;
    }
    for (size_t i = 0; i < page.events.n; i++) {
        retile__v1__event__free_unpacked(page.events.items[i], NULL);
    }
    base_vec_done(&page.events);
    watcher->is_ended = !is_alive;
    return is_alive;
}

/* Give a watcher what there is, of old events one page; true: there is more. */
static bool serve(struct coord_watch *watch, struct coord_watcher *watcher)
{
    while (!watcher->is_ended && !atomic_load(&watcher->is_over) &&
           !atomic_load(&watcher->is_full) &&
           watcher->wants <= watch->sent_newest) {
        struct batch *batch;

        if (watcher->wants < watch->ring_floor) {
            return send_page(watch, watcher);
        }
        batch = ring_find(watch, watcher->wants);
        if (batch == NULL) {
            watcher->wants = watch->sent_newest + 1;
        } else {
            watcher->is_ended = !send_batch(watcher, batch);
            watcher->wants = batch->last + 1;
        }
    }
    return false;
}

/* End who has been full for too long; when to look again. */
static int64_t end_stalled(const struct coord_watch *watch,
                           struct coord_watcher *watcher)
{
    int64_t due_ns;

    if (watcher->is_ended || !atomic_load(&watcher->is_full)) {
        return INT64_MAX;
    }
    due_ns = watcher->full_ns + (int64_t)watch->stall_ms * 1000000;
    if (now_ns() < due_ns) {
        return due_ns;
    }
    watcher->is_ended = true;
    rpc_call_abort(watcher->call, RPC_RESOURCE_EXHAUSTED,
                   "the client reads too slowly");
    return INT64_MAX;
}

/* Serve all, and forget those that are over.  When to come again: 0 when some
 * want more. */
static int64_t serve_all(struct coord_watch *watch, size_t *ret_n_over)
{
    struct coord_watcher **slot = &watch->all;
    int64_t again_ns = INT64_MAX;

    *ret_n_over = 0;
    while (*slot != NULL) {
        struct coord_watcher *watcher = *slot;
        int64_t due_ns;

        if (atomic_load(&watcher->is_over)) {
            *slot = watcher->next;
            rpc_call_unref(watcher->call);
            free(watcher);
            (*ret_n_over)++;
            continue;
        }
        due_ns = serve(watch, watcher) ? 0 : end_stalled(watch, watcher);
        again_ns = due_ns < again_ns ? due_ns : again_ns;
        slot = &watcher->next;
    }
    return again_ns;
}

/* Take what came in; with the lock held. */
static void take_inbox(struct coord_watch *watch)
{
    struct batch *batch = watch->inbox;

    if (watch->has_gap) {
        /* What is missing comes out of persistence, and so does the rest. */
        while (watch->n_ring > 0) {
            ring_drop(watch);
        }
        for (struct batch *next; batch != NULL; batch = next) {
            next = batch->next;
            batch_free(batch);
        }
        watch->ring_floor = watch->newest + 1;
        watch->has_gap = false;
    }
    for (struct batch *next; batch != NULL; batch = next) {
        next = batch->next;
        ring_add(watch, batch);
    }
    watch->inbox = NULL;
    watch->inbox_tail = &watch->inbox;
    watch->n_inbox = 0;
    watch->sent_newest = watch->newest;
    while (watch->added != NULL) {
        struct coord_watcher *watcher = watch->added;

        watch->added = watcher->next;
        watcher->next = watch->all;
        watch->all = watcher;
    }
    watch->is_dirty = false;
}

static void wait_until(struct coord_watch *watch, int64_t until_ns)
{
    const struct timespec until = {.tv_sec = until_ns / 1000000000,
                                   .tv_nsec = until_ns % 1000000000};

    /* Its result does not matter: who calls looks at the clock. */
    if (until_ns == INT64_MAX) {
        (void)pthread_cond_wait(&watch->wake, &watch->lock);
    } else {
        (void)pthread_cond_timedwait(&watch->wake, &watch->lock, &until);
    }
}

static void *run(void *arg)
{
    struct coord_watch *watch = arg;
    int64_t again_ns = INT64_MAX;
    size_t n_over = 0;

    for (;;) {
        (void)pthread_mutex_lock(&watch->lock);
        watch->n_watchers -= n_over;
        while (!watch->is_dirty && !watch->is_stopping && now_ns() < again_ns) {
            wait_until(watch, again_ns);
        }
        if (watch->is_stopping) {
            (void)pthread_mutex_unlock(&watch->lock);
            return NULL;
        }
        take_inbox(watch);
        (void)pthread_mutex_unlock(&watch->lock);
        again_ns = serve_all(watch, &n_over);
    }
}

enum base_code coord_watch_start(struct persist *persist,
                                 uint64_t newest,
                                 unsigned max_watchers,
                                 unsigned stall_ms,
                                 struct coord_watch **ret,
                                 struct base_err *err)
{
    BASE_AUTO(coord_watch) watch = calloc(1, sizeof(*watch));
    pthread_condattr_t attributes;
    int errnum;

    if (watch == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot start the watch");
    }
    watch->persist = persist;
    watch->max_watchers = max_watchers;
    watch->stall_ms = stall_ms;
    watch->newest = watch->sent_newest = newest;
    watch->ring_floor = newest + 1;
    watch->inbox_tail = &watch->inbox;
    (void)pthread_mutex_init(&watch->lock, NULL); /* defaults cannot fail */
    (void)pthread_condattr_init(&attributes);     /* ditto */
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&watch->wake, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    errnum = pthread_create(&watch->thread, NULL, run, watch);
    if (errnum != 0) {
        return base_fail_errno(err, errnum, "cannot start a thread");
    }
    watch->is_started = true;
    *ret = base_steal(&watch);
    return BASE_OK;
}

static void free_watchers(struct coord_watcher *watcher)
{
    for (struct coord_watcher *next; watcher != NULL; watcher = next) {
        next = watcher->next;
        rpc_call_unref(watcher->call);
        free(watcher);
    }
}

void coord_watch_free(struct coord_watch *watch)
{
    if (watch == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&watch->lock);
    watch->is_stopping = true;
    (void)pthread_cond_signal(&watch->wake);
    (void)pthread_mutex_unlock(&watch->lock);
    if (watch->is_started) {
        (void)pthread_join(watch->thread, NULL); /* ours, joined once */
    }
    while (watch->n_ring > 0) {
        ring_drop(watch);
    }
    for (struct batch *next, *batch = watch->inbox; batch != NULL;
         batch = next) {
        next = batch->next;
        batch_free(batch);
    }
    free_watchers(watch->all);
    free_watchers(watch->added);
    (void)pthread_cond_destroy(&watch->wake);
    (void)pthread_mutex_destroy(&watch->lock);
    free(watch);
}
