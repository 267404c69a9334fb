#include "fuse/fs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

static bool is_newer(struct timespec a, struct timespec b)
{
    return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

static struct timespec newest_of(const struct store_source *source)
{
    struct timespec newest = {0};
    uint32_t n = store_source_n_blobs(source);
    uint32_t i;

    for (i = 0; i < n; i++) {
        struct timespec time = store_source_blob(source, i)->stat.st_mtim;

        if (is_newer(time, newest)) {
            newest = time;
        }
    }
    return newest;
}

static enum base_code no_memory(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot set up the mount");
}

enum base_code
fs_open(struct fs *fs, const struct fs_options *options, struct base_err *err)
{
    const struct store_source_options how = {
        .from = options->from,
        .table = options->table,
    };
    enum base_code rc;
    size_t i;

    fs->options = options;
    fs_snapshots_init(&fs->snapshots);
    fs->uid = getuid();
    fs->gid = getgid();
    BASE_TRY(store_source_open_dir(options->source, &how, &fs->source, err));
    fs->newest = newest_of(fs->source);
    fs->events = fs_events_create();
    fs->views = fs_views_create((size_t)options->view_bytes);
    fs->maps = store_maps_create(fs->source);
    if (fs->events == NULL || fs->views == NULL || fs->maps == NULL) {
        return no_memory(err);
    }
    BASE_TRY(fs_tree_create(fs->source, &fs->tree, err));
    for (i = 0; i < options->layouts.n; i++) {
        const struct fs_layout_option *layout = &options->layouts.items[i];

        rc = fs_tree_add_layout(fs->tree, base_str_of(layout->name),
                                layout->file, err);
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "layout %s", layout->name);
        }
    }
    return BASE_OK;
}

void fs_close(struct fs *fs)
{
    fs_views_free(fs->views, fs->tree);
    fs_tree_free(fs->tree);
    store_maps_free(fs->maps);
    store_source_free(fs->source);
    fs_events_free(fs->events);
    fs_snapshots_done(&fs->snapshots);
    fs_channel_free(fs->channel);
    *fs = (struct fs){0};
}

/* The status document. */

static const char *form_text(enum store_form form)
{
    switch (form) {
    case STORE_FORM_PLAIN:
        return "plain";
    case STORE_FORM_HF:
        return "hf";
    case STORE_FORM_SHARDED:
        return "sharded";
    case STORE_FORM_FILE:
        return "file";
    }
    abort(); /* not a form */
}

struct layouts_writer {
    struct base_buf *buf;
    bool is_first;
};

static void add_layout(void *ctx, const struct fs_subtree *subtree)
{
    struct layouts_writer *writer = ctx;
    char digest[BASE_DIGEST_TEXT_BYTES];

    (void)base_buf_addf(writer->buf,
                        "%s\n    {\"path\": ", writer->is_first ? "" : ",");
    (void)base_buf_add_json(
        writer->buf,
        base_str_of(subtree->name[0] != '\0' ? subtree->name : "."));
    (void)base_buf_addf(
        writer->buf, ", \"layout\": \"%s\", \"ranks\": %" PRIu32 "}",
        base_digest_format(subtree->layout, digest),
        ptc_layout_n_ranks(store_target_layout(subtree->target)));
    writer->is_first = false;
}

static void add_source(const struct fs *fs, struct base_buf *buf)
{
    const struct ptc_table *table = store_source_table(fs->source);
    char digest[BASE_DIGEST_TEXT_BYTES];

    (void)base_buf_addf(buf, "{\n  \"version\": 1,\n  \"source\": ");
    (void)base_buf_add_json(buf, base_str_of(fs->options->source));
    (void)base_buf_addf(buf,
                        ",\n  \"form\": \"%s\",\n  \"table\": \"%s\",\n"
                        "  \"tensors\": %" PRIu32 ",\n  \"bytes\": %" PRIu64
                        ",\n",
                        form_text(store_source_form(fs->source)),
                        base_digest_format(ptc_table_digest(table), digest),
                        ptc_table_n_tensors(table), ptc_table_n_bytes(table));
}

static void add_features(const struct fs *fs, struct base_buf *buf)
{
    const char *name;
    const char *comma = "";
    unsigned i;

    (void)base_buf_addf(buf, ",\n  \"class\": \"%s\",\n  \"features\": [",
                        fs->is_direct ? "direct" : "page");
    for (i = 0; (name = fs_feature_name(i)) != NULL; i++) {
        if (fs_channel_offered(fs->channel, i)) {
            (void)base_buf_addf(buf, "%s\"%s\"", comma, name);
            comma = ", ";
        }
    }
    (void)base_buf_addf(buf, "]");
}

static void add_stats(struct fs *fs, struct base_buf *buf)
{
    size_t n_bytes;
    size_t n_unused_bytes;

    fs_views_memory(fs->views, &n_bytes, &n_unused_bytes);
    (void)base_buf_addf(
        buf,
        ",\n  \"open_handles\": %" PRIu64 ",\n  \"opens\": %" PRIu64
        ",\n  \"reads\": %" PRIu64 ",\n  \"failed_reads\": %" PRIu64
        ",\n  \"bytes_served\": %" PRIu64
        ",\n  \"view_bytes\": %zu,\n  \"unused_view_bytes\": %zu"
        ",\n  \"threads\": %u,\n  \"pid\": %ld\n}\n",
        (uint64_t)fs->stats.n_open, (uint64_t)fs->stats.n_opens,
        (uint64_t)fs->stats.n_reads, (uint64_t)fs->stats.n_failed_reads,
        (uint64_t)fs->stats.n_bytes, n_bytes, n_unused_bytes,
        fs->options->n_threads, (long)getpid());
}

enum base_code
fs_status_format(struct fs *fs, struct base_buf *buf, struct base_err *err)
{
    struct layouts_writer writer = {.buf = buf, .is_first = true};

    add_source(fs, buf);
    (void)base_buf_addf(buf, "  \"layouts\": [");
    fs_tree_each(fs->tree, add_layout, &writer);
    (void)base_buf_addf(buf, "]");
    add_features(fs, buf);
    add_stats(fs, buf);
    return base_buf_check(buf, err);
}
