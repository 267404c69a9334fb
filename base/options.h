/* Command lines from one table per verb: parsing, --help and completion.
 * Wraps getopt_long(3). */
#ifndef BASE_OPTIONS_H
#define BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"

struct base_option {
    const char *name;  /* long name without dashes */
    char letter;       /* or 0 */
    const char *value; /* "N", "FILE", ...; NULL for a flag */
    const char *help;  /* one line */
    const char **text; /* where the value goes; NULL for a flag */
    bool *flag;        /* where a flag goes; NULL for a value */
};

struct base_command {
    const char *program; /* "retile plan" */
    const char *usage;   /* "SRC --to SPEC [options]" */
    const char *about;   /* what it does: a sentence, then what helps */
    const char *example; /* one or more lines, each a command; may be NULL */
    const struct base_option *options;
    size_t n_options;
    int min_args;
    int max_args;
    /* An option that may be given several times: its letter, and room for its
     * values, all NULL, of which the last stays so.  0: no such option. */
    char list_letter;
    const char **list;
    size_t list_room;
};

/* Parse @argv (argv[0] is the verb).  Options may stand anywhere; "--" ends
 * them.  --help is known to every table: *ret_help is set and the rest is not
 * checked.  *ret_args points at the positional arguments inside @argv.
 * Errors: BASE_BAD_ARG  unknown option (nearest is named), missing value, too
 *         few or many arguments.  Not thread safe (getopt). */
enum base_code base_options_parse(const struct base_command *command,
                                  int argc,
                                  char **argv,
                                  char ***ret_args,
                                  int *ret_n_args,
                                  bool *ret_help,
                                  struct base_err *err) BASE_MUST_CHECK;

/* Print usage, about, options and example. */
void base_options_help(const struct base_command *command, FILE *out);

#endif
