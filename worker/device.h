/* The host's devices: GPUs, as the CUDA runtime sees them, or numbered slots.
 *
 * The runtime (libcudart) is never linked.  It is loaded by a child, which
 * prints what it finds and ends: a driver that hangs or crashes takes a child
 * with it and not the agent, and nobody holds a context on a device. */
#ifndef WORKER_DEVICE_H
#define WORKER_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum {
    WORKER_MAX_DEVICES = 256,
    WORKER_DEVICE_LABEL_BYTES = 256,
    WORKER_PROBE_WAIT_MS = 20000, /* the first call may load a driver */
};

/* The hidden first argument of a child that looks: then the library's name. */
#define WORKER_PROBE_VERB "--probe-cuda"

struct worker_device {
    bool is_cuda;
    bool is_failed;
    uint64_t memory_bytes; /* 0: a slot of the host's */
    char label[WORKER_DEVICE_LABEL_BYTES];
    char reason[BASE_ERR_TEXT_BYTES]; /* why it failed */
};

struct worker_devices {
    uint32_t n;
    struct worker_device items[WORKER_MAX_DEVICES];
};

/* Find them: @n_slots slots; 0: GPUs, which there must be.
 * @library: NULL: the names that the runtime has had.
 * Errors: BASE_NOT_FOUND  no runtime, or no device: the text says what to do
 *         BASE_TIMEOUT    the child had to be killed
 *         BASE_IO         the child died, or the runtime refuses */
enum base_code worker_devices_find(uint32_t n_slots,
                                   const char *library,
                                   int wait_ms,
                                   struct worker_devices *ret,
                                   struct base_err *err) BASE_MUST_CHECK;

/* The child's main: prints "INDEX MEMORY LABEL" for each device, or
 * "INDEX ! REASON" for one that is broken.  Returns its exit status. */
int worker_probe_main(const char *library);

#endif
