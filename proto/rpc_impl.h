/* What the files of the layer share; for proto/rpc*.c alone. */
#ifndef PROTO_RPC_IMPL_H
#define PROTO_RPC_IMPL_H

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <pthread.h>

#include "base/str.h"
#include "proto/rpc.h"

enum {
    RPC_MAX_MESSAGE_BYTES = 4 << 20, /* of a request */
    RPC_MAX_ANSWER_BYTES = 64 << 20,
    RPC_SEND_HIGH_BYTES = 256 << 10,
    RPC_SEND_MAX_BYTES = 8 << 20,
    /* What core may hold for a server: it looks at a message's size when it has
     * the whole of it, so this is what bounds one that is too large. */
    RPC_QUOTA_BYTES = 512 << 20,
    RPC_KEEPALIVE_MS = 20000,
    RPC_KEEPALIVE_TIMEOUT_MS = 10000,
};

/* Core. */

void rpc_init(void); /* counted: each needs a rpc_done */
void rpc_done(void);
void rpc_raise_files(void); /* soft limit of open files to the hard one */
grpc_arg rpc_arg_int(const char *key, int value); /* keys, texts: borrowed */
grpc_arg rpc_arg_text(const char *key, const char *text);
int64_t rpc_now_ns(void);
gpr_timespec rpc_after_ns(int64_t ns);
bool rpc_thread_start(pthread_t *ret,
                      const char *name,
                      void *(*run)(void *ctx),
                      void *ctx);
void rpc_cond_init(pthread_cond_t *cond); /* of the monotonic clock */
/* False: the time has come. */
bool rpc_cond_wait_until(pthread_cond_t *cond,
                         pthread_mutex_t *lock,
                         int64_t until_ns);

/* The text that core takes for an address: it reads URIs, so the bytes of a
 * socket's path are escaped. */
struct rpc_uri {
    char text[5 + 3 * RPC_HOST_BYTES + 1];
};
struct rpc_uri rpc_address_uri(const struct rpc_address *address,
                               const char *text);

/* What an operation is known by on a queue: it stands in the object it
 * belongs to, one for each operation that can be under way at a time. */
struct rpc_tag {
    void (*run)(struct rpc_tag *tag, bool is_ok);
};
#define rpc_container(tag, type, field)                                        \
    ((type *)(void *)((char *)(tag)-offsetof(type, field)))

/* Core is not instrumented, so ThreadSanitizer does not see that what was
 * written before a batch began is read after it has completed.  It is told. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RPC_HAS_TSAN 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define RPC_HAS_TSAN 1
#endif
#ifdef RPC_HAS_TSAN
void __tsan_acquire(void *addr);
void __tsan_release(void *addr);
#define rpc_hand_over(tag) __tsan_release(tag)
#define rpc_take_over(tag) __tsan_acquire(tag)
#else
#define rpc_hand_over(tag) (void)(tag)
#define rpc_take_over(tag) (void)(tag)
#endif

/* What a call has still to send: a list of packed messages with a bound on
 * bytes.  One is under way at a time and stays the first until it has gone.
 * Guarded by the lock of the call. */
struct rpc_outbox_item;
struct rpc_outbox {
    struct rpc_outbox_item *first;
    struct rpc_outbox_item *last;
    size_t n_bytes;
    size_t high_bytes;
    size_t max_bytes;
    bool was_full;
};
void rpc_outbox_init(struct rpc_outbox *outbox,
                     size_t high_bytes,
                     size_t max_bytes);
/* RPC_SENT_NOT: the bound is reached, or there is no memory. */
enum rpc_sent rpc_outbox_add(struct rpc_outbox *outbox,
                             struct rpc_packed *packed);
struct rpc_packed *rpc_outbox_first(const struct rpc_outbox *outbox);
bool rpc_outbox_has_more(const struct rpc_outbox *outbox); /* than one */
/* The first has gone.  True: it was full, and no longer is. */
bool rpc_outbox_pop(struct rpc_outbox *outbox);
void rpc_outbox_clear(struct rpc_outbox *outbox);

/* Certificates of a client.  *ret is given.
 * Errors: BASE_BAD_ARG, BASE_NOT_FOUND, BASE_BAD_INPUT, BASE_IO */
enum base_code rpc_tls_client(const struct rpc_tls *tls,
                              grpc_channel_credentials **ret,
                              struct base_err *err) BASE_MUST_CHECK;

/* Statuses. */

/* @text is cut to fit and made one line. */
void rpc_status_set(struct rpc_status *status,
                    enum rpc_code code,
                    const char *text);
/* What came from the wire; @text is borrowed. */
void rpc_status_take(struct rpc_status *status,
                     grpc_status_code code,
                     grpc_slice text);

/* Messages. */

size_t rpc_packed_bytes(const struct rpc_packed *packed);
/* Given: grpc_byte_buffer_destroy. */
grpc_byte_buffer *rpc_packed_buffer(struct rpc_packed *packed);
/* Decode and check; @buffer is borrowed, *ret given (rpc_message_free).
 * Errors: BASE_BAD_INPUT, and the check's */
enum base_code rpc_message_read(const ProtobufCMessageDescriptor *descriptor,
                                rpc_check_fn check,
                                grpc_byte_buffer *buffer,
                                ProtobufCMessage **ret,
                                struct base_err *err) BASE_MUST_CHECK;

#endif
