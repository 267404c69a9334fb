/* Our structs as messages. */
#ifndef PROTO_DESCRIBE_H
#define PROTO_DESCRIBE_H

#include <retile/v1/types.pb-c.h>

struct ptc_spec;
struct store_version;

/* What @version is (also one that is only voted for, store_vote_open); given,
 * free with rpc_message_free.  NULL: no memory. */
Retile__V1__Version *rpc_version_describe(const struct store_version *version);
/* "pp=2,tp=4" of a spec, given; empty for one rank. */
char *rpc_mesh_text(const struct ptc_spec *spec);

#endif
