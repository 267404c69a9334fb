/* `retile completion`: scripts for three shells, out of the verbs' tables.
 *
 * Each offers: the verbs; behind a verb its words, once; options anywhere; else
 * file names. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

/* @text in single quotes, for a shell. */
static void quote(const char *text)
{
    (void)putchar('\'');
    for (; *text != '\0' && *text != '\n'; text++) {
        if (*text == '\'') {
            (void)fputs("'\\''", stdout);
        } else {
            (void)putchar(*text);
        }
    }
    (void)putchar('\'');
}

static void print_names(const struct cli_verb *verbs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        (void)printf("%s ", verbs[i].name);
    }
}

static void print_options(const struct cli_verb *verb)
{
    (void)fputs("--help", stdout);
    for (size_t k = 0; k < verb->command->n_options; k++) {
        (void)printf(" --%s", verb->command->options[k].name);
    }
}

static void bash(const struct cli_verb *verbs, size_t n)
{
    (void)fputs("_retile() {\n  local cur=${COMP_WORDS[COMP_CWORD]} words=\n"
                "  if [ \"$COMP_CWORD\" -eq 1 ]; then words='",
                stdout);
    print_names(verbs, n);
    (void)fputs("help completion --help --version'\n"
                "  else case ${COMP_WORDS[1]} in\n",
                stdout);
    for (size_t i = 0; i < n; i++) {
        (void)printf("    %s) words='", verbs[i].name);
        print_options(&verbs[i]);
        if (verbs[i].words != NULL) {
            (void)printf("'; [ \"$COMP_CWORD\" -ne 2 ] || "
                         "words=\"%s $words",
                         verbs[i].words);
        }
        (void)fputs(verbs[i].words != NULL ? "\";;\n" : "';;\n", stdout);
    }
    (void)fputs("    help) words='presets ", stdout);
    print_names(verbs, n);
    (void)fputs(
        "';;\n    completion) words='bash zsh fish';;\n"
        "  esac; fi\n"
        "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
        "}\ncomplete -o default -F _retile retile\n",
        stdout);
}

static void zsh(const struct cli_verb *verbs, size_t n)
{
    (void)fputs("#compdef retile\n_retile() {\n"
                "  if (( CURRENT == 2 )); then compadd -- ",
                stdout);
    print_names(verbs, n);
    (void)fputs("help completion --help --version; return; fi\n"
                "  case $words[2] in\n",
                stdout);
    for (size_t i = 0; i < n; i++) {
        (void)printf("    %s) ", verbs[i].name);
        if (verbs[i].words != NULL) {
            (void)printf("(( CURRENT != 3 )) || compadd -- %s; ",
                         verbs[i].words);
        }
        (void)fputs("[[ $PREFIX == -* ]] && compadd -- ", stdout);
        print_options(&verbs[i]);
        (void)printf(" || %s;;\n", verbs[i].words != NULL
                                       ? "(( CURRENT == 3 )) || _files"
                                       : "_files");
    }
    (void)fputs("    help) compadd -- presets ", stdout);
    print_names(verbs, n);
    (void)fputs(";;\n    completion) compadd -- bash zsh fish;;\n"
                "  esac\n}\ncompdef _retile retile\n",
                stdout);
}

static void fish_option(const char *verb, const struct base_option *option)
{
    (void)printf("complete -c retile -n '__fish_seen_subcommand_from %s' "
                 "-l %s%s -d ",
                 verb, option->name, option->value != NULL ? " -r" : "");
    quote(option->help);
    (void)putchar('\n');
}

static void fish(const struct cli_verb *verbs, size_t n)
{
    static const struct base_option help = {.name = "help", .help = "show how"};

    for (size_t i = 0; i < n; i++) {
        const struct cli_verb *verb = &verbs[i];

        (void)printf("complete -c retile -n __fish_use_subcommand -f -a %s -d ",
                     verb->name);
        quote(verb->command->about);
        (void)putchar('\n');
        if (verb->words != NULL) {
            (void)printf("complete -c retile -n "
                         "'__fish_seen_subcommand_from %s; and not "
                         "__fish_seen_subcommand_from %s' -f -a '%s'\n",
                         verb->name, verb->words, verb->words);
        }
        for (size_t k = 0; k < verb->command->n_options; k++) {
            fish_option(verb->name, &verb->command->options[k]);
        }
        fish_option(verb->name, &help);
    }
    (void)fputs("complete -c retile -n __fish_use_subcommand -f -a "
                "'help completion'\n"
                "complete -c retile -n '__fish_seen_subcommand_from "
                "completion' -f -a 'bash zsh fish'\n"
                "complete -c retile -n '__fish_seen_subcommand_from help' -f "
                "-a 'presets ",
                stdout);
    print_names(verbs, n);
    (void)fputs("'\n", stdout);
}

enum cli_exit
cli_completion(const char *shell, const struct cli_verb *verbs, size_t n)
{
    static const struct {
        const char *name;
        void (*print)(const struct cli_verb *verbs, size_t n);
    } shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};

    for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++) {
        if (strcmp(shells[i].name, shell) == 0) {
            shells[i].print(verbs, n);
            return CLI_DONE;
        }
    }
    (void)fprintf(stderr,
                  "retile: completion: `%s`: there are bash, zsh and fish\n"
                  "hint: `retile completion --help` shows how\n",
                  shell);
    return CLI_USAGE;
}
