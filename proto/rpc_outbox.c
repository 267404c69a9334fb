/* What a call has still to send, as proto/rpc_impl.h describes. */
#include <stdlib.h>

#include "proto/rpc_impl.h"

/* What an item costs beside its bytes, so that empty messages are bounded. */
enum { ITEM_BYTES = 128 };

struct rpc_outbox_item {
    struct rpc_outbox_item *next;
    struct rpc_packed *packed;
};

void rpc_outbox_init(struct rpc_outbox *outbox,
                     size_t high_bytes,
                     size_t max_bytes)
{
    *outbox = (struct rpc_outbox){
        .high_bytes = high_bytes != 0 ? high_bytes : RPC_SEND_HIGH_BYTES,
        .max_bytes = max_bytes != 0 ? max_bytes : RPC_SEND_MAX_BYTES,
    };
}

enum rpc_sent rpc_outbox_add(struct rpc_outbox *outbox,
                             struct rpc_packed *packed)
{
    const size_t n = rpc_packed_bytes(packed) + ITEM_BYTES;
    struct rpc_outbox_item *item;

    /* A message that is larger goes alone: nobody reads too slowly then. */
    if (outbox->first != NULL && outbox->n_bytes + n > outbox->max_bytes) {
        return RPC_SENT_NOT;
    }
    item = malloc(sizeof(*item));
    if (item == NULL) {
        return RPC_SENT_NOT;
    }
    *item = (struct rpc_outbox_item){NULL, rpc_packed_ref(packed)};
    if (outbox->first == NULL) {
        outbox->first = item;
    } else {
        outbox->last->next = item;
    }
    outbox->last = item;
    outbox->n_bytes += n;
    if (outbox->n_bytes > outbox->high_bytes) {
        outbox->was_full = true;
        return RPC_SENT_FULL;
    }
    return RPC_SENT;
}

struct rpc_packed *rpc_outbox_first(const struct rpc_outbox *outbox)
{
    return outbox->first == NULL ? NULL : outbox->first->packed;
}

bool rpc_outbox_has_more(const struct rpc_outbox *outbox)
{
    return outbox->first != NULL && outbox->first->next != NULL;
}

bool rpc_outbox_pop(struct rpc_outbox *outbox)
{
    struct rpc_outbox_item *item = outbox->first;

    if (item == NULL) {
        return false; /* it was cleared meanwhile */
    }
    outbox->first = item->next;
    outbox->n_bytes -= rpc_packed_bytes(item->packed) + ITEM_BYTES;
    rpc_packed_unref(item->packed);
    free(item);
    if (!outbox->was_full || outbox->n_bytes > outbox->high_bytes / 2) {
        return false;
    }
    outbox->was_full = false;
    return true;
}

void rpc_outbox_clear(struct rpc_outbox *outbox)
{
    while (outbox->first != NULL) {
        (void)rpc_outbox_pop(outbox);
    }
}
