#include "worker/host.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/num.h"

bool worker_host_name_is_good(const char *name)
{
    const size_t n = strlen(name);

    if (n == 0 || n >= WORKER_HOST_NAME_BYTES || name[0] == '.' ||
        name[0] == '-') {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)name[i]) &&
            strchr("._-", name[i]) == NULL) {
            return false;
        }
    }
    return true;
}

/* /sys/devices/system/node/node0, node1, ... */
static uint32_t count_nodes(void)
{
    DIR *dir = opendir("/sys/devices/system/node");
    struct dirent *entry;
    uint32_t n = 0;

    /* The stream is ours alone. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        struct base_str name = base_str_of(entry->d_name);
        uint64_t number;

        if (base_str_starts(name, BASE_STR("node")) &&
            base_parse_u64((struct base_str){name.ptr + 4, name.len - 4},
                           &number)) {
            n++;
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return n > 0 ? n : 1;
}

enum base_code worker_host_read(const char *name,
                                const char *address,
                                struct worker_host *ret,
                                struct base_err *err)
{
    struct worker_host host = {0};
    struct sysinfo info;
    char own[256] = "";

    if (name == NULL) {
        if (gethostname(own, sizeof(own) - 1) != 0) {
            return base_fail_errno(err, errno, "cannot read the host's name");
        }
        name = own;
    }
    if (!worker_host_name_is_good(name)) {
        return base_fail(err, BASE_BAD_ARG,
                         "'%s' is no name for a host: 1 to 128 of "
                         "[A-Za-z0-9._-] (--host)",
                         name);
    }
    if (address == NULL) {
        address = "127.0.0.1";
    }
    if (address[0] == '\0' || strlen(address) >= sizeof(host.address)) {
        return base_fail(err, BASE_BAD_ARG, "--address has 1 to %zu bytes",
                         sizeof(host.address) - 1);
    }
    memcpy(host.name, name, strlen(name)); /* checked, as the next */
    memcpy(host.address, address, strlen(address));
    if (sysinfo(&info) == 0) {
        host.memory_bytes = (uint64_t)info.totalram * info.mem_unit;
    }
    host.n_numa_nodes = count_nodes();
    *ret = host;
    return BASE_OK;
}

enum base_code worker_random_text(char ret[33], struct base_err *err)
{
    unsigned char bytes[16];

    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes)) {
        return base_fail_errno(err, errno, "cannot get random numbers");
    }
    for (size_t i = 0; i < sizeof(bytes); i++) {
        (void)snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
    }
    return BASE_OK;
}
