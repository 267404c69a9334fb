/* bench_coordinator PROGRAM [SECONDS [AGENTS [WATCHERS]]]: what retile-coordinator
 * (PROGRAM) costs: AGENTS sessions that renew every 5 s, WATCHERS that all see a
 * change, calls that write.  Its CPU and memory are read from /proc, the clients'
 * stand beside.  One JSON document, then a table on stderr. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <retile/v1/agents.pb-c.h>
#include <retile/v1/devices.pb-c.h>
#include <retile/v1/jobs.pb-c.h>
#include <retile/v1/watch.pb-c.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"
#include "proto/rpc_client.h"

enum {
    RENEW_MS = 5000,
    STREAMS = 500, /* of a connection */
    THREADS = 8,
    PUT_S = 3,
    FAN_OUTS = 20,
    MAX_AGENTS = 20000,
    WAIT_S = 120,
};

extern char **environ;

static atomic_uint n_welcomed;
static atomic_uint n_renewed;
static atomic_uint n_watching;
static atomic_uint n_seen;
static atomic_uint n_over;

static int64_t now_ns(void)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static _Noreturn void die(const char *what, const struct base_err *err)
{
    (void)fprintf(stderr, "bench_coordinator: %s: %s\n", what, err->text);
    exit(EXIT_FAILURE);
}

static void pause_ms(int ms)
{
    (void)poll(NULL, 0, ms); /* a signal may cut it short */
}

static void wait_count(atomic_uint *count, unsigned wanted, const char *what)
{
    const int64_t until = now_ns() + WAIT_S * INT64_C(1000000000);

    while (atomic_load(count) < wanted) {
        if (now_ns() > until) {
            (void)fprintf(stderr, "bench_coordinator: %u of %u %s\n",
                          atomic_load(count), wanted, what);
            exit(EXIT_FAILURE);
        }
        pause_ms(1);
    }
}

/* --- the program that is measured ----------------------------------------- */

static pid_t child;
static char folder[] = "/tmp/retile-bench-XXXXXX";

static void clean_up(void)
{
    if (child > 0) {
        (void)kill(child, SIGKILL); /* ours, and not waited for yet */
        (void)waitpid(child, NULL, 0);
        child = 0;
    }
    if (base_dir_remove(AT_FDCWD, folder, NULL) != BASE_OK) {
        (void)fprintf(stderr, "%s is left\n", folder);
    }
}

static void start_child(const char *program, char *target, size_t room)
{
    char listen[128];
    char db[128];
    char *argv[] = {(char *)(uintptr_t)program,
                    (char *)(uintptr_t) "--listen",
                    listen,
                    (char *)(uintptr_t) "--db",
                    db,
                    (char *)(uintptr_t) "--max-hosts",
                    (char *)(uintptr_t) "16384",
                    (char *)(uintptr_t) "--max-jobs",
                    (char *)(uintptr_t) "16384",
                    (char *)(uintptr_t) "--lease-ms",
                    (char *)(uintptr_t) "30000",
                    (char *)(uintptr_t) "--renew-ms",
                    (char *)(uintptr_t) "5000",
                    NULL};

    if (mkdtemp(folder) == NULL) {
        perror("mkdtemp");
        exit(EXIT_FAILURE);
    }
    (void)atexit(clean_up);
    (void)snprintf(listen, sizeof(listen), "unix:%s/s", folder);
    (void)snprintf(db, sizeof(db), "%s/db", folder);
    (void)snprintf(target, room, "%s", listen);
    errno = posix_spawn(&child, program, NULL, NULL, argv, environ);
    if (errno != 0) {
        child = 0;
        perror(program);
        exit(EXIT_FAILURE);
    }
}

/* User and system, in seconds; *ret_bytes: what is resident. */
static double child_use(uint64_t *ret_bytes)
{
    char path[64];
    char text[1024] = {0};
    const char *at;
    unsigned long user = 0;
    unsigned long system = 0;
    long pages = 0;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)child);
    file = fopen(path, "re");
    if (file == NULL || fgets(text, sizeof(text), file) == NULL) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    (void)fclose(file);
    at = strrchr(text, ')');
    /* Fields 14, 15 and 24 of proc(5); the name is field 2. */
    if (at == NULL ||
        sscanf(at + 1, /* NOLINT(cert-err34-c) */
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d"
               " %*d %*d %*d %*d %*u %*u %ld",
               &user, &system, &pages) != 3) {
        (void)fprintf(stderr, "%s: cannot be read\n", path);
        exit(EXIT_FAILURE);
    }
    *ret_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static double own_cpu(void)
{
    struct rusage use;

    (void)getrusage(RUSAGE_SELF, &use); /* cannot fail */
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

/* --- agents ---------------------------------------------------------------- */

static struct rpc_channel *connect_to(const char *target)
{
    const struct rpc_channel_options options = {.what = "the coordinator",
                                                .has_own_connection = true};
    struct rpc_channel *channel = NULL;
    struct base_err err = {0};

    if (rpc_channel_open(target, &options, &channel, &err) != BASE_OK) {
        die("connect", &err);
    }
    return channel;
}

static void
on_order(struct rpc_stream *stream, void *ctx, const ProtobufCMessage *message)
{
    const Retile__V1__ToAgent *to = (const Retile__V1__ToAgent *)message;

    (void)stream;
    (void)ctx;
    if (to->what_case == RETILE__V1__TO_AGENT__WHAT_WELCOME) {
        (void)atomic_fetch_add(&n_welcomed, 1);
    } else if (to->what_case == RETILE__V1__TO_AGENT__WHAT_RENEWED) {
        (void)atomic_fetch_add(&n_renewed, 1);
    }
}

static void
on_done(struct rpc_stream *stream, void *ctx, const struct rpc_status *status)
{
    (void)stream;
    (void)ctx;
    if (status->code != RPC_CANCELLED && status->code != RPC_UNAVAILABLE) {
        (void)fprintf(stderr, "a stream ended: %s: %s\n",
                      rpc_code_name(status->code), status->text);
    }
    (void)atomic_fetch_add(&n_over, 1);
}

static const struct rpc_stream_events agent_events = {.on_message = on_order,
                                                      .on_done = on_done};

static struct rpc_stream *open_agent(struct rpc_channel *channel, unsigned i)
{
    Retile__V1__FromAgent from = RETILE__V1__FROM_AGENT__INIT;
    Retile__V1__Hello hello = RETILE__V1__HELLO__INIT;
    Retile__V1__Device devices[8];
    Retile__V1__Device *list[8];
    char host[32];
    char store[40];
    struct rpc_stream *stream = NULL;
    struct base_err err = {0};

    (void)snprintf(host, sizeof(host), "host-%05u", i);
    (void)snprintf(store, sizeof(store), "%032x", i + 1);
    for (uint32_t d = 0; d < 8; d++) {
        retile__v1__device__init(&devices[d]);
        devices[d].index = d;
        devices[d].kind = (char *)(uintptr_t) "cpu";
        list[d] = &devices[d];
    }
    hello.host = host;
    hello.store_id = store;
    hello.incarnation = (char *)(uintptr_t) "bench";
    hello.devices = list;
    hello.n_devices = 8;
    from.what_case = RETILE__V1__FROM_AGENT__WHAT_HELLO;
    from.hello = &hello;
    if (rpc_stream_open(channel, &retile__v1__agents__descriptor, "Session",
                        NULL, &agent_events, NULL, &stream, &err) != BASE_OK) {
        die("Session", &err);
    }
    (void)rpc_stream_send(stream, &from.base); /* on_done tells */
    return stream;
}

static void renew(struct rpc_stream *stream, uint64_t sequence)
{
    Retile__V1__FromAgent from = RETILE__V1__FROM_AGENT__INIT;
    Retile__V1__Renew message = RETILE__V1__RENEW__INIT;

    message.sequence = sequence;
    from.what_case = RETILE__V1__FROM_AGENT__WHAT_RENEW;
    from.renew = &message;
    (void)rpc_stream_send(stream, &from.base); /* on_done tells */
}

/* Each agent once in RENEW_MS, spread evenly. */
static unsigned
renew_all(struct rpc_stream **agents, unsigned n, unsigned seconds)
{
    const int64_t begin = now_ns();
    const int64_t end = begin + (int64_t)seconds * 1000000000;
    unsigned n_sent = 0;

    while (now_ns() < end) {
        const int64_t due = (now_ns() - begin) / 1000 * n / (RENEW_MS * 1000);

        for (; n_sent < due; n_sent++) {
            renew(agents[n_sent % n], n_sent);
        }
        pause_ms(2);
    }
    return n_sent;
}

/* --- watchers and writers -------------------------------------------------- */

static void on_watching(struct rpc_stream *stream, void *ctx)
{
    (void)stream;
    (void)ctx;
    (void)atomic_fetch_add(&n_watching, 1);
}

static void
on_event(struct rpc_stream *stream, void *ctx, const ProtobufCMessage *message)
{
    (void)stream;
    (void)ctx;
    (void)message;
    (void)atomic_fetch_add(&n_seen, 1);
}

static const struct rpc_stream_events watch_events = {
    .on_headers = on_watching, .on_message = on_event, .on_done = on_done};

static struct rpc_stream *open_watch(struct rpc_channel *channel)
{
    Retile__V1__WatchRequest request = RETILE__V1__WATCH_REQUEST__INIT;
    struct rpc_stream *stream = NULL;
    struct base_err err = {0};

    if (rpc_stream_open(channel, &retile__v1__watch__descriptor, "Watch", NULL,
                        &watch_events, NULL, &stream, &err) != BASE_OK) {
        die("Watch", &err);
    }
    (void)rpc_stream_send(stream, &request.base); /* on_done tells */
    rpc_stream_half_close(stream);
    return stream;
}

/* A change: durable when it returns. */
static void put(struct rpc_channel *channel, const char *host, uint64_t n)
{
    Retile__V1__DrainDeviceRequest drain =
        RETILE__V1__DRAIN_DEVICE_REQUEST__INIT;
    Retile__V1__RecoverDeviceRequest recover =
        RETILE__V1__RECOVER_DEVICE_REQUEST__INIT;
    char id[64];
    struct base_err err = {0};
    enum base_code code;

    (void)snprintf(id, sizeof(id), "%s-%" PRIu64, host, n);
    drain.request_id = recover.request_id = id;
    drain.host = recover.host = (char *)(uintptr_t)host;
    code = n % 2 == 0 ? rpc_unary(channel, &retile__v1__devices__descriptor,
                                  "Drain", &drain.base, NULL, NULL, &err)
                      : rpc_unary(channel, &retile__v1__devices__descriptor,
                                  "Recover", &recover.base, NULL, NULL, &err);
    if (code != BASE_OK) {
        die("a change", &err);
    }
}

struct writer {
    pthread_t thread;
    struct rpc_channel *channel;
    char host[32];
    uint64_t n;
    int64_t end_ns;
};

static void *write_on(void *arg)
{
    struct writer *writer = arg;

    while (now_ns() < writer->end_ns) {
        put(writer->channel, writer->host, writer->n++);
    }
    return NULL;
}

/* Changes a second by @n threads. */
static double
puts_per_second(struct rpc_channel *channel, unsigned n, unsigned first_host)
{
    struct writer writers[THREADS] = {{0}};
    const int64_t begin = now_ns();
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        writers[i].channel = channel;
        writers[i].end_ns = begin + PUT_S * INT64_C(1000000000);
        (void)snprintf(writers[i].host, sizeof(writers[i].host), "host-%05u",
                       first_host + i);
        if (pthread_create(&writers[i].thread, NULL, write_on, &writers[i]) !=
            0) {
            perror("pthread_create");
            exit(EXIT_FAILURE);
        }
    }
    for (unsigned i = 0; i < n; i++) {
        (void)pthread_join(writers[i].thread, NULL); /* ours, once */
        sum += writers[i].n;
    }
    return (double)sum / ((double)(now_ns() - begin) / 1e9);
}

static double fan_out_ms(struct rpc_channel *channel, unsigned n_watchers)
{
    double best = 1e9;

    for (uint64_t i = 0; i < FAN_OUTS; i++) {
        const unsigned before = atomic_load(&n_seen);
        const int64_t begin = now_ns();
        double ms;

        put(channel, "host-00000", 1000000 + i);
        wait_count(&n_seen, before + n_watchers, "watchers have seen it");
        ms = (double)(now_ns() - begin) / 1e6;
        best = ms < best ? ms : best;
    }
    return best;
}

/* --- all of it --------------------------------------------------------------- */

struct result {
    double open_s;
    double renew_cores;
    double client_cores;
    double renews_s;
    uint64_t idle_bytes;
    uint64_t agents_bytes;
    uint64_t watchers_bytes;
    double fan_out;
    double puts_1;
    double puts_8;
    double put_cpu_us;
};

static void
print(const struct result *r, unsigned n_agents, unsigned n_watchers)
{
    (void)printf(
        "{\"version\":1,\"agents\":%u,\"watchers\":%u,\"open_s\":%.2f,"
        "\"renews_per_s\":%.0f,\"coordinator_cores\":%.3f,"
        "\"client_cores\":%.3f,\"idle_bytes\":%" PRIu64
        ",\"agents_bytes\":%" PRIu64 ",\"watchers_bytes\":%" PRIu64
        ",\"fan_out_ms\":%.2f,\"puts_per_s_1\":%.0f,\"puts_per_s_8\":%.0f,"
        "\"put_cpu_us\":%.0f}\n",
        n_agents, n_watchers, r->open_s, r->renews_s, r->renew_cores,
        r->client_cores, r->idle_bytes, r->agents_bytes, r->watchers_bytes,
        r->fan_out, r->puts_1, r->puts_8, r->put_cpu_us);
    (void)fprintf(
        stderr,
        "%u agents, opened in %.1f s, %.0f renewals a second\n"
        "  coordinator           %.2f cores (clients %.2f)\n"
        "  memory                %.1f MiB, %.1f KiB an agent\n"
        "%u watchers\n"
        "  a change, seen by all %.1f ms (best of %d)\n"
        "  memory                %.1f KiB a watcher\n"
        "changes, each durable\n"
        "  1 client              %.0f a second\n"
        "  %d clients             %.0f a second, %.0f us of CPU each\n",
        n_agents, r->open_s, r->renews_s, r->renew_cores, r->client_cores,
        (double)r->agents_bytes / (1 << 20),
        (double)(r->agents_bytes - r->idle_bytes) / 1024 / n_agents, n_watchers,
        r->fan_out, FAN_OUTS,
        (double)(r->watchers_bytes - r->agents_bytes) / 1024 / n_watchers,
        r->puts_1, THREADS, r->puts_8, r->put_cpu_us);
}

static void run(const char *target,
                unsigned seconds,
                unsigned n_agents,
                unsigned n_watchers)
{
    struct rpc_channel *channels[MAX_AGENTS / STREAMS + 3] = {NULL};
    struct rpc_stream **agents = calloc(n_agents, sizeof(*agents));
    struct rpc_stream **watches = calloc(n_watchers, sizeof(*watches));
    unsigned n_channels = 0;
    struct result r = {0};
    uint64_t bytes;
    double before;
    double own;
    int64_t begin;
    unsigned n_before;

    if (agents == NULL || watches == NULL) {
        perror("calloc");
        exit(EXIT_FAILURE);
    }
    (void)child_use(&r.idle_bytes);
    begin = now_ns();
    for (unsigned i = 0; i < n_agents; i++) {
        if (i % STREAMS == 0) {
            channels[n_channels++] = connect_to(target);
        }
        agents[i] = open_agent(channels[n_channels - 1], i);
    }
    wait_count(&n_welcomed, n_agents, "agents are welcome");
    r.open_s = (double)(now_ns() - begin) / 1e9;

    before = child_use(&bytes);
    own = own_cpu();
    n_before = atomic_load(&n_renewed);
    begin = now_ns();
    (void)renew_all(agents, n_agents, seconds);
    r.renew_cores = (child_use(&r.agents_bytes) - before) /
                    ((double)(now_ns() - begin) / 1e9);
    r.client_cores = (own_cpu() - own) / ((double)(now_ns() - begin) / 1e9);
    r.renews_s = (atomic_load(&n_renewed) - n_before) /
                 ((double)(now_ns() - begin) / 1e9);

    channels[n_channels++] = connect_to(target);
    r.puts_1 = puts_per_second(channels[n_channels - 1], 1, 1);
    before = child_use(&bytes);
    r.puts_8 = puts_per_second(channels[n_channels - 1], THREADS, 100);
    r.put_cpu_us = (child_use(&bytes) - before) * 1e6 / (r.puts_8 * PUT_S);

    (void)child_use(&r.agents_bytes);
    channels[n_channels++] = connect_to(target);
    for (unsigned i = 0; i < n_watchers; i++) {
        watches[i] = open_watch(channels[n_channels - 1]);
    }
    wait_count(&n_watching, n_watchers, "watch");
    r.fan_out = fan_out_ms(channels[n_channels - 2], n_watchers);
    (void)child_use(&r.watchers_bytes);
    if (atomic_load(&n_over) > 0) {
        (void)fprintf(stderr, "bench_coordinator: %u streams ended\n",
                      atomic_load(&n_over));
        exit(EXIT_FAILURE);
    }
    print(&r, n_agents, n_watchers);
    for (unsigned i = 0; i < n_agents; i++) {
        rpc_stream_unref(agents[i]);
    }
    for (unsigned i = 0; i < n_watchers; i++) {
        rpc_stream_unref(watches[i]);
    }
    for (unsigned i = 0; i < n_channels; i++) {
        rpc_channel_free(channels[i]);
    }
    free(agents);
    free(watches);
}

static unsigned
argument(int argc, char **argv, int i, unsigned otherwise, unsigned max)
{
    uint64_t value = otherwise;

    if (i < argc && (!base_parse_u64(base_str_of(argv[i]), &value) ||
                     value == 0 || value > max)) {
        (void)fprintf(stderr, "bench_coordinator: %s: not of 1 to %u\n",
                      argv[i], max);
        exit(2);
    }
    return (unsigned)value;
}

int main(int argc, char **argv)
{
    char target[128];
    char socket_path[128];
    const int64_t until = now_ns() + WAIT_S * INT64_C(1000000000);

    if (argc < 2) {
        (void)fprintf(stderr, "usage: bench_coordinator PROGRAM [SECONDS "
                              "[AGENTS [WATCHERS]]]\n");
        return 2;
    }
    start_child(argv[1], target, sizeof(target));
    (void)snprintf(socket_path, sizeof(socket_path), "%s", target + 5);
    while (access(socket_path, F_OK) != 0 && now_ns() < until) {
        pause_ms(5);
    }
    run(target, argument(argc, argv, 2, 20, 3600),
        argument(argc, argv, 3, 10000, 16384),
        argument(argc, argv, 4, 1000, 4096));
    return EXIT_SUCCESS;
}
