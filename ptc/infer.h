/* Global shapes out of shards: a table for files that do not say where their
 * parts lie, from a spec and what each rank's files show.
 *
 * A shape is accepted only when it is the one solution of the rule's cuts:
 * a dimension that nothing cuts is what all ranks agree on; a cut one is the
 * sum of its distinct parts, all of which must have been seen.  Where units may
 * repeat over ranks, and in flats, shards do not determine the whole: refused,
 * with the reason.  The caller binds the layout afterwards and compares every
 * shard with it, which proves the solution.  Pure. */
#ifndef PTC_INFER_H
#define PTC_INFER_H

#include "ptc/dtype.h"
#include "ptc/layout.h"
#include "ptc/spec.h"
#include "ptc/table.h"

/* One tensor in one rank's files. */
struct ptc_seen {
    struct base_str name;
    struct base_str group;
    ptc_rank rank;
    enum ptc_dtype dtype;
    uint32_t n_dims;
    const uint64_t *shape; /* of the shard */
};

/* Infer every tensor of @seen (which is put into order of name and rank) and
 * add it to @builder.  @known is a table of tensors whose shapes are known
 * already, for `optim.STATE.P` of them; may be NULL.
 * Errors: BASE_MISMATCH  ranks that disagree in dtype or shape (both named), a
 *                        tensor that no rule matches
 *         BASE_BAD_ARG   shapes that shards do not determine; --table does
 *         BASE_LIMIT, BASE_NO_MEM */
enum base_code ptc_infer(const struct ptc_spec *spec,
                         struct ptc_seen *seen,
                         size_t n_seen,
                         const struct ptc_table *known,
                         struct ptc_table_builder *builder,
                         struct base_err *err) BASE_MUST_CHECK;

#endif
