/* The plain form: layout.yaml (or --from), ranks/000 ... ranks/N-1. */
#include <fcntl.h>
#include <stdio.h>

#include "base/file.h"
#include "base/io.h"
#include "store/directory.h"

static enum base_code open_dir(int dir_fd,
                               const char *name,
                               const char *label,
                               int *ret,
                               struct base_err *err)
{
    return base_io_open(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NONBLOCK, 0,
                        label, ret, err);
}

bool store_dir_rank_of(const char *name, ptc_rank *ret)
{
    char canonical[24];
    uint64_t number = 0;
    size_t n = strlen(name);

    if (n < 3 || n > 10) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (name[i] < '0' || name[i] > '9') {
            return false;
        }
        number = number * 10 + (uint64_t)(name[i] - '0');
    }
    if (number >= PTC_MAX_RANKS) {
        return false;
    }
    (void)snprintf(canonical, sizeof(canonical), "%03u", (unsigned)number);
    *ret = (ptc_rank)number;
    return strcmp(canonical, name) == 0;
}

/* Bytewise order is not the ranks' once there are a thousand of them: mark the
 * ranks seen.  @n_ranks must all be there and no other. */
static enum base_code check_names(struct store_dir *dir,
                                  char *const *names,
                                  size_t n_names,
                                  uint32_t *ret_n,
                                  struct base_err *err)
{
    const char *path = dir->source->path;
    BASE_AUTO_MEM bool *seen = calloc(PTC_MAX_RANKS, sizeof(*seen));
    ptc_rank rank, highest = 0;
    uint32_t n = 0;

    if (seen == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: no memory for ranks", path);
    }
    for (size_t i = 0; i < n_names; i++) {
        if (names[i][0] == '.' ||
            base_str_ends(base_str_of(names[i]), BASE_STR(".tmp"))) {
            continue;
        }
        if (!store_dir_rank_of(names[i], &rank)) {
            return base_fail(err, BASE_BAD_INPUT,
                             "%s/ranks/%s: not a rank's number (three digits "
                             "or more, no other zeros in front)",
                             path, names[i]);
        }
        seen[rank] = true;
        highest = rank > highest ? rank : highest;
        n++;
    }
    if (n == 0) {
        return base_fail(err, BASE_BAD_INPUT, "%s/ranks: no ranks", path);
    }
    for (rank = 0; rank < highest; rank++) {
        if (!seen[rank]) {
            return base_fail(err, BASE_BAD_INPUT,
                             "%s/ranks/%03u: missing, though ranks/%03u is "
                             "there",
                             path, rank, highest);
        }
    }
    *ret_n = n;
    return BASE_OK;
}

static enum base_code
scan_ranks(struct store_dir *dir, uint32_t *ret_n, struct base_err *err)
{
    BASE_AUTO_MEM char *label = base_path("%s/ranks", dir->source->path);
    BASE_AUTO_FD ranks_fd = -1;
    char **names = NULL;
    size_t n_names = 0;
    uint32_t n = 0;
    enum base_code code;

    if (label == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for a path");
    }
    BASE_TRY(open_dir(dir->fd, "ranks", label, &ranks_fd, err));
    code = base_dir_list(ranks_fd, ".", PTC_MAX_RANKS, &names, &n_names, err);
    if (code != BASE_OK) {
        return base_wrap(err, code, "%s", label);
    }
    code = check_names(dir, names, n_names, &n, err);
    base_names_free(names, n_names);
    BASE_TRY(code);
    for (ptc_rank rank = 0; rank < n; rank++) {
        BASE_AUTO_MEM char *rank_label = base_path("%s/%03u", label, rank);
        BASE_AUTO_FD rank_fd = -1;

        if (rank_label == NULL) {
            return base_fail(err, BASE_NO_MEM, "no memory for a path");
        }
        BASE_TRY(open_dir(ranks_fd, rank_label + strlen(label) + 1, rank_label,
                          &rank_fd, err));
        BASE_TRY(store_dir_scan_rank(dir, rank_fd, rank_label, rank, err));
    }
    *ret_n = n;
    return BASE_OK;
}

enum base_code store_dir_read_layout(struct store_dir *dir,
                                     struct ptc_spec **ret,
                                     struct base_err *err)
{
    BASE_AUTO_MEM char *label = base_path("%s/layout.yaml", dir->source->path);
    BASE_AUTO_BUF text;
    enum base_code code;

    base_buf_init(&text, PTC_SPEC_MAX_BYTES);
    if (label == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory for a path");
    }
    code = base_file_read(dir->fd, "layout.yaml", &text, err);
    if (code != BASE_OK) {
        return base_wrap(err, code, "%s", dir->source->path);
    }
    return ptc_spec_parse(base_buf_str(&text), label, ret, err);
}

static enum base_code open_spec(struct store_dir *dir,
                                const struct ptc_table *known,
                                struct ptc_spec **ret,
                                struct base_err *err)
{
    const char *path = dir->source->path;
    const char *from = dir->options->from;
    bool is_hf;

    if (dir->has_layout_yaml) {
        return store_dir_read_layout(dir, ret, err);
    }
    /* A table that lacks tensors must not decide what a preset writes out. */
    return store_spec_open(from, path, dir->all_have_coords ? known : NULL, ret,
                           &is_hf, err);
}

static enum base_code check_count(const struct store_dir *dir,
                                  const struct ptc_spec *spec,
                                  uint32_t n,
                                  struct base_err *err)
{
    uint32_t due = spec->meshes[0].n_ranks;
    const char *what = dir->has_layout_yaml ? "layout.yaml" : "--from";

    if (n < due) {
        return base_fail(err, BASE_MISMATCH,
                         "%s/ranks/%03u: missing, %s has %u ranks",
                         dir->source->path, n, what, due);
    }
    if (n > due) {
        return base_fail(err, BASE_MISMATCH,
                         "%s/ranks/%03u: one rank too many, %s has %u ranks",
                         dir->source->path, due, what, due);
    }
    return BASE_OK;
}

static enum base_code check_options(const struct store_dir *dir,
                                    struct base_err *err)
{
    const char *path = dir->source->path;

    if (dir->has_layout_yaml && dir->options->from != NULL) {
        return base_fail(err, BASE_BAD_ARG,
                         "%s has a layout.yaml, so --from is not wanted", path);
    }
    if (!dir->has_layout_yaml && dir->options->from == NULL) {
        return base_fail(err, BASE_BAD_ARG,
                         "%s has ranks/ but no layout.yaml: say with --from "
                         "how its tensors lie",
                         path);
    }
    if (!dir->has_ranks) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s has a layout.yaml but no ranks/", path);
    }
    if (dir->tensor_names.n > 0 || dir->index_names.n > 0) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s/%s: beside ranks/, where tensors belong", path,
                         dir->tensor_names.n > 0
                             ? dir->tensor_names.items[0].ptr
                             : dir->index_names.items[0].ptr);
    }
    return BASE_OK;
}

enum base_code store_dir_open_plain(struct store_dir *dir, struct base_err *err)
{
    struct store_source *source = dir->source;
    BASE_AUTO(ptc_table) known = NULL;
    BASE_AUTO(ptc_spec) spec = NULL;
    uint32_t n_ranks = 0;
    enum base_code code;

    source->form = STORE_FORM_PLAIN;
    BASE_TRY(check_options(dir, err));
    if (dir->has_layout_yaml) { /* its mistakes come before those of files */
        BASE_TRY(open_spec(dir, NULL, &spec, err));
    }
    BASE_TRY(scan_ranks(dir, &n_ranks, err));
    store_source_sort_objects(source);
    BASE_TRY(store_dir_known(dir, &known, err));
    if (spec == NULL) {
        BASE_TRY(open_spec(dir, known, &spec, err));
    }
    BASE_TRY(check_count(dir, spec, n_ranks, err));
    BASE_TRY(store_dir_make_table(dir, known, spec, err));
    code = ptc_layout_create(&spec, source->table, &source->layout, err);
    if (code != BASE_OK) {
        return base_wrap(err, code, "%s%s", source->path,
                         dir->has_layout_yaml ? "/layout.yaml" : "");
    }
    return store_dir_check(dir, err);
}
