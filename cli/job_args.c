#include "cli/job_args.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/num.h"
#include "cli/message.h"

enum { LAYOUT_MAX_BYTES = 1 << 20 };

enum base_code cli_parse_count(const char *what,
                               const char *text,
                               uint64_t min,
                               uint64_t max,
                               uint64_t *ret,
                               struct base_err *err)
{
    *ret = 0;
    if (text != NULL &&
        (!base_parse_u64(base_str_of(text), ret) || *ret < min || *ret > max)) {
        return base_fail(err, BASE_BAD_ARG,
                         "%s %s: a number from %" PRIu64 " to %" PRIu64
                         " is needed",
                         what, text, min, max);
    }
    return BASE_OK;
}

/* Would a person who writes @spec mean a file? */
static bool looks_like_file(const char *spec)
{
    struct base_str text = base_str_of(spec);
    struct stat stat_buf;

    return strchr(spec, '/') != NULL ||
           base_str_ends(text, BASE_STR(".yaml")) ||
           base_str_ends(text, BASE_STR(".yml")) ||
           (stat(spec, &stat_buf) == 0 && S_ISREG(stat_buf.st_mode));
}

enum base_code cli_layout_text(const char *what,
                               const char *spec,
                               char **ret,
                               struct base_err *err)
{
    BASE_AUTO_BUF text;
    enum base_code rc;

    base_buf_init(&text, LAYOUT_MAX_BYTES);
    if (looks_like_file(spec)) {
        rc = base_file_read(AT_FDCWD, spec, &text, err);
        if (rc != BASE_OK) {
            return base_wrap(err, rc, "%s", what);
        }
        if (memchr(text.ptr == NULL ? "" : text.ptr, '\0', text.len) != NULL) {
            return base_fail(err, BASE_BAD_INPUT, "%s %s: not a text", what,
                             spec);
        }
    } else {
        (void)base_buf_add_str(&text, base_str_of(spec)); /* checked below */
    }
    BASE_TRY(base_buf_check(&text, err));
    *ret = text.ptr == NULL ? strdup("") : base_steal(&text.ptr);
    return *ret != NULL ? BASE_OK
                        : base_fail(err, BASE_NO_MEM, "%s %s", what, spec);
}

uint64_t cli_job_step(const Retile__V1__Job *job)
{
    const Retile__V1__Generation *generation = job->generation;

    if (generation == NULL) {
        return 0;
    }
    return generation->last_step > generation->first_step
               ? generation->last_step
               : generation->first_step;
}

void cli_versions_print(Retile__V1__Version *const *versions, size_t n)
{
    char time[CLI_TIME_BYTES];
    char kind[CLI_WORD_BYTES];
    char durability[CLI_WORD_BYTES];
    char size[24];

    for (size_t i = 0; i < n; i++) {
        const Retile__V1__Version *version = versions[i];

        (void)printf("  version %-5" PRIu64 " %-20s %-8s ", version->number,
                     cli_time_text(version->created_ns, time),
                     cli_enum_text(&retile__v1__attempt_kind__descriptor,
                                   (int)version->kind, kind));
        if (version->has_step) {
            (void)printf("step %-8" PRIu64, version->step);
        } else {
            (void)printf("%-13s", "");
        }
        (void)printf(
            " %10s  %s  %s%s%s\n", base_format_size(version->n_bytes, size),
            version->mesh,
            cli_enum_text(&retile__v1__durability__descriptor,
                          (int)version->durability, durability),
            version->pinned[0] == '\0' ? "" : "  pinned: ", version->pinned);
    }
}
