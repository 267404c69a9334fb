/* `retile fault ls`: the named fault points. */
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
    .about = "List the named points where a test can make a program fail\n"
             "Arm one with RETILE_FAULT=NAME=ACTION[@N], where ACTION is crash,"
             "\nerror, nospace or short, and N the N-th pass (1 by default).",
    .example = "RETILE_FAULT=convert.synced=crash retile convert A B --to hf",
    .options = options,
    .n_options = 1,
    .min_args = 1,
    .max_args = 1,
};

static enum cli_exit print_json(void)
{
    json_t *list = json_array();

    for (int i = 0; i < BASE_FAULT_N; i++) {
        enum base_fault_point point = (enum base_fault_point)i;

        (void)json_array_append_new(
            list, json_pack("{ss ss}", "name", base_fault_name(point), "where",
                            base_fault_where(point)));
    }
    return cli_print_json("fault",
                          json_pack("{si so}", "version", 1, "points", list));
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
        enum base_fault_point point = (enum base_fault_point)i;

        (void)printf("%-18s %s\n", base_fault_name(point),
                     base_fault_where(point));
    }
    return CLI_DONE;
}
