/* The agent's configuration: base/settings.h, with our table. */
#ifndef WORKER_OPTIONS_H
#define WORKER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/log.h"
#include "base/str.h"

struct worker_options {
    const char *coordinator; /* an address, proto/rpc.h */
    const char *store;
    const char *run; /* absolute, as store, mounts, fuse */
    const char *mounts;
    const char *fuse;    /* the program */
    const char *host;    /* NULL: the machine's name */
    const char *address; /* NULL: 127.0.0.1 */
    const char *cudart;  /* NULL: the usual names */
    const char *tls_ca;  /* NULL: no TLS; all three, or none */
    const char *tls_cert;
    const char *tls_key;
    const char *tls_name;   /* NULL: the address's host */
    const char *token_file; /* NULL: no token */
    bool has_user;          /* the training processes are another's */
    uid_t uid;              /* theirs */
    gid_t gid;
    bool has_budget; /* a store is made when there is none */
    enum base_level log_level;
    enum base_log_format log_format;
    uint32_t n_slots;         /* 0: GPUs */
    uint32_t device_check_s;  /* 0: never */
    uint64_t budget_bytes;    /* 0: what the file system has */
    char *token;              /* of token_file */
    struct base_arena *arena; /* the texts' */
};
void worker_options_done(struct worker_options *options);

/* *ret_is_done: --help, --version or --print-config was answered; *ret is as it
 * was.
 * Errors: as base_settings_read(); of what a value names, too */
enum base_code worker_options_read(int argc,
                                   char **argv,
                                   struct worker_options *ret,
                                   bool *ret_is_done,
                                   struct base_err *err) BASE_MUST_CHECK;

#endif
