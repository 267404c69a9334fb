/* The versions that a mount shows, and those of them that are open.
 *
 * A mounted directory has one version, number 1, shown at the mount's root and
 * open as long as the mount.  A job of a store has those that are published,
 * shown as versions/NUMBER; the store is asked at each look, so new ones appear
 * by themselves.  Such a version is opened at its first lookup and closed when
 * nothing holds it any more; while open, the store cannot release it.  Holds
 * are:
 *
 *   - requests that work on one of its nodes,
 *   - open handles,
 *   - what the kernel remembers: one per LOOKUP, until FORGET,
 *   - the newest version that was opened, until a newer one is published,
 *   - what the current generation started from.
 *
 * The kernel is told to ask again for a store's version at each use (but for
 * those that the mount itself keeps), but it
 * forgets none by itself: fuse/watch.c makes it, where a version is no longer
 * current, or its manifest was replaced, and nobody uses it.
 *
 * Any thread.  Opening is serialised; the lock for holds is never held over
 * I/O. */
#ifndef FUSE_VERSIONS_H
#define FUSE_VERSIONS_H

#include "fuse/events.h"
#include "fuse/generation.h"
#include "fuse/options.h"
#include "fuse/version.h"
#include "fuse/view_cache.h"

#define FS_MAX_VERSION ((UINT64_C(1) << 23) - 1) /* fits a node's number */

struct fs_handover;
struct fs_line;
struct fs_versions;
void fs_versions_free(struct fs_versions *versions); /* whoever holds them */
BASE_AUTO_DEFINE(fs_versions);

/* Borrows all.  What an earlier server left in @handover is opened as it was.
 *  Opens the directory, or the current version of the job, if
 * it has one; their layouts (-o layout) must fit.
 * Errors: those of store_source_open_dir, of the store, of the layouts */
enum base_code fs_versions_create(const struct fs_options *options,
                                  struct fs_views *views,
                                  struct fs_events *events,
                                  struct fs_handover *handover,
                                  const struct fs_line *line,
                                  struct fs_versions **ret,
                                  struct base_err *err) BASE_MUST_CHECK;

/* The version at the mount's root; NULL for a store. */
struct fs_version *fs_versions_root(const struct fs_versions *versions);

/* Hold version @number, which is opened when it is not.
 * Errors: BASE_NOT_FOUND, those of opening */
enum base_code fs_versions_open(struct fs_versions *versions,
                                uint64_t number,
                                struct fs_version **ret,
                                struct base_err *err) BASE_MUST_CHECK;
/* Hold it if it is open, else NULL. */
struct fs_version *fs_versions_hold(struct fs_versions *versions,
                                    uint64_t number);
/* More holds on a version that is held; NULL is fine, here and below. */
void fs_versions_hold_more(struct fs_versions *versions,
                           struct fs_version *version,
                           uint64_t n);
/* Give up @n holds, the version is closed with its last. */
void fs_versions_let_go(struct fs_versions *versions,
                        struct fs_version *version,
                        uint64_t n);

/* Does the mount itself keep @version open?  Then the kernel need not ask for it
 * by name; it is made to forget the name with all others, when this is over. */
bool fs_versions_is_lasting(struct fs_versions *versions,
                            const struct fs_version *version);

/* The kernel knows @n more nodes of @version, or no longer: holds that the next
 * server has, too. */
void fs_versions_remember(struct fs_versions *versions,
                          struct fs_version *version,
                          uint64_t n);
void fs_versions_forget(struct fs_versions *versions,
                        struct fs_version *version,
                        uint64_t n);

/* A handle of @version was opened, or closed: a hold that is counted, and that
 * the next server has, too. */
void fs_versions_handle_open(struct fs_versions *versions,
                             struct fs_version *version);
void fs_versions_handle_close(struct fs_versions *versions,
                              struct fs_version *version);

/* What is published, ascending (given, free with free()); of a directory
 * nothing. */
enum base_code fs_versions_list(const struct fs_versions *versions,
                                uint64_t **ret,
                                size_t *ret_n,
                                struct base_err *err) BASE_MUST_CHECK;
/* The highest of them.  Errors: BASE_NOT_FOUND */
enum base_code fs_versions_current(const struct fs_versions *versions,
                                   uint64_t *ret,
                                   struct base_err *err) BASE_MUST_CHECK;

/* The digest of all that version @number consists of: of equal ones, tensors,
 * objects and layout are equal.  (Not the other way round: the same state may
 * have been written in other pieces.)
 * Errors: BASE_NOT_FOUND  not everything is digested yet */
enum base_code fs_versions_digest(const struct fs_versions *versions,
                                  uint64_t number,
                                  struct base_digest *ret,
                                  struct base_err *err) BASE_MUST_CHECK;

/* Something was published: no longer keep open what is not current. */
void fs_versions_follow(struct fs_versions *versions);

/* Generations of a mounted job; a directory has none (all zero). */

/* Does an agent say which there are? */
bool fs_versions_is_ordered(const struct fs_versions *versions);

/* Begin generation 1, from the current version; or go on with those that a dead
 * server left in @inherited (may be NULL, or one that cannot be gone on with).
 * What is loaded is opened, and stays open while the generation is current. */
enum base_code fs_versions_begin(struct fs_versions *versions,
                                 const struct fs_generations *inherited,
                                 struct base_err *err) BASE_MUST_CHECK;
void fs_versions_generations(struct fs_versions *versions,
                             struct fs_generations *ret); /* a copy */
/* False: there is no such one, or it is too long ago. */
bool fs_versions_generation(struct fs_versions *versions,
                            uint64_t number,
                            struct fs_generation *ret);
/* Hold what the current generation started from; NULL: nothing, or it could not
 * be opened. */
struct fs_version *fs_versions_hold_loaded(struct fs_versions *versions);
/* A save of @step by the current generation is published as @version. */
void fs_versions_saved(struct fs_versions *versions,
                       uint64_t step,
                       uint64_t version);
/* Look whether something else was published: then the next generation begins,
 * and *ret says so.  Not while a save is published. */
enum base_code fs_versions_advance(struct fs_versions *versions,
                                   bool *ret_has_begun,
                                   struct base_err *err) BASE_MUST_CHECK;

/* Under an agent: follow an order.  What was loaded is no longer kept open once
 * another generation is current. */
enum fs_ordered fs_versions_order(struct fs_versions *versions,
                                  const struct fs_order *order);
/* Open what the current generation loads, and keep it open, unless that was
 * done.  By the thread that follows orders.  Errors: those of opening */
enum base_code fs_versions_load(struct fs_versions *versions,
                                struct base_err *err) BASE_MUST_CHECK;

/* Visit those that are open, each held meanwhile. */
typedef void (*fs_version_fn)(void *ctx, struct fs_version *version);
void fs_versions_each(struct fs_versions *versions,
                      fs_version_fn fn,
                      void *ctx);
/* Visit, of those that are no longer current or whose manifest was replaced, the
 * ones that no handle is open in and no request was for since the last visit.
 * One that stays open (the current one, say) is then opened by its new manifest,
 * once the kernel has forgotten it.  Was any such version, idle or not, open?
 * One thread. */
bool fs_versions_idle(struct fs_versions *versions,
                      fs_version_fn fn,
                      void *ctx);

/* How many versions were closed that had been replaced: a sweep of the store may
 * free blobs that only they had. */
uint64_t fs_versions_n_let_go(const struct fs_versions *versions);

#endif
