/* Listing saved directories.  A handle holds nothing: the position says where
 * to go on. */
#include "fuse/ops_save_impl.h"

#include <errno.h>
#include <stdlib.h>

#include "fuse/ops_save.h"

/* Positions: ".", "..", then what fs_saves_list gives, past these. */
enum { AFTER_SELF = 1, AFTER_PARENT = 2 };

struct save_listing {
    fuse_req_t req;
    fuse_ino_t dir;
    bool has_attrs; /* readdirplus */
    char *bytes;
    size_t n_bytes;
    size_t max_bytes;
    BASE_VEC(uint64_t) given; /* that the kernel takes for a LOOKUP each */
};

/* False when it does not fit. */
static bool add(struct save_listing *listing,
                const char *name,
                const struct fuse_entry_param *entry,
                uint64_t next)
{
    char *at = listing->bytes + listing->n_bytes;
    size_t room = listing->max_bytes - listing->n_bytes;
    size_t n = listing->has_attrs
                   ? fuse_add_direntry_plus(listing->req, at, room, name, entry,
                                            (off_t)next)
                   : fuse_add_direntry(listing->req, at, room, name,
                                       &entry->attr, (off_t)next);

    if (n > room) {
        return false;
    }
    listing->n_bytes += n;
    return true;
}

static bool add_plus(struct save_listing *listing,
                     const char *name,
                     struct fuse_entry_param *entry,
                     uint64_t next)
{
    struct fs *fs = fs_of(listing->req);
    struct fs_saved saved;

    if (!base_vec_reserve(&listing->given, listing->given.n + 1) ||
        fs_saves_lookup(fs->saves, NULL, listing->dir, name, &saved) != 0) {
        return true; /* removed meanwhile: left out */
    }
    fs_save_entry(fs, &saved, entry);
    if (!add(listing, name, entry, next)) {
        fs_saves_forget(fs->saves, saved.ino, 1);
        return false;
    }
    listing->given.items[listing->given.n++] = saved.ino;
    return true;
}

static bool add_child(
    void *ctx, const char *name, uint64_t ino, mode_t type, uint64_t position)
{
    struct save_listing *listing = ctx;
    struct fuse_entry_param entry = {.attr = {.st_ino = ino, .st_mode = type}};
    uint64_t next = position + AFTER_PARENT;

    return listing->has_attrs ? add_plus(listing, name, &entry, next)
                              : add(listing, name, &entry, next);
}

static int fill(struct save_listing *listing, uint64_t position)
{
    const struct fuse_entry_param self = {
        .attr = {.st_ino = listing->dir, .st_mode = S_IFDIR}};

    if (position < AFTER_SELF && !add(listing, ".", &self, AFTER_SELF)) {
        return 0;
    }
    if (position < AFTER_PARENT && !add(listing, "..", &self, AFTER_PARENT)) {
        return 0;
    }
    return fs_saves_list(fs_of(listing->req)->saves, listing->dir,
                         position > AFTER_PARENT ? position - AFTER_PARENT : 0,
                         add_child, listing);
}

static void give_back(struct fs *fs, const struct save_listing *listing)
{
    size_t i;

    for (i = 0; i < listing->given.n; i++) {
        fs_saves_forget(fs->saves, listing->given.items[i], 1);
    }
}

static void
list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, bool has_attrs)
{
    BASE_AUTO_MEM char *bytes = malloc(size);
    struct save_listing listing = {.req = req,
                                   .dir = ino,
                                   .has_attrs = has_attrs,
                                   .bytes = bytes,
                                   .max_bytes = size};
    struct fs *fs = fs_of(req);
    int rc = bytes == NULL ? ENOMEM : offset < 0 ? EINVAL : 0;

    if (rc == 0) {
        rc = fill(&listing, (uint64_t)offset);
    }
    if (rc != 0) {
        give_back(fs, &listing);
        save_reply_err(req, "save: not listed", ino, NULL, rc);
    } else if (fuse_reply_buf(req, bytes, listing.n_bytes) != 0) {
        give_back(fs, &listing); /* interrupted */
    }
    base_vec_done(&listing.given);
}

void save_readdir(fuse_req_t req,
                  fuse_ino_t ino,
                  size_t size,
                  off_t offset,
                  struct fuse_file_info *fi)
{
    (void)fi;
    list(req, ino, size, offset, false);
}

void save_readdirplus(fuse_req_t req,
                      fuse_ino_t ino,
                      size_t size,
                      off_t offset,
                      struct fuse_file_info *fi)
{
    (void)fi;
    list(req, ino, size, offset, true);
}

void save_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    (void)fuse_reply_open(req, fi);
}

void save_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    (void)fi;
    (void)fuse_reply_err(req, 0);
}

/* Names are not lost when the server is killed; a commit syncs what it makes
 * a version of. */
void save_fsyncdir(fuse_req_t req,
                   fuse_ino_t ino,
                   int only_data,
                   struct fuse_file_info *fi)
{
    (void)ino;
    (void)only_data;
    (void)fi;
    (void)fuse_reply_err(req, 0);
}
