#include "base/options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/str.h"

enum {
    LONG_FIRST = 256, /* getopt's value of option i is LONG_FIRST + i */
    HELP_COLUMN = 26,
};

/* The tables that getopt wants; one more option (--help), one more end. */
struct tables {
    struct option *longs;
    const char **names; /* the same names, for "did you mean" */
    char *shorts;
};

static void tables_done(struct tables *tables)
{
    free(tables->longs);
    free(tables->names);
    free(tables->shorts);
}

#define AUTO_TABLES __attribute__((cleanup(tables_done))) struct tables

static bool tables_fill(struct tables *tables,
                        const struct base_command *command)
{
    size_t n = command->n_options;
    size_t at = 0;
    size_t i;

    tables->longs = calloc(n + 2, sizeof(*tables->longs));
    tables->names = calloc(n + 1, sizeof(*tables->names));
    tables->shorts = calloc(n + 2, 2);
    if (tables->longs == NULL || tables->names == NULL ||
        tables->shorts == NULL) {
        return false;
    }
    tables->shorts[at++] =
        ':'; /* tell a missing value from an unknown option */
    for (i = 0; i < n; i++) {
        const struct base_option *option = &command->options[i];

        tables->longs[i] = (struct option){
            .name = option->name,
            .has_arg = option->value != NULL ? required_argument : no_argument,
            .val = LONG_FIRST + (int)i,
        };
        tables->names[i] = option->name;
        if (option->letter != '\0') {
            tables->shorts[at++] = option->letter;
            if (option->value != NULL) {
                tables->shorts[at++] = ':';
            }
        }
    }
    tables->longs[n] = (struct option){
        .name = "help", .has_arg = no_argument, .val = LONG_FIRST + (int)n};
    tables->names[n] = "help";
    return true;
}

/* getopt gave '?'.  optopt is a letter, the value of a known long option, or 0
 * for an unknown one, which is then @word. */
static enum base_code fail_unknown(const struct base_command *command,
                                   const struct tables *tables,
                                   const char *word,
                                   struct base_err *err)
{
    struct base_str name;
    const char *nearest;

    if (optopt >= LONG_FIRST) {
        return base_fail(err, BASE_BAD_ARG, "option --%s takes no value",
                         tables->names[optopt - LONG_FIRST]);
    }
    if (optopt != 0) {
        return base_fail(err, BASE_BAD_ARG, "unknown option -%c", optopt);
    }
    word += strspn(word, "-");
    name = (struct base_str){word, strcspn(word, "=")};
    nearest = base_str_nearest(name, tables->names, command->n_options + 1);
    if (nearest != NULL) {
        return base_fail(err, BASE_BAD_ARG,
                         "unknown option --%.*s; did you mean --%s?",
                         BASE_STR_FMT(name), nearest);
    }
    return base_fail(err, BASE_BAD_ARG, "unknown option --%.*s",
                     BASE_STR_FMT(name));
}

static enum base_code fail_no_value(const struct tables *tables,
                                    struct base_err *err)
{
    if (optopt >= LONG_FIRST) {
        return base_fail(err, BASE_BAD_ARG, "option --%s needs a value",
                         tables->names[optopt - LONG_FIRST]);
    }
    return base_fail(err, BASE_BAD_ARG, "option -%c needs a value", optopt);
}

/* The option that getopt's @value stands for; n_options is --help. */
static size_t option_of(const struct base_command *command, int value)
{
    size_t i = 0;

    if (value >= LONG_FIRST) {
        return (size_t)(value - LONG_FIRST);
    }
    while (i < command->n_options && command->options[i].letter != value) {
        i++;
    }
    return i;
}

static enum base_code
check_count(const struct base_command *command, int n, struct base_err *err)
{
    if (n < command->min_args) {
        return base_fail(err, BASE_BAD_ARG, "too few arguments; usage: %s %s",
                         command->program, command->usage);
    }
    if (n > command->max_args) {
        return base_fail(err, BASE_BAD_ARG, "too many arguments; usage: %s %s",
                         command->program, command->usage);
    }
    return BASE_OK;
}

static enum base_code list_add(const struct base_command *command,
                               const struct base_option *option,
                               const char *value,
                               struct base_err *err)
{
    size_t n = 0;

    if (command->list_letter == 0 || option->letter != command->list_letter) {
        return BASE_OK;
    }
    while (command->list[n] != NULL) {
        n++;
    }
    if (n + 1 >= command->list_room) {
        return base_fail(err, BASE_BAD_ARG,
                         "option --%s is given more than %zu times",
                         option->name, n);
    }
    command->list[n] = value;
    return BASE_OK;
}

enum base_code base_options_parse(const struct base_command *command,
                                  int argc,
                                  char **argv,
                                  char ***ret_args,
                                  int *ret_n_args,
                                  bool *ret_help,
                                  struct base_err *err)
{
    AUTO_TABLES tables = {0};
    int value;

    if (!tables_fill(&tables, command)) {
        return base_fail(err, BASE_NO_MEM, "cannot read the options");
    }
    optind = 0; /* glibc: start afresh */
    opterr = 0;
    for (;;) {
        size_t i;

        /* As the header says. NOLINTNEXTLINE(concurrency-mt-unsafe) */
        value = getopt_long(argc, argv, tables.shorts, tables.longs, NULL);
        if (value == -1) {
            break;
        }
        if (value == '?') {
            return fail_unknown(command, &tables, argv[optind - 1], err);
        }
        if (value == ':') {
            return fail_no_value(&tables, err);
        }
        i = option_of(command, value);
        if (i == command->n_options) {
            *ret_help = true;
            return BASE_OK;
        }
        if (command->options[i].value != NULL) {
            *command->options[i].text = optarg;
            BASE_TRY(list_add(command, &command->options[i], optarg, err));
        } else {
            *command->options[i].flag = true;
        }
    }
    BASE_TRY(check_count(command, argc - optind, err));
    *ret_help = false;
    *ret_args = argv + optind;
    *ret_n_args = argc - optind;
    return BASE_OK;
}

static void help_option(const struct base_option *option, FILE *out)
{
    int n = fprintf(out, "  ");

    if (option->letter != '\0') {
        n += fprintf(out, "-%c, ", option->letter);
    }
    n += fprintf(out, "--%s", option->name);
    if (option->value != NULL) {
        n += fprintf(out, " %s", option->value);
    }
    if (n + 2 > HELP_COLUMN) {
        (void)fputc('\n', out); /* the caller checks the stream */
        n = 0;
    }
    (void)fprintf(out, "%*s%s\n", HELP_COLUMN - n, "", option->help);
}

void base_options_help(const struct base_command *command, FILE *out)
{
    static const struct base_option help = {.name = "help",
                                            .help = "show this text"};
    size_t i;

    (void)fprintf(out, "usage: %s %s\n\n%s\n\noptions:\n", command->program,
                  command->usage, command->about);
    for (i = 0; i < command->n_options; i++) {
        help_option(&command->options[i], out);
    }
    help_option(&help, out);
    if (command->example != NULL) {
        const char *line = command->example;

        (void)fprintf(out, "\nexample:\n");
        while (*line != '\0') {
            size_t n = strcspn(line, "\n");

            (void)fprintf(out, "  %.*s\n", (int)n, line);
            line += n + (line[n] == '\n');
        }
    }
}
