/* `retile inspect`: what a checkpoint directory holds. */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/num.h"
#include "cli/cli.h"
#include "store/source.h"

static const char *from_text;
static const char *table_path;
static bool wants_json;
static bool wants_table;

static const struct base_option options[] = {
    {"json", 0, NULL, "print JSON", NULL, &wants_json},
    {"table", 0, NULL, "print the table of tensors, for --table elsewhere",
     NULL, &wants_table},
    {"from", 0, "SPEC", "the layout PATH is in, when it has no layout.yaml",
     &from_text, NULL},
    {"with-table", 0, "FILE", "a table that says what PATH's tensors are",
     &table_path, NULL},
};

const struct base_command cli_inspect_command = {
    .program = "retile inspect",
    .usage = "PATH [--json | --table] [options]",
    .about = "Show a checkpoint's tensors, sizes and layout\n"
             "PATH: one safetensors file, a Hugging Face directory, a plain\n"
             "directory of ranks, or PyTorch DCP's sharded safetensors.",
    .example =
        "retile inspect model/\nretile inspect ranks/ --table > table.json",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 1,
};

static const char *form_name(enum store_form form)
{
    switch (form) {
    case STORE_FORM_PLAIN:
        return "ranks";
    case STORE_FORM_HF:
        return "hf";
    case STORE_FORM_SHARDED:
        return "dcp-safetensors";
    case STORE_FORM_FILE:
        return "file";
    case STORE_FORM_VERSION:
        return "version";
    }
    return "?";
}

static json_t *str_json(struct base_str s)
{
    return json_stringn(s.ptr, s.len);
}

static json_t *tensor_json(const struct ptc_table *table, uint32_t idx)
{
    const struct ptc_tensor *tensor = ptc_table_tensor(table, idx);
    json_t *shape = json_array();
    json_t *json;

    for (uint32_t d = 0; d < tensor->n_dims; d++) {
        (void)json_array_append_new(shape,
                                    json_integer((json_int_t)tensor->shape[d]));
    }
    json = json_pack("{so ss so so sI}", "name", str_json(tensor->name),
                     "dtype", ptc_dtype_name(tensor->dtype), "shape", shape,
                     "group", str_json(tensor->group), "bytes",
                     (json_int_t)tensor->n_bytes);
    if (json != NULL && tensor->tie != PTC_NONE) {
        (void)json_object_set_new(
            json, "tie", str_json(ptc_table_tensor(table, tensor->tie)->name));
    }
    return json;
}

static json_t *mesh_json(const struct ptc_layout *layout)
{
    const struct ptc_mesh *mesh = &ptc_layout_spec(layout)->meshes[0];
    json_t *json = json_object();

    for (uint32_t i = 0; i < mesh->n_axes; i++) {
        (void)json_object_setn_new(json, mesh->axes[i].name.ptr,
                                   mesh->axes[i].name.len,
                                   json_integer(mesh->axes[i].size));
    }
    return json;
}

static enum cli_exit print_json(const struct store_source *source)
{
    const struct ptc_table *table = store_source_table(source);
    const struct ptc_layout *layout = store_source_layout(source);
    char digest[BASE_DIGEST_TEXT_BYTES];
    json_t *tensors = json_array();
    json_t *objects = json_array();
    json_t *json;

    for (uint32_t i = 0; i < ptc_table_n_tensors(table); i++) {
        (void)json_array_append_new(tensors, tensor_json(table, i));
    }
    for (uint32_t i = 0; i < ptc_table_n_objects(table); i++) {
        const struct ptc_object *object = ptc_table_object(table, i);

        (void)json_array_append_new(
            objects, json_pack("{so ss}", "name", str_json(object->name), "of",
                               object->is_per_rank ? "rank" : "job"));
    }
    json = json_pack("{si so ss sI ss so so}", "version", 1, "path",
                     cli_json_text(store_source_path(source)), "form",
                     form_name(store_source_form(source)), "bytes",
                     (json_int_t)ptc_table_n_bytes(table), "table_digest",
                     base_digest_format(ptc_table_digest(table), digest),
                     "tensors", tensors, "objects", objects);
    if (json != NULL && layout != NULL) {
        (void)json_object_set_new(json, "ranks",
                                  json_integer(ptc_layout_n_ranks(layout)));
        (void)json_object_set_new(json, "mesh", mesh_json(layout));
    }
    return cli_print_json("inspect", json);
}

static void print_layout(const struct store_source *source)
{
    const struct ptc_layout *layout = store_source_layout(source);
    const struct ptc_mesh *mesh;

    if (layout == NULL) {
        (void)printf("layout   boxes, as the files say\n");
        return;
    }
    mesh = &ptc_layout_spec(layout)->meshes[0];
    (void)printf("layout   %" PRIu32 " rank%s", ptc_layout_n_ranks(layout),
                 ptc_layout_n_ranks(layout) == 1 ? "" : "s:");
    for (uint32_t i = 0; i < mesh->n_axes; i++) {
        (void)printf(" %.*s=%" PRIu32, BASE_STR_FMT(mesh->axes[i].name),
                     mesh->axes[i].size);
    }
    (void)putchar('\n');
}

static void print_text(const struct store_source *source)
{
    const struct ptc_table *table = store_source_table(source);
    char size[24];

    (void)printf("path     %s\nform     %s\n", store_source_path(source),
                 form_name(store_source_form(source)));
    print_layout(source);
    (void)printf("state    %" PRIu32 " tensors, %s\n\n",
                 ptc_table_n_tensors(table),
                 base_format_size(ptc_table_n_bytes(table), size));
    for (uint32_t i = 0; i < ptc_table_n_tensors(table); i++) {
        const struct ptc_tensor *tensor = ptc_table_tensor(table, i);
        int width = 0;

        (void)printf("%-11s [", ptc_dtype_name(tensor->dtype));
        for (uint32_t d = 0; d < tensor->n_dims; d++) {
            width += printf("%s%" PRIu64, d == 0 ? "" : ", ", tensor->shape[d]);
        }
        (void)printf("]%*s %10s  %.*s/%.*s", width < 20 ? 20 - width : 0, "",
                     base_format_size(tensor->n_bytes, size),
                     BASE_STR_FMT(tensor->group), BASE_STR_FMT(tensor->name));
        if (tensor->tie != PTC_NONE) {
            struct base_str to = ptc_table_tensor(table, tensor->tie)->name;

            (void)printf(" -> %.*s", BASE_STR_FMT(to));
        }
        (void)putchar('\n');
    }
    for (uint32_t i = 0; i < ptc_table_n_objects(table); i++) {
        const struct ptc_object *object = ptc_table_object(table, i);

        (void)printf("object of %s  %.*s\n",
                     object->is_per_rank ? "each rank" : "the job",
                     BASE_STR_FMT(object->name));
    }
    for (uint32_t i = 0; i < store_source_n_ignored(source); i++) {
        (void)printf("ignored     %s\n", store_source_ignored(source, i));
    }
}

static enum cli_exit print_table(const struct store_source *source)
{
    BASE_AUTO_BUF buf;
    struct base_err err = {0};

    base_buf_init(&buf, SIZE_MAX / 2);
    if (ptc_table_format(store_source_table(source), &buf, &err) != BASE_OK) {
        return cli_tell("inspect", &err);
    }
    (void)fwrite(buf.ptr, 1, buf.len, stdout); /* main looks at its state */
    return CLI_DONE;
}

enum cli_exit cli_inspect(int argc, char **argv)
{
    struct store_source_options source_options = {0};
    BASE_AUTO(store_source) source = NULL;
    struct base_err err = {0};
    char **args;
    int n_args;
    enum cli_exit rc;

    if (!cli_parse(&cli_inspect_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    source_options.from = from_text;
    source_options.table = table_path;
    if (store_source_open_dir(args[0], &source_options, &source, &err) !=
        BASE_OK) {
        return cli_tell("inspect", &err);
    }
    if (wants_table) {
        return print_table(source);
    }
    if (wants_json) {
        return print_json(source);
    }
    print_text(source);
    return CLI_DONE;
}
