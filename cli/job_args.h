/* What the verbs that speak of jobs share. */
#ifndef CLI_JOB_ARGS_H
#define CLI_JOB_ARGS_H

#include <retile/v1/types.pb-c.h>

#include "cli/connect.h"

/* A whole number from @min to @max; NULL: 0.  @what names it: "--keep". */
enum base_code cli_parse_count(const char *what,
                               const char *text,
                               uint64_t min,
                               uint64_t max,
                               uint64_t *ret,
                               struct base_err *err) BASE_MUST_CHECK;

/* The text of a spec: a file's contents, or a short form as it is.  *ret is
 * given.  Errors: BASE_NOT_FOUND, BASE_LIMIT, BASE_IO, BASE_NO_MEM */
enum base_code cli_layout_text(const char *what,
                               const char *spec,
                               char **ret,
                               struct base_err *err) BASE_MUST_CHECK;

/* The newest step that a job has saved or started from; 0: none. */
uint64_t cli_job_step(const Retile__V1__Job *job);

/* One line per version. */
void cli_versions_print(Retile__V1__Version *const *versions, size_t n);

#endif
