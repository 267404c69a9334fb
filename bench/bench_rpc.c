/* Calls of grpc.health.v1.Health, which every server of ours has.
 *
 *   retile-bench-rpc serve                       print the port; until SIGTERM
 *   retile-bench-rpc call HOST:PORT THREADS MS   unary calls: latency, rate, CPU
 *   retile-bench-rpc watch N                     one change told to N watchers,
 *                                                both ends in this process
 *
 * Each prints one JSON object; bench_rpc.py runs them beside grpcio's server. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/num.h"
#include "proto/grpc/health/v1/health.pb-c.h"
#include "proto/rpc_client.h"
#include "proto/rpc_server.h"

enum { MAX_THREADS = 64, MAX_CALLS = 1 << 20, MAX_WATCHERS = 100000 };

static int64_t now_ns(void)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static double cpu_us(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static int tell(const struct base_err *err)
{
    (void)fprintf(stderr, "retile-bench-rpc: %s\n", err->text);
    return EXIT_FAILURE;
}

static enum base_code
start_server(struct rpc_server **ret, int *ret_port, struct base_err *err)
{
    const struct rpc_server_options options = {.max_calls = MAX_WATCHERS,
                                               .max_streams = MAX_WATCHERS};
    BASE_AUTO(rpc_server) server = NULL;

    BASE_TRY(rpc_server_create(&options, &server, err));
    BASE_TRY(rpc_server_listen(server, "127.0.0.1:0", NULL, ret_port, err));
    BASE_TRY(rpc_server_start(server, err));
    *ret = base_steal(&server);
    return BASE_OK;
}

static int serve(void)
{
    struct base_err err = {0};
    BASE_AUTO(rpc_server) server = NULL;
    sigset_t signals;
    int signo = 0;
    int port = 0;

    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (start_server(&server, &port, &err) != BASE_OK) {
        return tell(&err);
    }
    (void)printf("%d\n", port);
    (void)fflush(stdout);
    (void)sigwait(&signals, &signo);
    return EXIT_SUCCESS;
}

/* Unary calls. */

struct caller {
    struct rpc_channel *channel;
    pthread_t thread;
    int64_t until_ns;
    float *us; /* of each call */
    size_t n;
    size_t n_failed;
};

static void *call_on(void *ctx)
{
    Grpc__Health__V1__HealthCheckRequest request =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    struct caller *caller = ctx;
    int64_t begin_ns = now_ns();

    while (begin_ns < caller->until_ns && caller->n < MAX_CALLS) {
        int64_t end_ns;

        caller->n_failed +=
            rpc_unary(caller->channel, &grpc__health__v1__health__descriptor,
                      "Check", &request.base, NULL, NULL, NULL) != BASE_OK;
        end_ns = now_ns();
        caller->us[caller->n++] = (float)(end_ns - begin_ns) / 1000;
        begin_ns = end_ns;
    }
    return NULL;
}

static int float_cmp(const void *a, const void *b)
{
    float left = *(const float *)a;
    float right = *(const float *)b;

    return (left > right) - (left < right);
}

static void run_callers(struct caller *callers, size_t n, int64_t until_ns)
{
    for (size_t i = 0; i < n; i++) {
        callers[i].until_ns = until_ns;
        if (pthread_create(&callers[i].thread, NULL, call_on, &callers[i]) !=
            0) {
            abort();
        }
    }
    for (size_t i = 0; i < n; i++) {
        (void)pthread_join(callers[i].thread, NULL);
    }
}

static int call(const char *target, uint64_t n_threads, uint64_t ms)
{
    static struct caller callers[MAX_THREADS];
    BASE_AUTO(rpc_channel) channel = NULL;
    BASE_AUTO_MEM float *all = NULL;
    struct base_err err = {0};
    size_t n = 0;
    size_t n_failed = 0;
    int64_t begin_ns;
    double spent_us;
    double seconds;

    if (rpc_channel_open(target, NULL, &channel, &err) != BASE_OK) {
        return tell(&err);
    }
    for (size_t i = 0; i < n_threads; i++) {
        callers[i].channel = channel;
        callers[i].us = calloc(MAX_CALLS, sizeof(float));
        if (callers[i].us == NULL) {
            return EXIT_FAILURE;
        }
    }
    run_callers(callers, n_threads, now_ns() + 200000000); /* warm */
    for (size_t i = 0; i < n_threads; i++) {
        callers[i].n = 0;
    }
    spent_us = cpu_us();
    begin_ns = now_ns();
    run_callers(callers, n_threads, begin_ns + (int64_t)ms * 1000000);
    seconds = (double)(now_ns() - begin_ns) / 1e9;
    spent_us = cpu_us() - spent_us;
    all = calloc(n_threads * MAX_CALLS, sizeof(float));
    for (size_t i = 0; i < n_threads && all != NULL; i++) {
        memcpy(all + n, callers[i].us, callers[i].n * sizeof(float));
        n += callers[i].n;
        n_failed += callers[i].n_failed;
        free(callers[i].us);
    }
    if (all == NULL || n == 0) {
        return EXIT_FAILURE;
    }
    qsort(all, n, sizeof(float), float_cmp);
    (void)printf("{\"calls\": %zu, \"failed\": %zu, \"p50_us\": %.0f, "
                 "\"p99_us\": %.0f, \"calls_per_s\": %.0f, "
                 "\"client_cpu_us\": %.1f}\n",
                 n, n_failed, (double)all[n / 2], (double)all[n * 99 / 100],
                 (double)n / seconds, spent_us / (double)n);
    return n_failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Watchers. */

static atomic_uint n_told;

static void
on_told(struct rpc_stream *stream, void *ctx, const ProtobufCMessage *message)
{
    (void)stream;
    (void)ctx;
    (void)message;
    (void)atomic_fetch_add(&n_told, 1);
}

static bool wait_told(unsigned wanted)
{
    const int64_t until_ns = now_ns() + INT64_C(60) * 1000000000;
    const struct timespec pause = {0, 100000};

    while (atomic_load(&n_told) < wanted && now_ns() < until_ns) {
        (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
    return atomic_load(&n_told) >= wanted;
}

static int watch(unsigned n)
{
    static const struct rpc_stream_events events = {.on_message = on_told};
    Grpc__Health__V1__HealthCheckRequest request =
        GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    BASE_AUTO(rpc_server) server = NULL;
    BASE_AUTO(rpc_channel) channel = NULL;
    struct base_err err = {0};
    char target[32];
    int port = 0;
    int64_t begin_ns;
    int64_t opened_ns;
    int64_t sent_ns;

    if (start_server(&server, &port, &err) != BASE_OK) {
        return tell(&err);
    }
    (void)snprintf(target, sizeof(target), "127.0.0.1:%d", port);
    if (rpc_channel_open(target, NULL, &channel, &err) != BASE_OK) {
        return tell(&err);
    }
    begin_ns = now_ns();
    for (unsigned i = 0; i < n; i++) {
        struct rpc_stream *stream = NULL;

        if (rpc_stream_open(channel, &grpc__health__v1__health__descriptor,
                            "Watch", NULL, &events, NULL, &stream,
                            &err) != BASE_OK) {
            return tell(&err);
        }
        (void)rpc_stream_send(stream, &request.base);
        rpc_stream_half_close(stream);
        rpc_stream_unref(stream);
    }
    if (!wait_told(n)) {
        return EXIT_FAILURE;
    }
    opened_ns = now_ns();
    rpc_server_set_serving(server, false);
    sent_ns = now_ns();
    if (!wait_told(2 * n)) {
        return EXIT_FAILURE;
    }
    (void)printf("{\"watchers\": %u, \"open_ms\": %.1f, \"send_ms\": %.1f, "
                 "\"all_told_ms\": %.1f}\n",
                 n, (double)(opened_ns - begin_ns) / 1e6,
                 (double)(sent_ns - opened_ns) / 1e6,
                 (double)(now_ns() - opened_ns) / 1e6);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    uint64_t a = 0;
    uint64_t b = 0;

    if (argc == 2 && strcmp(argv[1], "serve") == 0) {
        return serve();
    }
    if (argc == 5 && strcmp(argv[1], "call") == 0 &&
        base_parse_u64(base_str_of(argv[3]), &a) &&
        base_parse_u64(base_str_of(argv[4]), &b) && a - 1 < MAX_THREADS) {
        return call(argv[2], a, b);
    }
    if (argc == 3 && strcmp(argv[1], "watch") == 0 &&
        base_parse_u64(base_str_of(argv[2]), &a) && a - 1 < MAX_WATCHERS) {
        return watch((unsigned)a);
    }
    (void)fprintf(stderr,
                  "usage: retile-bench-rpc serve | call HOST:PORT THREADS MS "
                  "| watch N\n");
    return 2;
}
