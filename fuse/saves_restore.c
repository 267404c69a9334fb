/* Taking up what a dead server left: the records say which steps there are, the
 * directories what is in them, the ledger which of that the kernel knows. */
#include "fuse/saves_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/num.h"

struct known {
    uint64_t ino;
    uint32_t slot;
    bool is_found;
};

struct restore {
    struct fs_saves *saves;
    struct known *known; /* by number */
    size_t n_known;
    BASE_VEC(uint64_t) dirs; /* numbers of nodes still to be read */
};

static int by_ino(const void *a, const void *b)
{
    const struct known *x = a;
    const struct known *y = b;

    return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static enum base_code read_ledger(struct restore *restore, struct base_err *err)
{
    const struct fs_ledger *ledger = restore->saves->ledger;
    uint32_t n = fs_ledger_n_slots(ledger);
    uint32_t i;

    restore->known = calloc((size_t)n + 1, sizeof(*restore->known));
    if (restore->known == NULL) {
        return base_fail(err, BASE_NO_MEM, "no memory to take up saves");
    }
    for (i = 0; i < n; i++) {
        uint64_t ino = fs_ledger_slot(ledger, i)->ino;

        if (ino != 0) {
            restore->known[restore->n_known++] =
                (struct known){.ino = ino, .slot = i};
        }
    }
    qsort(restore->known, restore->n_known, sizeof(*restore->known), by_ino);
    for (i = 1; i < restore->n_known; i++) {
        if (restore->known[i].ino == restore->known[i - 1].ino) {
            return base_fail(err, BASE_BAD_INPUT,
                             "the ledger of saved files is damaged: a node is "
                             "there twice");
        }
    }
    return BASE_OK;
}

/* Give @node the slot that it had. */
static void recognise(struct restore *restore, struct saved_node *node)
{
    const struct known key = {.ino = node->ino};
    struct known *known =
        bsearch(&key, restore->known, restore->n_known, sizeof(key), by_ino);

    if (known != NULL && !known->is_found) {
        known->is_found = true;
        node->slot = known->slot;
        if (node->step != NULL) {
            node->step->n_writers +=
                saves_counts(restore->saves, node)->n_write;
        }
    }
}

static enum base_code no_memory(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "no memory to take up saves");
}

/* Steps. */

static enum base_code
take_record(struct restore *restore, const char *file, struct base_err *err)
{
    struct fs_saves *saves = restore->saves;
    struct saved_step *step = calloc(1, sizeof(*step));
    BASE_AUTO_MEM char *name = base_path("steps/%s", file);
    char dir[24];
    struct stat stat;
    int rc;

    if (step == NULL || name == NULL) {
        free(step);
        return no_memory(err);
    }
    step->record_fd = -1;
    rc = saves_record_read(saves->dir_fd, name, step);
    if (rc == 0) {
        (void)snprintf(dir, sizeof(dir), "%" PRIu64, step->step);
        step->is_detached =
            fstatat(saves->dir_fd, dir, &stat, AT_SYMLINK_NOFOLLOW) != 0;
        step->is_orphan = step->state == FS_STEP_FROZEN;
    }
    /* Without its directory it was only about to begin. */
    if (rc == EBADMSG ||
        (rc == 0 && step->is_detached && step->state != FS_STEP_SEALED)) {
        (void)unlinkat(saves->dir_fd, name, 0); /* else the next one does */
        saves_step_free(step);
        return BASE_OK;
    }
    if (rc == 0) {
        rc = saves_step_insert(saves, step);
    }
    if (rc != 0) {
        saves_step_free(step);
        return base_fail_errno(err, rc, "cannot take up %s", name);
    }
    recognise(restore, step->root);
    return BASE_OK;
}

static enum base_code take_records(struct restore *restore,
                                   struct base_err *err)
{
    struct fs_saves *saves = restore->saves;
    enum base_code rc = BASE_OK;
    char **names;
    size_t n;
    size_t i;

    BASE_TRY(base_dir_list(saves->dir_fd, "steps", 2 * FS_SAVES_STEPS, &names,
                           &n, err));
    for (i = 0; rc == BASE_OK && i < n; i++) {
        rc = take_record(restore, names[i], err);
    }
    base_names_free(names, n);
    if (rc == BASE_OK && saves->n_steps > 0 &&
        fs_ledger_is_new(saves->ledger)) {
        (void)unlinkat(saves->dir_fd, "ledger", 0); /* as it was: none */
        rc =
            base_fail(err, BASE_BAD_INPUT,
                      "the ledger of saved files is lost, but there are steps");
    }
    /* A directory belongs to the step that is not sealed, if there is one. */
    for (i = 0; i < saves->n_steps; i++) {
        struct saved_step *step = saves->steps[i];

        if (step->state == FS_STEP_SEALED &&
            saves_step_open(saves, step->step) != NULL) {
            step->is_detached = true;
        }
    }
    return rc;
}

/* What is in them. */

static enum base_code take_entry(struct restore *restore,
                                 struct saved_node *dir,
                                 const char *name,
                                 struct base_err *err)
{
    struct fs_saves *saves = restore->saves;
    struct saved_path path;
    struct saved_node *node;
    struct stat stat;
    uint64_t generation;

    if (saves_path(dir, name, &path) != 0 ||
        saves_stat(saves->dir_fd, path.text, &stat, &generation) != 0) {
        return BASE_OK; /* it went meanwhile: a saved step's */
    }
    if (!saves_is_sealed(dir)) {
        dir->step->n_entries++;
        saves->n_entries++;
    }
    node = saves_node_for(saves, dir, name, &stat, generation);
    if (node == NULL) {
        return no_memory(err);
    }
    recognise(restore, node);
    if (node->is_dir && !base_vec_push(&restore->dirs, node->ino)) {
        return no_memory(err);
    }
    return BASE_OK;
}

static enum base_code
take_dir(struct restore *restore, uint64_t ino, struct base_err *err)
{
    struct fs_saves *saves = restore->saves;
    struct saved_node *dir = saves_find(saves, ino);
    enum base_code rc = BASE_OK;
    struct saved_path path;
    char **names;
    size_t n;
    size_t i;

    if (dir == NULL || saves_path(dir, NULL, &path) != 0) {
        return BASE_OK;
    }
    rc = base_dir_list(saves->dir_fd, path.text, FS_SAVES_NODES, &names, &n,
                       err);
    if (rc == BASE_NOT_FOUND) {
        return BASE_OK;
    }
    BASE_TRY(rc);
    for (i = 0; rc == BASE_OK && i < n; i++) {
        rc = take_entry(restore, dir, names[i], err);
    }
    base_names_free(names, n);
    return rc;
}

static enum base_code take_trees(struct restore *restore, struct base_err *err)
{
    struct fs_saves *saves = restore->saves;
    uint32_t i;

    for (i = 0; i < saves->n_steps; i++) {
        if (!saves->steps[i]->is_detached &&
            !base_vec_push(&restore->dirs, saves->steps[i]->root->ino)) {
            return no_memory(err);
        }
    }
    while (restore->dirs.n > 0) {
        BASE_TRY(
            take_dir(restore, restore->dirs.items[--restore->dirs.n], err));
    }
    return BASE_OK;
}

/* What was removed while it was open. */

static enum base_code
take_gone(struct restore *restore, const char *file, struct base_err *err)
{
    struct fs_saves *saves = restore->saves;
    BASE_AUTO_MEM char *name = base_path("gone/%s", file);
    struct saved_node *node;
    struct stat stat;
    uint64_t generation;
    uint64_t ino;
    struct known key;

    if (name == NULL) {
        return no_memory(err);
    }
    if (!base_parse_u64(base_str_of(file), &ino) ||
        saves_stat(saves->dir_fd, name, &stat, &generation) != 0 ||
        stat.st_ino != ino) {
        return base_dir_remove(saves->dir_fd, name, err);
    }
    key = (struct known){.ino = FS_SAVED_BIT | ino};
    if (bsearch(&key, restore->known, restore->n_known, sizeof(key), by_ino) ==
        NULL) {
        (void)unlinkat(saves->dir_fd, name, 0); /* the mount's end does */
        return BASE_OK;
    }
    node = saves_find(saves, key.ino);
    if (node == NULL) {
        node = saves_node_new(saves, key.ino, generation, false);
        if (node == NULL) {
            return no_memory(err);
        }
        recognise(restore, node);
    }
    node->is_gone = true;
    return BASE_OK;
}

static enum base_code take_all_gone(struct restore *restore,
                                    struct base_err *err)
{
    enum base_code rc = BASE_OK;
    char **names;
    size_t n;
    size_t i;

    BASE_TRY(base_dir_list(restore->saves->dir_fd, "gone", FS_LEDGER_SLOTS,
                           &names, &n, err));
    for (i = 0; rc == BASE_OK && i < n; i++) {
        rc = take_gone(restore, names[i], err);
    }
    base_names_free(names, n);
    return rc;
}

/* Directories that are no more, and whose names the kernel may know yet. */
static enum base_code take_rest(struct restore *restore, struct base_err *err)
{
    size_t i;

    for (i = 0; i < restore->n_known; i++) {
        struct saved_node *node;

        if (restore->known[i].is_found) {
            continue;
        }
        node = saves_node_new(restore->saves, restore->known[i].ino, 0, true);
        if (node == NULL) {
            return no_memory(err);
        }
        node->slot = restore->known[i].slot;
    }
    saves_collect_all(restore->saves);
    return BASE_OK;
}

static enum base_code
make_dir(const struct fs_saves *saves, const char *name, struct base_err *err)
{
    if (mkdirat(saves->dir_fd, name, 0700) != 0 && errno != EEXIST) {
        return base_fail_errno(err, errno, "cannot make %s in staging", name);
    }
    return BASE_OK;
}

static enum base_code take_up(struct restore *restore, struct base_err *err)
{
    BASE_TRY(make_dir(restore->saves, "steps", err));
    BASE_TRY(make_dir(restore->saves, "gone", err));
    BASE_TRY(read_ledger(restore, err));
    BASE_TRY(take_records(restore, err));
    BASE_TRY(take_trees(restore, err));
    BASE_TRY(take_all_gone(restore, err));
    return take_rest(restore, err);
}

enum base_code saves_restore(struct fs_saves *saves, struct base_err *err)
{
    struct restore restore = {.saves = saves};
    enum base_code rc = take_up(&restore, err);

    free(restore.known);
    base_vec_done(&restore.dirs);
    return rc;
}
