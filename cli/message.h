/* Messages of the API as people and scripts see them. */
#ifndef CLI_MESSAGE_H
#define CLI_MESSAGE_H

#include <jansson.h>
#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

enum { CLI_WORD_BYTES = 32, CLI_TIME_BYTES = 32 };

/* An enum's value as a word: JOB_RUNNING is "running"; "?" for 0 and for what
 * this program does not know.  @text has CLI_WORD_BYTES; returns it. */
const char *
cli_enum_text(const ProtobufCEnumDescriptor *descriptor, int value, char *text);

/* Nanoseconds since 1970 as 2026-11-22T06:43:55Z; "-" for 0.  @text has
 * CLI_TIME_BYTES; returns it. */
const char *cli_time_text(int64_t time_ns, char *text);

/* A message as an object: a field's name is its key, an enum is its word, a
 * message that is not set is null.  A field NAME_ns is the key NAME with a time of
 * day, to the microsecond, null for 0.  NULL: out of memory. */
json_t *cli_message_json(const ProtobufCMessage *message);

/* @n messages as an array. */
json_t *cli_messages_json(ProtobufCMessage *const *messages, size_t n);
/* Of a repeated field: cli_list_json(response, jobs). */
#define cli_list_json(message, field)                                          \
    cli_messages_json((ProtobufCMessage *const *)(message)->field,             \
                      (message)->n_##field)

#endif
