/* `retile fault ls`: the named fault points, and what each can do. */
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "cli/cli.h"

static bool wants_json;

static const struct base_option options[] = {
    {"json", 0, NULL, "print JSON", NULL, &wants_json},
};

const struct base_command cli_fault_command = {
    .program = "retile fault",
    .usage = "ls [--json]",
    .about =
        "List the named points where a test can make a program fail\n"
        "Arm some with RETILE_FAULT=NAME=ACTION[@N][,...]: at the N-th pass"
        " (the\nfirst by default; N+: and at each behind it) the program"
        " is killed (crash),\nstopped (stop), sleeps for an hour (hang) or"
        " some milliseconds (slow:MS),\nor the call fails (error, nospace),"
        " does half (short) or flips a bit (corrupt).",
    .example = "RETILE_FAULT=convert.synced=crash retile convert A B --to hf",
    .options = options,
    .n_options = 1,
    .min_args = 1,
    .max_args = 1,
};

static json_t *actions_of(enum base_fault_point point)
{
    json_t *list = json_array();
    const char *name;

    for (unsigned i = 0; (name = base_fault_action_name(point, i)) != NULL;
         i++) {
        if (json_array_append_new(list, json_string(name)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static enum cli_exit print_json(void)
{
    json_t *list = json_array();

    for (int i = 0; i < BASE_FAULT_N; i++) {
        enum base_fault_point point = (enum base_fault_point)i;
        json_t *item =
            json_pack("{ss ss so}", "name", base_fault_name(point), "where",
                      base_fault_where(point), "actions", actions_of(point));

        if (json_array_append_new(list, item) != 0) { /* takes it, or NULL */
            json_decref(list);
            list = NULL;
            break;
        }
    }
    return cli_print_json("fault",
                          json_pack("{si so}", "version", 1, "points", list));
}

static void print_point(enum base_fault_point point)
{
    const char *name;

    (void)printf("%-18s %-38s ", base_fault_name(point),
                 base_fault_where(point));
    for (unsigned i = 0; (name = base_fault_action_name(point, i)) != NULL;
         i++) {
        (void)printf("%s%s", i > 0 ? "," : "", name);
    }
    (void)putchar('\n');
}

enum cli_exit cli_fault(int argc, char **argv)
{
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_fault_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    if (strcmp(args[0], "ls") != 0) {
        struct base_err err = {0};

        (void)base_fail(&err, BASE_BAD_ARG, "`%s`: the only thing to do is ls",
                        args[0]);
        return cli_tell("fault", &err);
    }
    if (wants_json) {
        return print_json();
    }
    for (int i = 0; i < BASE_FAULT_N; i++) {
        print_point((enum base_fault_point)i);
    }
    return CLI_DONE;
}
