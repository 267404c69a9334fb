/* What the files of fuse/saves.h share.
 *
 * One lock guards all of it.  It is held over short system calls on names
 * (open, stat, rename), never over bytes: who reads, writes, truncates or
 * syncs pins the node, which keeps it and its descriptor. */
#ifndef FUSE_SAVES_IMPL_H
#define FUSE_SAVES_IMPL_H

#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/str.h"
#include "fuse/saves.h"
#include "fuse/saves_ledger.h"

enum {
    FS_SAVES_STEPS = 4096,     /* that are kept; sealed ones are small */
    FS_SAVES_NODES = 1000000,  /* files and directories in staging */
    FS_SAVES_BLOCK = 1u << 20, /* what a writer should write at a time */
};

struct saved_node {
    uint64_t ino;
    uint64_t generation;     /* tells it from an earlier file of that number */
    struct saved_node *next; /* in its hash chain */
    struct saved_node *parent; /* NULL: a step's directory, or nowhere */
    struct saved_step *step;   /* NULL: of none any more */
    char *name;                /* in its parent; NULL with it */
    uint32_t slot;             /* in the ledger, or FS_LEDGER_NONE */
    uint32_t n_children;       /* nodes that have it as parent */
    uint32_t n_pins;
    int fd; /* -1: not open.  Of a file with handles or pins */
    bool is_dir;
    bool is_gone; /* its file is gone/INO */
};

/* One step's record is saves_record.c's. */
struct saved_step {
    uint64_t step;
    uint64_t generation;
    uint64_t version;
    uint64_t attempt;
    uint64_t sequence; /* never used for another one; for link numbers */
    enum fs_step_state state;
    struct saved_node *root; /* lives as long as it */
    int record_fd;
    bool is_orphan;   /* frozen by a dead server */
    bool is_detached; /* its directory is gone, or another step's */
    bool is_full;
    uint32_t n_writers; /* handles of its nodes */
    uint32_t n_changes; /* pins that write, and changes of names under way */
    uint64_t n_entries; /* files and directories below it */
    int64_t touched_ns;
    struct timespec time; /* of the record */
    char **names;         /* of a sealed one, at its top; sorted */
    size_t n_names;
};

struct saved_listing {
    uint64_t dir;
    uint64_t used; /* when; 0: free */
    uint32_t n_users;
    size_t n;
    struct saved_entry *entries; /* by position */
    char *names;
};

struct saved_entry {
    uint64_t position;
    uint64_t ino;
    size_t name; /* offset in names */
    mode_t type;
};

enum { FS_SAVED_LISTINGS = 16 };

struct fs_saves {
    int dir_fd;
    struct fs_ledger *ledger;
    struct fs_saves_guard guard;
    struct fs_saves_backing backing;
    bool has_leases; /* of the file system: who maps a file can be found */

    pthread_mutex_t lock; /* of all below */
    bool is_ending;       /* nobody is waited for any more; guarded by lock */
    pthread_cond_t idle;  /* writers or changes of a frozen step ended */
    struct saved_node **chains;
    size_t n_chains; /* a power of two */
    size_t n_nodes;
    struct saved_step *steps[FS_SAVES_STEPS]; /* by step, then generation */
    uint32_t n_steps;
    uint64_t next_sequence;
    uint64_t revoked;    /* generations before it are */
    uint64_t n_entries;  /* of all steps */
    bool was_told_nodes; /* that there are too many */
    bool is_full;        /* when it was last looked */
    int64_t looked_ns;   /* when, at those who write */

    pthread_mutex_t room_lock; /* of the room; taken alone */
    uint64_t room_bytes;       /* less what was charged since */
    uint64_t charged_bytes;    /* since it was asked for */
    int64_t room_ns;           /* when; 0: never */

    pthread_mutex_t list_lock; /* of the listings; taken alone */
    struct saved_listing listings[FS_SAVED_LISTINGS];
    uint64_t n_listed;
};

struct saved_path {
    char room[PATH_MAX];
    const char *text; /* in room */
};

static inline void saves_lock(struct fs_saves *saves)
{
    (void)pthread_mutex_lock(&saves->lock); /* not recursive: cannot fail */
}

static inline void saves_unlock(struct fs_saves *saves)
{
    (void)pthread_mutex_unlock(&saves->lock);
}

int64_t saves_now_ns(void); /* monotonic */
int saves_errno(enum base_code code);
void saves_tell(const struct fs_saves *saves,
                const char *path,
                const char *reason);

/* Nodes (saves_node.c).  Lock held. */

struct saved_node *saves_find(const struct fs_saves *saves, uint64_t ino);
/* A node for the file that @stat was taken of, found or made; it is in no use,
 * so end with saves_hold or saves_collect.  NULL: no memory. */
struct saved_node *saves_node_for(struct fs_saves *saves,
                                  struct saved_node *parent,
                                  const char *name,
                                  const struct stat *stat,
                                  uint64_t generation);
/* A node in the table, without parent and step.  NULL: no memory. */
struct saved_node *saves_node_new(struct fs_saves *saves,
                                  uint64_t ino,
                                  uint64_t generation,
                                  bool is_dir);
/* Nothing leads to it from above any more.  Its step is none. */
void saves_node_detach(struct fs_saves *saves, struct saved_node *node);
/* @name: taken. */
void saves_node_move(struct fs_saves *saves,
                     struct saved_node *node,
                     struct saved_node *parent,
                     char *name);
/* Forget @node, and its parents, when nothing needs them.  A descriptor to be
 * closed once the lock is free, which may take long; or -1. */
int saves_collect(struct fs_saves *saves, struct saved_node *node);
/* Remove from the table and free, whatever holds it. */
void saves_node_remove(struct fs_saves *saves, struct saved_node *node);

const struct fs_ledger_slot *saves_counts(const struct fs_saves *saves,
                                          const struct saved_node *node);
/* Add to the counts of @node; below 0 is 0.  A turn that has counted already
 * changes nothing.  ENOSPC */
struct saved_delta {
    int64_t lookups;
    int open;
    int write;
    uint32_t backing; /* set, when this is the first handle */
};
int saves_count(struct fs_saves *saves,
                struct saved_node *node,
                struct fs_turn *turn,
                const struct saved_delta *delta);
static inline bool saves_is_known(const struct fs_saves *saves,
                                  const struct saved_node *node)
{
    const struct fs_ledger_slot *counts = saves_counts(saves, node);

    return counts->n_lookups != 0 || counts->n_open != 0;
}

/* The path of @node, or of @name in it.  ENOENT, ENAMETOOLONG */
int saves_path(const struct saved_node *node,
               const char *name,
               struct saved_path *ret);
/* stat of a name below @dir_fd, of it itself when that is "".  *ret_generation
 * (may be NULL) tells the file from an earlier one of that number: it is made of
 * when it was made. */
int saves_stat(int dir_fd,
               const char *path,
               struct stat *ret,
               uint64_t *ret_generation);
/* What is shown of @node. */
int saves_node_attr(const struct fs_saves *saves,
                    const struct saved_node *node,
                    struct stat *ret);
void saves_adjust(const struct saved_node *node, struct stat *ret);
/* Remove all nodes that nothing needs. */
void saves_collect_all(struct fs_saves *saves);
/* Visit all nodes; @fn may remove the one that it is given. */
typedef void (*saves_visit_fn)(struct fs_saves *saves,
                               struct saved_node *node,
                               void *ctx);
void saves_each(struct fs_saves *saves, saves_visit_fn fn, void *ctx);
/* Make @node's file gone/INO.  @is_link: by a second name. */
int saves_to_gone(struct fs_saves *saves,
                  struct saved_node *node,
                  bool is_link);
/* Open @node's file for reading and writing, if it is not. */
int saves_node_open(struct fs_saves *saves, struct saved_node *node);
void saves_gone_name(uint64_t ino, char ret[32]);

/* Can saves_is_mapped tell? */
bool saves_has_leases(int dir_fd);
/* May the file of @node, which nobody has open for writing, be written through
 * a map all the same?  The kernel maps the file itself where it passes on, and
 * such a map outlives the handle.  Closes the node's descriptor. */
bool saves_is_mapped(struct fs_saves *saves, struct saved_node *node);

/* May something of @node's step change?  EROFS, EBUSY. */
int saves_may_change(const struct fs_saves *saves,
                     const struct saved_node *node);
static inline bool saves_is_sealed(const struct saved_node *node)
{
    return node->step != NULL && node->step->state == FS_STEP_SEALED;
}

/* Names or bytes of @step (NULL: of none) were changed. */
void saves_touched(struct saved_step *step);

/* Room (saves_room.c).  Lock not held.  ENOSPC */
int saves_charge(struct fs_saves *saves, uint64_t n_bytes);

/* Handles (saves_file.c). */

/* Lock held.  Count a handle, and lookups with it.  The node is collected when
 * it fails. */
int saves_open_node(struct fs_saves *saves,
                    struct fs_turn *turn,
                    struct saved_node *node,
                    unsigned n_lookups,
                    int flags,
                    uint32_t *ret_backing);
/* Lock not held.  What O_TRUNC asks for; the handle (and the lookups) are
 * given back when it fails. */
int saves_truncate_opened(struct fs_saves *saves,
                          uint64_t ino,
                          unsigned n_lookups,
                          int flags);

/* Records (saves_record.c). */

int saves_record_make(int dir_fd, struct saved_step *step, struct stat *ret);
int saves_record_write(const struct saved_step *step);
/* EBADMSG: it is no whole record. */
int saves_record_read(int dir_fd, const char *name, struct saved_step *ret);
void saves_record_remove(int dir_fd, const struct saved_step *step);
void saves_step_free(struct saved_step *step);

/* Restoring (saves_restore.c). */
enum base_code saves_restore(struct fs_saves *saves,
                             struct base_err *err) BASE_MUST_CHECK;

/* Steps (saves_step.c). */
int saves_step_insert(struct fs_saves *saves, struct saved_step *step);
/* The step of that sequence, if it is still there. */
struct saved_step *saves_step_that(const struct fs_saves *saves,
                                   uint64_t sequence);
/* When was what is open last written? */
void saves_look_at_writers(struct fs_saves *saves);
struct saved_step *saves_step_open(const struct fs_saves *saves, uint64_t step);

/* Links in sealed steps (saves_link.c). */
uint64_t saves_link_ino(const struct saved_step *step, const char *name);
struct saved_step *saves_link_step(const struct fs_saves *saves,
                                   uint64_t ino,
                                   const char **ret_name);
void saves_link_attr(const struct saved_step *step,
                     uint64_t ino,
                     const char *name,
                     struct stat *ret);

#endif
