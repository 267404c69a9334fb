/* Errors, JSON, progress and signals, as cli/cli.h describes. */
#include "cli/cli.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/num.h"
#include "base/str.h"

enum cli_exit cli_tell(const char *verb, const struct base_err *err)
{
    (void)fprintf(stderr, "retile: %s: %s\n", verb, err->text);
    if (err->code == BASE_BAD_ARG) {
        (void)fprintf(stderr, "hint: `retile %s --help` shows how\n", verb);
    }
    if (err->code == BASE_UNREACHABLE) {
        (void)fputs("hint: --coordinator ADDRESS or RETILE_COORDINATOR says "
                    "where it is; `retile dev up` starts one here\n",
                    stderr);
    }
    return (enum cli_exit)base_code_exit(err->code);
}

bool cli_parse(const struct base_command *command,
               int argc,
               char **argv,
               char ***ret_args,
               int *ret_n_args,
               enum cli_exit *ret_exit)
{
    struct base_err err = {0};
    bool wants_help = false;

    if (base_options_parse(command, argc, argv, ret_args, ret_n_args,
                           &wants_help, &err) != BASE_OK) {
        *ret_exit = cli_tell(argv[0], &err);
        return false;
    }
    if (wants_help) {
        base_options_help(command, stdout);
        *ret_exit = CLI_DONE;
        return false;
    }
    return true;
}

enum cli_exit cli_print_json(const char *verb, json_t *json)
{
    int rc;

    if (json == NULL) {
        (void)fprintf(stderr, "retile: %s: out of memory\n", verb);
        return CLI_FAILED;
    }
    rc = json_dumpf(json, stdout, JSON_INDENT(2));
    json_decref(json);
    if (rc != 0 && ferror(stdout) == 0) {
        (void)fprintf(stderr, "retile: %s: out of memory\n", verb);
        return CLI_FAILED;
    }
    (void)putchar('\n'); /* main looks at stdout's state */
    return CLI_DONE;
}

json_t *cli_json_text(const char *text)
{
    BASE_AUTO_MEM char *shown = NULL;

    if (base_str_is_utf8(base_str_of(text))) {
        return json_string(text);
    }
    shown = strdup(text);
    for (char *at = shown; at != NULL && *at != '\0'; at++) {
        if ((unsigned char)*at >= 0x80) {
            *at = '?';
        }
    }
    return shown == NULL ? NULL : json_string(shown);
}

int64_t cli_now_ns(void)
{
    struct timespec now = {0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void cli_progress_begin(struct cli_progress *progress, const char *what)
{
    progress->what = what;
    progress->begin_ns = cli_now_ns();
    progress->shown_ns = 0;
    progress->is_on = isatty(STDERR_FILENO) == 1;
}

void cli_progress_show(struct cli_progress *progress,
                       uint64_t done_bytes,
                       uint64_t all_bytes)
{
    enum { WIDTH = 30 };
    int64_t now_ns = cli_now_ns();
    char done[24];
    char all[24];
    char bar[WIDTH + 1];
    double share;

    if (!progress->is_on ||
        (now_ns - progress->shown_ns < 100000000 && done_bytes < all_bytes)) {
        return;
    }
    progress->shown_ns = now_ns;
    share = all_bytes == 0 ? 1.0 : (double)done_bytes / (double)all_bytes;
    for (int i = 0; i < WIDTH; i++) {
        bar[i] = i < (int)(share * WIDTH) ? '#' : '.';
    }
    bar[WIDTH] = '\0';
    (void)fprintf(stderr, "\r%s [%s] %3.0f%% %s of %s, %.1f s ", progress->what,
                  bar, share * 100, base_format_size(done_bytes, done),
                  base_format_size(all_bytes, all),
                  (double)(now_ns - progress->begin_ns) / 1e9);
}

void cli_progress_end(struct cli_progress *progress)
{
    if (progress->is_on && progress->shown_ns != 0) {
        (void)fputs("\r\033[K", stderr);
    }
    progress->is_on = false;
}

static volatile sig_atomic_t is_interrupted;

static void on_signal(int signo)
{
    (void)signo;
    is_interrupted = 1;
}

void cli_catch_signals(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    action.sa_flags = (int)SA_RESETHAND; /* the second one ends us at once */
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
}

bool cli_was_interrupted(void)
{
    return is_interrupted != 0;
}
