/* The channel to the kernel: the only place that knows FUSE's raw messages.
 *
 * libfuse 3.14 leaves out of its INIT reply some features that the kernel
 * offers and that we want.  So all messages pass through here (libfuse's
 * custom I/O): the offer is noted (and cut down by a mask, so that one kernel
 * can play an older one), and the reply is amended.  A feature is asked for
 * only when the kernel offered it; versions are never compared.
 *
 * It also ends a request promptly when its reply points into a mapped file
 * that was truncated meanwhile: write(2) to the device then fails with EFAULT.
 *
 * Newer versions of libfuse do some of this themselves; asking twice is
 * harmless.  Source: the protocol, <linux/fuse.h>. */
#ifndef FUSE_FUSE_COMPAT_H
#define FUSE_FUSE_COMPAT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/auto.h"
#include "base/err.h"
#include "base/str.h"

struct fuse_entry_param;
struct fuse_file_info;
struct fuse_req;
struct fuse_session;
struct fs_channel;

/* Called once, in the thread that answered INIT, when the kernel has taken the
 * answer. */
typedef void (*fs_channel_ready_fn)(void *owner);

/* @owner is what fs_channel_owner gives back; @masked are features that count
 * as not offered.  NULL: no memory.  Free it after the session. */
struct fs_channel *
fs_channel_create(void *owner, uint64_t masked, fs_channel_ready_fn ready);
void fs_channel_free(struct fs_channel *channel);
BASE_AUTO_DEFINE(fs_channel);

/* Put @channel between @session and @fd, its device (that of the mount, or a
 * socket on which somebody plays the kernel).  The session's user data must be
 * the channel; its loop is not started. */
enum base_code fs_channel_attach(struct fs_channel *channel,
                                 struct fuse_session *session,
                                 int fd,
                                 struct base_err *err) BASE_MUST_CHECK;
void *fs_channel_owner(const struct fs_channel *channel);

/* What a session must know to go on with a connection: the kernel's INIT as it
 * came.  In memory that outlives the process (fuse/handover.h). */
struct fs_saved_init {
    atomic_uint n_bytes;    /* 0: none; written last */
    atomic_bool can_resend; /* the kernel sends again what is not answered */
    atomic_bool is_answered;
    unsigned char bytes[256];
};

/* Keep INIT in @room. */
void fs_channel_keep_init(struct fs_channel *channel,
                          struct fs_saved_init *room);
/* Bring @session, attached and new, to where the last one was.  If that had read
 * INIT, it is given what was kept; if that had answered, this answer goes
 * nowhere, and the kernel sends again all that was read and not answered.
 * Before the loop is started. */
enum base_code fs_channel_resume(struct fs_channel *channel,
                                 struct fuse_session *session,
                                 struct base_err *err) BASE_MUST_CHECK;
/* In the ready function: has the kernel had its answer from an earlier one? */
bool fs_channel_is_resuming(const struct fs_channel *channel);

/* The request that this process has not answered for the longest time, by when
 * it was read: a number that stays while it is at that one; 0: it is at none.
 * Any thread. */
uint64_t fs_channel_oldest(const struct fs_channel *channel);

/* Valid once INIT was read, that is in the session's init and later. */
bool fs_channel_has_mmap(const struct fs_channel *channel);

/* Can the kernel be given backing files (fuse/passthrough.h)?  Tried by giving
 * it one, when INIT has been answered; false before. */
bool fs_channel_has_passthrough(const struct fs_channel *channel);
/* Register @fd as a backing file: its id, or 0 when the kernel refuses. */
uint32_t fs_channel_backing_open(const struct fs_channel *channel, int fd);
void fs_channel_backing_close(const struct fs_channel *channel, uint32_t id);

/* As fuse_reply_open and fuse_reply_create; @backing_id 0: without.  Writes
 * through several handles with direct I/O may then run at a time. */
int fs_reply_open(struct fuse_req *req,
                  const struct fuse_file_info *fi,
                  uint32_t backing_id);
int fs_reply_create(struct fuse_req *req,
                    const struct fuse_entry_param *entry,
                    const struct fuse_file_info *fi,
                    uint32_t backing_id);

/* The number of the request that this thread serves (it read it, too); 0: it has
 * served none.  A request that comes again has its old one. */
uint64_t fs_channel_unique(void);

/* Was a reply of this thread cut off by a truncated file?  Asking clears it. */
bool fs_channel_take_fault(void);

/* Features by name, for `-o mask=` and the status file.  *ret_bits is what
 * fs_channel_create takes; false when no feature has that name. */
bool fs_feature_parse(struct base_str name, uint64_t *ret_bits);
/* Name of feature @i, NULL past the last. */
const char *fs_feature_name(unsigned i);
/* Was feature @i offered (and not masked)?  Of passthrough: does it work? */
bool fs_channel_offered(const struct fs_channel *channel, unsigned i);

#endif
