/* A fresh directory per test, removed afterwards: group fixtures of cmocka. */
#ifndef UNIT_BASE_TMP_DIR_H
#define UNIT_BASE_TMP_DIR_H

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/unit/unit.h"

struct tmp_dir {
    char path[64];
    int fd;
};

static inline int tmp_dir_make(void **state)
{
    static struct tmp_dir dir;

    dir = (struct tmp_dir){.path = "/tmp/retile-unit-XXXXXX"};
#ifdef TMP_DIR_IN_MEMORY
    if (access("/dev/shm", W_OK | X_OK) == 0) {
        dir = (struct tmp_dir){.path = "/dev/shm/retile-unit-XXXXXX"};
    }
#endif
    assert_non_null(mkdtemp(dir.path));
    dir.fd = open(dir.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(dir.fd >= 0);
    *state = &dir;
    return 0;
}

static inline int tmp_dir_remove(void **state)
{
    struct tmp_dir *dir = *state;
    struct base_err err;

    (void)close(dir->fd); /* was only read */
    (void)unsetenv("RETILE_FAULT");
    assert_ok(base_dir_remove(AT_FDCWD, dir->path, &err), &err);
    return 0;
}

#define tmp_dir_test(test)                                                     \
    cmocka_unit_test_setup_teardown(test, tmp_dir_make, tmp_dir_remove)

#endif
