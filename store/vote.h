/* Votes: changes that are made but for the rename that shows them, which a
 * coordinator decides.
 *
 *   ROOT/staging/vote.JOB.7/version/   the version to be: manifest, lock
 *   ROOT/staging/vote.JOB.7/vote       what it is (docs/formats.md); it comes
 *                                      last, by rename
 *
 * A change that is given an attempt (store_import, store_rescale,
 * store_rollback, store_save_commit) ends in a vote instead of a version.  Its
 * blobs lie in blobs/ and its number is taken (jobs/JOB/last), but nobody sees
 * it.  From then on only the two calls below end it: who takes the lock leaves
 * it alone, the sweep keeps its blobs, any process may die.  Without the file
 * `vote` the directory is what a change that died has left.
 *
 * The attempt's number is that of its version.  A change is refused
 * (BASE_CHANGED) when its job has given a number as high before, so that one
 * attempt makes one vote at most, and one that failed comes again under another
 * number; an aborted attempt leaves a gap.  But who asks for a vote that is
 * there already, or is published, gets its number: asking again is harmless.
 * Two that make one attempt at the same time: the later one is refused, and
 * finds it when it asks again.
 *
 * Staged files that a save's vote has adopted must not be written to before it
 * is decided: they stay writable, so that the save can be mended after an abort.
 * The vote has their sizes and times, which are compared before it is published;
 * then they are sealed.  It does not need their names in staging any more. */
#ifndef STORE_VOTE_H
#define STORE_VOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "store/root.h"

/* One try at a change, numbered by who decides. */
struct store_attempt {
    uint64_t number;     /* from 1; 0: none, the version is published at once */
    uint64_t generation; /* that it is made for, only kept; 0: none */
};

enum {
    STORE_VOTE_JOB_MAX = 230, /* bytes of a job's name that can have votes */
    STORE_VOTE_ORIGIN_MAX = 32,
};

struct store_vote {
    char job[STORE_VOTE_JOB_MAX + 1];
    uint64_t number;     /* of the attempt and of the version */
    uint64_t generation; /* 0: none */
    uint64_t step;       /* UINT64_MAX: not known */
    uint64_t parent;     /* the version it is made from; 0: none */
    struct base_digest manifest;
    char origin[STORE_VOTE_ORIGIN_MAX + 1]; /* "import", "rescale", ... */
    bool is_damaged; /* only job and number are known: it can only be removed */
};

/* All that are not decided, by job and number; *ret is given, free it with
 * free().  Needs no lock: one that is decided meanwhile may be among them. */
enum base_code store_vote_list(const struct store_root *root,
                               struct store_vote **ret,
                               size_t *ret_n,
                               struct base_err *err) BASE_MUST_CHECK;

/* The version that it would be, without its table (store_version_table is NULL).
 * While that is open the vote cannot be removed.
 * Errors: BASE_NOT_FOUND (decided meanwhile), BASE_BAD_INPUT (also: its manifest
 * is gone), BASE_MISMATCH */
enum base_code store_vote_open(const struct store_root *root,
                               const char *job,
                               uint64_t number,
                               struct store_version **ret,
                               struct base_err *err) BASE_MUST_CHECK;

/* Publish: takes the lock, one rename.  BASE_OK when it was published already.
 * Errors: BASE_NOT_FOUND  there is neither such a vote nor such a version
 *         BASE_CHANGED    a staged file was written to since, or is gone
 *         BASE_BAD_INPUT, BASE_MISMATCH  vote or manifest are damaged
 *         (after these three it can only be removed)
 *         BASE_EXISTS     (the lock), BASE_IO: ask again */
enum base_code store_vote_publish(struct store_root *root,
                                  const char *job,
                                  uint64_t number,
                                  struct base_err *err) BASE_MUST_CHECK;

/* Abort: takes the lock, one rename away.  BASE_OK when there is no such vote.
 * Its blobs go with the next sweep.
 * Errors: BASE_BAD_ARG  it was published: release the version instead
 *         BASE_EXISTS   (the lock; or it is open), BASE_IO: ask again */
enum base_code store_vote_remove(struct store_root *root,
                                 const char *job,
                                 uint64_t number,
                                 struct base_err *err) BASE_MUST_CHECK;

#endif
