/* Write a source's tree under a layout, as convert and export do. */
#ifndef CLI_WRITE_TREE_H
#define CLI_WRITE_TREE_H

#include "cli/cli.h"
#include "store/copy.h"
#include "store/source.h"

struct cli_write_tree {
    const char *verb;    /* "convert" */
    const char *doing;   /* "converting" */
    const char *dst;     /* must not exist */
    const char *to;      /* --to; NULL: the layout the source is in */
    const char *threads; /* --threads, or NULL */
    const char *memory;  /* --memory, or NULL */
    bool wants_verify;
    bool wants_json;
    enum base_code (*open)(void *ctx,
                           struct store_source **ret,
                           struct base_err *err);
    void *ctx;
};

/* DST appears by one rename, or an error is told and nothing is left. */
enum cli_exit cli_write_tree(const struct cli_write_tree *job);

/* --threads and --memory into @copy; NULL: not given. */
enum base_code cli_parse_copy(const char *threads,
                              const char *memory,
                              struct store_copy_options *copy,
                              struct base_err *err) BASE_MUST_CHECK;

#endif
