/* What the verbs of `retile` share: their table, exit codes, how an error is
 * told, progress on a terminal.
 *
 * A verb is a function that returns an exit code; it owns stdout, and main()
 * flushes it.  One thread, but for progress, which any one thread at a time may
 * call. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/options.h"

enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_NOT_FOUND = 3,   /* or: the asked condition is false */
    CLI_UNREACHABLE = 4, /* the coordinator or the agent does not answer */
    CLI_SIGNALED = 128,  /* plus the signal that it was ended by */
};

struct cli_verb {
    const char *name;
    const struct base_command *command; /* its options, for completion */
    enum cli_exit (*run)(int argc, char **argv);
    const char *words; /* what may stand behind the verb; NULL: a path */
};

extern const struct base_command cli_inspect_command;
extern const struct base_command cli_plan_command;
extern const struct base_command cli_convert_command;
extern const struct base_command cli_verify_command;
extern const struct base_command cli_mount_command;
extern const struct base_command cli_store_command;
extern const struct base_command cli_import_command;
extern const struct base_command cli_export_command;
extern const struct base_command cli_version_command;
extern const struct base_command cli_rescale_command;
extern const struct base_command cli_job_command;
extern const struct base_command cli_launch_command;
extern const struct base_command cli_dev_command;
extern const struct base_command cli_device_command;
extern const struct base_command cli_watch_command;
extern const struct base_command cli_status_command;
extern const struct base_command cli_fault_command;
enum cli_exit cli_inspect(int argc, char **argv);
enum cli_exit cli_plan(int argc, char **argv);
enum cli_exit cli_convert(int argc, char **argv);
enum cli_exit cli_verify(int argc, char **argv);
enum cli_exit cli_mount(int argc, char **argv);
enum cli_exit cli_store(int argc, char **argv);
enum cli_exit cli_import(int argc, char **argv);
enum cli_exit cli_export(int argc, char **argv);
enum cli_exit cli_version(int argc, char **argv);
enum cli_exit cli_rescale(int argc, char **argv);
enum cli_exit cli_job(int argc, char **argv);
enum cli_exit cli_launch(int argc, char **argv);
enum cli_exit cli_dev(int argc, char **argv);
enum cli_exit cli_device(int argc, char **argv);
enum cli_exit cli_watch(int argc, char **argv);
enum cli_exit cli_status(int argc, char **argv);
enum cli_exit cli_fault(int argc, char **argv);

/* Print what completes @shell's command lines ("bash", "zsh", "fish"), out of the
 * tables of @verbs. */
enum cli_exit
cli_completion(const char *shell, const struct cli_verb *verbs, size_t n);

/* Say `retile: VERB: text` on stderr, with a hint where one helps; return the
 * exit code that the error's code means. */
enum cli_exit cli_tell(const char *verb, const struct base_err *err);

/* Parse; true to go on.  Else *ret_exit is what to return (help was printed,
 * or an error told). */
bool cli_parse(const struct base_command *command,
               int argc,
               char **argv,
               char ***ret_args,
               int *ret_n_args,
               enum cli_exit *ret_exit);

/* Print one JSON document on stdout, taking @json (NULL: out of memory, which
 * is told).  main() tells when stdout cannot be written. */
enum cli_exit cli_print_json(const char *verb, json_t *json);

/* @text as a JSON string.  When it is not UTF-8 (a path, an error's text), all
 * that is not ASCII is shown as '?'.  NULL: out of memory. */
json_t *cli_json_text(const char *text);

/* A progress bar on stderr when that is a terminal; silent otherwise. */
struct cli_progress {
    const char *what; /* "converting" */
    int64_t begin_ns;
    int64_t shown_ns;
    bool is_on;
};
void cli_progress_begin(struct cli_progress *progress, const char *what);
void cli_progress_show(struct cli_progress *progress,
                       uint64_t done_bytes,
                       uint64_t all_bytes);
void cli_progress_end(struct cli_progress *progress);

/* SIGINT, SIGTERM and SIGHUP set a flag instead of ending the process. */
void cli_catch_signals(void);
bool cli_was_interrupted(void);

int64_t cli_now_ns(void); /* monotonic */

#endif
