#define FUSE_USE_VERSION 314

#include "fuse/mount.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <fuse_lowlevel.h>

#include "base/auto.h"
#include "base/log.h"
#include "fuse/fs.h"

enum { LOG_TEXT_BYTES = 256 };

/* What libfuse said last: the reason when it fails.  Written by main's thread
 * only while mounting. */
static char last_message[LOG_TEXT_BYTES];

static void keep_message(enum fuse_log_level level,
                         const char *fmt,
                         va_list args) __attribute__((format(printf, 2, 0)));

static void
keep_message(enum fuse_log_level level, const char *fmt, va_list args)
{
    size_t n;

    (void)level;
    (void)vsnprintf(last_message, sizeof(last_message), fmt, args);
    n = strcspn(last_message, "\n");
    last_message[n] = '\0';
}

static void log_message(enum fuse_log_level level,
                        const char *fmt,
                        va_list args) __attribute__((format(printf, 2, 0)));

static void
log_message(enum fuse_log_level level, const char *fmt, va_list args)
{
    char text[LOG_TEXT_BYTES];

    (void)vsnprintf(text, sizeof(text), fmt, args);
    text[strcspn(text, "\n")] = '\0';
    base_log(level <= FUSE_LOG_ERR ? BASE_ERROR : BASE_INFO, "libfuse", "text",
             text);
}

void fs_mount_log(void)
{
    fuse_set_log_func(log_message);
}

/* Options for the kernel and fusermount3. */
static enum base_code mount_options(const struct fs_options *options,
                                    char **ret,
                                    struct base_err *err)
{
    BASE_AUTO_BUF text;
    BASE_AUTO_MEM char *fsname = NULL;
    char *escaped = NULL;

    base_buf_init(&text, 1 << 20);
    (void)base_buf_addf(
        &text, "%snosuid,nodev,subtype=retile,max_read=%u%.*s%s",
        options->job == NULL ? "ro," : "", FS_MAX_READ,
        (int)options->kernel.len,
        options->kernel.ptr != NULL ? options->kernel.ptr : "",
        options->allow_other ? ",allow_other,default_permissions" : "");
    BASE_TRY(base_buf_check(&text, err));
    fsname = calloc(1, strlen(options->source) + sizeof("fsname="));
    if (fsname != NULL) {
        (void)stpcpy(stpcpy(fsname, "fsname="), options->source);
    }
    if (fsname == NULL || fuse_opt_add_opt(&escaped, text.ptr) != 0 ||
        fuse_opt_add_opt_escaped(&escaped, fsname) != 0) {
        free(escaped);
        return base_fail(err, BASE_NO_MEM, "cannot mount");
    }
    *ret = escaped;
    return BASE_OK;
}

enum base_code fs_mount_session(const struct fs_options *options,
                                const struct fuse_lowlevel_ops *ops,
                                void *userdata,
                                struct fuse_session **ret,
                                struct base_err *err)
{
    BASE_AUTO_MEM char *text = NULL;
    char program[] = "retile-fuse";
    char dash_o[] = "-o";
    char *argv[] = {program, dash_o, NULL, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    struct fuse_session *session;

    BASE_TRY(mount_options(options, &text, err));
    argv[2] = text;
    fuse_set_log_func(keep_message);
    session = fuse_session_new(&args, ops, sizeof(*ops), userdata);
    fuse_opt_free_args(&args);
    if (session == NULL) {
        return base_fail(err, BASE_IO, "cannot make a FUSE session: %s",
                         last_message);
    }
    *ret = session;
    return BASE_OK;
}

/* May the mountpoint itself, which @fd refers to whatever lies on it, be written
 * to by its owner?  What cannot be changed (it is another's, it is read-only)
 * does as it is. */
static void set_writable(int fd, bool is_writable)
{
    char path[32];
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0) {
        return;
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    (void)chmod(path, is_writable ? (st.st_mode | S_IWUSR) & ALLPERMS
                                  : st.st_mode & ALLPERMS &
                                        ~(mode_t)(S_IWUSR | S_IWGRP | S_IWOTH));
}

enum base_code fs_mount(const struct fs_options *options,
                        struct fuse_session *session,
                        struct base_err *err)
{
    const char *mountpoint = options->mountpoint;
    BASE_AUTO_FD bare =
        options->agent == NULL || geteuid() == 0
            ? -1
            : open(mountpoint, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool is_mounted;

    /* Under an agent the mountpoint takes nothing while nothing is mounted on it:
     * a rank would save there, and lose it.  fusermount3 mounts only where its
     * user can write, so for that long it can be written to; for root modes
     * mean nothing, and its agent does otherwise (worker/points.h). */
    set_writable(bare, true);
    is_mounted = fuse_session_mount(session, mountpoint) == 0;
    set_writable(bare, false);
    if (!is_mounted) {
        return base_fail(err, BASE_IO, "cannot mount on %s%s%s", mountpoint,
                         last_message[0] != '\0' ? ": " : "", last_message);
    }
    fs_mount_log();
    return BASE_OK;
}
