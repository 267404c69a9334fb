/* proto/check.h: every field of the API has a bound, and is held to it. */
#include "tests/unit/unit.h"

#include <math.h>
#include <retile/v1/agents.pb-c.h>
#include <retile/v1/devices.pb-c.h>
#include <retile/v1/host.pb-c.h>
#include <retile/v1/jobs.pb-c.h>
#include <retile/v1/versions.pb-c.h>
#include <retile/v1/watch.pb-c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "proto/check.h"
#include "proto/rules.h"

/* Every message that a service takes or gives, and all that is in it. */
struct seen {
    BASE_VEC(const ProtobufCMessageDescriptor *) list;
};

static void see(struct seen *seen, const ProtobufCMessageDescriptor *message)
{
    for (size_t i = 0; i < seen->list.n; i++) {
        if (seen->list.items[i] == message) {
            return;
        }
    }
    assert_true(base_vec_push(&seen->list, message));
    for (unsigned i = 0; i < message->n_fields; i++) {
        if (message->fields[i].type == PROTOBUF_C_TYPE_MESSAGE) {
            see(seen, message->fields[i].descriptor);
        }
    }
}

static void see_all(struct seen *seen)
{
    const ProtobufCServiceDescriptor *services[] = {
        &retile__v1__jobs__descriptor,    &retile__v1__versions__descriptor,
        &retile__v1__devices__descriptor, &retile__v1__watch__descriptor,
        &retile__v1__agents__descriptor,  &retile__v1__local__descriptor,
    };

    for (size_t s = 0; s < N_ITEMS(services); s++) {
        for (unsigned m = 0; m < services[s]->n_methods; m++) {
            see(seen, services[s]->methods[m].input);
            see(seen, services[s]->methods[m].output);
        }
    }
}

/* Is the row's form one that the field's type can have? */
static bool form_fits(const struct rule *rule,
                      const ProtobufCFieldDescriptor *field)
{
    if ((field->label == PROTOBUF_C_LABEL_REPEATED) != (rule->items > 0)) {
        return false;
    }
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return rule->form != RULE_NUMBER && rule->form != RULE_BOOL &&
               rule->form != RULE_ENUM && rule->form != RULE_MESSAGE &&
               rule->max > 0;
    case PROTOBUF_C_TYPE_MESSAGE:
        return rule->form == RULE_MESSAGE;
    case PROTOBUF_C_TYPE_ENUM:
        return rule->form == RULE_ENUM;
    case PROTOBUF_C_TYPE_BOOL:
        return rule->form == RULE_BOOL;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return rule->form == RULE_NUMBER && rule->min <= rule->max;
    default: /* check.c does not know it */
        return false;
    }
}

static void test_every_field_of_every_message_has_a_row(void **state)
{
    struct seen seen = {{0}};

    (void)state;
    see_all(&seen);
    assert_true(seen.list.n > 60);
    for (size_t i = 0; i < seen.list.n; i++) {
        const ProtobufCMessageDescriptor *message = seen.list.items[i];
        const struct rule_message *rules = rule_message_find(message);

        if (rules == NULL) {
            fail_msg("proto/rules.c knows no %s", message->name);
            return;
        }
        for (unsigned f = 0; f < message->n_fields; f++) {
            if (f >= rules->n_rules ||
                strcmp(rules->rules[f].field, message->fields[f].name) != 0 ||
                !form_fits(&rules->rules[f], &message->fields[f])) {
                fail_msg("proto/rules.c: no fitting row for %s.%s",
                         message->name, message->fields[f].name);
            }
        }
        assert_int_equal(rules->n_rules, message->n_fields);
    }
    base_vec_done(&seen.list);
}

static Retile__V1__SubmitJobRequest good_submit(void)
{
    Retile__V1__SubmitJobRequest submit = RETILE__V1__SUBMIT_JOB_REQUEST__INIT;

    submit.request_id = (char *)(uintptr_t) "id-1";
    submit.name = (char *)(uintptr_t) "gpt";
    return submit;
}

static void refused(const ProtobufCMessage *message, const char *text)
{
    struct base_err err = {0};

    assert_int_equal(rpc_check(message, &err), BASE_BAD_ARG);
    if (strstr(err.text, text) == NULL) {
        fail_msg("'%s' does not say '%s'", err.text, text);
    }
}

static void test_a_good_message_passes(void **state)
{
    Retile__V1__SubmitJobRequest submit = good_submit();
    struct base_err err = {0};

    (void)state;
    assert_ok(rpc_check(&submit.base, &err), &err);
    submit.layout = (char *)(uintptr_t) "mesh: {tp: 2}\nrules:\n\t- \xc3\xa4";
    submit.start_case = RETILE__V1__SUBMIT_JOB_REQUEST__START_FROM_VERSION;
    submit.from_version = (char *)(uintptr_t) "base@7";
    assert_ok(rpc_check(&submit.base, &err), &err);
}

static void test_texts_are_held_to_their_form(void **state)
{
    static const struct {
        const char *name;
        const char *says;
    } cases[] = {
        {"", "SubmitJobRequest.name is not set"},
        {".hidden", "'.hidden', not a name"},
        {"-rf", "not a name"},
        {"a/b", "not a name"},
        {"a b", "not a name"},
        {"\xc3\xa4", "not a name"},
        {"\xff", "is not UTF-8"},
        {"\xed\xa0\x80", "is not UTF-8"},
        {"0123456789012345678901234567890123456789012345678901234567890123"
         "0123456789012345678901234567890123456789012345678901234567890123x",
         "has 129 bytes, not 1 to 128"},
    };
    static const struct {
        const char *from;
        bool is_good;
    } versions[] = {
        {"a", true},     {"a@1", true},
        {"a@", false},   {"@1", false},
        {"a@0", false},  {"a@1@2", false},
        {"a@-1", false}, {"a@18446744073709551616", false},
    };
    Retile__V1__SubmitJobRequest submit = good_submit();
    struct base_err err = {0};

    (void)state;
    for (size_t i = 0; i < N_ITEMS(cases); i++) {
        submit.name = (char *)(uintptr_t)cases[i].name;
        refused(&submit.base, cases[i].says);
    }
    submit = good_submit();
    submit.request_id = (char *)(uintptr_t) "a b";
    refused(&submit.base, "printable ASCII");
    submit = good_submit();
    submit.layout = (char *)(uintptr_t) "mesh:\x01";
    refused(&submit.base, "control characters");
    submit = good_submit();
    submit.start_case = RETILE__V1__SUBMIT_JOB_REQUEST__START_IMPORT_DIR;
    submit.import_dir = (char *)(uintptr_t) "relative";
    refused(&submit.base, "an absolute path");
    for (size_t i = 0; i < N_ITEMS(versions); i++) {
        submit = good_submit();
        submit.start_case = RETILE__V1__SUBMIT_JOB_REQUEST__START_FROM_VERSION;
        submit.from_version = (char *)(uintptr_t)versions[i].from;
        assert_int_equal(rpc_check(&submit.base, &err),
                         versions[i].is_good ? BASE_OK : BASE_BAD_ARG);
    }
}

static void test_what_is_shown_of_a_text_is_cut_between_characters(void **state)
{
    Retile__V1__SubmitJobRequest submit = good_submit();
    char name[101];
    struct base_err err = {0};

    (void)state;
    for (size_t i = 0; i < 99; i += 3) {
        (void)memcpy(name + i, "\xe2\x82\xac", 3);
    }
    name[99] = '\0';
    submit.name = name;
    assert_int_equal(rpc_check(&submit.base, &err), BASE_BAD_ARG);
    assert_true(base_str_is_utf8(base_str_of(err.text)));
    assert_non_null(strstr(err.text, "...'"));
}

static void test_numbers_and_enums_are_held_to_their_range(void **state)
{
    Retile__V1__PinVersionRequest pin = RETILE__V1__PIN_VERSION_REQUEST__INIT;
    Retile__V1__VoteResponse vote = RETILE__V1__VOTE_RESPONSE__INIT;
    Retile__V1__RankStatus rank = RETILE__V1__RANK_STATUS__INIT;
    Retile__V1__RescaleResponse rescale = RETILE__V1__RESCALE_RESPONSE__INIT;
    Retile__V1__PlanSummary plan = RETILE__V1__PLAN_SUMMARY__INIT;
    struct base_err err = {0};

    (void)state;
    pin.request_id = pin.job = (char *)(uintptr_t) "x";
    refused(&pin.base, "PinVersionRequest.version is 0, not of 1 to");
    pin.version = UINT64_MAX;
    refused(&pin.base, "is 18446744073709551615");
    pin.version = INT64_MAX;
    assert_ok(rpc_check(&pin.base, &err), &err);

    refused(&vote.base, "VoteResponse.decision is not set");
    vote.decision = (Retile__V1__Decision)7;
    refused(&vote.base, "is 7, which is none of Decision");

    rank.state = RETILE__V1__RANK_STATE__RANK_EXITED;
    rank.exit_code = -1;
    refused(&rank.base, "RankStatus.exit_code is -1, not of 0 to 255");

    rescale.plan = &plan;
    plan.predicted_s = NAN;
    refused(&rescale.base, "PlanSummary.predicted_s is nan");
    plan.predicted_s = INFINITY;
    refused(&rescale.base, "PlanSummary.predicted_s is inf");
    plan.predicted_s = 0.25;
    assert_ok(rpc_check(&rescale.base, &err), &err);
}

static void test_lists_and_what_is_in_them_are_bounded(void **state)
{
    Retile__V1__FromAgent from = RETILE__V1__FROM_AGENT__INIT;
    Retile__V1__Hello hello = RETILE__V1__HELLO__INIT;
    Retile__V1__Device device = RETILE__V1__DEVICE__INIT;
    Retile__V1__Device *devices[1025];
    struct base_err err = {0};

    (void)state;
    refused(&from.base, "FromAgent has nothing that is known");
    from.what_case = RETILE__V1__FROM_AGENT__WHAT_HELLO;
    from.hello = &hello;
    hello.host = hello.incarnation = (char *)(uintptr_t) "h";
    hello.store_id = (char *)(uintptr_t) "00112233445566778899aabbccddeeff";
    for (size_t i = 0; i < N_ITEMS(devices); i++) {
        devices[i] = &device;
    }
    hello.devices = devices;
    hello.n_devices = 1024;
    assert_ok(rpc_check(&from.base, &err), &err);
    hello.n_devices = 1025;
    refused(&from.base, "Hello.devices has 1025 items, at most 1024");
    hello.n_devices = 2;
    device.index = 1024;
    refused(&from.base, "Device.index is 1024");
    device.index = 0;
    hello.store_id = (char *)(uintptr_t) "00112233445566778899AABBCCDDEEFF";
    refused(&from.base, "hexadecimal");
}

static void test_a_message_as_a_whole_is_bounded(void **state)
{
    static char layout[250 * 1024];
    Retile__V1__JobStatus status = RETILE__V1__JOB_STATUS__INIT;
    Retile__V1__Version version = RETILE__V1__VERSION__INIT;
    Retile__V1__Version *versions[5];
    struct base_err err = {0};

    (void)state;
    (void)memset(layout, 'x', sizeof(layout) - 1);
    version.number = 1;
    version.layout = layout;
    status.job = (char *)(uintptr_t) "j";
    status.versions = versions;
    for (size_t i = 0; i < N_ITEMS(versions); i++) {
        versions[i] = &version;
    }
    status.n_versions = 4;
    assert_ok(rpc_check(&status.base, &err), &err);
    status.n_versions = 5;
    refused(&status.base, "JobStatus has 12");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_field_of_every_message_has_a_row),
        cmocka_unit_test(test_a_good_message_passes),
        cmocka_unit_test(test_texts_are_held_to_their_form),
        cmocka_unit_test(
            test_what_is_shown_of_a_text_is_cut_between_characters),
        cmocka_unit_test(test_numbers_and_enums_are_held_to_their_range),
        cmocka_unit_test(test_lists_and_what_is_in_them_are_bounded),
        cmocka_unit_test(test_a_message_as_a_whole_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
