/* The child that loads the CUDA runtime.
 *
 * Of the runtime's API it uses functions whose signatures have been the same in
 * all versions: cudaDeviceProp has not, so memory and names come from
 * cudaMemGetInfo and cudaDeviceGetPCIBusId.  Names of products are read from
 * /proc/driver/nvidia, where the driver writes them. */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/file.h"
#include "worker/device.h"

enum { EXIT_NO_RUNTIME = 3, EXIT_NO_DEVICE = 4, CUDA_NO_DEVICE = 100 };

struct runtime {
    int (*count)(int *n);
    int (*set)(int device);
    int (*memory)(size_t *n_free, size_t *n_all);
    int (*bus_id)(char *text, int n, int device);
    const char *(*explain)(int error);
};

static bool find_function(void *library, const char *name, void *ret)
{
    void *symbol = dlsym(library, name);

    /* POSIX wants functions to come as void *; ISO C has no such cast. */
    memcpy(ret, &symbol, sizeof(symbol));
    return symbol != NULL;
}

static bool load(const char *name, struct runtime *ret)
{
    static const char *const names[] = {"libcudart.so", "libcudart.so.13",
                                        "libcudart.so.12", "libcudart.so.11.0",
                                        "/usr/local/cuda/lib64/libcudart.so"};
    void *library = NULL;

    if (name[0] != '\0') {
        library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    for (size_t i = 0; name[0] == '\0' && library == NULL &&
                       i < sizeof(names) / sizeof(names[0]);
         i++) {
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    }
    return library != NULL &&
           find_function(library, "cudaGetDeviceCount", &ret->count) &&
           find_function(library, "cudaSetDevice", &ret->set) &&
           find_function(library, "cudaMemGetInfo", &ret->memory) &&
           find_function(library, "cudaDeviceGetPCIBusId", &ret->bus_id) &&
           find_function(library, "cudaGetErrorString", &ret->explain);
}

/* "Model: \t\t NVIDIA H200" of /proc/driver/nvidia/gpus/BUS/information, a file
 * of no size; else its place. */
static void print_label(const char *bus_id)
{
    BASE_AUTO_MEM char *path =
        base_path("/proc/driver/nvidia/gpus/%s/information", bus_id);
    FILE *file = NULL;
    char line[WORKER_DEVICE_LABEL_BYTES];
    bool is_found = false;

    for (char *at = path; at != NULL && *at != '\0'; at++) {
        if (*at >= 'A' && *at <= 'F') { /* the driver writes them small */
            *at = (char)(*at - 'A' + 'a');
        }
    }
    if (path != NULL) {
        file = fopen(path, "re");
    }
    while (file != NULL && !is_found &&
           fgets(line, sizeof(line), file) != NULL) {
        is_found = strncmp(line, "Model:", strlen("Model:")) == 0;
    }
    if (file != NULL) {
        (void)fclose(file); /* only read */
    }
    if (is_found) {
        const char *model = line + strlen("Model:");

        model += strspn(model, " \t");
        (void)printf("%.*s\n", (int)strcspn(model, "\n"), model);
    } else {
        (void)printf("GPU %s\n", bus_id);
    }
}

static int look_at(const struct runtime *runtime, int device)
{
    size_t n_free = 0;
    size_t n_all = 0;
    char bus_id[32] = "";
    int error = runtime->set(device);

    if (error == 0) {
        error = runtime->memory(&n_free, &n_all);
    }
    if (error == 0) {
        error = runtime->bus_id(bus_id, (int)sizeof(bus_id), device);
    }
    if (error != 0) {
        (void)printf("%d ! CUDA error %d: %s\n", device, error,
                     runtime->explain(error));
    } else {
        (void)printf("%d %zu ", device, n_all);
        print_label(bus_id);
    }
    return fflush(stdout) == 0 ? 0 : EXIT_FAILURE;
}

int worker_probe_main(const char *library)
{
    struct runtime runtime;
    int n = 0;
    int error;
    int status = 0;

    if (!load(library, &runtime)) {
        return EXIT_NO_RUNTIME;
    }
    error = runtime.count(&n);
    if (error == CUDA_NO_DEVICE || (error == 0 && n == 0)) {
        return EXIT_NO_DEVICE;
    }
    if (error != 0) {
        (void)fprintf(stderr, "retile-worker: CUDA error %d: %s\n", error,
                      runtime.explain(error));
        return EXIT_FAILURE;
    }
    for (int i = 0; i < n && i < WORKER_MAX_DEVICES && status == 0; i++) {
        status = look_at(&runtime, i);
    }
    return status;
}
