#define FUSE_USE_VERSION 314

#include "fuse/fuse_compat.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <fuse_lowlevel.h>
#include <linux/fuse.h>

/* Newer than the headers that we build with. */
#define INIT_DIRECT_IO_ALLOW_MMAP (UINT64_C(1) << 36)

/* What libfuse may leave out. */
#define WANTED                                                                 \
    (INIT_DIRECT_IO_ALLOW_MMAP | FUSE_PARALLEL_DIROPS | FUSE_HANDLE_KILLPRIV_V2)

struct fs_channel {
    void *owner;
    uint64_t masked;
    fs_channel_ready_fn ready;
    /* Written by the thread that serves INIT, before any other request is
     * sent; the atomics order that for the others. */
    atomic_uint_fast64_t offered;
    atomic_uint_fast64_t init_unique; /* 0: INIT was not read yet */
    atomic_bool is_ready;
};

static const struct {
    const char *name;
    uint64_t bits;
} features[] = {
    {"allow_mmap", INIT_DIRECT_IO_ALLOW_MMAP},
    {"parallel_dirops", FUSE_PARALLEL_DIROPS},
    {"killpriv_v2", FUSE_HANDLE_KILLPRIV_V2},
    {"readdirplus", FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO},
    {"max_pages", FUSE_MAX_PAGES},
    {"async_read", FUSE_ASYNC_READ},
    {"init_ext", FUSE_INIT_EXT},
};

enum { N_FEATURES = sizeof(features) / sizeof(features[0]) };

static _Thread_local bool has_faulted;

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
    return i < N_FEATURES && (channel->offered & features[i].bits) != 0;
}

bool fs_channel_has_mmap(const struct fs_channel *channel)
{
    return (channel->offered & INIT_DIRECT_IO_ALLOW_MMAP) != 0;
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
    offered = init->flags;
    if (n >= n_old + sizeof(init->flags2) &&
        (init->flags & FUSE_INIT_EXT) != 0 &&
        (channel->masked & FUSE_INIT_EXT) == 0) {
        offered |= (uint64_t)init->flags2 << 32;
        init->flags2 &= (uint32_t) ~(channel->masked >> 32);
    }
    init->flags &= (uint32_t)~channel->masked;
    channel->offered = offered & ~channel->masked;
    channel->init_unique = head->unique;
}

static ssize_t channel_read(int fd, void *buf, size_t n_bytes, void *userdata)
{
    struct fs_channel *channel = userdata;
    ssize_t n = read(fd, buf, n_bytes);

    if (n > 0 && !channel->is_ready) {
        read_init(channel, buf, (size_t)n);
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
    uint64_t flags = channel->offered & WANTED;

    init->flags |= (uint32_t)flags;
    if ((channel->offered & FUSE_INIT_EXT) != 0) {
        init->flags |= FUSE_INIT_EXT;
        init->flags2 |= (uint32_t)(flags >> 32);
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
    n = send_reply(fd, amended, 2);
    if (n >= 0) {
        channel->is_ready = true;
        channel->ready(channel->owner);
    }
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
channel_writev(int fd, struct iovec *iov, int n_iov, void *userdata)
{
    struct fs_channel *channel = userdata;
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

enum base_code
fs_channel_attach(struct fuse_session *session, int fd, struct base_err *err)
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
    return BASE_OK;
}
