#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "cli/launch_env.h"

static const char *value_of(char **env, const char *name)
{
    size_t n = strlen(name);
    const char *found = NULL;

    for (size_t i = 0; env[i] != NULL; i++) {
        if (strncmp(env[i], name, n) == 0 && env[i][n] == '=') {
            assert_null(found); /* there once */
            found = env[i] + n + 1;
        }
    }
    return found;
}

/* Rank 5 of 8, the second of two here. */
static char **env_of(char *kind, char *const *environment)
{
    char directory[] = "/mnt/gen/7";
    char mesh[] = "dp=2,tp=4";
    char coords[] = "dp=1,tp=1";
    char address[] = "127.0.0.1";
    Retile__V1__LaunchRank first = RETILE__V1__LAUNCH_RANK__INIT;
    Retile__V1__LaunchRank second = RETILE__V1__LAUNCH_RANK__INIT;
    Retile__V1__LaunchRank *ranks[] = {&first, &second};
    Retile__V1__LaunchOrder order = RETILE__V1__LAUNCH_ORDER__INIT;
    struct base_err err = {0};
    char **env = NULL;

    second.rank = 5;
    second.local_rank = 1;
    second.device = 3;
    second.device_kind = kind;
    second.coords = coords;
    order.generation = 7;
    order.load = 41;
    order.directory = directory;
    order.mesh = mesh;
    order.world_size = 8;
    order.master_addr = address;
    order.master_port = 29501;
    order.n_ranks = 2;
    order.ranks = ranks;
    assert_ok(cli_env_create(&order, 1, "gpt", environment, &env, &err), &err);
    return env;
}

static void test_a_rank_knows_its_place(void **state)
{
    static const char *const wanted[][2] = {
        {"RANK", "5"},
        {"LOCAL_RANK", "1"},
        {"WORLD_SIZE", "8"},
        {"LOCAL_WORLD_SIZE", "2"},
        {"MASTER_ADDR", "127.0.0.1"},
        {"MASTER_PORT", "29501"},
        {"RETILE_DIR", "/mnt/gen/7"},
        {"RETILE_GENERATION", "7"},
        {"RETILE_LOAD", "41"},
        {"RETILE_MESH", "dp=2,tp=4"},
        {"RETILE_COORDS", "dp=1,tp=1"},
        {"RETILE_DEVICE", "3"},
        {"RETILE_JOB", "gpt"},
    };
    char *none[] = {NULL};
    char kind[] = "cpu";
    char **env = env_of(kind, none);

    (void)state;
    for (size_t i = 0; i < N_ITEMS(wanted); i++) {
        const char *value = value_of(env, wanted[i][0]);

        assert_non_null(value);
        assert_string_equal(value, wanted[i][1]);
    }
    assert_null(value_of(env, "CUDA_VISIBLE_DEVICES"));
    cli_env_free(env);
}

static void test_what_stood_there_is_replaced_and_the_rest_is_kept(void **state)
{
    char home[] = "HOME=/root", rank[] = "RANK=99", near[] = "RANKS=7",
         cuda[] = "CUDA_VISIBLE_DEVICES=0,1", odd[] = "no-equals-sign";
    char *environment[] = {home, rank, near, cuda, odd, NULL};
    char cpu[] = "cpu";
    char gpu[] = "cuda";
    char **env = env_of(cpu, environment);

    (void)state;
    assert_string_equal(value_of(env, "HOME"), "/root");
    assert_string_equal(value_of(env, "RANK"), "5");
    assert_string_equal(value_of(env, "RANKS"), "7");
    assert_string_equal(value_of(env, "CUDA_VISIBLE_DEVICES"), "0,1");
    cli_env_free(env);
    env = env_of(gpu, environment);
    assert_string_equal(value_of(env, "CUDA_VISIBLE_DEVICES"), "3");
    cli_env_free(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_rank_knows_its_place),
        cmocka_unit_test(
            test_what_stood_there_is_replaced_and_the_rest_is_kept),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
