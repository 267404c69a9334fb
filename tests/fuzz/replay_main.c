/* Feed every file of a corpus to a fuzz target, without a fuzzer.
 * usage: PROGRAM FILE-OR-FOLDER... */
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t n_replayed;

static bool replay_file(const char *path, size_t size)
{
    /* Exactly as long as the file, so that a sanitizer sees an overrun. */
    uint8_t *data = malloc(size);
    FILE *file = fopen(path, "rbe");
    bool is_read =
        data != NULL && file != NULL && fread(data, 1, size, file) == size;

    if (file != NULL) {
        (void)fclose(file); /* was only read */
    }
    if (is_read) {
        (void)LLVMFuzzerTestOneInput(data, size); /* always 0 */
        n_replayed++;
    } else {
        (void)fprintf(stderr, "%s: cannot read\n", path);
    }
    free(data);
    return is_read;
}

static bool replay(const char *path)
{
    struct dirent **entries;
    struct stat st;
    bool is_good = true;
    int n;
    int i;

    if (stat(path, &st) != 0) {
        (void)fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    if (!S_ISDIR(st.st_mode)) {
        return replay_file(path, (size_t)st.st_size);
    }
    n = scandir(path, &entries, NULL, alphasort);
    if (n < 0) {
        (void)fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    for (i = 0; i < n; i++) {
        char *inner = NULL;

        if (entries[i]->d_name[0] != '.') {
            is_good =
                asprintf(&inner, "%s/%s", path, entries[i]->d_name) >= 0 &&
                replay(inner) && is_good;
            free(inner);
        }
        free(entries[i]);
    }
    free(entries);
    return is_good;
}

int main(int argc, char **argv)
{
    bool is_good = argc > 1;
    int i;

    for (i = 1; i < argc; i++) {
        is_good = replay(argv[i]) && is_good;
    }
    (void)printf("%zu inputs replayed\n", n_replayed);
    return is_good && n_replayed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
