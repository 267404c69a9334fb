/* `retile verify`: is one state complete and consistent; are two equal? */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/num.h"
#include "cli/cli.h"
#include "store/copy.h"
#include "store/source.h"

static const char *from_text;
static const char *from_b_text;
static const char *table_path;
static bool wants_json;

static const struct base_option options[] = {
    {"from", 0, "SPEC", "the layout A is in, when it has no layout.yaml",
     &from_text, NULL},
    {"from-b", 0, "SPEC", "the layout B is in, when it has no layout.yaml",
     &from_b_text, NULL},
    {"table", 0, "FILE", "the tensors, as `inspect --table` prints them",
     &table_path, NULL},
    {"json", 0, NULL, "print JSON", NULL, &wants_json},
};

const struct base_command cli_verify_command = {
    .program = "retile verify",
    .usage = "A [B] [options]",
    .about = "Check one state, or that two are equal whatever their layouts\n"
             "One: every tensor complete, every replica and tie equal.  Two:\n"
             "the same tensors and job objects, byte for byte; a tie may be\n"
             "left out.  Exit 3 when they differ.",
    .example = "retile verify ranks/\nretile verify model/ ranks/",
    .options = options,
    .n_options = sizeof(options) / sizeof(options[0]),
    .min_args = 1,
    .max_args = 2,
};

static struct cli_progress progress;

static bool on_progress(void *ctx, uint64_t done_bytes, uint64_t all_bytes)
{
    (void)ctx;
    cli_progress_show(&progress, done_bytes, all_bytes);
    return !cli_was_interrupted();
}

static enum base_code match_tensor(const struct ptc_tensor *a,
                                   const struct ptc_tensor *b,
                                   struct base_err *err)
{
    struct ptc_box in_a = ptc_box_whole(a->n_dims, a->shape);
    struct ptc_box in_b = ptc_box_whole(b->n_dims, b->shape);
    char text_a[PTC_BOX_TEXT_BYTES];
    char text_b[PTC_BOX_TEXT_BYTES];

    if (a->dtype != b->dtype) {
        return base_fail(err, BASE_MISMATCH, "tensor %.*s: is %s in A, %s in B",
                         BASE_STR_FMT(a->name), ptc_dtype_name(a->dtype),
                         ptc_dtype_name(b->dtype));
    }
    if (a->n_dims != b->n_dims || !ptc_box_eq(&in_a, &in_b)) {
        return base_fail(err, BASE_MISMATCH, "tensor %.*s: is %s in A, %s in B",
                         BASE_STR_FMT(a->name), ptc_box_format(&in_a, text_a),
                         ptc_box_format(&in_b, text_b));
    }
    if (!base_str_eq(a->group, b->group)) {
        return base_fail(err, BASE_MISMATCH,
                         "tensor %.*s: is in group %.*s in A, %.*s in B",
                         BASE_STR_FMT(a->name), BASE_STR_FMT(a->group),
                         BASE_STR_FMT(b->group));
    }
    return BASE_OK;
}

/* Find every tensor of @a in @b, as it is there, and the other way round. */
static enum base_code match(const struct ptc_table *a,
                            const struct ptc_table *b,
                            uint32_t *map,
                            struct base_err *err)
{
    for (uint32_t i = 0; i < ptc_table_n_tensors(a); i++) {
        const struct ptc_tensor *tensor = ptc_table_tensor(a, i);
        const struct ptc_tensor *other;

        map[i] = ptc_table_find(b, tensor->name);
        if (map[i] == PTC_NONE) {
            if (tensor->tie != PTC_NONE) {
                continue; /* B may leave out what is its target's bytes */
            }
            return base_fail(err, BASE_MISMATCH, "only A has tensor %.*s",
                             BASE_STR_FMT(tensor->name));
        }
        other = ptc_table_tensor(b, map[i]);
        BASE_TRY(match_tensor(tensor, other, err));
    }
    for (uint32_t i = 0; i < ptc_table_n_tensors(b); i++) {
        const struct ptc_tensor *tensor = ptc_table_tensor(b, i);

        if (tensor->tie == PTC_NONE &&
            ptc_table_find(a, tensor->name) == PTC_NONE) {
            return base_fail(err, BASE_MISMATCH, "only B has tensor %.*s",
                             BASE_STR_FMT(tensor->name));
        }
    }
    return BASE_OK;
}

/* Compare the bytes of every tensor of @a that map[] finds in @b.  A tie's bytes
 * are its target's, and the two may know other ties: every pair of a target in
 * A and one in B is compared, in passes, for a pass knows one partner for each
 * of A's.  Nearly always there is one pass.  Clears map[]. */
static enum base_code compare_tensors(const struct store_source *a,
                                      const struct store_source *b,
                                      uint32_t *map,
                                      const struct store_copy_options *copy,
                                      struct base_err *err)
{
    const struct ptc_table *table = store_source_table(a);
    uint32_t n = ptc_table_n_tensors(table);
    BASE_AUTO_MEM uint32_t *partner = calloc(n + (size_t)1, sizeof(*partner));
    enum base_code rc;
    bool is_first = true;
    bool is_done = false;

    if (partner == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    while (!is_done) {
        is_done = true;
        for (uint32_t i = 0; i < n; i++) {
            partner[i] = PTC_NONE;
        }
        for (uint32_t i = 0; i < n; i++) {
            uint32_t in_a = ptc_table_root(table, i);
            uint32_t in_b;

            if (map[i] == PTC_NONE) {
                continue;
            }
            in_b = ptc_table_root(store_source_table(b), map[i]);
            if (partner[in_a] != PTC_NONE && partner[in_a] != in_b) {
                is_done = false; /* in a later pass */
                continue;
            }
            partner[in_a] = in_b;
            map[i] = PTC_NONE;
        }
        rc = store_compare(a, store_source_pieces(a), b, store_source_pieces(b),
                           partner, copy, err);
        if (rc != BASE_OK) {
            return is_first ? rc : base_wrap(err, rc, "a tie of only one");
        }
        is_first = false;
    }
    return BASE_OK;
}

/* The job's objects; a rank's belong to its layout. */
static enum base_code compare_objects(const struct store_source *a,
                                      const struct store_source *b,
                                      struct base_err *err)
{
    const struct ptc_table *table = store_source_table(a);

    for (uint32_t i = 0; i < ptc_table_n_objects(table); i++) {
        const struct ptc_object *object = ptc_table_object(table, i);
        const struct store_blob *in_a = NULL;
        const struct store_blob *in_b = NULL;

        if (object->is_per_rank) {
            continue;
        }
        BASE_TRY(store_source_object(a, object->name, PTC_NONE, &in_a, err));
        BASE_TRY(store_source_object(b, object->name, PTC_NONE, &in_b, err));
        if (in_a == NULL || in_b == NULL) {
            return base_fail(err, BASE_MISMATCH, "only one has object %.*s",
                             BASE_STR_FMT(object->name));
        }
        BASE_TRY(store_compare_blobs(in_a, in_b, err));
    }
    return BASE_OK;
}

static enum base_code compare_two(const struct store_source *a,
                                  const struct store_source *b,
                                  const struct store_copy_options *copy,
                                  struct base_err *err)
{
    const struct ptc_table *table = store_source_table(a);
    BASE_AUTO_MEM uint32_t *map =
        calloc(ptc_table_n_tensors(table) + (size_t)1, sizeof(*map));

    if (map == NULL) {
        return base_fail(err, BASE_NO_MEM, "out of memory");
    }
    BASE_TRY(match(table, store_source_table(b), map, err));
    BASE_TRY(compare_objects(a, b, err));
    BASE_TRY(compare_objects(b, a, err));
    return compare_tensors(a, b, map, copy, err);
}

static enum base_code compare_all(const struct store_source *a,
                                  const struct store_source *b,
                                  struct base_err *err)
{
    struct store_copy_options copy = {.progress = on_progress};

    BASE_TRY(store_compare(a, store_source_replicas(a), a,
                           store_source_pieces(a), NULL, &copy, err));
    if (b == NULL) {
        return BASE_OK;
    }
    BASE_TRY(store_compare(b, store_source_replicas(b), b,
                           store_source_pieces(b), NULL, &copy, err));
    return compare_two(a, b, &copy, err);
}

static enum base_code open_both(char **paths,
                                int n_paths,
                                struct store_source **ret_a,
                                struct store_source **ret_b,
                                struct base_err *err)
{
    struct store_source_options of_a = {.from = from_text, .table = table_path};
    struct store_source_options of_b = {.from = from_b_text,
                                        .table = table_path};

    BASE_TRY(store_source_open_dir(paths[0], &of_a, ret_a, err));
    if (n_paths == 2) {
        BASE_TRY(store_source_open_dir(paths[1], &of_b, ret_b, err));
    }
    return BASE_OK;
}

static enum cli_exit tell_result(enum base_code code,
                                 const struct base_err *err,
                                 const struct store_source *a,
                                 bool are_two)
{
    const struct ptc_table *table = store_source_table(a);
    char size[24];
    enum cli_exit rc;

    if (code != BASE_OK && code != BASE_MISMATCH) {
        return cli_tell("verify", err);
    }
    if (wants_json) {
        rc = cli_print_json(
            "verify",
            json_pack("{si sb so sI sI}", "version", 1, "ok", code == BASE_OK,
                      "reason", cli_json_text(code == BASE_OK ? "" : err->text),
                      "tensors", (json_int_t)ptc_table_n_tensors(table),
                      "bytes", (json_int_t)ptc_table_n_bytes(table)));
        return code == BASE_OK ? rc : CLI_NOT_FOUND;
    }
    if (code == BASE_MISMATCH) {
        (void)cli_tell("verify", err);
        return CLI_NOT_FOUND;
    }
    (void)printf("%s: %u tensors, %s\n",
                 are_two ? "equal" : "complete and consistent",
                 ptc_table_n_tensors(table),
                 base_format_size(ptc_table_n_bytes(table), size));
    return CLI_DONE;
}

enum cli_exit cli_verify(int argc, char **argv)
{
    BASE_AUTO(store_source) a = NULL;
    BASE_AUTO(store_source) b = NULL;
    struct base_err err = {0};
    char **args;
    int n_args;
    enum cli_exit rc;
    enum base_code code;

    if (!cli_parse(&cli_verify_command, argc, argv, &args, &n_args, &rc)) {
        return rc;
    }
    if (open_both(args, n_args, &a, &b, &err) != BASE_OK) {
        return cli_tell("verify", &err);
    }
    cli_catch_signals();
    cli_progress_begin(&progress, "verifying");
    code = compare_all(a, b, &err);
    cli_progress_end(&progress);
    return tell_result(code, &err, a, n_args == 2);
}
