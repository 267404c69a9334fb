/* A store whose job "j" is being saved: staged directories to write, thin out,
 * damage and commit. */
#ifndef UNIT_STORE_SAVED_H
#define UNIT_STORE_SAVED_H

#include "store/root.h"
#include "store/save.h"
#include "store/source.h"
#include "tests/unit/base/tmp_dir.h"

/* Eight ranks, pp=2, dp=2, tp=2 in this order: rank 3 is pp 0, dp 1, tp 1.
 * a and b are cut over tp, n is on all stages, e on the first, t is tied to
 * e; z is replicated over dp, s a flat over dp. */
#define SAVED_3D                                                               \
    "mesh: {pp: 2, dp: 2, tp: 2}\n"                                            \
    "stages: {axis: pp, layer: 'l(\\d+)'}\n"                                   \
    "flats: {s: {over: [dp]}}\n"                                               \
    "rules:\n"                                                                 \
    "- {match: 'l*.a', dims: [tp], stage: layer}\n"                            \
    "- {match: 'l*.b', dims: [~, tp], stage: layer}\n"                         \
    "- {match: 'x.*', stage: all, optional: true}\n"                           \
    "- {match: n, stage: all}\n"                                               \
    "- {match: e, dims: [tp], stage: first}\n"                                 \
    "- {match: t, dims: [tp], stage: last, tie: e}\n"                          \
    "- {match: 'optim.v.*', flat: s, stage: layer}\n"                          \
    "objects: {'rng.txt': {on_change: copy}, 'dp.txt': {varies: [dp]}}\n"

struct saved {
    struct tmp_dir *dir; /* the store is dir/store */
    struct store_root *root;
    struct store_staging *staging;
    struct ptc_table *table;
    struct ptc_layout *layout;
    struct base_buf told; /* lines: "! " or "- ", text */
    uint64_t n_refusals;
    const char *spec;             /* of saves without a parent */
    void (*hook)(void);           /* called at each line, perhaps */
    struct store_attempt attempt; /* of commits from here on */
};

/* Setup and teardown of a test whose state is a struct saved. */
int saved_make(void **state);
int saved_remove(void **state);
#define saved_test(test)                                                       \
    cmocka_unit_test_setup_teardown(test, saved_make, saved_remove)

/* "DIR/" and the formatted rest; valid until the eighth call from here. */
const char *saved_at(const struct saved *saved, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The path of step @step in staging and the formatted rest. */
const char *
saved_in(const struct saved *saved, uint64_t step, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Write all that SAVED_3D's ranks have as step @step into staging. */
void saved_write(const struct saved *saved, uint64_t step);
/* The same as a directory of its own, "DIR/whole": what a version must be. */
void saved_write_whole(const struct saved *saved);
void saved_put(const char *path, const char *text);
void saved_unlink(const char *path);
/* Change byte @at from the end of a file. */
void saved_flip(const char *path, uint64_t at);

/* Commit, with what is told in saved->told. */
enum base_code saved_commit(struct saved *saved,
                            uint64_t step,
                            uint64_t parent,
                            enum store_replicas replicas,
                            uint64_t *ret_number,
                            struct base_err *err);
uint64_t saved_must_commit(struct saved *saved, uint64_t step, uint64_t parent);
/* It is refused, @words are told (NULL: any), and nothing has changed. */
void saved_must_refuse(struct saved *saved,
                       uint64_t step,
                       uint64_t parent,
                       const char *words);
bool saved_was_told(const struct saved *saved, const char *words);

/* A version has exactly the bytes of "DIR/whole". */
void saved_must_equal(const struct saved *saved, uint64_t number);
/* fsck and scrub find nothing. */
void saved_must_be_sound(const struct saved *saved);
/* Names, modes, sizes and bytes of all that lies below @path, as text; given. */
char *saved_picture(const char *path);
/* What a job's or a rank's object has (PTC_NONE), as text; given; NULL: it is
 * not there. */
char *saved_object(const struct saved *saved,
                   uint64_t number,
                   const char *name,
                   uint32_t rank);
/* store_save_finish with a root of its own. */
enum base_code saved_finish(struct saved *saved,
                            uint64_t step,
                            enum store_replicas replicas,
                            uint64_t number,
                            struct base_err *err);
uint64_t saved_n_versions(const struct saved *saved);

/* Arm fault points, as RETILE_FAULT does, until saved_disarm. */
void saved_arm(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void saved_disarm(void);
/* Do @work in a child with @point ("NAME" or "NAME@N") armed to kill it; false:
 * it was not passed.  @work exits with another status than 0 when it fails. */
bool saved_is_killed(struct saved *saved,
                     const char *point,
                     void (*work)(struct saved *saved));
void saved_must_be_killed(struct saved *saved,
                          const char *point,
                          void (*work)(struct saved *saved));

#endif
