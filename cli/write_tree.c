/* A source's tree written under a layout: what convert and export share.
 *
 * All is made in a temporary directory beside DST, `.NAME.retile-tmp`, which is
 * locked (flock) as long as its maker lives; so a run finds and removes what a
 * dead one left and refuses to disturb a live one.  When everything is synced,
 * one rename makes it DST. */
#include "cli/write_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/io.h"
#include "base/num.h"
#include "base/parallel.h"
#include "store/copy.h"
#include "store/target.h"

/* Everything one run holds; undone in the order of run_done. */
struct run {
    const struct cli_write_tree *job;
    char *parent; /* directory of DST */
    char *name;   /* DST's last component */
    char *tmp;    /* name of the temporary directory in parent */
    int parent_fd;
    int tmp_fd; /* locked; -1: not ours yet */
    struct store_source *source;
    struct store_target *target;
    struct store_tree *tree;
    struct store_copy_file *files; /* n_files */
    struct ptc_file **shown;
    char **labels;
    uint32_t n_files;
    struct cli_progress progress;
    struct store_copy_options copy;
};

static void run_done(struct run *run)
{
    for (uint32_t i = 0; i < run->n_files; i++) {
        ptc_file_free(run->shown[i]);
        free(run->labels[i]);
        if (run->files[i].fd >= 0) {
            (void)close(run->files[i].fd); /* synced before, or given up */
        }
    }
    free(run->files);
    free(run->shown);
    free(run->labels);
    store_tree_free(run->tree);
    store_target_free(run->target);
    store_source_free(run->source);
    if (run->tmp_fd >= 0) {
        if (base_dir_remove(run->parent_fd, run->tmp, NULL) != BASE_OK) {
            (void)fprintf(stderr,
                          "hint: %s/%s is left; the next run to "
                          "this DST removes it\n",
                          run->parent, run->tmp);
        }
        (void)close(run->tmp_fd);
    }
    if (run->parent_fd >= 0) {
        (void)close(run->parent_fd);
    }
    free(run->parent);
    free(run->name);
    free(run->tmp);
}

/* DST's parent and name; DST must not exist. */
static enum base_code
split_path(struct run *run, const char *dst, struct base_err *err)
{
    BASE_AUTO_MEM char *for_dir = base_path("%s", dst);
    BASE_AUTO_MEM char *for_name = base_path("%s", dst);
    struct stat st;

    if (for_dir == NULL || for_name == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    /* glibc's is safe. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    run->parent = base_path("%s", dirname(for_dir));
    run->name = base_path("%s", basename(for_name));
    run->tmp = run->name ? base_path(".%s.retile-tmp", run->name) : NULL;
    if (run->parent == NULL || run->tmp == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    if (strcmp(run->name, "/") == 0 || strcmp(run->name, ".") == 0 ||
        strcmp(run->name, "..") == 0 || run->name[0] == '\0') {
        return base_fail(err, BASE_BAD_ARG, "%s: DST must be a new name", dst);
    }
    if (lstat(dst, &st) == 0) {
        return base_fail(err, BASE_EXISTS,
                         "%s: exists already; choose a new "
                         "name or remove it",
                         dst);
    }
    run->parent_fd = open(run->parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (run->parent_fd < 0) {
        return base_fail_errno(err, errno, "%s: cannot open DST's directory",
                               run->parent);
    }
    return BASE_OK;
}

/* Make the temporary directory and lock it; take over a dead run's. */
static enum base_code make_tmp(struct run *run, struct base_err *err)
{
    for (int attempt = 0; attempt < 3; attempt++) {
        BASE_AUTO_FD fd = -1;
        struct stat opened;
        struct stat named;
        bool is_new = mkdirat(run->parent_fd, run->tmp, 0777) == 0;

        if (!is_new && errno != EEXIST) {
            return base_fail_errno(err, errno, "%s/%s: cannot make it",
                                   run->parent, run->tmp);
        }
        fd = openat(run->parent_fd, run->tmp,
                    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT) {
            continue; /* its maker ended meanwhile */
        }
        if (fd < 0) {
            int errnum = errno;

            if (is_new) { /* a umask that forbids to open what one makes */
                (void)unlinkat(run->parent_fd, run->tmp, AT_REMOVEDIR);
            }
            return base_fail_errno(err, errnum, "%s/%s: cannot open it",
                                   run->parent, run->tmp);
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            return errno == EWOULDBLOCK
                       ? base_fail(err, BASE_EXISTS,
                                   "%s/%s: another run to this DST is going on",
                                   run->parent, run->tmp)
                       : base_fail_errno(err, errno, "%s/%s: cannot lock it",
                                         run->parent, run->tmp);
        }
        /* Ours now, unless its maker removed or renamed it meanwhile. */
        if (fstat(fd, &opened) == 0 &&
            fstatat(run->parent_fd, run->tmp, &named, AT_SYMLINK_NOFOLLOW) ==
                0 &&
            opened.st_ino == named.st_ino && opened.st_dev == named.st_dev) {
            char **names = NULL;
            size_t n = 0;

            run->tmp_fd = base_steal_fd(&fd); /* run_done removes it */
            BASE_TRY(
                base_dir_list(run->tmp_fd, ".", SIZE_MAX, &names, &n, err));
            base_names_free(names, n);
            if (n == 0) {
                return base_fault_check(BASE_FAULT_convert_tmp, err);
            }
            BASE_TRY(base_dir_remove(run->parent_fd, run->tmp, err));
            (void)close(run->tmp_fd); /* a directory, only read */
            run->tmp_fd = -1;
        }
    }
    return base_fail(err, BASE_IO,
                     "%s/%s: cannot be made: something else "
                     "keeps changing it",
                     run->parent, run->tmp);
}

/* "ranks/003/model.safetensors" of a node; given. */
static char *node_path(const struct store_tree *tree, uint32_t idx)
{
    const struct store_node *node = store_tree_node(tree, idx);
    char *parent;
    char *path;

    if (node->parent == 0) {
        return base_path("%s", node->name.ptr);
    }
    parent = node_path(tree, node->parent);
    path = parent ? base_path("%s/%s", parent, node->name.ptr) : NULL;
    free(parent);
    return path;
}

/* Copy an object, a file kept whole. */
static enum base_code copy_object(const struct run *run,
                                  const struct store_blob *blob,
                                  const char *path,
                                  struct base_err *err)
{
    enum { CHUNK = 1 << 20 };
    BASE_AUTO_MEM char *buf = malloc(CHUNK);
    BASE_AUTO_FD fd = -1;

    if (buf == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    BASE_TRY(base_io_open(run->tmp_fd, path, O_WRONLY | O_CREAT | O_EXCL, 0666,
                          path, &fd, err));
    for (uint64_t at = 0; at < blob->n_bytes;) {
        size_t n = (size_t)base_min_u64(CHUNK, blob->n_bytes - at);

        BASE_TRY(base_io_pread(blob->fd, buf, n, at, blob->label, err));
        BASE_TRY(base_io_pwrite(fd, buf, n, at, path, err));
        at += n;
    }
    return base_io_sync(fd, path, err);
}

static enum base_code
make_file(struct run *run, uint32_t idx, char **path, struct base_err *err)
{
    struct store_copy_file *file = &run->files[run->n_files];
    struct base_str header;

    file->fd = -1;
    run->shown[run->n_files] = NULL;
    run->labels[run->n_files] = base_steal(path);
    file->label = run->labels[run->n_files];
    run->n_files++;
    BASE_TRY(
        store_tree_file(run->tree, idx, &run->shown[run->n_files - 1], err));
    file->file = run->shown[run->n_files - 1];
    BASE_TRY(base_io_open(run->tmp_fd, file->label, O_RDWR | O_CREAT | O_EXCL,
                          0666, file->label, &file->fd, err));
    header = ptc_file_header(file->file);
    BASE_TRY(
        base_io_pwrite(file->fd, header.ptr, header.len, 0, file->label, err));
    if (ftruncate(file->fd, (off_t)ptc_file_n_bytes(file->file)) != 0) {
        return base_fail_errno(err, errno,
                               "%s: cannot make it %" PRIu64 " bytes long",
                               file->label, ptc_file_n_bytes(file->file));
    }
    return BASE_OK;
}

static enum base_code
make_node(struct run *run, uint32_t idx, struct base_err *err)
{
    const struct store_node *node = store_tree_node(run->tree, idx);
    BASE_AUTO_MEM char *path = node_path(run->tree, idx);

    if (path == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    switch (node->kind) {
    case STORE_NODE_DIR:
        if (mkdirat(run->tmp_fd, path, 0777) != 0) {
            return base_fail_errno(err, errno, "%s: cannot make it", path);
        }
        return BASE_OK;
    case STORE_NODE_TEXT: {
        BASE_AUTO_FD fd = -1;

        BASE_TRY(base_file_write(run->tmp_fd, path, node->text, err));
        BASE_TRY(base_io_open(run->tmp_fd, path, O_RDONLY, 0, path, &fd, err));
        return base_io_sync(fd, path, err);
    }
    case STORE_NODE_OBJECT:
        return copy_object(run, node->object, path, err);
    case STORE_NODE_FILE:
        return make_file(run, idx, &path, err);
    }
    return BASE_OK;
}

/* Every file of the tree is open at once while data are copied. */
static enum base_code raise_fd_limit(const struct store_tree *tree,
                                     struct base_err *err)
{
    struct rlimit limit;
    uint32_t n_files = 0;

    for (uint32_t i = 0; i < store_tree_n_nodes(tree); i++) {
        n_files += store_tree_node(tree, i)->kind == STORE_NODE_FILE;
    }

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return BASE_OK; /* opening will tell */
    }
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* as far as it goes */
    if (n_files >= limit.rlim_max) {
        return base_fail(err, BASE_LIMIT,
                         "DST has %u files, but only %llu may "
                         "be open at once; raise `ulimit -n`",
                         n_files, (unsigned long long)limit.rlim_max);
    }
    return BASE_OK;
}

/* Refuse before the first tensor what cannot fit. */
static enum base_code check_space(const struct run *run, struct base_err *err)
{
    struct statvfs fs;
    uint64_t need_bytes = 0;
    uint64_t free_bytes;
    char need_text[24];
    char free_text[24];

    for (uint32_t i = 0; i < run->n_files; i++) {
        need_bytes += ptc_file_n_bytes(run->shown[i]);
    }
    if (fstatvfs(run->tmp_fd, &fs) != 0 || fs.f_blocks == 0) {
        return BASE_OK; /* not told; writing will tell */
    }
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    if (need_bytes > free_bytes) {
        return base_fail(err, BASE_NO_SPACE, "%s: DST needs %s, %s are free",
                         run->parent, base_format_size(need_bytes, need_text),
                         base_format_size(free_bytes, free_text));
    }
    return BASE_OK;
}

static enum base_code make_files(struct run *run, struct base_err *err)
{
    uint32_t n_nodes = store_tree_n_nodes(run->tree);

    BASE_TRY(raise_fd_limit(run->tree, err));
    run->files = calloc(n_nodes, sizeof(*run->files));
    run->shown = calloc(n_nodes, sizeof(struct ptc_file *));
    run->labels = calloc(n_nodes, sizeof(char *));
    if (run->files == NULL || run->shown == NULL || run->labels == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    for (uint32_t i = 1; i < n_nodes; i++) {
        BASE_TRY(make_node(run, i, err));
    }
    BASE_TRY(check_space(run, err));
    return base_fault_check(BASE_FAULT_convert_files, err);
}

static bool on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    struct run *run = ctx;

    cli_progress_show(&run->progress, done_bytes, all_bytes);
    return !cli_was_interrupted();
}

static enum base_code
sync_one(void *ctx, size_t item, unsigned thread, struct base_err *err)
{
    const struct run *run = ctx;
    struct store_copy_file *file = &run->files[item];

    (void)thread;
    BASE_TRY(base_io_sync(file->fd, file->label, err));
    (void)close(base_steal_fd(&file->fd)); /* on disk; --verify opens anew */
    return BASE_OK;
}

/* Files, then directories from the leaves up. */
static enum base_code sync_all(struct run *run, struct base_err *err)
{
    BASE_TRY(base_parallel(4, run->n_files, sync_one, run, err));
    for (uint32_t i = store_tree_n_nodes(run->tree); i-- > 1;) {
        if (store_tree_node(run->tree, i)->kind == STORE_NODE_DIR) {
            BASE_AUTO_MEM char *path = node_path(run->tree, i);

            if (path == NULL) {
                return base_fail(err, BASE_NO_MEM, "out of memory");
            }
            BASE_TRY(base_dir_sync(run->tmp_fd, path, err));
        }
    }
    return base_dir_sync(run->tmp_fd, ".", err);
}

/* Read the objects back. */
static enum base_code verify_objects(const struct run *run,
                                     struct base_err *err)
{
    for (uint32_t i = 1; i < store_tree_n_nodes(run->tree); i++) {
        const struct store_node *node = store_tree_node(run->tree, i);
        BASE_AUTO_MEM char *path = NULL;
        BASE_AUTO_FD fd = -1;
        struct store_blob copy = {0};
        enum base_code rc;

        if (node->kind != STORE_NODE_OBJECT) {
            continue;
        }
        path = node_path(run->tree, i);
        if (path == NULL) {
            return base_fail(err, BASE_NO_MEM, "out of memory");
        }
        BASE_TRY(base_io_open(run->tmp_fd, path, O_RDONLY | O_NOFOLLOW, 0, path,
                              &fd, err));
        if (fstat(fd, &copy.stat) != 0) {
            return base_fail_errno(err, errno, "%s: cannot stat", path);
        }
        copy.label = path;
        copy.fd = fd;
        copy.n_bytes = (uint64_t)copy.stat.st_size;
        rc = store_compare_blobs(node->object, &copy, err);
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "--verify");
        }
    }
    return BASE_OK;
}

/* Open what was written as a source of its own and compare every byte. */
static enum base_code verify(struct run *run, struct base_err *err)
{
    BASE_AUTO(store_source) copy = NULL;
    BASE_AUTO_MEM char *path = base_path("%s/%s", run->parent, run->tmp);
    BASE_AUTO_MEM uint32_t *map = NULL;
    const struct ptc_table *table = store_target_table(run->target);
    struct store_source_options none = {0};
    uint32_t n = ptc_table_n_tensors(table);
    enum base_code rc;

    map = calloc(n + 1u, sizeof(*map));
    if (path == NULL || map == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    BASE_TRY(store_source_open_dir(path, &none, &copy, err));
    for (uint32_t i = 0; i < n; i++) {
        map[i] = ptc_table_find(store_source_table(copy),
                                ptc_table_tensor(table, i)->name);
        if (map[i] == PTC_NONE && ptc_table_root(table, i) == i) {
            return base_fail(err, BASE_MISMATCH, "--verify: DST lacks %.*s",
                             BASE_STR_FMT(ptc_table_tensor(table, i)->name));
        }
    }
    BASE_TRY(verify_objects(run, err));
    cli_progress_begin(&run->progress, "verifying");
    rc = store_compare(run->source, store_target_pieces(run->target), copy,
                       store_source_pieces(copy), map, &run->copy, err);
    if (rc == BASE_OK) {
        rc = store_compare(copy, store_source_replicas(copy), copy,
                           store_source_pieces(copy), NULL, &run->copy, err);
    }
    cli_progress_end(&run->progress);
    return rc == BASE_OK ? rc : base_wrap(err, rc, "--verify");
}

static enum base_code publish(struct run *run, struct base_err *err)
{
    BASE_TRY(base_fault_check(BASE_FAULT_convert_synced, err));
    if (cli_was_interrupted()) {
        return base_fail(err, BASE_INTERRUPTED, "interrupted");
    }
    BASE_TRY(base_rename_new(run->parent_fd, run->tmp, run->name, err));
    (void)close(run->tmp_fd); /* it is DST now, no longer ours to remove */
    run->tmp_fd = -1;
    BASE_TRY(base_fault_check(BASE_FAULT_convert_renamed, err));
    return base_dir_sync(run->parent_fd, ".", err);
}

enum base_code cli_parse_copy(const char *threads,
                              const char *memory,
                              struct store_copy_options *copy,
                              struct base_err *err)
{
    uint64_t n = 0;

    if (threads != NULL) {
        if (!base_parse_u64(base_str_of(threads), &n) || n == 0 || n > 256) {
            return base_fail(err, BASE_BAD_ARG,
                             "--threads %s: a number from 1 to 256 is needed",
                             threads);
        }
        copy->n_threads = (unsigned)n;
    }
    if (memory != NULL &&
        (!base_parse_size(base_str_of(memory), &copy->memory_bytes) ||
         copy->memory_bytes < (1u << 20))) {
        return base_fail(err, BASE_BAD_ARG,
                         "--memory %s: a size such as 128MiB, at least 1MiB, "
                         "is needed",
                         memory);
    }
    return BASE_OK;
}

/* --to; without it, the layout that the source is in. */
static enum base_code open_spec(const struct run *run,
                                struct ptc_spec **ret,
                                bool *ret_is_hf,
                                struct base_err *err)
{
    const struct ptc_layout *layout = store_source_layout(run->source);
    BASE_AUTO(ptc_spec) whole = NULL;
    struct base_digest own_digest, whole_digest;
    BASE_AUTO_BUF text = {0};

    if (run->job->to != NULL) {
        return store_spec_open_source(run->job->to, run->source, ret, ret_is_hf,
                                      err);
    }
    if (layout == NULL) {
        return base_fail(err, BASE_BAD_ARG, "--to SPEC is needed");
    }
    base_buf_init(&text, (size_t)PTC_SPEC_MAX_BYTES * 4);
    BASE_TRY(ptc_spec_format(ptc_layout_spec(layout), &text, err));
    BASE_TRY(ptc_spec_parse(base_buf_str(&text), "layout.yaml", ret, err));
    BASE_TRY(ptc_spec_whole(&whole, err));
    BASE_TRY(ptc_spec_digest(whole, &whole_digest, err));
    BASE_TRY(ptc_spec_digest(*ret, &own_digest, err));
    *ret_is_hf = base_digest_eq(own_digest, whole_digest);
    return BASE_OK;
}

static enum base_code open_target(struct run *run, struct base_err *err)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    bool is_hf = false;
    enum base_code rc;

    BASE_TRY(open_spec(run, &spec, &is_hf, err));
    rc = store_target_open(run->source, &spec, &run->target, err);
    if (rc != BASE_OK) {
        return run->job->to == NULL
                   ? rc
                   : base_wrap(err, rc, "--to %s", run->job->to);
    }
    return store_tree_create(
        run->target, is_hf ? STORE_TREE_HF : STORE_TREE_RANKS, &run->tree, err);
}

static enum base_code write_tree(struct run *run, struct base_err *err)
{
    const struct cli_write_tree *job = run->job;
    enum base_code rc;

    BASE_TRY(cli_parse_copy(job->threads, job->memory, &run->copy, err));
    BASE_TRY(split_path(run, job->dst, err));
    BASE_TRY(job->open(job->ctx, &run->source, err));
    BASE_TRY(open_target(run, err));
    BASE_TRY(make_tmp(run, err));
    BASE_TRY(make_files(run, err));
    run->copy.progress = on_progress;
    run->copy.progress_ctx = run;
    cli_progress_begin(&run->progress, job->doing);
    rc = store_copy(run->source, store_target_pieces(run->target), run->files,
                    run->n_files, &run->copy, err);
    cli_progress_end(&run->progress);
    BASE_TRY(rc);
    BASE_TRY(sync_all(run, err));
    if (job->wants_verify) {
        BASE_TRY(verify(run, err));
    }
    return publish(run, err);
}

static void tell_left_out(const struct run *run)
{
    for (uint32_t i = 0; i < store_source_n_ignored(run->source); i++) {
        (void)fprintf(stderr, "retile: %s: not converted: %s\n", run->job->verb,
                      store_source_ignored(run->source, i));
    }
    for (uint32_t i = 0; i < store_target_n_dropped(run->target); i++) {
        (void)fprintf(stderr,
                      "retile: %s: dropped, no place under the "
                      "new layout: %s\n",
                      run->job->verb, store_target_dropped(run->target, i));
    }
}

static enum cli_exit tell_done(const struct run *run, double seconds)
{
    struct base_io_stats io = base_io_stats_get();
    uint64_t state_bytes = ptc_table_n_bytes(store_target_table(run->target));
    char state[24];
    char written[24];

    if (run->job->wants_json) {
        return cli_print_json(
            run->job->verb,
            json_pack("{si so si sI sI sI sI sf}", "version", 1, "dst",
                      cli_json_text(run->job->dst), "files", (int)run->n_files,
                      "state_bytes", (json_int_t)state_bytes, "read_bytes",
                      (json_int_t)io.read_bytes, "written_bytes",
                      (json_int_t)io.written_bytes, "write_calls",
                      (json_int_t)io.write_calls, "seconds", seconds));
    }
    (void)printf("%s: %u files, %s of state, %s written, in %.2f s\n",
                 run->job->dst, run->n_files,
                 base_format_size(state_bytes, state),
                 base_format_size(io.written_bytes, written), seconds);
    return CLI_DONE;
}

enum cli_exit cli_write_tree(const struct cli_write_tree *job)
{
    struct run run = {.job = job, .parent_fd = -1, .tmp_fd = -1};
    struct base_err err = {0};
    enum cli_exit rc;
    int64_t begin_ns = cli_now_ns();

    cli_catch_signals();
    if (write_tree(&run, &err) != BASE_OK) {
        rc = cli_tell(job->verb, &err);
    } else {
        tell_left_out(&run);
        rc = tell_done(&run, (double)(cli_now_ns() - begin_ns) / 1e9);
    }
    run_done(&run);
    return rc;
}
