#include "fuse/fs.h"

#include <unistd.h>

#include "fuse/handover.h"
#include "fuse/passthrough.h"

enum base_code
fs_open(struct fs *fs, const struct fs_options *options, struct base_err *err)
{
    BASE_AUTO_FD handover_fd = -1;

    fs->options = options;
    fs_snapshots_init(&fs->snapshots);
    fs->uid = getuid();
    fs->gid = getgid();
    (void)clock_gettime(CLOCK_REALTIME, &fs->started); /* cannot fail */
    fs->events = fs_events_create();
    fs->views = fs_views_create((size_t)options->view_bytes);
    BASE_TRY(fs_handover_create(&handover_fd, &fs->handover, err));
    fs->backings = fs_backings_create(fs->handover);
    if (fs->events == NULL || fs->views == NULL || fs->backings == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot set up the mount");
    }
    return fs_versions_create(options, fs->views, fs->events, &fs->versions,
                              err);
}

void fs_close(struct fs *fs)
{
    fs_versions_free(fs->versions);
    fs_views_free(fs->views);
    fs_events_free(fs->events);
    fs_snapshots_done(&fs->snapshots);
    fs_channel_free(fs->channel);
    fs_backings_free(fs->backings);
    fs_handover_free(fs->handover);
    *fs = (struct fs){0};
}
