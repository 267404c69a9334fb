/* Messages as values: what one has to do with generated structs everywhere. */
#ifndef WORKER_MESSAGE_H
#define WORKER_MESSAGE_H

#include <retile/v1/host.pb-c.h>

#include "base/err.h"
#include "base/str.h"

/* Put the message's bytes into @buf, whose old ones are dropped. */
enum base_code worker_message_pack(const ProtobufCMessage *message,
                                   struct base_buf *buf,
                                   struct base_err *err) BASE_MUST_CHECK;

#endif
