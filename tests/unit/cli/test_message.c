/* Messages as words and JSON, devices by name. */
#include <retile/v1/jobs.pb-c.h>

#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "cli/device_args.h"
#include "cli/message.h"

static void test_enums_are_words(void **state)
{
    static const struct {
        const ProtobufCEnumDescriptor *descriptor;
        int value;
        const char *word;
    } cases[] = {
        {&retile__v1__job_state__descriptor, RETILE__V1__JOB_STATE__JOB_RUNNING,
         "running"},
        {&retile__v1__device_state__descriptor,
         RETILE__V1__DEVICE_STATE__DEVICE_DRAINED, "drained"},
        {&retile__v1__change_phase__descriptor,
         RETILE__V1__CHANGE_PHASE__CHANGE_MAKING, "making"},
        {&retile__v1__job_state__descriptor, 0, "?"},
        {&retile__v1__job_state__descriptor, 4711, "?"},
    };
    char text[CLI_WORD_BYTES];

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        assert_string_equal(
            cli_enum_text(cases[i].descriptor, cases[i].value, text),
            cases[i].word);
    }
}

static void test_a_message_is_an_object_of_its_fields(void **state)
{
    char name[] = "gpt";
    char dropped[] = "ranks/003/rng.pt";
    char *list[] = {dropped};
    Retile__V1__Job job = RETILE__V1__JOB__INIT;
    Retile__V1__Change change = RETILE__V1__CHANGE__INIT;
    Retile__V1__PlanSummary plan = RETILE__V1__PLAN_SUMMARY__INIT;
    Retile__V1__Version version = RETILE__V1__VERSION__INIT;
    Retile__V1__Version *versions[] = {&version};
    BASE_AUTO_MEM char *text = NULL;
    json_t *json;

    (void)state;
    plan.moved_bytes = 5;
    plan.predicted_s = 0.5;
    plan.n_dropped = 1;
    plan.dropped = list;
    change.plan = &plan;
    version.number = 7;
    version.has_step = 1;
    job.name = name;
    job.state = RETILE__V1__JOB_STATE__JOB_MOVING;
    job.n_ranks = 4;
    job.submitted_ns = 1795700000000045999;
    job.change = &change;
    job.n_versions = 1;
    job.versions = versions;
    json = cli_message_json(&job.base);
    assert_non_null(json);
    assert_string_equal(json_string_value(json_object_get(json, "name")),
                        "gpt");
    assert_string_equal(json_string_value(json_object_get(json, "state")),
                        "moving");
    assert_int_equal(json_integer_value(json_object_get(json, "n_ranks")), 4);
    assert_string_equal(json_string_value(json_object_get(json, "submitted")),
                        "2026-11-26T13:33:20.000045Z");
    assert_true(json_is_null(json_object_get(json, "generation")));
    assert_null(json_object_get(json, "submitted_ns"));
    text = json_dumps(json_object_get(json, "versions"), JSON_COMPACT);
    assert_non_null(strstr(text, "\"number\":7"));
    assert_non_null(strstr(text, "\"has_step\":true"));
    assert_non_null(strstr(text, "\"created\":null"));
    free(text);
    text = json_dumps(json_object_get(json, "change"), JSON_COMPACT);
    assert_non_null(strstr(text, "\"dropped\":[\"ranks/003/rng.pt\"]"));
    assert_non_null(strstr(text, "\"predicted_s\":0.5"));
    json_decref(json);
}

static void test_devices_are_a_host_and_a_number(void **state)
{
    struct cli_devices devices = {0};
    struct base_err err = {0};

    (void)state;
    assert_ok(cli_devices_parse("node0/0,node1/13", &devices, &err), &err);
    assert_int_equal(devices.n, 2);
    assert_string_equal(devices.list[0]->host, "node0");
    assert_int_equal(devices.list[0]->index, 0);
    assert_string_equal(devices.list[1]->host, "node1");
    assert_int_equal(devices.list[1]->index, 13);
    cli_devices_done(&devices);
}

static void test_what_is_no_device_is_refused(void **state)
{
    static const char *const texts[] = {
        "",        "node0",          "/3",           "node0/",
        "node0/x", "node0/0,",       "node0/0,,a/1", "node0/-1",
        "a/65536", "node0/0,node1/", "a/1/2",
    };
    struct cli_devices devices = {0};
    struct base_err err = {0};

    (void)state;
    for (size_t i = 0; i < N_ITEMS(texts); i++) {
        if (cli_devices_parse(texts[i], &devices, &err) != BASE_BAD_ARG) {
            fail_msg("`%s` was taken", texts[i]);
        }
    }
}

static void test_a_host_alone_means_all_of_its_devices(void **state)
{
    BASE_AUTO_MEM char *host = NULL;
    struct base_err err = {0};
    uint32_t index = 7;
    bool is_all = false;

    (void)state;
    assert_ok(cli_device_parse("node0", 5, &host, &index, &is_all, &err), &err);
    assert_string_equal(host, "node0");
    assert_true(is_all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_enums_are_words),
        cmocka_unit_test(test_a_message_is_an_object_of_its_fields),
        cmocka_unit_test(test_devices_are_a_host_and_a_number),
        cmocka_unit_test(test_what_is_no_device_is_refused),
        cmocka_unit_test(test_a_host_alone_means_all_of_its_devices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
