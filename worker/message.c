#include "worker/message.h"

#include <stdlib.h>

enum base_code worker_message_pack(const ProtobufCMessage *message,
                                   struct base_buf *buf,
                                   struct base_err *err)
{
    const size_t n = protobuf_c_message_get_packed_size(message);
    BASE_AUTO_MEM uint8_t *bytes = malloc(n + 1);

    if (bytes == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot allocate a message");
    }
    (void)protobuf_c_message_pack(message, bytes);
    buf->len = 0;
    (void)base_buf_add(buf, bytes, n); /* sticky */
    return base_buf_check(buf, err);
}
