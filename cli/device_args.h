/* Devices as they are named on a command line: HOST/INDEX. */
#ifndef CLI_DEVICE_ARGS_H
#define CLI_DEVICE_ARGS_H

#include <retile/v1/types.pb-c.h>
#include <stdbool.h>

#include "base/err.h"

struct cli_devices {
    Retile__V1__Device *items; /* host and index are set */
    Retile__V1__Device **list; /* points into items */
    char **hosts;              /* what the items' hosts point at */
    size_t n;
};
void cli_devices_done(struct cli_devices *devices);

/* "HOST/0,HOST/1".  Errors: BASE_BAD_ARG, BASE_NO_MEM */
enum base_code cli_devices_parse(const char *text,
                                 struct cli_devices *ret,
                                 struct base_err *err) BASE_MUST_CHECK;

/* "HOST/3", or "HOST": all of its devices.  *ret_host is given.
 * Errors: BASE_BAD_ARG, BASE_NO_MEM */
enum base_code cli_device_parse(const char *text,
                                size_t n,
                                char **ret_host,
                                uint32_t *ret_index,
                                bool *ret_all,
                                struct base_err *err) BASE_MUST_CHECK;

#endif
