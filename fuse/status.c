/* The status document: .retile/status. */
#include "fuse/fs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "fuse/agent.h"
#include "fuse/commit.h"
#include "fuse/handover.h"
#include "fuse/upkeep.h"

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
    case STORE_FORM_VERSION:
        return "version";
    }
    abort(); /* not a form */
}

/* A list under construction: what separates the next item. */
struct writer {
    struct base_buf *buf;
    const char *comma;
    const char *indent;
};

static void add_layout(void *ctx, const struct fs_subtree *subtree)
{
    struct writer *writer = ctx;
    char digest[BASE_DIGEST_TEXT_BYTES];

    (void)base_buf_addf(writer->buf, "%s\n%s{\"path\": ", writer->comma,
                        writer->indent);
    (void)base_buf_add_json(
        writer->buf,
        base_str_of(subtree->name[0] != '\0' ? subtree->name : "."));
    (void)base_buf_addf(
        writer->buf, ", \"layout\": \"%s\", \"ranks\": %" PRIu32 "}",
        base_digest_format(subtree->layout, digest),
        ptc_layout_n_ranks(store_target_layout(subtree->target)));
    writer->comma = ",";
}

/* What is said of a version: its table, and the layouts made so far. */
static void add_version(struct base_buf *buf,
                        struct fs_version *version,
                        const char *indent,
                        const char *item_indent)
{
    const struct ptc_table *table = store_source_table(version->source);
    struct writer writer = {.buf = buf, .comma = "", .indent = item_indent};
    char digest[BASE_DIGEST_TEXT_BYTES];

    (void)base_buf_addf(
        buf,
        "%s\"table\": \"%s\",\n%s\"tensors\": %" PRIu32
        ",\n%s\"bytes\": %" PRIu64 ",\n%s\"layouts\": [",
        indent, base_digest_format(ptc_table_digest(table), digest), indent,
        ptc_table_n_tensors(table), indent, ptc_table_n_bytes(table), indent);
    fs_version_each(version, add_layout, &writer);
    (void)base_buf_addf(buf, "]");
}

static void add_open(void *ctx, struct fs_version *version)
{
    struct writer *writer = ctx;

    (void)base_buf_addf(writer->buf,
                        "%s\n    {\n      \"number\": %" PRIu64 ",\n",
                        writer->comma, version->number);
    add_version(writer->buf, version, "      ", "        ");
    (void)base_buf_addf(writer->buf, "\n    }");
    writer->comma = ",";
}

/* What is being saved: files and bytes are those that have been written. */
static void
add_step(struct fs *fs, struct base_buf *buf, const struct fs_step *step)
{
    const int64_t ns_per_s = 1000000000;
    struct timespec now;
    struct fs_usage usage;
    int64_t idle_ns;

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    idle_ns = (int64_t)now.tv_sec * ns_per_s + now.tv_nsec - step->touched_ns;
    usage = fs_commit_usage(fs->commit, step);
    (void)base_buf_addf(buf,
                        "{\"step\": %" PRIu64 ", \"generation\": %" PRIu64
                        ", \"attempt\": %" PRIu64
                        ", \"state\": \"%s\", \"files\": %" PRIu64
                        ", \"bytes\": %" PRIu64 ", \"writers\": %" PRIu32
                        ", \"full\": %s, \"idle_s\": %" PRIi64 "}",
                        step->step, step->generation, step->attempt,
                        step->state == FS_STEP_OPEN ? "open" : "committing",
                        usage.n_files, usage.n_bytes, step->n_writers,
                        step->is_full ? "true" : "false", idle_ns / ns_per_s);
}

static void add_steps(struct fs *fs, struct base_buf *buf)
{
    BASE_AUTO_MEM struct fs_step *steps = NULL;
    const char *comma = "";
    struct base_err err;
    size_t n = 0;
    size_t i;

    (void)base_buf_addf(buf, ",\n  \"steps\": [");
    if (fs_commit_steps(fs->commit, &steps, &n, &err) != BASE_OK) {
        n = 0; /* no memory: none is told */
    }
    for (i = 0; i < n; i++) {
        if (steps[i].state != FS_STEP_SEALED) {
            (void)base_buf_addf(buf, "%s\n    ", comma);
            add_step(fs, buf, &steps[i]);
            comma = ",";
        }
    }
    (void)base_buf_addf(buf, "]");
}

/* Whom the mount obeys. */
static void add_agent(struct fs *fs, struct base_buf *buf)
{
    struct fs_agent_status status;

    if (fs->agent == NULL) {
        return;
    }
    fs_agent_status(fs->agent, &status);
    (void)base_buf_addf(buf, ",\n  \"agent\": {\"target\": ");
    (void)base_buf_add_json(buf, base_str_of(fs->options->agent));
    (void)base_buf_addf(
        buf, ", \"connected\": %s, \"ordered\": %" PRIu64 ", \"trouble\": ",
        status.is_connected ? "true" : "false", status.ordered);
    (void)base_buf_add_json(buf, base_str_of(status.trouble));
    (void)base_buf_addf(buf, "}");
}

/* Generations and saves. */
static void add_saves(struct fs *fs, struct base_buf *buf)
{
    struct fs_generations all;
    struct fs_commit_status saves;
    struct fs_upkeep_status upkeep;
    const struct fs_generation *now;

    fs_versions_generations(fs->versions, &all);
    now = fs_generations_find(&all, all.current);
    (void)base_buf_addf(
        buf, ",\n  \"generation\": %" PRIu64 ",\n  \"load\": %" PRIu64,
        all.current, now != NULL ? now->load : 0);
    add_agent(fs, buf);
    add_steps(fs, buf);
    fs_commit_status(fs->commit, &saves);
    (void)base_buf_addf(buf,
                        ",\n  \"saves\": {\"committed\": %" PRIu64
                        ", \"refused\": %" PRIu64 ", \"dropped\": %" PRIu64,
                        saves.n_committed, saves.n_refused, saves.n_dropped);
    if (saves.elsewhere != NULL) {
        (void)base_buf_addf(buf, ", \"elsewhere\": ");
        (void)base_buf_add_json(buf, base_str_of(saves.elsewhere));
    }
    fs_upkeep_status(fs->upkeep, &upkeep);
    (void)base_buf_addf(
        buf,
        "},\n  \"upkeep\": {\"doing\": \"%s\", \"version\": %" PRIu64
        ", \"done_bytes\": %" PRIu64 ", \"all_bytes\": %" PRIu64
        ", \"unfinished\": %" PRIu32 ", \"compacted\": %" PRIu64
        ", \"swept_bytes\": %" PRIu64 "}",
        upkeep.doing, upkeep.version, upkeep.done_bytes, upkeep.all_bytes,
        upkeep.n_waiting, upkeep.n_compacted, upkeep.n_swept_bytes);
}

/* A job: its current version, and all that are open. */
static void add_job(struct fs *fs, struct base_buf *buf)
{
    struct writer writer = {.buf = buf, .comma = ""};
    struct base_err err;
    uint64_t current = 0;

    (void)base_buf_addf(buf, "  \"form\": \"store\",\n  \"job\": ");
    (void)base_buf_add_json(buf, base_str_of(fs->options->job));
    if (fs_versions_current(fs->versions, &current, &err) != BASE_OK) {
        current = 0; /* none: the store cannot be read */
    }
    (void)base_buf_addf(buf,
                        ",\n  \"current\": %" PRIu64
                        ",\n  \"verify\": \"%s\",\n  \"open\": [",
                        current, fs->options->is_verifying ? "read" : "off");
    fs_versions_each(fs->versions, add_open, &writer);
    (void)base_buf_addf(buf, "]");
    add_saves(fs, buf);
}

static void add_shown(struct fs *fs, struct base_buf *buf)
{
    struct fs_version *root = fs_versions_root(fs->versions);

    (void)base_buf_addf(buf, "{\n  \"version\": 1,\n  \"source\": ");
    (void)base_buf_add_json(buf, base_str_of(fs->options->source));
    (void)base_buf_addf(buf, ",\n");
    if (root == NULL) {
        add_job(fs, buf);
        return;
    }
    (void)base_buf_addf(buf, "  \"form\": \"%s\",\n",
                        form_text(store_source_form(root->source)));
    add_version(buf, root, "  ", "    ");
}

static void add_features(const struct fs *fs, struct base_buf *buf)
{
    /* Files of a directory may change: they are never passed through. */
    const bool is_passed =
        fs->options->job != NULL && !fs->options->is_page_cache &&
        !fs->options->is_verifying && fs_channel_has_passthrough(fs->channel);
    const char *name;
    const char *comma = "";
    unsigned i;

    (void)base_buf_addf(buf, ",\n  \"class\": \"%s%s\",\n  \"features\": [",
                        is_passed ? "passthrough+" : "",
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
        ",\n  \"threads\": %u,\n  \"holder\": %ld,\n  \"restarts\": %u"
        ",\n  \"pid\": %ld\n}\n",
        (uint64_t)fs->stats.n_open, (uint64_t)fs->stats.n_opens,
        (uint64_t)fs->stats.n_reads, (uint64_t)fs->stats.n_failed_reads,
        (uint64_t)fs->stats.n_bytes, n_bytes, n_unused_bytes,
        fs->options->n_threads, (long)getppid(), fs->handover->incarnation - 1,
        (long)getpid());
}

enum base_code
fs_status_format(struct fs *fs, struct base_buf *buf, struct base_err *err)
{
    add_shown(fs, buf);
    add_features(fs, buf);
    add_stats(fs, buf);
    return base_buf_check(buf, err);
}
