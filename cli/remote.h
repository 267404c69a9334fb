/* The halves of verbs that ask the coordinator, when no --store is given. */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include "cli/cli.h"

struct cli_rescale_args {
    const char *job;
    const char *to;       /* NULL: the layout stays */
    const char *devices;  /* HOST/0,HOST/1; NULL: any */
    const char *deadline; /* seconds; NULL: the coordinator's */
    bool is_dry_run;
    bool wants_wait;
    bool wants_json;
};
enum cli_exit cli_rescale_remote(const struct cli_rescale_args *args);

struct cli_version_args {
    const char *what; /* ls, show, pin, unpin, release, rollback */
    const char *job;
    uint64_t number; /* 0: the newest */
    const char *why; /* of pin; NULL: not said */
    bool wants_json;
};
enum cli_exit cli_version_remote(const struct cli_version_args *args);

#endif
