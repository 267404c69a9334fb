/* The rows that proto/check.c walks: proto/rules.c is their one table. */
#ifndef PROTO_RULES_H
#define PROTO_RULES_H

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

enum rule_form {
    RULE_NUMBER,  /* min to max; also of a double, which must be finite */
    RULE_BOOL,    /* either */
    RULE_ENUM,    /* a known value; min 1: not UNSPECIFIED */
    RULE_NAME,    /* of [A-Za-z0-9._-], not beginning with a dot or a dash */
    RULE_ID,      /* printable ASCII without blanks */
    RULE_HEX,     /* lower-case hexadecimal digits */
    RULE_LINE,    /* UTF-8 without control characters */
    RULE_TEXT,    /* UTF-8; of control characters, newline and tab */
    RULE_PATH,    /* as a line, beginning with a slash */
    RULE_VERSION, /* "JOB" or "JOB@7" */
    RULE_MESSAGE, /* min 1: must be there */
};

/* A text that may be empty has min 0 and, when it is not, the form. */
struct rule {
    const char *field;
    enum rule_form form;
    int64_t min; /* of a number; bytes of a text */
    int64_t max;
    uint32_t items; /* of a list, the most; 0: no list */
};

struct rule_message {
    const ProtobufCMessageDescriptor *descriptor;
    const struct rule *rules; /* in the order of the descriptor's fields */
    unsigned n_rules;
    uint32_t max_bytes; /* of a whole one, packed */
    bool has_one;       /* one member of its oneof must be set */
};

/* NULL: a message that no row is about. */
const struct rule_message *
rule_message_find(const ProtobufCMessageDescriptor *descriptor);

#endif
