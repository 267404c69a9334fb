/* A problem's digest, and the usual allocation.
 *
 * The digest is of the problem's content, in words of 32 bits, little-endian:
 * the table's digest, the target spec's, the allocation, then the holdings.
 * It is computed over a bounded buffer: whenever that is full, its digest
 * replaces its bytes. */
#include <inttypes.h>

#include "base/num.h"
#include "base/str.h"
#include "ptc/plan.h"

#define FOLD_BYTES (64u << 10)

void ptc_ranks_in_blocks(uint32_t n_ranks, uint32_t n_hosts, uint32_t *ret_host)
{
    uint64_t block = base_max_u64(1, base_ceil_div(n_ranks, n_hosts));

    for (uint32_t r = 0; r < n_ranks; r++) {
        ret_host[r] = (uint32_t)(r / block);
    }
}

static void put_digest(struct base_buf *buf, struct base_digest digest)
{
    (void)base_buf_add(buf, digest.bytes, sizeof(digest.bytes)); /* sticky */
}

static void put_u32(struct base_buf *buf, uint32_t word)
{
    const unsigned char bytes[4] = {
        (unsigned char)word,
        (unsigned char)(word >> 8),
        (unsigned char)(word >> 16),
        (unsigned char)(word >> 24),
    };

    if (buf->len >= FOLD_BYTES) {
        struct base_digest digest = base_digest_of(buf->ptr, buf->len);

        buf->len = 0;
        put_digest(buf, digest);
    }
    (void)base_buf_add(buf, bytes, sizeof(bytes)); /* sticky */
}

static void put_u64(struct base_buf *buf, uint64_t word)
{
    put_u32(buf, (uint32_t)word);
    put_u32(buf, (uint32_t)(word >> 32));
}

/* Layouts are few and shared by many holdings: remember the last one. */
struct last_layout {
    const struct ptc_layout *layout;
    struct base_digest digest;
};

static enum base_code put_layout(struct base_buf *buf,
                                 const struct ptc_layout *layout,
                                 struct last_layout *last,
                                 struct base_err *err)
{
    if (last->layout != layout) {
        BASE_TRY(ptc_spec_digest(ptc_layout_spec(layout), &last->digest, err));
        last->layout = layout;
    }
    put_digest(buf, last->digest);
    return BASE_OK;
}

static enum base_code put_holding(struct base_buf *buf,
                                  const struct ptc_holding *holding,
                                  struct last_layout *last,
                                  struct base_err *err)
{
    put_u32(buf, holding->host);
    if (holding->layout == NULL) {
        put_u32(buf, 0);
        put_u32(buf, holding->tensor);
        put_u32(buf, holding->box.n_dims);
        for (uint32_t d = 0; d < holding->box.n_dims; d++) {
            put_u64(buf, holding->box.begin[d]);
            put_u64(buf, holding->box.end[d]);
        }
        return BASE_OK;
    }
    put_u32(buf, 1);
    BASE_TRY(put_layout(buf, holding->layout, last, err));
    put_u32(buf, holding->n_ranks);
    for (uint32_t i = 0; i < holding->n_ranks; i++) {
        put_u32(buf, holding->ranks[i]);
    }
    return BASE_OK;
}

enum base_code ptc_problem_digest(const struct ptc_problem *problem,
                                  struct base_digest *ret,
                                  struct base_err *err)
{
    BASE_AUTO_BUF buf;
    struct last_layout last = {0};
    uint32_t n_ranks = ptc_layout_n_ranks(problem->to);

    base_buf_init(&buf, FOLD_BYTES + 1024);
    put_digest(&buf, ptc_table_digest(problem->table));
    BASE_TRY(put_layout(&buf, problem->to, &last, err));
    put_u32(&buf, problem->n_hosts);
    put_u32(&buf, n_ranks);
    for (uint32_t r = 0; r < n_ranks; r++) {
        put_u32(&buf, problem->rank_host[r]);
    }
    put_u32(&buf, problem->n_holdings);
    for (uint32_t i = 0; i < problem->n_holdings; i++) {
        BASE_TRY(put_holding(&buf, &problem->holdings[i], &last, err));
    }
    BASE_TRY(base_buf_check(&buf, err));
    *ret = base_digest_of(buf.ptr, buf.len);
    return BASE_OK;
}
