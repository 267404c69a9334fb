/* What votes are made of: for vote*.c, change*.c and who goes over staging/. */
#ifndef STORE_VOTE_PRIV_H
#define STORE_VOTE_PRIV_H

#include "base/str.h"
#include "ptc/manifest.h"
#include "store/vote.h"

/* Of a vote's file: 700,000 files that a save adopts. */
#define STORE_VOTE_MAX_BYTES ((size_t)64 << 20)

/* A file that was adopted: the blob that it is, and what is compared before it
 * is published. */
struct store_vote_adopted {
    struct ptc_blob_name blob;
    uint64_t ino;
    uint64_t n_bytes;
    uint64_t mtime_s; /* wall clock, since 1970 */
    uint32_t mtime_ns;
};

/* The file `vote`. */
struct store_vote_file {
    struct store_vote vote;
    BASE_VEC(struct store_vote_adopted) adopted;
};

static inline void store_vote_file_done(struct store_vote_file *file)
{
    base_vec_done(&file->adopted);
}

#define STORE_AUTO_VOTE_FILE                                                   \
    __attribute__((cleanup(store_vote_file_done))) struct store_vote_file

/* Append the text.  Errors: BASE_LIMIT, BASE_NO_MEM */
enum base_code store_vote_format(const struct store_vote_file *file,
                                 struct base_buf *text,
                                 struct base_err *err) BASE_MUST_CHECK;
/* *ret is empty.  Errors: BASE_BAD_INPUT, naming @origin and the line;
 * BASE_NO_MEM */
enum base_code store_vote_parse(struct base_str text,
                                const char *origin,
                                struct store_vote_file *ret,
                                struct base_err *err) BASE_MUST_CHECK;

/* Can there be a vote of that job and number?  Errors: BASE_BAD_ARG */
enum base_code store_vote_check_name(const char *job,
                                     uint64_t number,
                                     struct base_err *err) BASE_MUST_CHECK;
/* "staging/vote.JOB.NUMBER" + @file, given; NULL when memory is short. */
char *store_vote_path(const char *job, uint64_t number, const char *file);
/* Is @name, in staging/, one that a vote may have?  Job and number are set. */
bool store_vote_name_parse(const char *name, struct store_vote *ret);
/* Has the directory at @path ("staging/vote.JOB.NUMBER") its vote? */
enum base_code store_vote_is_cast(const struct store_root *root,
                                  const char *path,
                                  bool *ret,
                                  struct base_err *err) BASE_MUST_CHECK;
/* Remove what lies at @path, unless it is a vote that waits.  Needs the lock. */
enum base_code store_vote_clear(const struct store_root *root,
                                const char *path,
                                struct base_err *err) BASE_MUST_CHECK;

/* The file of a vote.  *ret is empty.
 * Errors: BASE_NOT_FOUND, BASE_BAD_INPUT, BASE_NO_MEM, BASE_IO */
enum base_code store_vote_read(const struct store_root *root,
                               const char *job,
                               uint64_t number,
                               struct store_vote_file *ret,
                               struct base_err *err) BASE_MUST_CHECK;

/* Was @attempt made already, as a vote or a version?  Then *ret_number is its
 * number, and it is on disk; else 0, as without an attempt (NULL, or 0).
 * @step: UINT64_MAX: any.
 * Errors: BASE_CHANGED  it was made as something else */
enum base_code store_vote_find(const struct store_root *root,
                               const char *job,
                               const struct store_attempt *attempt,
                               const char *origin,
                               uint64_t step,
                               uint64_t *ret_number,
                               struct base_err *err) BASE_MUST_CHECK;

#endif
