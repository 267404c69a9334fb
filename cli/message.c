#include "cli/message.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

const char *
cli_enum_text(const ProtobufCEnumDescriptor *descriptor, int value, char *text)
{
    const ProtobufCEnumValue *found =
        value == 0 ? NULL
                   : protobuf_c_enum_descriptor_get_value(descriptor, value);
    const char *name = found == NULL ? NULL : strchr(found->name, '_');
    size_t n = 0;

    if (name == NULL) {
        text[n++] = '?';
    }
    for (name = name == NULL ? "" : name + 1;
         *name != '\0' && n + 1 < CLI_WORD_BYTES; name++) {
        text[n++] = (char)tolower((unsigned char)*name);
    }
    text[n] = '\0';
    return text;
}

const char *cli_time_text(int64_t time_ns, char *text)
{
    time_t seconds = (time_t)(time_ns / 1000000000);
    struct tm tm;

    if (time_ns == 0 || gmtime_r(&seconds, &tm) == NULL ||
        strftime(text, CLI_TIME_BYTES, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0) {
        return "-";
    }
    return text;
}

/* To the microsecond: what took how long is read from differences. */
static json_t *time_json(int64_t time_ns)
{
    char text[CLI_TIME_BYTES];
    const char *whole = cli_time_text(time_ns, text);

    return time_ns == 0 ? json_null()
                        : json_sprintf("%.19s.%06dZ", whole,
                                       (int)(time_ns / 1000 % 1000000));
}

/* One value, at @at, of a field's type. */
static json_t *value_json(const ProtobufCFieldDescriptor *field, const void *at)
{
    char word[CLI_WORD_BYTES];

    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return json_integer(*(const int32_t *)at);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return json_integer(*(const uint32_t *)at);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return json_integer((json_int_t) * (const int64_t *)at);
    case PROTOBUF_C_TYPE_FLOAT:
        return json_real((double)*(const float *)at);
    case PROTOBUF_C_TYPE_DOUBLE:
        return json_real(*(const double *)at);
    case PROTOBUF_C_TYPE_BOOL:
        return json_boolean(*(const protobuf_c_boolean *)at);
    case PROTOBUF_C_TYPE_ENUM:
        return json_string(
            cli_enum_text(field->descriptor, *(const int *)at, word));
    case PROTOBUF_C_TYPE_STRING:
        return cli_json_text(*(const char *const *)at);
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(const ProtobufCMessage *const *)at == NULL
                   ? json_null()
                   : cli_message_json(*(const ProtobufCMessage *const *)at);
    case PROTOBUF_C_TYPE_BYTES: /* this API has none */
        return json_null();
    }
    return json_null();
}

static size_t item_bytes(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    }
    return sizeof(void *);
}

static json_t *field_json(const ProtobufCMessage *message,
                          const ProtobufCFieldDescriptor *field)
{
    const char *base = (const char *)message;
    const char *items;
    size_t n;
    json_t *list;

    if (field->label != PROTOBUF_C_LABEL_REPEATED) {
        return value_json(field, base + field->offset);
    }
    n = *(const size_t *)(const void *)(base + field->quantifier_offset);
    items = *(const char *const *)(const void *)(base + field->offset);
    list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(
                list, value_json(field, items + i * item_bytes(field->type))) !=
            0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *cli_message_json(const ProtobufCMessage *message)
{
    json_t *object = json_object();

    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        size_t n = strlen(field->name);
        char key[64];
        json_t *value;

        if (n > 3 && strcmp(field->name + n - 3, "_ns") == 0 &&
            field->type == PROTOBUF_C_TYPE_INT64) {
            n -= 3;
            value = time_json(
                *(const int64_t *)(const void *)((const char *)message +
                                                 field->offset));
        } else {
            value = field_json(message, field);
        }
        (void)snprintf(key, sizeof(key), "%.*s", (int)n, field->name);
        if (json_object_set_new(object, key, value) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

json_t *cli_messages_json(ProtobufCMessage *const *messages, size_t n)
{
    json_t *list = json_array();

    for (size_t i = 0; i < n; i++) {
        if (json_array_append_new(list, cli_message_json(messages[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}
