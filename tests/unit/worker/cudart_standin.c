/* A stand-in for libcudart.so: it computes nothing and has no device.
 * STANDIN_CUDART says how it behaves:
 *   good          two devices
 *   none          "no device" (100)
 *   count         the count itself fails (35)
 *   third         the third call fails (46), and every later one
 *   hang, crash   in the first call
 * or names a file (with a slash) that has one of these. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cudaGetDeviceCount(int *n);
int cudaSetDevice(int device);
int cudaMemGetInfo(size_t *n_free, size_t *n_all);
int cudaDeviceGetPCIBusId(char *text, int n, int device);
const char *cudaGetErrorString(int error);

static int n_calls;

static const char *read_mode(void)
{
    static char text[16];
    const char *mode = getenv("STANDIN_CUDART");
    FILE *file;

    if (mode == NULL || strchr(mode, '/') == NULL) {
        return mode;
    }
    file = fopen(mode, "re");
    if (file == NULL || fgets(text, sizeof(text), file) == NULL) {
        return NULL;
    }
    (void)fclose(file);
    return text;
}

static int enter(void)
{
    const char *mode = read_mode();

    n_calls++;
    if (mode == NULL) {
        return 999;
    }
    if (strcmp(mode, "hang") == 0) {
        for (;;) {
            (void)pause();
        }
    }
    if (strcmp(mode, "crash") == 0) {
        (void)raise(SIGSEGV);
    }
    if (strcmp(mode, "none") == 0) {
        return 100;
    }
    if (strcmp(mode, "count") == 0) {
        return 35;
    }
    return strcmp(mode, "third") == 0 && n_calls >= 3 ? 46 : 0;
}

int cudaGetDeviceCount(int *n)
{
    *n = 2;
    return enter();
}

int cudaSetDevice(int device)
{
    (void)device;
    return enter();
}

int cudaMemGetInfo(size_t *n_free, size_t *n_all)
{
    *n_free = (size_t)1 << 30;
    *n_all = (size_t)4 << 30;
    return enter();
}

int cudaDeviceGetPCIBusId(char *text, int n, int device)
{
    (void)snprintf(text, (size_t)n, "0000:0%d:00.0", device);
    return enter();
}

const char *cudaGetErrorString(int error)
{
    (void)error;
    return "the stand-in says so";
}
