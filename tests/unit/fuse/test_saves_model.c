/* Random operations on saved nodes, against a tree in memory.
 *
 * The test plays the kernel: it looks names up and forgets them, opens and
 * releases.  At random the server dies, also between doing something and saying
 * so: then the request comes again, and must have its effect once and the answer
 * that it would have had.  RETILE_SEED repeats a run, RETILE_CASES is its length.
 */
#include "tests/unit/fuse/saves_tmp.h"

#include <stdio.h>

#include "base/num.h"

enum {
    MAX_NODES = 64,
    MAX_BYTES = 9000,
    N_NAMES = 5,
    N_CASES = 6000,
    SERVER_DIES = 25, /* one request in so many */
};

struct node {
    bool is_used;
    bool is_dir;
    int parent; /* -1: removed */
    char name[4];
    uint64_t ino;       /* once the kernel knows it */
    uint64_t n_lookups; /* 0: it does not */
    uint32_t n_readers;
    uint32_t n_writers;
    size_t n_bytes;
    char bytes[MAX_BYTES];
};

struct model {
    struct saves_tmp *tmp;
    uint64_t random;
    uint64_t unique;
    struct node nodes[MAX_NODES]; /* 0 is the step's directory */
    uint32_t n_died;
};

static uint32_t below(struct model *model, uint32_t n)
{
    return (uint32_t)(base_random_next(&model->random) % n);
}

/* The tree in memory. */

static int child_of(const struct model *model, int dir, const char *name)
{
    int i;

    for (i = 1; i < MAX_NODES; i++) {
        if (model->nodes[i].is_used && model->nodes[i].parent == dir &&
            strcmp(model->nodes[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static bool is_empty(const struct model *model, int dir)
{
    int i;

    for (i = 1; i < MAX_NODES; i++) {
        if (model->nodes[i].is_used && model->nodes[i].parent == dir) {
            return false;
        }
    }
    return true;
}

static bool is_below(const struct model *model, int node, int dir)
{
    while (node > 0 && node != dir) {
        node = model->nodes[node].parent;
    }
    return node == dir;
}

/* A node that the kernel does not know and that has no name is no more. */
static void settle(struct model *model, int i)
{
    struct node *node = &model->nodes[i];

    if (node->parent < 0 && node->n_lookups == 0) {
        assert_int_equal(node->n_readers + node->n_writers, 0);
        node->is_used = false;
    }
}

static int some(struct model *model, bool (*fits)(const struct node *node))
{
    int first = (int)below(model, MAX_NODES);
    int i;

    for (i = 0; i < MAX_NODES; i++) {
        int at = (first + i) % MAX_NODES;

        if (model->nodes[at].is_used && fits(&model->nodes[at])) {
            return at;
        }
    }
    return -1;
}

static bool is_dir_with_name(const struct node *node)
{
    return node->is_dir && node->parent >= 0;
}

static bool is_known(const struct node *node)
{
    return node->n_lookups > 0;
}

static bool is_known_file(const struct node *node)
{
    return node->n_lookups > 0 && !node->is_dir;
}

static bool is_open(const struct node *node)
{
    return node->n_readers + node->n_writers > 0;
}

static bool is_written(const struct node *node)
{
    return node->n_writers > 0;
}

/* Requests. */

static void begin(struct model *model, struct fs_turn *turn)
{
    model->unique += 2;
    fs_turn_begin(model->tmp->saves, model->unique, turn);
    assert_false(turn->is_again);
}

/* True: the server died before it answered; the request comes again. */
static bool again(struct model *model, struct fs_turn *turn)
{
    if (below(model, SERVER_DIES) != 0 || turn->is_again) {
        fs_turn_end(turn);
        return false;
    }
    model->n_died++;
    saves_tmp_restart(model->tmp);
    fs_turn_begin(model->tmp->saves, model->unique, turn);
    assert_true(turn->is_again);
    return true;
}

static void see(struct node *node, const struct fs_saved *saved)
{
    if (node->n_lookups > 0) {
        assert_int_equal(node->ino, saved->ino);
    }
    node->ino = saved->ino;
    node->n_lookups++;
    assert_int_equal(S_ISDIR(saved->attr.st_mode), node->is_dir);
    if (!node->is_dir) {
        assert_int_equal(saved->attr.st_size, node->n_bytes);
    }
}

static void look_up(struct model *model, int i)
{
    struct node *node = &model->nodes[i];
    struct fs_saved saved;
    struct fs_turn turn;

    begin(model, &turn);
    do {
        assert_int_equal(fs_saves_lookup(model->tmp->saves, &turn,
                                         model->nodes[node->parent].ino,
                                         node->name, &saved),
                         0);
    } while (again(model, &turn));
    see(node, &saved);
}

/* As the kernel does before it asks for anything in @dir. */
static uint64_t reach(struct model *model, int dir)
{
    if (dir > 0 && model->nodes[dir].n_lookups == 0) {
        (void)reach(model, model->nodes[dir].parent);
        look_up(model, dir);
    }
    return model->nodes[dir].ino;
}

static int add(struct model *model, int dir, const char *name, bool is_dir)
{
    int i = 1;

    while (i < MAX_NODES && model->nodes[i].is_used) {
        i++;
    }
    assert_true(i < MAX_NODES);
    model->nodes[i] =
        (struct node){.is_used = true, .is_dir = is_dir, .parent = dir};
    (void)snprintf(model->nodes[i].name, sizeof(model->nodes[i].name), "%s",
                   name);
    return i;
}

static bool is_full(const struct model *model)
{
    int i = 1;

    while (i < MAX_NODES && model->nodes[i].is_used) {
        i++;
    }
    return i == MAX_NODES;
}

static void do_mkdir(struct model *model, int dir, const char *name)
{
    int expected = child_of(model, dir, name) >= 0 ? EEXIST : 0;
    uint64_t ino = reach(model, dir);
    struct fs_saved saved;
    struct fs_turn turn;
    int rc;

    if (is_full(model) || expected != 0) { /* a failure is not repeated */
        assert_int_equal(fs_saves_mkdir(model->tmp->saves, NULL, ino,
                                        expected != 0 ? name : "..", 0700,
                                        &saved),
                         expected != 0 ? expected : EINVAL);
        return;
    }
    begin(model, &turn);
    do {
        rc = fs_saves_mkdir(model->tmp->saves, &turn, ino, name, 0700, &saved);
        assert_int_equal(rc, 0);
    } while (again(model, &turn));
    see(&model->nodes[add(model, dir, name, true)], &saved);
}

static void do_create(struct model *model, int dir, const char *name)
{
    static const int choices[] = {O_RDWR, O_RDWR | O_EXCL, O_WRONLY | O_TRUNC,
                                  O_RDONLY};
    int flags = choices[below(model, N_ITEMS(choices))];
    int old = child_of(model, dir, name);
    uint64_t ino = reach(model, dir);
    struct fs_saved saved;
    struct fs_turn turn;
    uint32_t backing;

    if (old >= 0 && (model->nodes[old].is_dir || (flags & O_EXCL) != 0)) {
        assert_int_equal(fs_saves_create_file(model->tmp->saves, NULL, ino,
                                              name, 0600, flags, &saved,
                                              &backing),
                         (flags & O_EXCL) != 0 ? EEXIST : EISDIR);
        return;
    }
    if (is_full(model)) {
        return;
    }
    begin(model, &turn);
    do {
        assert_int_equal(fs_saves_create_file(model->tmp->saves, &turn, ino,
                                              name, 0600, flags, &saved,
                                              &backing),
                         0);
    } while (again(model, &turn));
    if (old < 0) {
        old = add(model, dir, name, false);
    } else if ((flags & O_TRUNC) != 0) {
        model->nodes[old].n_bytes = 0;
    }
    see(&model->nodes[old], &saved);
    model->nodes[old].n_readers += (flags & O_ACCMODE) == O_RDONLY;
    model->nodes[old].n_writers += (flags & O_ACCMODE) != O_RDONLY;
}

static void do_remove(struct model *model, int dir, const char *name)
{
    int old = child_of(model, dir, name);
    bool is_dir = below(model, 2) != 0;
    int (*fn)(struct fs_saves *, struct fs_turn *, uint64_t, const char *) =
        is_dir ? fs_saves_rmdir : fs_saves_unlink;
    uint64_t ino = reach(model, dir);
    struct fs_turn turn;
    int expected = 0;

    if (old < 0) {
        expected = ENOENT;
    } else if (model->nodes[old].is_dir != is_dir) {
        expected = is_dir ? ENOTDIR : EISDIR;
    } else if (is_dir && !is_empty(model, old)) {
        expected = ENOTEMPTY;
    }
    if (expected != 0) {
        assert_int_equal(fn(model->tmp->saves, NULL, ino, name), expected);
        return;
    }
    begin(model, &turn);
    do {
        assert_int_equal(fn(model->tmp->saves, &turn, ino, name), 0);
    } while (again(model, &turn));
    model->nodes[old].parent = -1;
    settle(model, old);
}

static int judge_rename(
    const struct model *model, int from, int to_dir, int to, unsigned flags)
{
    const struct node *nodes = model->nodes;

    if (from < 0 || (to < 0 && (flags & RENAME_EXCHANGE) != 0)) {
        return ENOENT;
    }
    if (to >= 0 && (flags & RENAME_NOREPLACE) != 0) {
        return EEXIST;
    }
    if (to >= 0 && flags == 0 && nodes[from].is_dir != nodes[to].is_dir) {
        return nodes[from].is_dir ? ENOTDIR : EISDIR;
    }
    if (from == to) {
        return 0;
    }
    if (nodes[from].is_dir && is_below(model, to_dir, from)) {
        return EINVAL;
    }
    if (to >= 0 && nodes[to].is_dir && (flags & RENAME_EXCHANGE) == 0 &&
        !is_empty(model, to)) {
        return ENOTEMPTY;
    }
    return 0;
}

static void
moved(struct model *model, int from, int to_dir, int to, unsigned flags)
{
    struct node *nodes = model->nodes;
    struct node old = nodes[from];
    char name[4];

    if (from == to) {
        return;
    }
    if (to >= 0 && (flags & RENAME_EXCHANGE) != 0) {
        memcpy(name, nodes[to].name, sizeof(name));
        nodes[to].parent = old.parent;
        memcpy(nodes[to].name, old.name, sizeof(name));
        memcpy(nodes[from].name, name, sizeof(name));
    } else if (to >= 0) {
        memcpy(nodes[from].name, nodes[to].name, sizeof(name));
        nodes[to].parent = -1;
        settle(model, to);
    }
    nodes[from].parent = to_dir;
}

static void do_rename(struct model *model,
                      int from_dir,
                      const char *name,
                      const char *to_name)
{
    static const unsigned choices[] = {0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    unsigned flags = choices[below(model, N_ITEMS(choices))];
    int to_dir = some(model, is_dir_with_name);
    int from = child_of(model, from_dir, name);
    int to = child_of(model, to_dir, to_name);
    int expected = judge_rename(model, from, to_dir, to, flags);
    uint64_t from_ino = reach(model, from_dir);
    uint64_t to_ino = reach(model, to_dir);
    struct fs_turn turn;

    /* An exchange up into an own parent is refused by rename(2), too. */
    if ((flags & RENAME_EXCHANGE) != 0 && to > 0 && model->nodes[to].is_dir &&
        is_below(model, from_dir, to)) {
        return;
    }
    if (from >= 0 && model->nodes[from].n_lookups == 0) {
        look_up(model, from); /* as the kernel does */
    }
    if (expected != 0) {
        assert_int_equal(fs_saves_rename(model->tmp->saves, NULL, from_ino,
                                         name, to_ino, to_name, flags),
                         expected);
        return;
    }
    begin(model, &turn);
    do {
        assert_int_equal(fs_saves_rename(model->tmp->saves, &turn, from_ino,
                                         name, to_ino, to_name, flags),
                         0);
    } while (again(model, &turn));
    if (to < 0) {
        (void)snprintf(model->nodes[from].name, sizeof(model->nodes[from].name),
                       "%s", to_name);
    }
    moved(model, from, to_dir, to, flags);
}

static void do_forget(struct model *model)
{
    int i = some(model, is_known);

    if (i <= 0 || is_open(&model->nodes[i])) {
        return;
    }
    fs_saves_forget(model->tmp->saves, model->nodes[i].ino,
                    model->nodes[i].n_lookups);
    model->nodes[i].n_lookups = 0;
    settle(model, i);
}

static void do_open(struct model *model)
{
    int i = some(model, is_known_file);
    bool is_writer = below(model, 2) != 0;
    int flags = is_writer ? O_RDWR : O_RDONLY;
    struct fs_turn turn;
    uint32_t backing;

    if (i < 0) {
        return;
    }
    if (is_writer && model->nodes[i].parent < 0) {
        assert_int_equal(fs_saves_open(model->tmp->saves, NULL,
                                       model->nodes[i].ino, flags, &backing),
                         EROFS);
        return;
    }
    begin(model, &turn);
    do {
        assert_int_equal(fs_saves_open(model->tmp->saves, &turn,
                                       model->nodes[i].ino, flags, &backing),
                         0);
    } while (again(model, &turn));
    model->nodes[i].n_readers += !is_writer;
    model->nodes[i].n_writers += is_writer;
}

static void release(struct model *model, int i, bool is_writer)
{
    struct fs_turn turn;

    begin(model, &turn);
    do {
        fs_saves_release(model->tmp->saves, &turn, model->nodes[i].ino,
                         is_writer ? O_RDWR : O_RDONLY);
    } while (again(model, &turn));
    model->nodes[i].n_readers -= !is_writer;
    model->nodes[i].n_writers -= is_writer;
}

static void do_release(struct model *model)
{
    int i = some(model, is_open);

    if (i >= 0) {
        release(model, i, model->nodes[i].n_writers > 0);
    }
}

static void do_write(struct model *model)
{
    int i = some(model, is_written);
    size_t offset = below(model, MAX_BYTES / 2);
    size_t n = below(model, MAX_BYTES / 2);
    char bytes[MAX_BYTES / 2];
    struct node *node;

    if (i < 0) {
        return;
    }
    node = &model->nodes[i];
    memset(bytes, (int)below(model, 256), sizeof(bytes));
    assert_int_equal(
        fs_saves_write(model->tmp->saves, node->ino, bytes, n, offset), 0);
    if (n > 0 && offset > node->n_bytes) {
        memset(node->bytes + node->n_bytes, 0, offset - node->n_bytes);
    }
    memcpy(node->bytes + offset, bytes, n);
    if (n > 0 && offset + n > node->n_bytes) {
        node->n_bytes = offset + n;
    }
}

static void do_truncate(struct model *model)
{
    int i = some(model, is_written);
    struct stat attr = {.st_size = (off_t)below(model, MAX_BYTES)};
    size_t n = (size_t)attr.st_size;
    struct stat now;
    struct node *node;

    if (i < 0) {
        return;
    }
    node = &model->nodes[i];
    assert_int_equal(fs_saves_set_attr(model->tmp->saves, node->ino,
                                       FS_SET_SIZE, &attr, &now),
                     0);
    assert_int_equal(now.st_size, n);
    if (n > node->n_bytes) {
        memset(node->bytes + node->n_bytes, 0, n - node->n_bytes);
    }
    node->n_bytes = n;
}

/* Comparing. */

static void assert_bytes(struct model *model, int i)
{
    const struct node *node = &model->nodes[i];
    char bytes[MAX_BYTES + 1];
    struct fs_pin pin;

    assert_int_equal(fs_saves_pin(model->tmp->saves, node->ino, false, &pin),
                     0);
    assert_int_equal(pread(pin.fd, bytes, sizeof(bytes), 0), node->n_bytes);
    assert_memory_equal(bytes, node->bytes, node->n_bytes);
    fs_saves_unpin(&pin);
}

struct count {
    struct model *model;
    int dir;
    uint32_t n;
};

static bool
is_there(void *ctx, const char *name, uint64_t ino, mode_t type, uint64_t at)
{
    struct count *count = ctx;
    int i = child_of(count->model, count->dir, name);

    (void)at;
    assert_true(i > 0);
    assert_int_equal(S_ISDIR(type), count->model->nodes[i].is_dir);
    if (count->model->nodes[i].n_lookups > 0) {
        assert_int_equal(ino, count->model->nodes[i].ino);
    }
    count->n++;
    return true;
}

static void compare(struct model *model)
{
    uint32_t n_writers = 0;
    struct fs_step step;
    int i;
    int k;

    for (i = 0; i < MAX_NODES; i++) {
        const struct node *node = &model->nodes[i];
        struct count count = {.model = model, .dir = i};
        uint32_t n = 0;

        if (!node->is_used) {
            continue;
        }
        n_writers += node->parent >= 0 ? node->n_writers : 0;
        if (!node->is_dir) {
            if (node->parent >= 0 && node->n_lookups == 0) {
                (void)reach(model, node->parent);
                look_up(model, i);
            }
            assert_bytes(model, i);
            continue;
        }
        if (node->parent < 0) {
            continue;
        }
        for (k = 1; k < MAX_NODES; k++) {
            n += model->nodes[k].is_used && model->nodes[k].parent == i;
        }
        assert_int_equal(fs_saves_list(model->tmp->saves, reach(model, i), 0,
                                       is_there, &count),
                         0);
        assert_int_equal(count.n, n);
    }
    assert_int_equal(
        fs_saves_step_of(model->tmp->saves, model->tmp->dir, &step), 0);
    assert_int_equal(step.n_writers, n_writers);
}

static void operate(struct model *model)
{
    int dir = some(model, is_dir_with_name);
    const char name[] = {(char)('a' + below(model, N_NAMES)), '\0'};
    const char other[] = {(char)('a' + below(model, N_NAMES)), '\0'};

    switch (below(model, 16)) {
    case 0:
    case 1:
        do_mkdir(model, dir, name);
        break;
    case 2:
    case 3:
    case 4:
        do_create(model, dir, name);
        break;
    case 5:
    case 6:
        do_remove(model, dir, name);
        break;
    case 7:
    case 8:
        do_rename(model, dir, name, other);
        break;
    case 9:
        do_forget(model);
        break;
    case 10:
        do_open(model);
        break;
    case 11:
        do_release(model);
        break;
    case 12:
        do_truncate(model);
        break;
    default:
        do_write(model);
    }
}

/* Let go of everything; nothing must be left. */
static void end(struct model *model)
{
    int i;

    for (i = 1; i < MAX_NODES; i++) {
        struct node *node = &model->nodes[i];

        while (node->is_used && is_open(node)) {
            release(model, i, node->n_writers > 0);
        }
        if (node->is_used && node->n_lookups > 0) {
            fs_saves_forget(model->tmp->saves, node->ino, node->n_lookups);
        }
    }
    assert_int_equal(saves_tmp_n_gone(model->tmp), 0);
    assert_int_equal(fs_saves_drop(model->tmp->saves, 100), 0);
    assert_int_equal(saves_tmp_n_gone(model->tmp), 0);
    assert_false(saves_tmp_has(model->tmp, "100"));
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    uint64_t n;

    return text != NULL && base_parse_u64(base_str_of(text), &n) ? n
                                                                 : otherwise;
}

static void test_random_operations_agree_with_a_tree_in_memory(void **state)
{
    static struct model model;
    uint64_t seed = number_of("RETILE_SEED", (uint64_t)getpid());
    uint64_t n = number_of("RETILE_CASES", N_CASES);
    uint64_t i;

    model = (struct model){.tmp = *state, .random = seed};
    model.nodes[0] =
        (struct node){.is_used = true, .is_dir = true, .ino = model.tmp->dir};
    print_message("RETILE_SEED=%llu\n", (unsigned long long)seed);
    for (i = 0; i < n; i++) {
        operate(&model);
        if (i % 64 == 63) {
            compare(&model);
        }
    }
    compare(&model);
    print_message("the server died %u times\n", model.n_died);
    end(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        saves_test(test_random_operations_agree_with_a_tree_in_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
