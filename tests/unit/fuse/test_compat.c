/* The channel, with a socket in place of /dev/fuse and this test as the
 * kernel: requests and replies are looked at byte by byte. */
#define FUSE_USE_VERSION 314

#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fuse_lowlevel.h>

#include "fuse/fuse_compat.h"

/* Of the protocol, as the kernel writes them. */
enum {
    OP_READ = 15,
    OP_INIT = 26,
    FLAG_PARALLEL_DIROPS = 1 << 18,
    FLAG_KILLPRIV_V2 = 1 << 28,
    FLAG_INIT_EXT = 1 << 30,
    FLAG2_ALLOW_MMAP = 1 << 4,
    FLAG2_PASSTHROUGH = 1 << 5,
    STACK_DEPTH = 1,
};

struct head_in {
    uint32_t len;
    uint32_t opcode;
    uint64_t unique;
    uint64_t node;
    uint32_t uid, gid, pid, padding;
};

struct init_in {
    struct head_in head;
    uint32_t major, minor, max_readahead, flags, flags2, unused[11];
};

struct read_in {
    struct head_in head;
    uint64_t fh, offset;
    uint32_t size, read_flags;
    uint64_t lock_owner;
    uint32_t flags, padding;
};

struct head_out {
    uint32_t len;
    int32_t error;
    uint64_t unique;
};

struct init_out {
    struct head_out head;
    uint32_t major, minor, max_readahead, flags;
    uint16_t max_background, congestion_threshold;
    uint32_t max_write, time_gran;
    uint16_t max_pages, map_alignment;
    uint32_t flags2, unused[7];
};

struct fixture {
    struct fs_channel *channel;
    struct fuse_session *session;
    int kernel; /* our end */
    int n_ready;
    struct iovec answer[2]; /* of a read */
    bool had_fault;
};

static void on_ready(void *owner)
{
    ((struct fixture *)owner)->n_ready++;
}

static void op_read(fuse_req_t req,
                    fuse_ino_t ino,
                    size_t size,
                    off_t offset,
                    struct fuse_file_info *fi)
{
    struct fixture *f = fs_channel_owner(fuse_req_userdata(req));

    (void)ino;
    (void)size;
    (void)offset;
    (void)fi;
    assert_int_equal(fuse_reply_iov(req, f->answer, 2), 0);
    f->had_fault = fs_channel_take_fault();
}

static void fixture_init(struct fixture *f, uint64_t masked)
{
    static const struct fuse_lowlevel_ops ops = {.read = op_read};
    char name[] = "test";
    char *argv[] = {name, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(1, argv);
    struct base_err err;
    int ends[2];

    *f = (struct fixture){0};
    assert_int_equal(
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    f->kernel = ends[0];
    f->channel = fs_channel_create(f, masked, on_ready);
    assert_non_null(f->channel);
    f->session = fuse_session_new(&args, &ops, sizeof(ops), f->channel);
    fuse_opt_free_args(&args);
    assert_non_null(f->session);
    assert_ok(fs_channel_attach(f->channel, f->session, ends[1], &err), &err);
}

static void fixture_done(struct fixture *f)
{
    fuse_session_destroy(f->session); /* closes the other end */
    fs_channel_free(f->channel);
    (void)close(f->kernel);
}

/* Let libfuse serve one request; the length of what it replied. */
static size_t exchange(
    struct fixture *f, const void *request, size_t n, void *reply, size_t room)
{
    struct fuse_buf buf = {0};
    ssize_t got;

    assert_int_equal(write(f->kernel, request, n), (ssize_t)n);
    assert_true(fuse_session_receive_buf(f->session, &buf) > 0);
    fuse_session_process_buf(f->session, &buf);
    free(buf.mem);
    got = recv(f->kernel, reply, room, MSG_DONTWAIT);
    assert_true(got > 0);
    return (size_t)got;
}

static struct init_out init(struct fixture *f, uint32_t flags, uint32_t flags2)
{
    const struct init_in request = {
        .head = {.len = sizeof(request), .opcode = OP_INIT, .unique = 2},
        .major = 7,
        .minor = 40,
        .max_readahead = 131072,
        .flags = flags,
        .flags2 = flags2,
    };
    struct init_out reply;

    assert_int_equal(
        exchange(f, &request, sizeof(request), &reply, sizeof(reply)),
        sizeof(reply));
    assert_int_equal(reply.head.error, 0);
    assert_int_equal(reply.head.unique, 2);
    return reply;
}

/* What the kernel offers, what is masked, what must and must not be asked. */
static const struct {
    const char *name;
    uint32_t offered, offered2;
    const char *mask;
    uint32_t asked, asked2;
} cases[] = {
    {"all", FLAG_PARALLEL_DIROPS | FLAG_KILLPRIV_V2 | FLAG_INIT_EXT,
     FLAG2_ALLOW_MMAP | FLAG2_PASSTHROUGH, NULL,
     FLAG_PARALLEL_DIROPS | FLAG_KILLPRIV_V2 | FLAG_INIT_EXT,
     FLAG2_ALLOW_MMAP | FLAG2_PASSTHROUGH},
    {"passthrough masked", FLAG_INIT_EXT, FLAG2_ALLOW_MMAP | FLAG2_PASSTHROUGH,
     "passthrough", FLAG_INIT_EXT, FLAG2_ALLOW_MMAP},
    {"no passthrough offered", FLAG_INIT_EXT, FLAG2_ALLOW_MMAP, NULL,
     FLAG_INIT_EXT, FLAG2_ALLOW_MMAP},
    {"no maps offered", FLAG_INIT_EXT, 0, NULL, FLAG_INIT_EXT, 0},
    {"maps masked", FLAG_PARALLEL_DIROPS | FLAG_INIT_EXT, FLAG2_ALLOW_MMAP,
     "allow_mmap", FLAG_PARALLEL_DIROPS | FLAG_INIT_EXT, 0},
    {"parallel lookups masked", FLAG_PARALLEL_DIROPS | FLAG_INIT_EXT,
     FLAG2_ALLOW_MMAP, "parallel_dirops", FLAG_INIT_EXT, FLAG2_ALLOW_MMAP},
    {"flags2 without INIT_EXT", FLAG_KILLPRIV_V2, FLAG2_ALLOW_MMAP, NULL,
     FLAG_KILLPRIV_V2, 0},
    {"INIT_EXT masked", FLAG_KILLPRIV_V2 | FLAG_INIT_EXT, FLAG2_ALLOW_MMAP,
     "init_ext", FLAG_KILLPRIV_V2, 0},
    {"nothing", 0, 0, NULL, 0, 0},
};

static void test_only_what_is_offered_is_asked_for(void **state)
{
    const uint32_t looked_at =
        FLAG_PARALLEL_DIROPS | FLAG_KILLPRIV_V2 | FLAG_INIT_EXT;
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        struct fixture f;
        struct init_out reply;
        uint64_t masked = 0;

        if (cases[i].mask != NULL) {
            assert_true(fs_feature_parse(base_str_of(cases[i].mask), &masked));
        }
        fixture_init(&f, masked);
        reply = init(&f, cases[i].offered, cases[i].offered2);
        if ((reply.flags & looked_at) != cases[i].asked ||
            reply.flags2 != cases[i].asked2) {
            fail_msg("%s: asked for %x, %x", cases[i].name, reply.flags,
                     reply.flags2);
        }
        assert_int_equal(
            reply.unused[0],
            (cases[i].asked2 & FLAG2_PASSTHROUGH) != 0 ? STACK_DEPTH : 0);
        /* Asked for, but no file can be registered with a socket. */
        assert_false(fs_channel_has_passthrough(f.channel));
        assert_int_equal(fs_channel_has_mmap(f.channel),
                         (cases[i].asked2 & FLAG2_ALLOW_MMAP) != 0);
        assert_int_equal(f.n_ready, 1);
        fixture_done(&f);
    }
}

static size_t read_once(struct fixture *f, void *reply, size_t room)
{
    const struct read_in request = {
        .head = {.len = sizeof(request),
                 .opcode = OP_READ,
                 .unique = 4,
                 .node = 1},
        .size = 8192,
    };

    return exchange(f, &request, sizeof(request), reply, room);
}

static void test_a_reply_passes_unchanged(void **state)
{
    static char text[] = "0123456789";
    struct fixture f;
    struct {
        struct head_out head;
        char bytes[64];
    } reply;

    (void)state;
    fixture_init(&f, 0);
    (void)init(&f, FLAG_INIT_EXT, FLAG2_ALLOW_MMAP);
    f.answer[0] = (struct iovec){text, 4};
    f.answer[1] = (struct iovec){text + 4, 6};
    assert_int_equal(read_once(&f, &reply, sizeof(reply)), 16 + 10);
    assert_int_equal(reply.head.error, 0);
    assert_memory_equal(reply.bytes, text, 10);
    assert_false(f.had_fault);
    fixture_done(&f);
}

static void test_a_truncated_map_ends_the_request_with_eio(void **state)
{
    static char text[] = "0123";
    struct fixture f;
    struct head_out reply[16];
    int fd = memfd_create("test", MFD_CLOEXEC);
    void *map;

    (void)state;
    assert_int_equal(ftruncate(fd, 8192), 0);
    map = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    assert_int_equal(ftruncate(fd, 0), 0);
    fixture_init(&f, 0);
    (void)init(&f, 0, 0);
    f.answer[0] = (struct iovec){text, 4};
    f.answer[1] = (struct iovec){map, 8192};
    assert_int_equal(read_once(&f, reply, sizeof(reply)), sizeof(reply[0]));
    assert_int_equal(reply[0].error, -EIO);
    assert_int_equal(reply[0].unique, 4);
    assert_int_equal(reply[0].len, sizeof(reply[0]));
    assert_true(f.had_fault);
    assert_false(fs_channel_take_fault()); /* asked for once */
    fixture_done(&f);
    (void)munmap(map, 8192);
    (void)close(fd);
}

static void test_features_have_names(void **state)
{
    const char *name;
    uint64_t bits = 0;
    unsigned n = 0;

    (void)state;
    while ((name = fs_feature_name(n)) != NULL) {
        assert_true(fs_feature_parse(base_str_of(name), &bits));
        assert_true(bits != 0);
        n++;
    }
    assert_true(n > 3);
    assert_false(fs_feature_parse(BASE_STR("speed"), &bits));
    assert_false(fs_feature_parse(BASE_STR(""), &bits));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_is_offered_is_asked_for),
        cmocka_unit_test(test_a_reply_passes_unchanged),
        cmocka_unit_test(test_a_truncated_map_ends_the_request_with_eio),
        cmocka_unit_test(test_features_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
