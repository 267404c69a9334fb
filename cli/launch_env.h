/* What a rank of a generation is started with. */
#ifndef CLI_LAUNCH_ENV_H
#define CLI_LAUNCH_ENV_H

#include <retile/v1/host.pb-c.h>

#include "base/err.h"

/* @environ (ended by NULL) with what the @i-th rank of @order must know in
 * place of what had these names: RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE
 * MASTER_ADDR MASTER_PORT RETILE_DIR RETILE_GENERATION RETILE_LOAD RETILE_MESH
 * RETILE_COORDS RETILE_DEVICE RETILE_JOB, and CUDA_VISIBLE_DEVICES for a "cuda"
 * device.
 * Ownership: *ret is given; free with cli_env_free.
 * Errors:    BASE_NO_MEM */
enum base_code cli_env_create(const Retile__V1__LaunchOrder *order,
                              size_t i,
                              const char *job,
                              char *const *environment,
                              char ***ret,
                              struct base_err *err) BASE_MUST_CHECK;
void cli_env_free(char **env); /* NULL is fine */

#endif
