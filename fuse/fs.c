#include "fuse/fs.h"

#include "fuse/agent.h"
#include "fuse/commit.h"
#include "fuse/handover.h"
#include "fuse/holder.h"
#include "fuse/ops_save.h"
#include "fuse/passthrough.h"

enum base_code fs_open(struct fs *fs,
                       const struct fs_options *options,
                       const struct fs_holding *holding,
                       struct base_err *err)
{
    fs->options = options;
    fs->line = holding->line;
    fs->handover = holding->handover;
    fs_snapshots_init(&fs->snapshots, fs->handover->incarnation);
    fs->uid = options->uid;
    fs->gid = options->gid;
    (void)clock_gettime(CLOCK_REALTIME, &fs->started); /* cannot fail */
    fs->events = fs_events_create();
    fs->views = fs_views_create((size_t)options->view_bytes);
    fs->backings = fs_backings_create(fs->handover);
    if (fs->events == NULL || fs->views == NULL || fs->backings == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot set up the mount");
    }
    BASE_TRY(fs_versions_create(options, fs->views, fs->events, fs->handover,
                                &fs->line, &fs->versions, err));
    if (options->job == NULL) {
        return BASE_OK;
    }
    if (options->agent != NULL) {
        BASE_TRY(fs_agent_create(fs, &fs->agent, err));
    }
    BASE_TRY(fs_versions_begin(fs->versions,
                               fs_handover_generations(fs->handover), err));
    BASE_TRY(fs_commit_create(fs, &fs->commit, err));
    if (fs->saves != NULL) {
        fs_save_attach(fs);
    }
    return BASE_OK;
}

void fs_close(struct fs *fs)
{
    fs_agent_stop(fs->agent); /* it gives orders to the commit */
    fs_commit_free(fs->commit);
    fs_agent_free(fs->agent);
    fs_versions_free(fs->versions);
    fs_views_free(fs->views);
    fs_events_free(fs->events);
    fs_snapshots_done(&fs->snapshots);
    fs_channel_free(fs->channel);
    fs_backings_free(fs->backings);
    if (fs->line.staging_fd >= 0) {
        (void)close(fs->line.staging_fd);
    }
    if (fs->line.fd >= 0) {
        (void)close(fs->line.fd);
    }
    *fs = (struct fs){0};
}
