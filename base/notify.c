#include "base/notify.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/auto.h"

void base_notify(const char *state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* No thread changes it. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    const char *path = getenv("NOTIFY_SOCKET");
    BASE_AUTO_FD fd = -1;
    size_t n;

    if (path == NULL || (path[0] != '/' && path[0] != '@')) {
        return;
    }
    n = strlen(path);
    if (n >= sizeof(address.sun_path)) {
        return;
    }
    (void)memcpy(address.sun_path, path, n);
    if (path[0] == '@') {
        address.sun_path[0] = '\0'; /* an abstract name */
    }
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        /* Nobody there: as the header says. */
        (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL,
                     (const struct sockaddr *)&address,
                     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n));
    }
}
