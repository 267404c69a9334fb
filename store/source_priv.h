/* What a source is made of: for its backends and for targets, not for callers
 * of store/source.h. */
#ifndef STORE_SOURCE_PRIV_H
#define STORE_SOURCE_PRIV_H

#include "store/root.h"
#include "store/source.h"

struct store_object {
    struct base_str name; /* in the source's arena, NUL-terminated */
    ptc_rank rank;        /* PTC_NONE: the job's */
    uint32_t blob;
};

/* Bytes of its own that a tied tensor has, where no file says that it is tied:
 * nobody has compared them yet. */
struct store_tied {
    uint32_t tensor; /* the tie */
    struct ptc_piece piece;
};

struct store_source {
    enum store_form form;
    char *path;
    struct base_arena *arena;      /* names and labels */
    struct ptc_table *table;       /* NULL: lent_table */
    struct store_version *version; /* which lends the table, else NULL */
    const struct ptc_table *lent_table;
    struct ptc_layout *layout; /* NULL when pieces are explicit */
    struct ptc_pieces *pieces;
    struct ptc_pieces *replicas;
    BASE_VEC(struct store_tied) tied;  /* the lowest rank's copy */
    BASE_VEC(struct store_blob) blobs; /* of tensors and of objects */
    BASE_VEC(struct store_object)
    objects; /* by name, then rank; PTC_NONE is
                                              the last rank */
    BASE_VEC(const char *) ignored;
};

/* An empty source for @path; its path is set. */
enum base_code store_source_create(const char *path,
                                   struct store_source **ret,
                                   struct base_err *err) BASE_MUST_CHECK;

/* A source keeps all its files open; 1024, the usual soft limit, is soon
 * passed: raise it to the hard limit. */
void store_raise_open_files(void);

/* Put objects in order, for store_source_object. */
void store_source_sort_objects(struct store_source *source);

/* Has it an object of that name, the job's or a rank's?  They are in order. */
bool store_source_has_object(const struct store_source *source,
                             struct base_str name);

/* Objects in order. */
uint32_t store_source_n_objects(const struct store_source *source);
const struct store_object *
store_source_object_at(const struct store_source *source, uint32_t idx);

/* A manifest's layout, which must be one of @table; given.  @label names the
 * manifest in errors.
 * Errors: BASE_BAD_INPUT, BASE_LIMIT, BASE_NO_MEM */
enum base_code store_manifest_layout(const struct ptc_manifest *manifest,
                                     const struct ptc_table *table,
                                     const char *label,
                                     struct ptc_layout **ret,
                                     struct base_err *err) BASE_MUST_CHECK;

#endif
