/* Every value is a text until the last source was read; then it is parsed once. */
#include "base/settings.h"

#include <assert.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/num.h"
#include "base/options.h"
#include "base/version.h"
#include "base/yaml.h"

enum { FILE_BYTES = 1 << 16, NAME_BYTES = 64, N_EXTRA = 3 };

/* What a key is to be. */
struct source {
    const char *text;  /* NULL: the field has its value */
    const char *where; /* "default", "FILE:LINE", "VARIABLE", "--key" */
    bool is_file;
};

struct base_settings {
    const struct base_settings_table *table;
    struct base_arena *arena;
    const char *names[BASE_SETTINGS_KEYS];
    struct source sources[BASE_SETTINGS_KEYS];
    const char *list[BASE_SETTINGS_LIST + 1]; /* of the one that is a list */
};

/* What the command line says. */
struct line {
    struct base_option options[BASE_SETTINGS_KEYS + N_EXTRA];
    const char *texts[BASE_SETTINGS_KEYS];
    const char *list[BASE_SETTINGS_LIST + 1];
    const char *file;
    bool is_print;
    bool is_version;
};

/* @text, which is taken, in the arena; NULL when memory is short. */
static const char *keep(const struct base_settings *s, char *text)
{
    BASE_AUTO_MEM char *taken = text;

    return taken != NULL ? base_arena_str(s->arena, base_str_of(taken)).ptr
                         : NULL;
}

static enum base_code no_memory(struct base_err *err)
{
    return base_fail(err, BASE_NO_MEM, "cannot read the settings");
}

/* n_keys: there is none. */
static size_t find(const struct base_settings *s, struct base_str name)
{
    size_t i = 0;

    while (i < s->table->n_keys &&
           !base_str_eq(name, base_str_of(s->names[i]))) {
        i++;
    }
    return i;
}

enum base_code base_settings_fail(const struct base_settings *s,
                                  const char *name,
                                  const char *says,
                                  struct base_err *err)
{
    const size_t i = find(s, base_str_of(name));
    const struct source *source = &s->sources[i];

    assert(i < s->table->n_keys && source->text != NULL);
    return base_fail(err, source->is_file ? BASE_BAD_INPUT : BASE_BAD_ARG,
                     "%s: %s%s'%s' %s", source->where,
                     source->is_file ? name : "", source->is_file ? ": " : "",
                     source->text, says);
}

/* --- the sources ---------------------------------------------------------- */

static enum base_code add_item(struct base_settings *s,
                               const char *where,
                               const char *item,
                               struct base_err *err)
{
    size_t n = 0;

    while (s->list[n] != NULL) {
        n++;
    }
    if (n == BASE_SETTINGS_LIST) {
        return base_fail(err, BASE_LIMIT, "%s: a list of more than %d", where,
                         BASE_SETTINGS_LIST);
    }
    s->list[n] = item;
    return BASE_OK;
}

/* The source of key @i; its where is NULL when memory was short. */
static enum base_code take(struct base_settings *s,
                           size_t i,
                           struct source source,
                           struct base_err *err)
{
    const char *text = source.text;

    if (source.where == NULL) {
        return no_memory(err);
    }
    s->sources[i] = source;
    if (s->table->keys[i].type != BASE_SETTING_LIST) {
        return BASE_OK;
    }
    (void)memset(s->list, 0, sizeof(s->list));
    while (*text != '\0') { /* "A,B" */
        const size_t n = strcspn(text, ",");
        const char *item =
            base_arena_str(s->arena, (struct base_str){text, n}).ptr;

        if (item == NULL) {
            return no_memory(err);
        }
        if (n > 0) {
            BASE_TRY(add_item(s, source.where, item, err));
        }
        text += n + (text[n] == ',' ? 1 : 0);
    }
    return BASE_OK;
}

static enum base_code take_node(struct base_settings *s,
                                const char *where,
                                const struct base_yaml_node *node,
                                struct base_err *err)
{
    const size_t i = find(s, node->key);
    const bool is_list = node->kind == BASE_YAML_LIST;

    if (i == s->table->n_keys) {
        const char *near = base_str_nearest(node->key, s->names, i);

        return base_fail(err, BASE_BAD_INPUT, "%s: unknown key '%.*s'%s%s%s",
                         where, BASE_STR_FMT(node->key),
                         near != NULL ? "; did you mean '" : "",
                         near != NULL ? near : "", near != NULL ? "'?" : "");
    }
    if (node->kind == BASE_YAML_NULL) {
        return BASE_OK;
    }
    if (is_list ? s->table->keys[i].type != BASE_SETTING_LIST
                : node->kind != BASE_YAML_TEXT) {
        return base_fail(err, BASE_BAD_INPUT, "%s: %s is one value", where,
                         s->names[i]);
    }
    BASE_TRY(take(s, i,
                  (struct source){is_list ? "" : node->text.ptr, where, true},
                  err));
    for (const struct base_yaml_node *item = node->children; item != NULL;
         item = item->next) {
        if (item->kind != BASE_YAML_TEXT) {
            return base_fail(err, BASE_BAD_INPUT, "%s: %s is a list of texts",
                             where, s->names[i]);
        }
        BASE_TRY(add_item(s, where, item->text.ptr, err));
    }
    return BASE_OK;
}

static enum base_code
take_file(struct base_settings *s, const char *file, struct base_err *err)
{
    BASE_AUTO_BUF bytes;
    const struct base_yaml_node *root = NULL;

    base_buf_init(&bytes, FILE_BYTES);
    BASE_TRY(base_file_read(AT_FDCWD, file, &bytes, err));
    BASE_TRY(base_yaml_parse(base_buf_str(&bytes), file, s->arena, &root, err));
    if (root->kind != BASE_YAML_MAP && root->kind != BASE_YAML_NULL) {
        return base_fail(err, BASE_BAD_INPUT,
                         "%s:%" PRIu32 ": is not `key: value` lines", file,
                         root->line);
    }
    for (const struct base_yaml_node *node = root->children; node != NULL;
         node = node->next) {
        const char *where = keep(s, base_path("%s:%" PRIu32, file, node->line));

        if (where == NULL) {
            return no_memory(err);
        }
        BASE_TRY(take_node(s, where, node, err));
    }
    return BASE_OK;
}

/* What variable @name says, NULL: nothing.  An empty @name becomes PROGRAM_KEY. */
static const char *
variable(const struct base_settings *s, const char *key, char *name)
{
    const char *text;

    if (name[0] == '\0') {
        (void)snprintf(name, NAME_BYTES, "%s_%s", s->table->program, key);
        for (char *at = name; *at != '\0'; at++) {
            if (*at >= 'a' && *at <= 'z') {
                *at = (char)(*at - 'a' + 'A');
            } else if (*at == '-') {
                *at = '_';
            }
        }
    }
    /* As the header says. NOLINTNEXTLINE(concurrency-mt-unsafe) */
    text = getenv(name);
    return text != NULL && text[0] != '\0' ? text : NULL;
}

static enum base_code take_environment(struct base_settings *s,
                                       struct base_err *err)
{
    for (size_t i = 0; i < s->table->n_keys; i++) {
        const struct base_setting *key = &s->table->keys[i];
        char name[NAME_BYTES] = "";
        const char *text;

        if (key->variable != NULL) {
            (void)snprintf(name, sizeof(name), "%s", key->variable); /* fits */
        }
        text = variable(s, key->name, name);
        if (text != NULL) {
            const char *where = keep(s, strdup(name));

            BASE_TRY(take(s, i, (struct source){text, where, false}, err));
        }
    }
    return BASE_OK;
}

static enum base_code take_line(struct base_settings *s,
                                const struct line *line,
                                struct base_err *err)
{
    for (size_t i = 0; i < s->table->n_keys; i++) {
        const bool is_list = s->table->keys[i].type == BASE_SETTING_LIST;
        const char *text = is_list ? "" : line->texts[i];

        if (line->texts[i] != NULL) {
            const char *where = keep(s, base_path("--%s", s->names[i]));

            BASE_TRY(take(s, i, (struct source){text, where, false}, err));
            if (is_list) {
                (void)memcpy(s->list, line->list, sizeof(line->list));
            }
        }
    }
    return BASE_OK;
}

static enum base_code
take_all(struct base_settings *s, const struct line *line, struct base_err *err)
{
    char name[NAME_BYTES] = "";
    const char *file = line->file;

    for (size_t i = 0; i < s->table->n_keys; i++) {
        const char *text = s->table->keys[i].text;

        BASE_TRY(take(s, i, (struct source){text, "default", false}, err));
    }
    if (file == NULL) {
        file = variable(s, "config", name);
    }
    if (file != NULL) {
        BASE_TRY(take_file(s, file, err));
    }
    BASE_TRY(take_environment(s, err));
    return take_line(s, line, err);
}

/* --- values --------------------------------------------------------------- */

static enum base_code set_number(struct base_settings *s,
                                 const struct base_setting *key,
                                 struct source *source,
                                 uint32_t *at,
                                 struct base_err *err)
{
    uint64_t number = 0;
    char says[64];

    if (source->text == NULL) {
        source->text = keep(s, base_path("%" PRIu32, *at));
        return source->text != NULL ? BASE_OK : no_memory(err);
    }
    if (!base_parse_u64(base_str_of(source->text), &number) ||
        number < key->min || number > key->max) {
        (void)snprintf(says, sizeof(says),
                       "is not a number from %" PRIu32 " to %" PRIu32, key->min,
                       key->max); /* fits */
        return base_settings_fail(s, key->name, says, err);
    }
    *at = (uint32_t)number;
    return BASE_OK;
}

static enum base_code set_choice(const struct base_settings *s,
                                 const struct base_setting *key,
                                 const char *text,
                                 unsigned *at,
                                 struct base_err *err)
{
    char says[NAME_BYTES];

    for (unsigned i = 0; key->names[i] != NULL; i++) {
        if (strcmp(text, key->names[i]) == 0) {
            *at = i;
            return BASE_OK;
        }
    }
    (void)snprintf(says, sizeof(says), "is not %s", key->help); /* or cut */
    return base_settings_fail(s, key->name, says, err);
}

static enum base_code
set_value(struct base_settings *s, size_t i, void *values, struct base_err *err)
{
    const struct base_setting *key = &s->table->keys[i];
    struct source *source = &s->sources[i];
    void *at = (char *)values + key->at;

    switch (key->type) {
    case BASE_SETTING_TEXT:
        *(const char **)at = source->text;
        return BASE_OK;
    case BASE_SETTING_NUMBER:
        return set_number(s, key, source, at, err);
    case BASE_SETTING_CHOICE:
        return set_choice(s, key, source->text, at, err);
    case BASE_SETTING_LIST:
        if (s->list[0] == NULL) {
            return base_settings_fail(s, key->name, "is an empty list", err);
        }
        (void)memcpy(at, s->list, sizeof(s->list));
        return BASE_OK;
    }
    return BASE_OK;
}

/* --- reading, printing ----------------------------------------------------- */

/* *ret_is_done: --help or --version was answered. */
static enum base_code line_read(struct line *line,
                                const struct base_settings *s,
                                int argc,
                                char **argv,
                                bool *ret_is_done,
                                struct base_err *err)
{
    const size_t n = s->table->n_keys;
    struct base_command command = {.program = s->table->program,
                                   .usage = s->table->usage,
                                   .about = s->table->about,
                                   .example = s->table->example,
                                   .options = line->options,
                                   .n_options = n + N_EXTRA,
                                   .list = line->list,
                                   .list_room = BASE_SETTINGS_LIST + 1};
    char **args;
    int n_args;

    for (size_t i = 0; i < n; i++) {
        const struct base_setting *key = &s->table->keys[i];

        line->options[i] =
            (struct base_option){key->name, key->letter,     key->value,
                                 key->help, &line->texts[i], NULL};
        if (key->type == BASE_SETTING_LIST) {
            command.list_letter = key->letter;
        }
    }
    line->options[n] = (struct base_option){
        "config",    'c', "FILE", "settings, `key: value` lines (YAML)",
        &line->file, NULL};
    line->options[n + 1] = (struct base_option){
        "print-config", 0,
        NULL,           "print each setting and where it is from",
        NULL,           &line->is_print};
    line->options[n + 2] = (struct base_option){
        "version", 0, NULL, "print the version", NULL, &line->is_version};
    BASE_TRY(base_options_parse(&command, argc, argv, &args, &n_args,
                                ret_is_done, err));
    if (*ret_is_done) {
        base_options_help(&command, stdout);
    } else if (line->is_version) {
        (void)fprintf(stdout, "%s %s\n", command.program, RETILE_VERSION);
        *ret_is_done = true;
    }
    return BASE_OK;
}

enum base_code base_settings_read(const struct base_settings_table *table,
                                  int argc,
                                  char **argv,
                                  struct base_arena *arena,
                                  void *values,
                                  const struct base_settings **ret,
                                  struct base_err *err)
{
    struct base_settings *s = base_arena_alloc(arena, 1, sizeof(*s));
    struct line line = {0};
    bool is_done = false;

    assert(table->n_keys <= BASE_SETTINGS_KEYS);
    if (s == NULL) {
        return no_memory(err);
    }
    s->table = table;
    s->arena = arena;
    for (size_t i = 0; i < table->n_keys; i++) {
        s->names[i] = table->keys[i].name;
    }
    BASE_TRY(line_read(&line, s, argc, argv, &is_done, err));
    if (is_done) {
        *ret = NULL;
        return BASE_OK;
    }
    BASE_TRY(take_all(s, &line, err));
    for (size_t i = 0; i < table->n_keys; i++) {
        BASE_TRY(set_value(s, i, values, err));
    }
    if (line.is_print) {
        base_settings_print(s, stdout);
    }
    *ret = line.is_print ? NULL : s;
    return BASE_OK;
}

/* What JSON cannot say, because it is no UTF-8, is left out. */
static void print_text(const char *text, FILE *out)
{
    BASE_AUTO_BUF quoted;

    base_buf_init(&quoted, FILE_BYTES);
    if (base_buf_add_json(&quoted, base_str_of(text)) == BASE_OK) {
        (void)fprintf(out, "%s", quoted.ptr); /* the caller checks the stream */
    }
}

void base_settings_print(const struct base_settings *s, FILE *out)
{
    for (size_t i = 0; i < s->table->n_keys; i++) {
        const struct base_setting *key = &s->table->keys[i];
        const struct source *source = &s->sources[i];

        (void)fprintf(out, "%s: ", key->name);
        if (key->type == BASE_SETTING_LIST) {
            for (size_t k = 0; s->list[k] != NULL; k++) {
                (void)fprintf(out, "%s", k == 0 ? "[" : ", ");
                print_text(s->list[k], out);
            }
            (void)fprintf(out, "]");
        } else if (key->type != BASE_SETTING_TEXT) {
            (void)fprintf(out, "%s", source->text);
        } else if (source->text != NULL) {
            print_text(source->text, out);
        }
        (void)fprintf(out, "  # %s%s\n", source->where,
                      key->is_reloaded ? ", read again at SIGHUP" : "");
    }
}
