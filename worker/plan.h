/* What a rescale would be, without making it.  Owner: the store's thread. */
#ifndef WORKER_PLAN_H
#define WORKER_PLAN_H

#include "store/root.h"
#include "store/source.h"
#include "worker/message.h"

/* The spec that @to means for an open source: a spec's text, a short form, or
 * sizes of axes ("tp=2,pp=1": the others keep theirs).
 * Errors: BASE_BAD_ARG, and what is wrong with a text */
enum base_code worker_spec_for(const char *to,
                               const struct store_source *source,
                               struct ptc_spec **ret,
                               struct base_err *err) BASE_MUST_CHECK;

/* Bind the layout that @wanted asks for to its version of @job: within a host
 * nothing is moved or copied.  What is wrong with it is in the answer.  Given
 * (rpc_message_free); NULL: no memory. */
Retile__V1__StatusPlan *worker_plan_make(const struct store_root *root,
                                         const char *job,
                                         const Retile__V1__TargetPlan *wanted);

#endif
