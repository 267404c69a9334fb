/* What the verbs that work on a store share: --store, --job, a number. */
#ifndef CLI_STORE_ARGS_H
#define CLI_STORE_ARGS_H

#include "cli/cli.h"
#include "store/change.h"

/* --store ROOT and --job JOB, which both must be given. */
enum base_code cli_open_store(const char *store,
                              const char *job,
                              struct store_root **ret,
                              struct base_err *err) BASE_MUST_CHECK;

/* Print what was survived as a line on stderr. */
void cli_warn_of_store(struct store_root *root);

/* A version's number, from 1; NULL: 0, the current one.  @what names it in the
 * error: "--version". */
enum base_code cli_parse_version(const char *what,
                                 const char *text,
                                 uint64_t *ret,
                                 struct base_err *err) BASE_MUST_CHECK;

/* Say that JOB@N was made: "JOB@7", or JSON with what it cost. */
enum cli_exit cli_tell_version(const char *verb,
                               const char *job,
                               uint64_t number,
                               int64_t begin_ns,
                               bool wants_json);

#endif
