#include "worker/inventory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "proto/describe.h"
#include "proto/rpc.h"

enum { MAX_KNOWN = 1 << 16 };

struct known {
    char *job;
    Retile__V1__Version *version;
    bool is_seen; /* in the list that is being made */
};

struct worker_inventory {
    BASE_VEC(struct known) all;
};

void worker_versions_done(struct worker_versions *versions)
{
    for (size_t i = 0; i < versions->n; i++) {
        rpc_message_free(&versions->items[i]->base);
    }
    free(versions->items);
    *versions = (struct worker_versions){0};
}

static void known_done(struct known *known)
{
    free(known->job);
    if (known->version != NULL) {
        rpc_message_free(&known->version->base);
    }
}

void worker_inventory_free(struct worker_inventory *inventory)
{
    if (inventory == NULL) {
        return;
    }
    for (size_t i = 0; i < inventory->all.n; i++) {
        known_done(&inventory->all.items[i]);
    }
    base_vec_done(&inventory->all);
    free(inventory);
}

struct worker_inventory *worker_inventory_create(void)
{
    return calloc(1, sizeof(struct worker_inventory));
}

static struct known *
find(struct worker_inventory *inventory, const char *job, uint64_t number)
{
    for (size_t i = 0; i < inventory->all.n; i++) {
        struct known *known = &inventory->all.items[i];

        if (known->version->number == number && strcmp(known->job, job) == 0) {
            return known;
        }
    }
    return NULL;
}

static enum base_code learn(struct worker_inventory *inventory,
                            const struct store_root *root,
                            const char *job,
                            uint64_t number,
                            struct known **ret,
                            struct base_err *err)
{
    BASE_AUTO(store_version) version = NULL;
    struct known known = {0};

    BASE_TRY(store_version_open(root, job, number, &version, err));
    if (inventory->all.n >= MAX_KNOWN) {
        return base_fail(err, BASE_LIMIT, "more than %d versions", MAX_KNOWN);
    }
    known.job = strdup(job);
    known.version = rpc_version_describe(version);
    if (known.job == NULL || known.version == NULL ||
        !base_vec_push(&inventory->all, known)) {
        known_done(&known);
        return base_fail(err, BASE_NO_MEM, "%s: cannot list versions", job);
    }
    *ret = &inventory->all.items[inventory->all.n - 1];
    return BASE_OK;
}

/* Forget those of @job; with @is_all also the ones that were just seen. */
static void
drop(struct worker_inventory *inventory, const char *job, bool is_all)
{
    size_t n = 0;

    for (size_t i = 0; i < inventory->all.n; i++) {
        struct known *known = &inventory->all.items[i];

        if (strcmp(known->job, job) == 0 && (is_all || !known->is_seen)) {
            known_done(known);
        } else {
            inventory->all.items[n++] = *known;
        }
    }
    inventory->all.n = n;
}

void worker_inventory_forget(struct worker_inventory *inventory,
                             const char *job)
{
    drop(inventory, job, true);
}

/* A copy of what is known, with its pin of now. */
static enum base_code add(struct worker_versions *to,
                          const struct store_root *root,
                          const struct known *known,
                          struct base_err *err)
{
    BASE_AUTO_MEM char *why = NULL;
    Retile__V1__Version said = *known->version;
    Retile__V1__Version *copy;

    BASE_TRY(store_version_pin_why(root, known->job, said.number, &why, err));
    if (why != NULL) {
        said.pinned = why;
    }
    copy = rpc_message_copy(&said.base);
    if (copy == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot list versions",
                         known->job);
    }
    to->items[to->n++] = copy;
    return BASE_OK;
}

static enum base_code fill(struct worker_inventory *inventory,
                           const struct store_root *root,
                           const char *job,
                           const uint64_t *numbers,
                           size_t n,
                           struct worker_versions *ret,
                           char **ret_damaged,
                           struct base_err *err)
{
    for (size_t i = 0; i < n; i++) {
        struct known *known = find(inventory, job, numbers[i]);
        struct base_err why = {0};
        enum base_code code = BASE_OK;

        if (known == NULL) {
            code = learn(inventory, root, job, numbers[i], &known, &why);
        }
        if (code == BASE_NO_MEM) {
            return base_fail(err, code, "%s", why.text);
        }
        if (code == BASE_OK && known != NULL) {
            known->is_seen = true;
            BASE_TRY(add(ret, root, known, err));
        } else if (code != BASE_NOT_FOUND && *ret_damaged == NULL) {
            *ret_damaged = strdup(why.text);
        }
    }
    return BASE_OK;
}

enum base_code worker_inventory_list(struct worker_inventory *inventory,
                                     const struct store_root *root,
                                     const char *job,
                                     struct worker_versions *ret,
                                     char **ret_damaged,
                                     struct base_err *err)
{
    struct worker_versions versions = {0};
    BASE_AUTO_MEM uint64_t *numbers = NULL;
    BASE_AUTO_MEM char *damaged = NULL;
    size_t n = 0;
    enum base_code code = store_root_versions(root, job, &numbers, &n, err);

    if (code == BASE_NOT_FOUND) {
        code = BASE_OK;
        n = 0;
    }
    BASE_TRY(code);
    versions.items = calloc(n + 1, sizeof(struct Retile__V1__Version *));
    if (versions.items == NULL) {
        return base_fail(err, BASE_NO_MEM, "%s: cannot list versions", job);
    }
    for (size_t i = 0; i < inventory->all.n; i++) {
        inventory->all.items[i].is_seen = false;
    }
    code = fill(inventory, root, job, numbers, n, &versions, &damaged, err);
    if (code != BASE_OK) {
        worker_versions_done(&versions);
        return code;
    }
    drop(inventory, job, false);
    *ret = versions;
    *ret_damaged = base_steal(&damaged);
    return BASE_OK;
}
