/* A walk over a message by its descriptor, each field beside its row of
 * proto/rules.c.  Message types do not contain themselves, so its depth is
 * bounded; what it may visit is bounded by the message's packed size, which is
 * looked at first. */
#include "proto/check.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "base/str.h"
#include "proto/rules.h"

/* What an error shows of a text. */
enum { SHOWN_BYTES = 64 };

/* Where we are: for errors. */
struct spot {
    const ProtobufCMessageDescriptor *message;
    const ProtobufCFieldDescriptor *field;
};

static enum base_code check_message(const ProtobufCMessage *message,
                                    struct base_err *err);

#define SPOT            "%s.%s"
#define SPOT_ARGS(spot) (spot)->message->short_name, (spot)->field->name

static enum base_code check_number(const struct spot *spot,
                                   const struct rule *rule,
                                   const void *at,
                                   struct base_err *err)
{
    int64_t value;

    switch (spot->field->type) {
    case PROTOBUF_C_TYPE_INT32:
        value = *(const int32_t *)at;
        break;
    case PROTOBUF_C_TYPE_UINT32:
        value = *(const uint32_t *)at;
        break;
    case PROTOBUF_C_TYPE_INT64:
        value = *(const int64_t *)at;
        break;
    case PROTOBUF_C_TYPE_UINT64: {
        uint64_t wide = *(const uint64_t *)at;

        if (wide > INT64_MAX) {
            return base_fail(err, BASE_BAD_ARG,
                             SPOT " is %" PRIu64 ", at most %" PRId64,
                             SPOT_ARGS(spot), wide, rule->max);
        }
        value = (int64_t)wide;
        break;
    }
    case PROTOBUF_C_TYPE_DOUBLE: {
        double real = *(const double *)at;

        if (!isfinite(real) || real < (double)rule->min ||
            real > (double)rule->max) {
            return base_fail(err, BASE_BAD_ARG,
                             SPOT " is %g, not of %" PRId64 " to %" PRId64,
                             SPOT_ARGS(spot), real, rule->min, rule->max);
        }
        return BASE_OK;
    }
    default:
        return base_fail(err, BASE_BAD_ARG,
                         SPOT " is of a type that no rule knows",
                         SPOT_ARGS(spot));
    }
    if (value < rule->min || value > rule->max) {
        return base_fail(err, BASE_BAD_ARG,
                         SPOT " is %" PRId64 ", not of %" PRId64 " to %" PRId64,
                         SPOT_ARGS(spot), value, rule->min, rule->max);
    }
    return BASE_OK;
}

static enum base_code check_enum(const struct spot *spot,
                                 const struct rule *rule,
                                 int value,
                                 struct base_err *err)
{
    if (protobuf_c_enum_descriptor_get_value(spot->field->descriptor, value) ==
        NULL) {
        return base_fail(
            err, BASE_BAD_ARG, SPOT " is %d, which is none of %s",
            SPOT_ARGS(spot), value,
            ((const ProtobufCEnumDescriptor *)spot->field->descriptor)
                ->short_name);
    }
    if (value == 0 && rule->min > 0) {
        return base_fail(err, BASE_BAD_ARG, SPOT " is not set",
                         SPOT_ARGS(spot));
    }
    return BASE_OK;
}

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9');
}

static bool is_name(struct base_str s)
{
    if (s.len == 0 || s.len > 128 || s.ptr[0] == '.' || s.ptr[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        if (!is_alnum(s.ptr[i]) && strchr("._-", s.ptr[i]) == NULL) {
            return false;
        }
    }
    return true;
}

static bool is_version(struct base_str s)
{
    const char *at = memchr(s.ptr, '@', s.len);
    struct base_str number;
    uint64_t value;

    if (at == NULL) {
        return is_name(s);
    }
    number = (struct base_str){at + 1, (size_t)(s.ptr + s.len - at - 1)};
    s.len = (size_t)(at - s.ptr);
    return is_name(s) && base_parse_u64(number, &value) && value > 0 &&
           value <= INT64_MAX;
}

/* Every byte of @s is a printable ASCII one, or, in a text, above ASCII, a
 * newline or a tab. */
static bool bytes_are(struct base_str s, enum rule_form form)
{
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        bool is_good;

        switch (form) {
        case RULE_HEX:
            is_good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
            break;
        case RULE_ID:
            is_good = c > ' ' && c < 0x7f;
            break;
        case RULE_TEXT:
            is_good = c == '\n' || c == '\t' || (c >= ' ' && c != 0x7f);
            break;
        default:
            is_good = c >= ' ' && c != 0x7f;
        }
        if (!is_good) {
            return false;
        }
    }
    return true;
}

/* NULL: @s, which is UTF-8 and not empty, has the form; else what that is. */
static const char *form_missed(struct base_str s, enum rule_form form)
{
    switch (form) {
    case RULE_NAME:
        return is_name(s) ? NULL
                          : "a name: letters, digits, '.', '_', '-', beginning "
                            "with none of '.' and '-'";
    case RULE_ID:
        return bytes_are(s, form) ? NULL : "printable ASCII without blanks";
    case RULE_HEX:
        return bytes_are(s, form) ? NULL : "lower-case hexadecimal digits";
    case RULE_LINE:
        return bytes_are(s, form) ? NULL
                                  : "one line without control characters";
    case RULE_TEXT:
        return bytes_are(s, form) ? NULL : "text without control characters";
    case RULE_PATH:
        return bytes_are(s, form) && s.ptr[0] == '/' ? NULL
                                                     : "an absolute path";
    case RULE_VERSION:
        return is_version(s) ? NULL : "a version: JOB, or JOB@7";
    case RULE_NUMBER:
    case RULE_BOOL:
    case RULE_ENUM:
    case RULE_MESSAGE:
        break;
    }
    return "a text";
}

static enum base_code check_text(const struct spot *spot,
                                 const struct rule *rule,
                                 const char *text,
                                 struct base_err *err)
{
    struct base_str s = base_str_of(text == NULL ? "" : text);
    const char *missed;
    size_t shown;

    if (s.len == 0 && rule->min > 0) {
        return base_fail(err, BASE_BAD_ARG, SPOT " is not set",
                         SPOT_ARGS(spot));
    }
    if (s.len == 0) {
        return BASE_OK;
    }
    if (s.len < (size_t)rule->min || s.len > (size_t)rule->max) {
        return base_fail(err, BASE_BAD_ARG,
                         SPOT " has %zu bytes, not %" PRId64 " to %" PRId64,
                         SPOT_ARGS(spot), s.len, rule->min, rule->max);
    }
    if (!base_str_is_utf8(s)) {
        return base_fail(err, BASE_BAD_ARG, SPOT " is not UTF-8",
                         SPOT_ARGS(spot));
    }
    missed = form_missed(s, rule->form);
    if (missed == NULL) {
        return BASE_OK;
    }
    /* Cut between characters. */
    for (shown = s.len < SHOWN_BYTES ? s.len : SHOWN_BYTES;
         shown < s.len && ((unsigned char)s.ptr[shown] & 0xc0) == 0x80;) {
        shown--;
    }
    return base_fail(err, BASE_BAD_ARG, SPOT " is '%.*s%s', not %s",
                     SPOT_ARGS(spot), (int)shown, s.ptr,
                     shown < s.len ? "..." : "", missed);
}

/* One value of the field, at @at. */
static enum base_code check_value(const struct spot *spot,
                                  const struct rule *rule,
                                  const void *at,
                                  struct base_err *err)
{
    switch (rule->form) {
    case RULE_BOOL:
        return BASE_OK;
    case RULE_NUMBER:
        return check_number(spot, rule, at, err);
    case RULE_ENUM:
        return check_enum(spot, rule, *(const int *)at, err);
    case RULE_MESSAGE: {
        const ProtobufCMessage *inner = *(ProtobufCMessage *const *)at;

        if (inner == NULL && rule->min > 0) {
            return base_fail(err, BASE_BAD_ARG, SPOT " is not set",
                             SPOT_ARGS(spot));
        }
        return inner == NULL ? BASE_OK : check_message(inner, err);
    }
    case RULE_NAME:
    case RULE_ID:
    case RULE_HEX:
    case RULE_LINE:
    case RULE_TEXT:
    case RULE_PATH:
    case RULE_VERSION:
        break;
    }
    return check_text(spot, rule, *(char *const *)at, err);
}

static size_t item_bytes(const ProtobufCFieldDescriptor *field)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return sizeof(uint64_t);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_ENUM:
        return sizeof(uint32_t);
    default:
        return sizeof(void *);
    }
}

static enum base_code check_list(const struct spot *spot,
                                 const struct rule *rule,
                                 const char *base,
                                 struct base_err *err)
{
    const size_t n =
        *(const size_t *)(const void *)(base + spot->field->quantifier_offset);
    const char *items =
        *(char *const *)(const void *)(base + spot->field->offset);
    const size_t step = item_bytes(spot->field);

    if (n > rule->items) {
        return base_fail(err, BASE_BAD_ARG, SPOT " has %zu items, at most %u",
                         SPOT_ARGS(spot), n, rule->items);
    }
    for (size_t i = 0; i < n; i++) {
        BASE_TRY(check_value(spot, rule, items + i * step, err));
    }
    return BASE_OK;
}

static enum base_code check_message(const ProtobufCMessage *message,
                                    struct base_err *err)
{
    const ProtobufCMessageDescriptor *descriptor = message->descriptor;
    const struct rule_message *rules = rule_message_find(descriptor);
    const char *base = (const char *)message;
    bool has_one = false;

    if (rules == NULL || rules->n_rules != descriptor->n_fields) {
        return base_fail(err, BASE_BAD_ARG, "no rules for %s",
                         descriptor->name);
    }
    /* Fields that a later version has are passed over; none is number 0, which
     * could not be packed again. */
    for (unsigned i = 0; i < message->n_unknown_fields; i++) {
        if (message->unknown_fields[i].tag == 0) {
            return base_fail(err, BASE_BAD_ARG, "%s has a field of number 0",
                             descriptor->short_name);
        }
    }
    for (unsigned i = 0; i < descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
        const struct spot spot = {descriptor, field};

        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            BASE_TRY(check_list(&spot, &rules->rules[i], base, err));
            continue;
        }
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
            uint32_t chosen =
                *(const uint32_t *)(const void *)(base +
                                                  field->quantifier_offset);

            if (chosen != field->id) {
                continue; /* the bytes are another field's */
            }
            has_one = true;
        }
        BASE_TRY(
            check_value(&spot, &rules->rules[i], base + field->offset, err));
    }
    if (rules->has_one && !has_one) {
        return base_fail(err, BASE_BAD_ARG, "%s has nothing that is known",
                         descriptor->short_name);
    }
    return BASE_OK;
}

enum base_code rpc_check(const ProtobufCMessage *message, struct base_err *err)
{
    const struct rule_message *rules = rule_message_find(message->descriptor);
    size_t n;

    if (rules == NULL) {
        return base_fail(err, BASE_BAD_ARG, "no rules for %s",
                         message->descriptor->name);
    }
    n = protobuf_c_message_get_packed_size(message);
    if (n > rules->max_bytes) {
        return base_fail(err, BASE_BAD_ARG, "%s has %zu bytes, at most %u",
                         message->descriptor->short_name, n, rules->max_bytes);
    }
    return check_message(message, err);
}
