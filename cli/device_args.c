#include "cli/device_args.h"

#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/num.h"
#include "base/str.h"

enum { MAX_DEVICES = 65536 };

enum base_code cli_device_parse(const char *text,
                                size_t n,
                                char **ret_host,
                                uint32_t *ret_index,
                                bool *ret_all,
                                struct base_err *err)
{
    const char *slash = memchr(text, '/', n);
    size_t n_host = slash == NULL ? n : (size_t)(slash - text);
    uint64_t index = 0;

    if (n_host == 0 ||
        (slash != NULL &&
         (!base_parse_u64((struct base_str){slash + 1, n - n_host - 1},
                          &index) ||
          index >= MAX_DEVICES))) {
        return base_fail(err, BASE_BAD_ARG,
                         "`%.*s`: a device is HOST/INDEX, as in node0/3",
                         (int)(n > 200 ? 200 : n), text);
    }
    *ret_host = strndup(text, n_host);
    if (*ret_host == NULL) {
        return base_fail(err, BASE_NO_MEM, "cannot name a device");
    }
    *ret_index = (uint32_t)index;
    *ret_all = slash == NULL;
    return BASE_OK;
}

void cli_devices_done(struct cli_devices *devices)
{
    for (size_t i = 0; devices->hosts != NULL && i < devices->n; i++) {
        free(devices->hosts[i]);
    }
    free(devices->hosts);
    free(devices->items);
    free(devices->list);
    *devices = (struct cli_devices){0};
}

static enum base_code add(struct cli_devices *devices,
                          const char *text,
                          size_t n,
                          struct base_err *err)
{
    Retile__V1__Device *device = &devices->items[devices->n];
    bool is_all = false;

    retile__v1__device__init(device);
    BASE_TRY(cli_device_parse(text, n, &devices->hosts[devices->n],
                              &device->index, &is_all, err));
    device->host = devices->hosts[devices->n];
    devices->list[devices->n++] = device;
    if (is_all) {
        return base_fail(err, BASE_BAD_ARG,
                         "`%s`: a device is HOST/INDEX, as in node0/3",
                         device->host);
    }
    return BASE_OK;
}

enum base_code cli_devices_parse(const char *text,
                                 struct cli_devices *ret,
                                 struct base_err *err)
{
    enum base_code rc = BASE_OK;
    size_t max = 1;

    for (const char *at = text; *at != '\0'; at++) {
        max += *at == ',';
    }
    if (max > MAX_DEVICES) {
        return base_fail(err, BASE_BAD_ARG, "more than %d devices",
                         MAX_DEVICES);
    }
    *ret = (struct cli_devices){0};
    ret->items = calloc(max, sizeof(*ret->items));
    ret->list = calloc(max, sizeof(Retile__V1__Device *));
    ret->hosts = calloc(max, sizeof(*ret->hosts));
    if (ret->items == NULL || ret->list == NULL || ret->hosts == NULL) {
        cli_devices_done(ret);
        return base_fail(err, BASE_NO_MEM, "cannot list devices");
    }
    for (size_t i = 0; i < max && rc == BASE_OK; i++) {
        size_t n = strcspn(text, ",");

        rc = add(ret, text, n, err);
        text += n + (text[n] == ',');
    }
    if (rc != BASE_OK) {
        cli_devices_done(ret);
    }
    return rc;
}
