/* Whole files and directories. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/err.h"
#include "base/str.h"

/* Append a whole regular file to @buf (whose max_bytes bounds it).  Refuses
 * what is not a regular file (a FIFO would block).
 * Errors: BASE_NOT_FOUND, BASE_LIMIT (the text gives size and limit),
 *         BASE_BAD_INPUT (no regular file), BASE_CHANGED (it shrank), BASE_IO */
enum base_code base_file_read(int dir_fd,
                              const char *path,
                              struct base_buf *buf,
                              struct base_err *err) BASE_MUST_CHECK;

/* Write a new file (O_EXCL, mode 0666 less umask).  Not synced. */
enum base_code base_file_write(int dir_fd,
                               const char *path,
                               struct base_str bytes,
                               struct base_err *err) BASE_MUST_CHECK;

/* The names in a directory, sorted bytewise, "." and ".." left out; at most
 * @max (more is BASE_LIMIT).  *ret_names is given: free each and the array
 * with base_names_free. */
enum base_code base_dir_list(int dir_fd,
                             const char *path,
                             size_t max,
                             char ***ret_names,
                             size_t *ret_n,
                             struct base_err *err) BASE_MUST_CHECK;
void base_names_free(char **names, size_t n);

/* Remove a tree, however deep and whatever its directories' modes, without
 * following links.  Not existing is BASE_OK. */
enum base_code base_dir_remove(int dir_fd,
                               const char *path,
                               struct base_err *err) BASE_MUST_CHECK;

/* Rename, refusing an existing @to (renameat2 RENAME_NOREPLACE; on a file system
 * without it only directories can be renamed so).
 * Errors: BASE_EXISTS, BASE_IO, BASE_DENIED */
enum base_code base_rename_new(int dir_fd,
                               const char *from,
                               const char *to,
                               struct base_err *err) BASE_MUST_CHECK;

/* fsync of a directory. */
enum base_code base_dir_sync(int dir_fd,
                             const char *path,
                             struct base_err *err) BASE_MUST_CHECK;

/* A formatted path, given (free it); NULL when memory is short. */
char *base_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
