/* `retile`: the command line.  Finds the verb and runs it. */
#include <stdio.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/str.h"
#include "base/version.h"
#include "cli/cli.h"
#include "ptc/preset.h"

static const struct cli_verb verbs[] = {
    {"inspect", &cli_inspect_command, cli_inspect, NULL},
    {"plan", &cli_plan_command, cli_plan, NULL},
    {"convert", &cli_convert_command, cli_convert, NULL},
    {"mount", &cli_mount_command, cli_mount, NULL},
    {"verify", &cli_verify_command, cli_verify, NULL},
    {"store", &cli_store_command, cli_store,
     "init ls fsck scrub sweep compact"},
    {"import", &cli_import_command, cli_import, NULL},
    {"export", &cli_export_command, cli_export, NULL},
    {"version", &cli_version_command, cli_version,
     "ls show pin unpin release rollback"},
    {"rescale", &cli_rescale_command, cli_rescale, NULL},
    {"fault", &cli_fault_command, cli_fault, "ls"},
};
enum { N_VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static void print_help(FILE *out)
{
    (void)fputs("Reshard checkpoints: the same state under any layout.\n\n"
                "usage: retile VERB ... | retile VERB --help | "
                "retile help presets\n\n",
                out);
    for (size_t i = 0; i < N_VERBS; i++) {
        const char *about = verbs[i].command->about;

        (void)fprintf(out, "  %-11s %.*s\n", verbs[i].name,
                      (int)strcspn(about, "\n"), about);
    }
    (void)fputs(
        "  help        Explain a verb, or the presets\n"
        "  completion  Print completion for bash: "
        "eval \"$(retile completion)\"\n\n"
        "A layout (SPEC) is a YAML file, `hf` for one Hugging Face directory,\n"
        "or a short form such as llama:tp=2,pp=4.  For a first try:\n"
        "  retile inspect MODEL_DIR\n"
        "  retile convert MODEL_DIR OUT_DIR --to bert:tp=4\n"
        "Exit: 0 done, 1 failed, 2 usage, 3 not found or condition false.\n",
        out);
}

static void print_presets(void)
{
    const struct ptc_preset_info *info;

    (void)puts("Short forms: PRESET:key=value,...  for example "
               "llama:tp=2,pp=4,heads=32,kv=8\n");
    for (unsigned i = 0; (info = ptc_preset_info(i)) != NULL; i++) {
        (void)printf("  %-9s %s\n", info->name, info->about);
        if (info->options[0] != '\0') {
            (void)printf("            keys: %s\n", info->options);
        }
    }
    (void)puts(
        "\n  tp, pp, dp, ep   ranks along the tensor, pipeline, data, expert "
        "axis\n"
        "  replicate        replicas of the dp shards (HSDP): "
        "replicate * dp ranks\n"
        "  heads, kv        attention heads, key-value heads\n"
        "  head_dim         elements of a head\n"
        "  swiglu=1         linear_fc1 is a gate and an up projection\n"
        "  tied=1           lm_head has the embedding's bytes (0: its own)\n"
        "  zero1=1          optimizer state in flats cut over dp\n"
        "\nRank order is pp, dp, tp: tp varies fastest.  Heads and sizes come "
        "from the\nshort form, else from config.json beside the checkpoint, "
        "else from a tensor's\nshape; they are never guessed.  What a short "
        "form writes out: layout.yaml in the\noutput of `retile convert`.");
}

static const struct cli_verb *find_verb(const char *name)
{
    for (size_t i = 0; i < N_VERBS; i++) {
        if (strcmp(verbs[i].name, name) == 0) {
            return &verbs[i];
        }
    }
    return NULL;
}

static enum cli_exit unknown_verb(const char *name)
{
    const char *names[N_VERBS + 2] = {"help", "completion"};
    const char *nearest;

    for (size_t i = 0; i < N_VERBS; i++) {
        names[i + 2] = verbs[i].name;
    }
    nearest = base_str_nearest(base_str_of(name), names, N_VERBS + 2);
    (void)fprintf(stderr, "retile: there is no verb `%s`\n", name);
    if (nearest != NULL) {
        (void)fprintf(stderr, "hint: did you mean `retile %s`?\n", nearest);
    } else {
        (void)fputs("hint: `retile --help` lists them\n", stderr);
    }
    return CLI_USAGE;
}

static enum cli_exit help(const char *topic)
{
    const struct cli_verb *verb;

    if (topic == NULL) {
        print_help(stdout);
        return CLI_DONE;
    }
    if (strcmp(topic, "presets") == 0) {
        print_presets();
        return CLI_DONE;
    }
    if (strcmp(topic, "help") == 0 || strcmp(topic, "--help") == 0) {
        (void)puts("usage: retile help [VERB | presets]\n\n"
                   "Explain a verb, or the presets of short forms.");
        return CLI_DONE;
    }
    if (strcmp(topic, "completion") == 0) {
        (void)puts("usage: retile completion [bash]\n\n"
                   "Print completion for bash; in ~/.bashrc:\n"
                   "  eval \"$(retile completion)\"");
        return CLI_DONE;
    }
    verb = find_verb(topic);
    if (verb == NULL) {
        return unknown_verb(topic);
    }
    base_options_help(verb->command, stdout);
    return CLI_DONE;
}

/* bash: the verbs, then each verb's words and options, else file names. */
static enum cli_exit completion(const char *shell)
{
    if (strcmp(shell, "bash") != 0) {
        (void)fprintf(stderr,
                      "retile: completion: `%s`: there is only bash\n"
                      "hint: in ~/.bashrc: eval \"$(retile completion)\"\n",
                      shell);
        return CLI_USAGE;
    }
    (void)fputs("_retile() {\n  local cur=${COMP_WORDS[COMP_CWORD]} words=\n"
                "  if [ \"$COMP_CWORD\" -eq 1 ]; then words='",
                stdout);
    for (size_t i = 0; i < N_VERBS; i++) {
        (void)printf("%s ", verbs[i].name);
    }
    (void)fputs("help completion --help --version'\n"
                "  else case ${COMP_WORDS[1]} in\n",
                stdout);
    for (size_t i = 0; i < N_VERBS; i++) {
        (void)printf("    %s) words='--help", verbs[i].name);
        for (size_t k = 0; k < verbs[i].command->n_options; k++) {
            (void)printf(" --%s", verbs[i].command->options[k].name);
        }
        if (verbs[i].words != NULL) {
            (void)printf("'; [ \"$COMP_CWORD\" -ne 2 ] || "
                         "words=\"%s $words",
                         verbs[i].words);
        }
        (void)fputs(verbs[i].words != NULL ? "\";;\n" : "';;\n", stdout);
    }
    (void)fputs("    help) words='presets", stdout);
    for (size_t i = 0; i < N_VERBS; i++) {
        (void)printf(" %s", verbs[i].name);
    }
    (void)fputs("';;\n", stdout);
    (void)fputs(
        "  esac; fi\n"
        "  mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
        "}\ncomplete -o default -F _retile retile\n",
        stdout);
    return CLI_DONE;
}

static enum cli_exit run(int argc, char **argv)
{
    const struct cli_verb *verb;

    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)puts("retile " RETILE_VERSION);
        return CLI_DONE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        return help(NULL);
    }
    if (strcmp(argv[1], "help") == 0) {
        return help(argc > 2 ? argv[2] : NULL);
    }
    if (strcmp(argv[1], "completion") == 0) {
        return argc > 2 && strcmp(argv[2], "--help") == 0
                   ? help("completion")
                   : completion(argc > 2 ? argv[2] : "bash");
    }
    verb = find_verb(argv[1]);
    return verb == NULL ? unknown_verb(argv[1]) : verb->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    struct base_err err = {0};
    enum cli_exit rc;

    base_log_init("retile");
    if (base_fault_init(&err) != BASE_OK) {
        (void)fprintf(stderr, "retile: %s\n", err.text);
        return CLI_USAGE;
    }
    rc = run(argc, argv);
    if ((fflush(stdout) != 0 || ferror(stdout) != 0) && rc == CLI_DONE) {
        (void)fputs("retile: cannot write to stdout\n", stderr);
        rc = CLI_FAILED;
    }
    return (int)rc;
}
