/* The coordinator's services: who may call what, and calls into the driver's
 * queue or the watch. */
#ifndef COORDINATOR_SERVICES_H
#define COORDINATOR_SERVICES_H

#include <stdbool.h>

#include "coordinator/driver.h"
#include "coordinator/watch.h"
#include "proto/rpc_server.h"

/* What a caller may be, by the URI in its certificate:
 *   retile://CLUSTER/agent/NAME     Agents, as host NAME
 *   retile://CLUSTER/operator/NAME  all but Agents
 *   retile://CLUSTER/viewer/NAME    what changes nothing
 * One without a certificate is on a Unix socket or on loopback: if it shows the
 * token, or there is none to show, it may all. */
enum coord_role {
    COORD_ROLE_VIEWER = 1,
    COORD_ROLE_OPERATOR,
    COORD_ROLE_AGENT,
};

struct coord_access {
    const char *cluster; /* empty: any */
    const char *token;   /* empty: none is asked for */
};

/* @i counts the URIs that a certificate has.  Pure.  @role is a method's.
 * @ret_host (may be NULL): of an agent, the host, inside @uri. */
bool coord_access_allows(const struct coord_access *access,
                         const char *uri,
                         unsigned role,
                         const char **ret_host);

/* An rpc_authorize_fn; @ctx is a struct coord_access.
 * Errors: BASE_DENIED */
enum base_code coord_access_authorize(void *ctx,
                                      const struct rpc_peer *peer,
                                      const struct rpc_method *method,
                                      struct base_err *err) BASE_MUST_CHECK;

struct coord_services;
void coord_services_free(struct coord_services *services);
BASE_AUTO_DEFINE(coord_services);

/* All is borrowed until coord_services_free, which comes after the server's
 * end.  Errors: BASE_NO_MEM */
enum base_code coord_services_create(struct coord_driver *driver,
                                     struct coord_watch *watch,
                                     struct persist *persist,
                                     const struct coord_access *access,
                                     struct coord_services **ret,
                                     struct base_err *err) BASE_MUST_CHECK;

/* Errors: those of rpc_server_add_service */
enum base_code coord_services_add(struct coord_services *services,
                                  struct rpc_server *server,
                                  struct base_err *err) BASE_MUST_CHECK;

#endif
