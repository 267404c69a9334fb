/* The bounds of every field of every message of the API, in the order of the
 * .proto files.  tests/unit/proto/test_check.c fails for a field without a row. */
#include "proto/rules.h"

#include <retile/v1/agents.pb-c.h>
#include <retile/v1/devices.pb-c.h>
#include <retile/v1/host.pb-c.h>
#include <retile/v1/jobs.pb-c.h>
#include <retile/v1/types.pb-c.h>
#include <retile/v1/versions.pb-c.h>
#include <retile/v1/watch.pb-c.h>
#include <stddef.h>

#include "proto/check.h"

enum {
    MAX_NAME = 128,
    MAX_ID = 64,
    MAX_LINE = 1024, /* reasons, labels, what people wrote */
    MAX_PATH = 4095,
    MAX_MESH = 1024,
    MAX_LAYOUT = 256 * 1024,
    MAX_RANK = (1 << 20) - 1,
    MAX_DEVICE = 1023,
    MAX_SECONDS = 7 * 24 * 3600,

    N_DEVICES = MAX_DEVICE + 1, /* of a host */
    N_HOSTS = 65536,
    N_JOBS = 65536, /* of the cluster, of a host */
    N_VERSIONS = 4096,
    N_RANKS = 65536,
    N_HISTORY = 1024,
    N_LINES = 1024,
    N_EVENTS = 4096,

    REQUEST_BYTES = 1 << 20,
    WHOLE_BYTES = 64 << 20, /* what we answer ourselves */
};

/* A table. */
/* clang-format off */
#define NUMBER(field, min, max)   {field, RULE_NUMBER, min, max, 0}
#define COUNT(field)              {field, RULE_NUMBER, 0, INT64_MAX, 0}
#define U32(field)                {field, RULE_NUMBER, 0, UINT32_MAX, 0}
#define BOOL(field)               {field, RULE_BOOL, 0, 1, 0}
#define ENUM(field)               {field, RULE_ENUM, 0, 0, 0}
#define ENUM_SET(field)           {field, RULE_ENUM, 1, 0, 0}
#define NAME(field)               {field, RULE_NAME, 1, MAX_NAME, 0}
#define NAME_OR_NOT(field)        {field, RULE_NAME, 0, MAX_NAME, 0}
#define REQUEST_ID                {"request_id", RULE_ID, 1, MAX_ID, 0}
#define HEX32(field)              {field, RULE_HEX, 32, 32, 0}
#define HEX32_OR_NOT(field)       {field, RULE_HEX, 0, 32, 0}
#define LINE(field, max)          {field, RULE_LINE, 0, max, 0}
#define TEXT(field, max)          {field, RULE_TEXT, 0, max, 0}
#define PATH_OR_NOT(field)        {field, RULE_PATH, 0, MAX_PATH, 0}
#define LINES(field, items)       {field, RULE_LINE, 0, MAX_LINE, items}
#define NUMBERS(field, items)     {field, RULE_NUMBER, 0, INT64_MAX, items}
#define MESSAGE(field)            {field, RULE_MESSAGE, 1, 0, 0}
#define MESSAGE_OR_NOT(field)     {field, RULE_MESSAGE, 0, 0, 0}
#define MESSAGES(field, items)    {field, RULE_MESSAGE, 1, 0, items}
#define RANK(field)               {field, RULE_NUMBER, 0, MAX_RANK, 0}
#define DEVICE(field)             {field, RULE_NUMBER, 0, MAX_DEVICE, 0}
#define SECONDS(field)            {field, RULE_NUMBER, 0, MAX_SECONDS, 0}
#define RESTARTS(field)           U32(field) /* the most: without an end */
#define WORLD(field)              {field, RULE_NUMBER, 0, MAX_RANK + 1, 0}
#define PORT(field)               {field, RULE_NUMBER, 0, 65535, 0}

/* types.proto */
static const struct rule device[] = {
    NAME_OR_NOT("host"), /* its host's Hello leaves it out */
    DEVICE("index"),       LINE("kind", 32),         LINE("label", MAX_LINE),
    ENUM("state"),         LINE("reason", MAX_LINE), NAME_OR_NOT("job"),
    COUNT("memory_bytes"),
};
static const struct rule host[] = {
    NAME("name"),
    ENUM_SET("state"),
    HEX32_OR_NOT("store_id"),
    COUNT("store_used_bytes"),
    COUNT("store_budget_bytes"),
    COUNT("heard_ns"),
    LINE("address", 256),
    LINE("version", 128),
    MESSAGES("devices", N_DEVICES),
};
static const struct rule placement[] = {
    RANK("rank"),
    NAME("host"),
    DEVICE("device"),
};
static const struct rule job[] = {
    NAME("name"),
    ENUM_SET("state"),
    LINE("reason", MAX_LINE),
    TEXT("layout", MAX_LAYOUT),
    LINE("mesh", MAX_MESH),
    WORLD("n_ranks"),
    NAME_OR_NOT("host"),
    COUNT("version"),
    COUNT("submitted_ns"),
    MESSAGE_OR_NOT("generation"),
    MESSAGE_OR_NOT("attempt"),
    MESSAGE_OR_NOT("change"),
    U32("n_restarts"),
    RESTARTS("max_restarts"),
    NUMBER("keep_versions", 0, N_VERSIONS),
    COUNT("lost_steps"),
    MESSAGES("versions", N_VERSIONS),
    MESSAGES("history", N_HISTORY),
};
static const struct rule generation[] = {
    NUMBER("number", 1, INT64_MAX),
    ENUM_SET("state"),
    COUNT("load"),
    LINE("mesh", MAX_MESH),
    MESSAGES("placements", N_RANKS),
    COUNT("created_ns"),
    COUNT("ready_ns"),
    COUNT("running_ns"),
    COUNT("ended_ns"),
    LINE("reason", MAX_LINE),
    COUNT("first_step"),
    COUNT("last_step"),
};
static const struct rule attempt[] = {
    NUMBER("number", 1, INT64_MAX),
    ENUM_SET("kind"),
    ENUM_SET("state"),
    COUNT("parent"),
    COUNT("generation"),
    COUNT("step"),
    COUNT("opened_ns"),
    COUNT("voted_ns"),
    COUNT("committed_ns"),
    COUNT("ready_ns"),
    LINE("reason", MAX_LINE),
};
static const struct rule version[] = {
    NUMBER("number", 1, INT64_MAX),
    COUNT("parent"),
    ENUM("kind"),
    COUNT("step"),
    BOOL("has_step"),
    COUNT("samples"),
    BOOL("has_samples"),
    COUNT("n_bytes"),
    TEXT("layout", MAX_LAYOUT),
    LINE("mesh", MAX_MESH),
    COUNT("created_ns"),
    ENUM("durability"),
    LINE("pinned", MAX_LINE),
    COUNT("opened_ns"),
    COUNT("ready_ns"),
};
static const struct rule change[] = {
    LINE("what", MAX_LINE), TEXT("layout", MAX_LAYOUT), LINE("mesh", MAX_MESH),
    COUNT("rollback"),      SECONDS("deadline_s"),      COUNT("asked_ns"),
    ENUM("phase"),          MESSAGE_OR_NOT("plan"),
};
static const struct rule plan_summary[] = {
    COUNT("state_bytes"),
    COUNT("moved_bytes"),
    COUNT("bound_bytes"),
    COUNT("copied_bytes"),
    COUNT("peak_bytes"),
    WORLD("n_ranks"),
    NUMBER("predicted_s", 0, INT64_MAX),
    LINES("dropped", N_LINES),
    LINES("warnings", N_LINES),
};

/* jobs.proto */
static const struct rule submit_job_request[] = {
    REQUEST_ID,
    NAME("name"),
    TEXT("layout", MAX_LAYOUT),
    PATH_OR_NOT("import_dir"),
    {"from_version", RULE_VERSION, 0, MAX_NAME + 21, 0},
    NAME_OR_NOT("host"),
    RESTARTS("max_restarts"),
    NUMBER("keep_versions", 0, N_VERSIONS),
    TEXT("import_layout", MAX_LAYOUT),
};
static const struct rule submit_job_response[] = {MESSAGE("job")};
static const struct rule list_jobs_request[] = {NAME_OR_NOT("after")};
static const struct rule list_jobs_response[] = {MESSAGES("jobs", N_JOBS),
                                                 BOOL("has_more")};
static const struct rule get_job_request[] = {NAME("name")};
static const struct rule get_job_response[] = {MESSAGE("job")};
static const struct rule remove_job_request[] = {
    REQUEST_ID,
    NAME("name"),
    BOOL("force"),
};
static const struct rule rescale_request[] = {
    REQUEST_ID,
    NAME("job"),
    TEXT("to", MAX_LAYOUT),
    MESSAGES("devices", N_RANKS),
    BOOL("dry_run"),
    SECONDS("deadline_s"),
};
static const struct rule rescale_response[] = {
    MESSAGE_OR_NOT("plan"), TEXT("layout", MAX_LAYOUT),
    LINE("mesh", MAX_MESH), MESSAGES("placements", N_RANKS),
    MESSAGE_OR_NOT("job"),
};

/* versions.proto */
static const struct rule list_versions_request[] = {NAME("job")};
static const struct rule list_versions_response[] = {
    MESSAGES("versions", N_VERSIONS)};
static const struct rule pin_version_request[] = {
    REQUEST_ID,
    NAME("job"),
    NUMBER("version", 1, INT64_MAX),
    LINE("why", MAX_LINE),
};
static const struct rule pin_version_response[] = {MESSAGE("version")};
static const struct rule release_version_request[] = {
    REQUEST_ID,
    NAME("job"),
    NUMBER("version", 1, INT64_MAX),
};
static const struct rule rollback_request[] = {
    REQUEST_ID,
    NAME("job"),
    NUMBER("version", 1, INT64_MAX),
};
static const struct rule rollback_response[] = {MESSAGE("job")};

/* devices.proto */
static const struct rule list_devices_request[] = {NAME_OR_NOT("after")};
static const struct rule list_devices_response[] = {MESSAGES("hosts", N_HOSTS),
                                                    BOOL("has_more")};
static const struct rule drain_device_request[] = {
    REQUEST_ID,
    NAME("host"),
    DEVICE("index"),
    BOOL("all"),
    LINE("reason", MAX_LINE),
    SECONDS("deadline_s"),
};
static const struct rule drain_device_response[] = {
    MESSAGES("devices", N_DEVICES)};
static const struct rule fail_device_request[] = {
    REQUEST_ID,
    NAME("host"),
    DEVICE("index"),
    BOOL("all"),
    LINE("reason", MAX_LINE),
};
static const struct rule fail_device_response[] = {
    MESSAGES("devices", N_DEVICES)};
static const struct rule recover_device_request[] = {
    REQUEST_ID,
    NAME("host"),
    DEVICE("index"),
    BOOL("all"),
};
static const struct rule recover_device_response[] = {
    MESSAGES("devices", N_DEVICES)};
static const struct rule forget_host_request[] = {
    REQUEST_ID,
    NAME("host"),
    BOOL("force"),
};

/* watch.proto */
static const struct rule watch_request[] = {
    COUNT("from_revision"),
    NAME_OR_NOT("job"),
};
static const struct rule watch_response[] = {MESSAGES("events", N_EVENTS)};
static const struct rule revision_response[] = {
    COUNT("newest"),
    COUNT("oldest"),
};
static const struct rule event[] = {
    NUMBER("revision", 1, INT64_MAX),
    COUNT("time_ns"),
    ENUM("kind"),
    LINE("text", MAX_LINE),
    NAME_OR_NOT("job"),
    NAME_OR_NOT("host"),
    NUMBER("device", -1, MAX_DEVICE),
    COUNT("generation"),
    COUNT("version"),
    COUNT("step"),
};

/* agents.proto */
static const struct rule from_agent[] = {
    MESSAGE("hello"),
    MESSAGE("renew"),
    MESSAGE("job"),
    MESSAGE("device"),
};
static const struct rule to_agent[] = {
    MESSAGE("welcome"),
    MESSAGE("job"),
    MESSAGE("renewed"),
};
static const struct rule hello[] = {
    NAME("host"),
    HEX32("store_id"),
    LINE("address", 256),
    LINE("version", 128),
    COUNT("store_budget_bytes"),
    COUNT("store_used_bytes"),
    COUNT("memory_bytes"),
    NUMBER("n_numa_nodes", 0, 4096),
    MESSAGES("devices", N_DEVICES),
    MESSAGES("jobs", N_JOBS),
    {"incarnation", RULE_ID, 1, MAX_ID, 0},
};
static const struct rule welcome[] = {
    NUMBER("session", 1, INT64_MAX),
    NUMBER("lease_ms", 1, UINT32_MAX),
    NUMBER("renew_ms", 1, UINT32_MAX),
};
static const struct rule renew[] = {
    COUNT("sequence"),
    COUNT("store_used_bytes"),
};
static const struct rule renewed[] = {COUNT("sequence")};
static const struct rule device_report[] = {
    DEVICE("index"),
    BOOL("is_failed"),
    LINE("reason", MAX_LINE),
};
static const struct rule job_target[] = {
    NAME("job"),
    COUNT("revision"),
    BOOL("is_gone"),
    TEXT("layout", MAX_LAYOUT),
    MESSAGE_OR_NOT("generation"),
    MESSAGE_OR_NOT("attempt"),
    NUMBERS("keep", N_VERSIONS),
    MESSAGES("pins", N_VERSIONS),
    ENUM("state"),
    LINE("reason", MAX_LINE),
    COUNT("highest"),
    MESSAGE_OR_NOT("plan"),
};
static const struct rule target_generation[] = {
    NUMBER("number", 1, INT64_MAX),
    COUNT("load"),
    LINE("mesh", MAX_MESH),
    ENUM_SET("state"),
    WORLD("world_size"),
    LINE("master_addr", 256),
    PORT("master_port"),
    MESSAGES("placements", N_RANKS),
    TEXT("request", MAX_LINE),
    COUNT("next_step"),
};
static const struct rule target_attempt[] = {
    NUMBER("number", 1, INT64_MAX),
    ENUM_SET("kind"),
    COUNT("parent"),
    TEXT("layout", MAX_LAYOUT),
    PATH_OR_NOT("import_dir"),
    NAME_OR_NOT("from_job"),
};
static const struct rule target_plan[] = {
    NUMBER("number", 1, INT64_MAX),
    TEXT("to", MAX_LAYOUT),
};
static const struct rule target_pin[] = {
    NUMBER("version", 1, INT64_MAX),
    LINE("why", MAX_LINE),
};
static const struct rule job_status[] = {
    NAME("job"),
    COUNT("revision"),
    MESSAGES("versions", N_VERSIONS),
    MESSAGE_OR_NOT("generation"),
    MESSAGE_OR_NOT("attempt"),
    MESSAGE_OR_NOT("plan"),
    BOOL("is_gone"),
    LINE("trouble", MAX_LINE),
    BOOL("has_launcher"),
    RESTARTS("max_restarts"),
    COUNT("highest"),
    COUNT("highest_generation"),
};
static const struct rule status_generation[] = {
    NUMBER("number", 1, INT64_MAX), BOOL("is_prepared"), PORT("master_port"),
    MESSAGES("ranks", N_RANKS),     BOOL("is_clear"),
};
static const struct rule rank_status[] = {
    RANK("rank"),
    ENUM_SET("state"),
    NUMBER("exit_code", 0, 255),
    NUMBER("signal", 0, 127),
    NUMBER("pid", 0, INT32_MAX),
};
static const struct rule status_attempt[] = {
    NUMBER("number", 1, INT64_MAX),
    BOOL("is_failed"),
    LINE("reason", MAX_LINE),
    BOOL("may_come_again"),
};
static const struct rule status_plan[] = {
    NUMBER("number", 1, INT64_MAX), BOOL("is_failed"),
    LINE("reason", MAX_LINE),       TEXT("layout", MAX_LAYOUT),
    LINE("mesh", MAX_MESH),         MESSAGE_OR_NOT("summary"),
};
static const struct rule open_save_request[] = {
    COUNT("session"), /* 0: the agent fills it in */
    NAME("job"),
    NUMBER("generation", 1, INT64_MAX),
    COUNT("step"),
};
static const struct rule open_save_response[] = {
    NUMBER("attempt", 1, INT64_MAX)};
static const struct rule close_save_request[] = {
    COUNT("session"),
    NAME("job"),
    NUMBER("attempt", 1, INT64_MAX),
    LINE("reason", MAX_LINE),
};
static const struct rule vote_request[] = {
    COUNT("session"),    NAME("job"),        NUMBER("attempt", 1, INT64_MAX),
    COUNT("generation"), MESSAGE_OR_NOT("version"),
};
static const struct rule vote_response[] = {
    ENUM_SET("decision"),
    LINE("reason", MAX_LINE),
};

/* host.proto */
static const struct rule mount_report[] = {
    NAME("job"),
    NUMBER("pid", 0, INT32_MAX),
    COUNT("generation"),
    LINE("trouble", MAX_LINE),
};
static const struct rule mount_order[] = {
    COUNT("generation"), BOOL("is_revoked"),        COUNT("load"),
    COUNT("next_step"),  TEXT("request", MAX_LINE), TEXT("layout", MAX_LAYOUT),
};
static const struct rule launch_report[] = {
    NAME("job"),         NUMBER("pid", 0, INT32_MAX), RESTARTS("max_restarts"),
    COUNT("generation"), MESSAGES("ranks", N_RANKS),
};
static const struct rule launch_order[] = {
    ENUM("state"),
    LINE("reason", MAX_LINE),
    COUNT("generation"),
    PATH_OR_NOT("directory"),
    LINE("mesh", MAX_MESH),
    WORLD("world_size"),
    LINE("master_addr", 256),
    PORT("master_port"),
    MESSAGES("ranks", N_RANKS),
    COUNT("load"),
};
static const struct rule launch_rank[] = {
    RANK("rank"),
    RANK("local_rank"),
    DEVICE("device"),
    LINE("device_kind", 32),
    LINE("coords", MAX_MESH),
};
static const struct rule host_status_response[] = {
    NAME("host"),         LINE("coordinator", 4096), BOOL("is_connected"),
    PATH_OR_NOT("store"), MESSAGES("jobs", N_JOBS),
};
static const struct rule host_job[] = {
    MESSAGE_OR_NOT("target"),
    MESSAGE_OR_NOT("status"),
    PATH_OR_NOT("mountpoint"),
    NUMBER("mount_pid", 0, INT32_MAX),
    NUMBER("launcher_pid", 0, INT32_MAX),
};

#define N(rules)   ((unsigned)(sizeof(rules) / sizeof((rules)[0])))
#define PART(name)                /* seen inside others only */ {&retile__v1__##name##__descriptor, name, N(name), REQUEST_BYTES, false}
#define ASKED(name)               PART(name)
#define TOLD(name)                {&retile__v1__##name##__descriptor, name, N(name), WHOLE_BYTES, false}
#define ONE_OF(name, bytes)       {&retile__v1__##name##__descriptor, name, N(name), bytes, true}
#define EMPTY(name)               {&retile__v1__##name##__descriptor, NULL, 0, REQUEST_BYTES, false}

static const struct rule_message messages[] = {
    /* What agents send most stands first. */
    ONE_OF(from_agent, RPC_HELLO_MAX_BYTES),
    PART(renew),
    PART(hello),
    PART(job_status),
    PART(version),
    PART(status_generation),
    PART(rank_status),
    PART(status_attempt),
    PART(status_plan),
    PART(device_report),
    PART(device),
    PART(plan_summary),
    ASKED(open_save_request),
    ASKED(close_save_request),
    ASKED(vote_request),
    TOLD(open_save_response),
    EMPTY(close_save_response),
    TOLD(vote_response),
    ONE_OF(to_agent, WHOLE_BYTES),
    PART(welcome),
    PART(renewed),
    PART(job_target),
    PART(target_generation),
    PART(target_attempt),
    PART(target_plan),
    PART(target_pin),
    PART(placement),
    PART(host),
    PART(job),
    PART(generation),
    PART(attempt),
    PART(change),
    ASKED(submit_job_request),
    TOLD(submit_job_response),
    ASKED(list_jobs_request),
    TOLD(list_jobs_response),
    ASKED(get_job_request),
    TOLD(get_job_response),
    ASKED(remove_job_request),
    EMPTY(remove_job_response),
    ASKED(rescale_request),
    TOLD(rescale_response),
    ASKED(list_versions_request),
    TOLD(list_versions_response),
    ASKED(pin_version_request),
    TOLD(pin_version_response),
    ASKED(release_version_request),
    EMPTY(release_version_response),
    ASKED(rollback_request),
    TOLD(rollback_response),
    ASKED(list_devices_request),
    TOLD(list_devices_response),
    ASKED(drain_device_request),
    TOLD(drain_device_response),
    ASKED(fail_device_request),
    TOLD(fail_device_response),
    ASKED(recover_device_request),
    TOLD(recover_device_response),
    ASKED(forget_host_request),
    EMPTY(forget_host_response),
    ASKED(watch_request),
    TOLD(watch_response),
    PART(event),
    EMPTY(revision_request),
    TOLD(revision_response),
    ASKED(mount_report),
    TOLD(mount_order),
    ASKED(launch_report),
    TOLD(launch_order),
    PART(launch_rank),
    EMPTY(host_status_request),
    TOLD(host_status_response),
    PART(host_job),
};
/* clang-format on */

const struct rule_message *
rule_message_find(const ProtobufCMessageDescriptor *descriptor)
{
    for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
        if (messages[i].descriptor == descriptor) {
            return &messages[i];
        }
    }
    return NULL;
}
