/* Seeds of the simulated cluster.
 *
 *   sim_core            RETILE_CASES seeds (-c, 1000), RETILE_SEED the first of them
 *   sim_core -v         one seed, told as it goes
 *   sim_core -c CASES
 *   sim_core -s         the coordinator may be restored from an old copy
 *   sim_core -n HOSTS -j JOBS */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "tests/sim/world.h"

static uint64_t env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? strtoull(text, NULL, 0) : otherwise;
}

struct options {
    uint32_t n_hosts, n_jobs;
    bool is_verbose, has_snapshots;
};

static bool run(uint64_t seed,
                const struct options *options,
                uint64_t *ret_trace,
                uint64_t *n_steps)
{
    static struct world world; /* large */
    bool is_good;

    world_init(&world, seed, options->n_hosts, options->n_jobs);
    world.is_verbose = options->is_verbose;
    world.has_snapshots = options->has_snapshots;
    is_good = world_run(&world);
    if (!is_good) {
        printf("RETILE_SEED=%" PRIu64 ": %s (at %.3f s)\n", seed, world.fault,
               (double)world.now_ns / 1e9);
    }
    *ret_trace = world.trace[0] ^ world.trace[1];
    *n_steps += world.n_steps;
    world_done(&world);
    return is_good;
}

int main(int argc, char **argv)
{
    uint64_t seed = env("RETILE_SEED", 1);
    uint64_t n_cases = 1000;
    struct options options = {.n_hosts = 50, .n_jobs = 14};
    uint64_t n_bad = 0;
    uint64_t n_steps = 0;
    uint64_t trace;
    uint64_t again;
    struct rusage usage;
    double seconds;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "-v") == 0) {
            options.is_verbose = true;
        } else if (strcmp(argv[i], "-j") == 0 && i + 1 < argc) {
            options.n_jobs = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "-s") == 0) {
            options.has_snapshots = true;
        } else if (strcmp(argv[i], "-c") == 0 && i + 1 < argc) {
            n_cases = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "-n") == 0 && i + 1 < argc) {
            options.n_hosts = (uint32_t)strtoul(argv[++i], NULL, 10);
        }
    }
    if (options.n_hosts == 0 || options.n_jobs == 0) {
        return 2;
    }
    n_cases = options.is_verbose ? 1 : env("RETILE_CASES", n_cases);
    for (uint64_t i = 0; i < n_cases && n_bad < 5; i++) {
        if (!run(seed + i, &options, &trace, &n_steps)) {
            n_bad++;
        } else if (i == 0 && n_cases > 1) {
            (void)run(seed, &options, &again, &n_steps);
            if (trace != again) {
                printf("RETILE_SEED=%" PRIu64 ": another trace\n", seed);
                n_bad++;
            }
        }
    }
    (void)getrusage(RUSAGE_SELF, &usage);
    seconds =
        (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6;
    printf("%.1f s of CPU, %.0f steps/s with all models, %ld MiB\n", seconds,
           seconds > 0 ? (double)n_steps / seconds : 0, usage.ru_maxrss / 1024);
    printf("%" PRIu64 " seeds from %" PRIu64 ", %" PRIu32 " hosts, %" PRIu64
           " steps, %" PRIu64 " bad\n",
           n_cases, seed, options.n_hosts, n_steps, n_bad);
    return n_bad > 0;
}
