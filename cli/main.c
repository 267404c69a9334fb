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
    {"job", &cli_job_command, cli_job, "submit ls show rm"},
    {"launch", &cli_launch_command, cli_launch, NULL},
    {"device", &cli_device_command, cli_device, "ls drain fail recover forget"},
    {"watch", &cli_watch_command, cli_watch, NULL},
    {"status", &cli_status_command, cli_status, NULL},
    {"dev", &cli_dev_command, cli_dev, "up down status"},
    {"fault", &cli_fault_command, cli_fault, "ls"},
};
enum { N_VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static void print_help(FILE *out)
{
    (void)fputs("The state of training jobs: the same under any layout, on any "
                "devices.\n\n"
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
        "  completion  Print completion for bash, zsh or fish\n\n"
        "A layout (SPEC) is a YAML file, `hf` for one Hugging Face directory,\n"
        "or a short form such as llama:tp=2,pp=4.  For a first try:\n"
        "  retile inspect MODEL_DIR\n"
        "  retile convert MODEL_DIR OUT_DIR --to bert:tp=4\n"
        "A cluster on this machine, to try: eval \"$(retile dev up)\", then\n"
        "  retile job submit JOB --layout SPEC; retile launch JOB -- COMMAND\n"
        "Exit: 0 done, 1 failed, 2 usage, 3 not found or condition false,\n"
        "4 coordinator or agent unreachable.\n",
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
        (void)puts(
            "usage: retile completion [bash|zsh|fish]\n\n"
            "Print completion for a shell.\n"
            "  ~/.bashrc                   eval \"$(retile completion bash)\"\n"
            "  ~/.zshrc, behind compinit   eval \"$(retile completion zsh)\"\n"
            "  ~/.config/fish/config.fish  retile completion fish | source");
        return CLI_DONE;
    }
    verb = find_verb(topic);
    if (verb == NULL) {
        return unknown_verb(topic);
    }
    base_options_help(verb->command, stdout);
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
                   : cli_completion(argc > 2 ? argv[2] : "bash", verbs,
                                    N_VERBS);
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
