/* An agent's directories and its socket, and who may reach them.
 *
 *               alone        with a user (--user): processes of another
 *   RUN         0700         0711, to be passed through
 *   RUN/jobs    0700         0700
 *   RUN/mnt     0700         0711; a mount is root's, its files the user's
 *   agent.sock  RUN keeps    the user's, 0600.  It is made in RUN/own, 0700, and
 *               others out   shows in RUN once it is so: nobody else can connect
 *                            in between, nor is it ever away at a restart
 *
 * The user is trusted with the host's jobs, and with nothing else: what it says is
 * no reason to kill or adopt other users' processes. */
#ifndef WORKER_PLACES_H
#define WORKER_PLACES_H

#include "base/err.h"

struct worker_agent;

/* Make them; sets the agent's socket, listen, mounts and records_fd.
 * Errors: BASE_BAD_ARG  a socket's name would be too long
 *         BASE_DENIED   RUN is not only ours, though a user is to pass
 *         BASE_IO and others  with the reason */
enum base_code worker_places_make(struct worker_agent *agent,
                                  struct base_err *err) BASE_MUST_CHECK;
/* The agent listens: its user may connect. */
enum base_code worker_places_show(const struct worker_agent *agent,
                                  struct base_err *err) BASE_MUST_CHECK;
/* It does not any more. */
void worker_places_hide(const struct worker_agent *agent);

#endif
