/* A launcher's call to its agent: Local.Launch, for as long as we live.
 *
 * Orders are whole, so only the newest is kept.  A call that ends is made again,
 * after 100 ms to 2 s, and the newest report goes with it.  The RPC layer's thread
 * hands over under the lock and rings; all functions are the main thread's. */
#ifndef CLI_LAUNCH_LINK_H
#define CLI_LAUNCH_LINK_H

#include <retile/v1/host.pb-c.h>
#include <stdbool.h>

#include "base/auto.h"
#include "base/err.h"

struct cli_link;

/* Ends the call, waiting up to 500 ms until the agent has what was reported. */
void cli_link_free(struct cli_link *link);
BASE_AUTO_DEFINE(cli_link);

/* Does not call yet; cli_link_tick does.
 * Errors: BASE_BAD_ARG (the address), BASE_NO_MEM, BASE_IO */
enum base_code cli_link_open(const char *address,
                             struct cli_link **ret,
                             struct base_err *err) BASE_MUST_CHECK;

/* Readable when there is something to take, or the call has ended. */
int cli_link_fd(const struct cli_link *link);

/* Call when it is time to.  *ret_wait_ns: until when, at most, to be asked again;
 * -1 when nothing is due.
 * Errors: BASE_EXISTS  another launcher of this job has taken over
 *         others       the agent refuses us, which will not change */
enum base_code cli_link_tick(struct cli_link *link,
                             int64_t now_ns,
                             int64_t *ret_wait_ns,
                             struct base_err *err) BASE_MUST_CHECK;

/* The newest order that was not taken yet; NULL: none.  Given; free with
 * retile__v1__launch_order__free_unpacked. */
Retile__V1__LaunchOrder *cli_link_take(struct cli_link *link);

/* Forget what was not taken and hear nothing more until the call was made again:
 * then the order is the one of that time. */
void cli_link_renew(struct cli_link *link);

/* Say what is, from now on. */
void cli_link_report(struct cli_link *link,
                     const Retile__V1__LaunchReport *report);

/* Since when there is no call; 0: there is one.  And why not. */
int64_t cli_link_lost_ns(const struct cli_link *link);
const char *cli_link_why(const struct cli_link *link);

#endif
