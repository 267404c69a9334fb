#include "cli/launch_env.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

enum { MAX_OWN = 16 };

void cli_env_free(char **env)
{
    for (size_t i = 0; env != NULL && env[i] != NULL; i++) {
        free(env[i]);
    }
    free(env);
}

static void env_auto(char ***env)
{
    cli_env_free(*env);
}

/* Do both begin with the same "NAME="? */
static bool same_name(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");

    return strncmp(a, b, n) == 0 && b[n] == '=';
}

static bool is_replaced(const char *entry, char *const *own, size_t n_own)
{
    for (size_t i = 0; i < n_own; i++) {
        if (same_name(own[i], entry)) {
            return true;
        }
    }
    return false;
}

/* Fill @own; entries that memory was short for are NULL. */
static size_t fill(const Retile__V1__LaunchOrder *order,
                   size_t i,
                   const char *job,
                   char **own)
{
    const Retile__V1__LaunchRank *rank = order->ranks[i];
    size_t n = 0;

    own[n++] = base_path("RANK=%" PRIu32, rank->rank);
    own[n++] = base_path("LOCAL_RANK=%" PRIu32, rank->local_rank);
    own[n++] = base_path("WORLD_SIZE=%" PRIu32, order->world_size);
    own[n++] = base_path("LOCAL_WORLD_SIZE=%zu", order->n_ranks);
    own[n++] = base_path("MASTER_ADDR=%s", order->master_addr);
    own[n++] = base_path("MASTER_PORT=%" PRIu32, order->master_port);
    own[n++] = base_path("RETILE_DIR=%s", order->directory);
    own[n++] = base_path("RETILE_GENERATION=%" PRIu64, order->generation);
    own[n++] = base_path("RETILE_LOAD=%" PRIu64, order->load);
    own[n++] = base_path("RETILE_MESH=%s", order->mesh);
    own[n++] = base_path("RETILE_COORDS=%s", rank->coords);
    own[n++] = base_path("RETILE_DEVICE=%" PRIu32, rank->device);
    own[n++] = base_path("RETILE_JOB=%s", job);
    if (strcmp(rank->device_kind, "cuda") == 0) {
        own[n++] = base_path("CUDA_VISIBLE_DEVICES=%" PRIu32, rank->device);
    }
    return n;
}

enum base_code cli_env_create(const Retile__V1__LaunchOrder *order,
                              size_t i,
                              const char *job,
                              char *const *environment,
                              char ***ret,
                              struct base_err *err)
{
    __attribute__((cleanup(env_auto))) char **env = NULL;
    char *own[MAX_OWN] = {0};
    size_t n_own = fill(order, i, job, own);
    size_t n_all = n_own;
    size_t n = n_own;
    bool is_short = false;

    for (size_t k = 0; environment[k] != NULL; k++) {
        n_all++;
    }
    env = calloc(n_all + 1, sizeof(*env));
    for (size_t k = 0; k < n_own; k++) {
        is_short = is_short || own[k] == NULL || env == NULL;
    }
    if (is_short) {
        for (size_t k = 0; k < n_own; k++) {
            free(own[k]);
        }
        return base_fail(err, BASE_NO_MEM, "cannot make an environment");
    }
    memcpy(env, own, n_own * sizeof(*env));
    for (size_t k = 0; environment[k] != NULL; k++) {
        if (is_replaced(environment[k], own, n_own)) {
            continue;
        }
        env[n] = strdup(environment[k]);
        if (env[n++] == NULL) {
            return base_fail(err, BASE_NO_MEM, "cannot make an environment");
        }
    }
    *ret = base_steal(&env);
    return BASE_OK;
}
