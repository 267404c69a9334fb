#define FUSE_USE_VERSION 314

#include "fuse/fuse_compat.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <fuse_lowlevel.h>
#include <linux/fuse.h>

/* Newer than the headers that we build with. */
#define INIT_DIRECT_IO_ALLOW_MMAP (UINT64_C(1) << 36)
#define INIT_PASSTHROUGH          (UINT64_C(1) << 37)
#define INIT_HAS_RESEND           (UINT64_C(1) << 39)
#define OPEN_PARALLEL_WRITES      (UINT32_C(1) << 6)
#define OPEN_PASSTHROUGH          (UINT32_C(1) << 7)

enum { MAX_AT_WORK = 128 }; /* more than threads */

#define UNIQUE_RESENT (UINT64_C(1) << 63) /* set in a request sent again */
enum { NOTIFY_RESEND = 7 };

struct backing_map {
    int32_t fd;
    uint32_t flags;
    uint64_t padding;
};

#define DEV_BACKING_OPEN  _IOW(229, 1, struct backing_map)
#define DEV_BACKING_CLOSE _IOW(229, 2, uint32_t)

/* How deep file systems may lie on one another for passthrough: ours on one
 * that lies on none.  Its field follows flags2 in the answer to INIT. */
enum {
    STACK_DEPTH = 1,
    STACK_DEPTH_OFFSET =
        offsetof(struct fuse_init_out, flags2) + sizeof(uint32_t),
};

/* What libfuse may leave out. */
#define WANTED                                                                 \
    (INIT_DIRECT_IO_ALLOW_MMAP | INIT_PASSTHROUGH | FUSE_PARALLEL_DIROPS |     \
     FUSE_HANDLE_KILLPRIV_V2)

struct fs_channel {
    void *owner;
    uint64_t masked;
    fs_channel_ready_fn ready;
    int fd;                      /* the device; borrowed from the session */
    struct fs_saved_init *saved; /* NULL: not kept */
    bool is_resuming;            /* answers go nowhere */
    /* Written by the thread that serves INIT, before any other request is
     * sent; the atomics order that for the others. */
    atomic_uint_fast64_t offered;
    atomic_uint_fast64_t init_unique; /* 0: INIT was not read yet */
    atomic_bool is_ready;
    atomic_bool has_passthrough;
    /* When the requests at work were read, monotonic; 0: free. */
    atomic_int_fast64_t begun_ns[MAX_AT_WORK];
};

static const struct {
    const char *name;
    uint64_t bits;
} features[] = {
    {"passthrough", INIT_PASSTHROUGH},
    {"allow_mmap", INIT_DIRECT_IO_ALLOW_MMAP},
    {"parallel_dirops", FUSE_PARALLEL_DIROPS},
    {"killpriv_v2", FUSE_HANDLE_KILLPRIV_V2},
    {"readdirplus", FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO},
    {"max_pages", FUSE_MAX_PAGES},
    {"async_read", FUSE_ASYNC_READ},
    {"resend", INIT_HAS_RESEND},
    {"init_ext", FUSE_INIT_EXT},
};

enum { N_FEATURES = sizeof(features) / sizeof(features[0]) };

static _Thread_local bool has_faulted;
static _Thread_local uint64_t current_unique;
static _Thread_local unsigned work_slot; /* 1 + index in begun_ns; 0: at none */

bool fs_feature_parse(struct base_str name, uint64_t *ret_bits)
{
    unsigned i;

    for (i = 0; i < N_FEATURES; i++) {
        if (base_str_eq(name, base_str_of(features[i].name))) {
            *ret_bits = features[i].bits;
            return true;
        }
    }
    return false;
}

const char *fs_feature_name(unsigned i)
{
    return i < N_FEATURES ? features[i].name : NULL;
}

bool fs_channel_offered(const struct fs_channel *channel, unsigned i)
{
    if (i < N_FEATURES && features[i].bits == INIT_PASSTHROUGH) {
        return channel->has_passthrough;
    }
    return i < N_FEATURES && (channel->offered & features[i].bits) != 0;
}

bool fs_channel_has_mmap(const struct fs_channel *channel)
{
    return (channel->offered & INIT_DIRECT_IO_ALLOW_MMAP) != 0;
}

bool fs_channel_has_passthrough(const struct fs_channel *channel)
{
    return channel->has_passthrough;
}

uint32_t fs_channel_backing_open(const struct fs_channel *channel, int fd)
{
    struct backing_map map = {.fd = fd};
    int id = ioctl(channel->fd, DEV_BACKING_OPEN, &map);

    return id > 0 ? (uint32_t)id : 0;
}

void fs_channel_backing_close(const struct fs_channel *channel, uint32_t id)
{
    (void)ioctl(channel->fd, DEV_BACKING_CLOSE, &id); /* ours: it exists */
}

/* The kernel offers passthrough to everybody, and refuses each file of who may
 * not use it. */
static void try_passthrough(struct fs_channel *channel)
{
    BASE_AUTO_FD file = -1;
    uint32_t id;

    if ((channel->offered & INIT_PASSTHROUGH) == 0) {
        return;
    }
    file = memfd_create("retile-probe", MFD_CLOEXEC);
    if (file < 0) {
        return;
    }
    id = fs_channel_backing_open(channel, file);
    if (id != 0) {
        fs_channel_backing_close(channel, id);
        channel->has_passthrough = true;
    }
}

bool fs_channel_take_fault(void)
{
    bool had = has_faulted;

    has_faulted = false;
    return had;
}

struct fs_channel *
fs_channel_create(void *owner, uint64_t masked, fs_channel_ready_fn ready)
{
    struct fs_channel *channel = calloc(1, sizeof(*channel));

    if (channel != NULL) {
        channel->owner = owner;
        channel->masked = masked;
        channel->ready = ready;
        channel->fd = -1;
    }
    return channel;
}

void fs_channel_free(struct fs_channel *channel)
{
    free(channel);
}

void *fs_channel_owner(const struct fs_channel *channel)
{
    return channel->owner;
}

void fs_channel_keep_init(struct fs_channel *channel,
                          struct fs_saved_init *room)
{
    channel->saved = room;
}

uint64_t fs_channel_unique(void)
{
    return current_unique;
}

/* Note what the kernel offers, and hide from libfuse what is masked. */
static void read_init(struct fs_channel *channel, void *buf, size_t n)
{
    struct fuse_in_header *head = buf;
    struct fuse_init_in *init = (void *)(head + 1);
    const size_t n_old = sizeof(*head) + offsetof(struct fuse_init_in, flags2);
    uint64_t offered;

    if (n < n_old || head->opcode != FUSE_INIT) {
        return;
    }
    if (channel->saved != NULL && channel->saved->n_bytes == 0 &&
        n <= sizeof(channel->saved->bytes)) {
        memcpy(channel->saved->bytes, buf, n);
        channel->saved->n_bytes = (unsigned)n;
    }
    offered = init->flags;
    if (n >= n_old + sizeof(init->flags2) &&
        (init->flags & FUSE_INIT_EXT) != 0 &&
        (channel->masked & FUSE_INIT_EXT) == 0) {
        offered |= (uint64_t)init->flags2 << 32;
        init->flags2 &= (uint32_t) ~(channel->masked >> 32);
    }
    init->flags &= (uint32_t)~channel->masked;
    channel->offered = offered & ~channel->masked;
    if (channel->saved != NULL) {
        channel->saved->can_resend = (channel->offered & INIT_HAS_RESEND) != 0;
    }
    channel->init_unique = head->unique;
}

static int64_t now_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void work_end(struct fs_channel *channel)
{
    if (work_slot != 0) {
        channel->begun_ns[work_slot - 1] = 0;
        work_slot = 0;
    }
}

static void work_begin(struct fs_channel *channel)
{
    const int64_t now = now_ns();
    unsigned i;

    for (i = 0; i < MAX_AT_WORK; i++) {
        int_fast64_t none = 0;

        if (atomic_compare_exchange_strong(&channel->begun_ns[i], &none, now)) {
            work_slot = i + 1;
            return;
        }
    }
}

uint64_t fs_channel_oldest(const struct fs_channel *channel)
{
    int64_t oldest = 0;
    unsigned i;

    for (i = 0; i < MAX_AT_WORK; i++) {
        const int64_t begun = channel->begun_ns[i];

        if (begun != 0 && (oldest == 0 || begun < oldest)) {
            oldest = begun;
        }
    }
    return (uint64_t)oldest;
}

/* Have all pages of a buffer that this thread reads into for the first time: if
 * the kernel had to make one while this process is being killed, the request
 * that it holds would fail in place of being sent again. */
static void touch_once(char *buf, size_t n_bytes)
{
    static _Thread_local const char *touched;
    size_t at;

    if (buf != touched) {
        for (at = 0; at < n_bytes; at += 4096) {
            ((volatile char *)buf)[at] = 0;
        }
        touched = buf;
    }
}

static ssize_t channel_read(int fd, void *buf, size_t n_bytes, void *userdata)
{
    struct fs_channel *channel = userdata;
    ssize_t n;

    work_end(channel); /* one without an answer, or answered elsewhere */
    touch_once(buf, n_bytes);
    n = read(fd, buf, n_bytes);
    if (n > 0) {
        work_begin(channel);
    }
    if (n > 0 && !channel->is_ready) {
        read_init(channel, buf, (size_t)n);
    }
    if (n >= (ssize_t)sizeof(struct fuse_in_header)) {
        const struct fuse_in_header *head = buf;

        current_unique = head->unique & ~UNIQUE_RESENT;
    }
    return n;
}

/* writev(2), past its wrapper: once the kernel has taken a reply, and before
 * the call returns here, another thread may free what the reply pointed at
 * (the client closed the file).  Sanitizers wrap writev and look at that memory
 * afterwards. */
static ssize_t send_reply(int fd, const struct iovec *iov, int n_iov)
{
    return syscall(SYS_writev, fd, iov, n_iov);
}

static void amend_init(const struct fs_channel *channel,
                       struct fuse_init_out *init)
{
    const uint64_t flags = channel->offered & WANTED;
    const uint32_t depth = STACK_DEPTH;

    init->flags |= (uint32_t)flags;
    if ((channel->offered & FUSE_INIT_EXT) != 0) {
        init->flags |= FUSE_INIT_EXT;
        init->flags2 |= (uint32_t)(flags >> 32);
    }
    if ((flags & INIT_PASSTHROUGH) != 0) {
        memcpy((char *)init + STACK_DEPTH_OFFSET, &depth, sizeof(depth));
    }
}

/* Is this the good answer to INIT, in the form that has flags2? */
static bool is_init_reply(const struct fs_channel *channel,
                          const struct iovec *iov,
                          int n_iov)
{
    const struct fuse_out_header *head = iov[0].iov_base;

    return n_iov == 2 && iov[0].iov_len == sizeof(*head) &&
           iov[1].iov_len == sizeof(struct fuse_init_out) &&
           channel->init_unique != 0 && head->unique == channel->init_unique &&
           head->error == 0;
}

static ssize_t
write_init(struct fs_channel *channel, int fd, const struct iovec *iov)
{
    struct fuse_init_out init;
    struct iovec amended[2] = {iov[0], {&init, sizeof(init)}};
    ssize_t n;

    memcpy(&init, iov[1].iov_base, sizeof(init));
    amend_init(channel, &init);
    n = (ssize_t)(iov[0].iov_len + iov[1].iov_len);
    /* Its last server may have died just after it had answered (ENOENT). */
    if (!channel->is_resuming && send_reply(fd, amended, 2) < 0 &&
        errno != ENOENT) {
        return -1;
    }
    if (channel->saved != NULL) {
        channel->saved->is_answered = true;
    }
    channel->is_ready = true;
    try_passthrough(channel);
    channel->ready(channel->owner);
    return n;
}

/* A page of the reply is gone: the reader gets EIO.  Where the kernel has
 * ended the request by itself already, it does not know it any more (ENOENT). */
static ssize_t write_fault(int fd, const struct iovec *iov, int n_iov)
{
    struct fuse_out_header head;
    struct iovec only = {&head, sizeof(head)};
    ssize_t n_bytes = 0;
    int i;

    memcpy(&head, iov[0].iov_base, sizeof(head));
    head.len = sizeof(head);
    head.error = -EIO;
    has_faulted = true;
    if (send_reply(fd, &only, 1) < 0 && errno != ENOENT) {
        return -1;
    }
    for (i = 0; i < n_iov; i++) {
        n_bytes += (ssize_t)iov[i].iov_len;
    }
    return n_bytes; /* answered, as far as libfuse is concerned */
}

static ssize_t
send_any(struct fs_channel *channel, int fd, struct iovec *iov, int n_iov)
{
    ssize_t n;

    if (!channel->is_ready && is_init_reply(channel, iov, n_iov)) {
        return write_init(channel, fd, iov);
    }
    n = send_reply(fd, iov, n_iov);
    if (n < 0 && errno == EFAULT && n_iov > 1 &&
        iov[0].iov_len == sizeof(struct fuse_out_header)) {
        return write_fault(fd, iov, n_iov);
    }
    return n;
}

static ssize_t
channel_writev(int fd, struct iovec *iov, int n_iov, void *userdata)
{
    ssize_t n = send_any(userdata, fd, iov, n_iov);

    work_end(userdata);
    return n;
}

enum base_code fs_channel_attach(struct fs_channel *channel,
                                 struct fuse_session *session,
                                 int fd,
                                 struct base_err *err)
{
    static const struct fuse_custom_io io = {
        .writev = channel_writev,
        .read = channel_read,
    };
    int rc;

    rc = fuse_session_custom_io(session, &io, fd);
    if (rc != 0) {
        return base_fail_errno(err, -rc, "cannot set up the FUSE channel");
    }
    channel->fd = fd;
    return BASE_OK;
}

bool fs_channel_is_resuming(const struct fs_channel *channel)
{
    return channel->is_resuming;
}

static enum base_code ask_again(const struct fs_channel *channel,
                                struct base_err *err)
{
    struct fuse_out_header head = {
        .len = sizeof(head),
        .error = NOTIFY_RESEND,
    };
    const struct iovec iov = {&head, sizeof(head)};

    if (send_reply(channel->fd, &iov, 1) < 0) {
        return base_fail_errno(err, errno, "requests are not sent again");
    }
    return BASE_OK;
}

enum base_code fs_channel_resume(struct fs_channel *channel,
                                 struct fuse_session *session,
                                 struct base_err *err)
{
    char message[sizeof(channel->saved->bytes)];
    struct fuse_buf buf = {.size = channel->saved->n_bytes, .mem = message};

    if (buf.size == 0) {
        return BASE_OK; /* INIT is still to come */
    }
    if (buf.size > sizeof(message)) {
        return base_fail(err, BASE_IO, "the last server's INIT is broken");
    }
    memcpy(message, channel->saved->bytes, buf.size);
    channel->is_resuming = channel->saved->is_answered;
    read_init(channel, message, buf.size);
    fuse_session_process_buf(session, &buf);
    channel->is_resuming = false;
    if (!channel->is_ready) {
        return base_fail(err, BASE_IO, "the session did not take INIT");
    }
    return ask_again(channel, err);
}

/* Replies. */

static struct fuse_open_out open_out(const struct fuse_file_info *fi,
                                     uint32_t backing_id)
{
    struct fuse_open_out out = {.fh = fi->fh};

    if (backing_id != 0) {
        out.open_flags = OPEN_PASSTHROUGH;
        memcpy((char *)&out + sizeof(out) - sizeof(backing_id), &backing_id,
               sizeof(backing_id)); /* called padding, or backing_id */
    } else {
        out.open_flags =
            (fi->direct_io ? FOPEN_DIRECT_IO | OPEN_PARALLEL_WRITES : 0) |
            (fi->keep_cache ? FOPEN_KEEP_CACHE : 0);
    }
    out.open_flags |= fi->noflush ? FOPEN_NOFLUSH : 0;
    return out;
}

int fs_reply_open(fuse_req_t req,
                  const struct fuse_file_info *fi,
                  uint32_t backing_id)
{
    const struct fuse_open_out out = open_out(fi, backing_id);

    return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}

static struct fuse_attr attr_out(const struct stat *attr)
{
    return (struct fuse_attr){
        .ino = attr->st_ino,
        .size = (uint64_t)attr->st_size,
        .blocks = (uint64_t)attr->st_blocks,
        .atime = (uint64_t)attr->st_atim.tv_sec,
        .mtime = (uint64_t)attr->st_mtim.tv_sec,
        .ctime = (uint64_t)attr->st_ctim.tv_sec,
        .atimensec = (uint32_t)attr->st_atim.tv_nsec,
        .mtimensec = (uint32_t)attr->st_mtim.tv_nsec,
        .ctimensec = (uint32_t)attr->st_ctim.tv_nsec,
        .mode = attr->st_mode,
        .nlink = (uint32_t)attr->st_nlink,
        .uid = attr->st_uid,
        .gid = attr->st_gid,
        .rdev = (uint32_t)attr->st_rdev,
        .blksize = (uint32_t)attr->st_blksize,
    };
}

/* A time to live, as seconds and nanoseconds. */
static void split_time(double seconds, uint64_t *ret_s, uint32_t *ret_ns)
{
    *ret_s = seconds > 0 ? (uint64_t)seconds : 0;
    *ret_ns = seconds > 0 ? (uint32_t)((seconds - (double)*ret_s) * 1e9) : 0;
}

int fs_reply_create(fuse_req_t req,
                    const struct fuse_entry_param *entry,
                    const struct fuse_file_info *fi,
                    uint32_t backing_id)
{
    struct {
        struct fuse_entry_out entry;
        struct fuse_open_out open;
    } out = {
        .entry = {.nodeid = entry->ino,
                  .generation = entry->generation,
                  .attr = attr_out(&entry->attr)},
        .open = open_out(fi, backing_id),
    };

    split_time(entry->entry_timeout, &out.entry.entry_valid,
               &out.entry.entry_valid_nsec);
    split_time(entry->attr_timeout, &out.entry.attr_valid,
               &out.entry.attr_valid_nsec);
    return fuse_reply_buf(req, (const char *)&out, sizeof(out));
}
