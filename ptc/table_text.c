/* The text form of a table: ptc_table_format and ptc_table_parse. */
#include <inttypes.h>

#include "ptc/table.h"

static void format_tensor(const struct ptc_tensor *t, struct base_buf *buf)
{
    /* Failures stick to the buffer; the last call tells. */
    (void)base_buf_add_str(buf, BASE_STR("{\"name\":"));
    (void)base_buf_add_json(buf, t->name);
    (void)base_buf_add_str(buf, BASE_STR(",\"group\":"));
    (void)base_buf_add_json(buf, t->group);
    (void)base_buf_addf(buf, ",\"dtype\":\"%s\",\"shape\":[",
                        ptc_dtype_name(t->dtype));
    for (uint32_t d = 0; d < t->n_dims; d++) {
        (void)base_buf_addf(buf, "%s%" PRIu64, d == 0 ? "" : ",", t->shape[d]);
    }
    (void)base_buf_add_str(buf, BASE_STR("]}"));
}

enum base_code ptc_table_format(const struct ptc_table *table,
                                struct base_buf *buf,
                                struct base_err *err)
{
    const char *separator = "\n";

    (void)base_buf_addf(buf, "{\"retile_table\": 1,\n \"tensors\": [");
    for (uint32_t i = 0; i < ptc_table_n_tensors(table); i++) {
        const struct ptc_tensor *t = ptc_table_tensor(table, i);

        if (t->tie == PTC_NONE) {
            (void)base_buf_add_str(buf, base_str_of(separator));
            format_tensor(t, buf);
            separator = ",\n";
        }
    }
    (void)base_buf_add_str(buf, BASE_STR("],\n \"ties\": {"));
    separator = "";
    for (uint32_t i = 0; i < ptc_table_n_tensors(table); i++) {
        const struct ptc_tensor *t = ptc_table_tensor(table, i);

        if (t->tie != PTC_NONE) {
            (void)base_buf_add_str(buf, base_str_of(separator));
            (void)base_buf_add_json(buf, t->name);
            (void)base_buf_add_str(buf, BASE_STR(": "));
            (void)base_buf_add_json(buf, ptc_table_tensor(table, t->tie)->name);
            separator = ", ";
        }
    }
    (void)base_buf_add_str(buf, BASE_STR("},\n \"objects\": {"));
    for (uint32_t i = 0; i < ptc_table_n_objects(table); i++) {
        const struct ptc_object *object = ptc_table_object(table, i);

        (void)base_buf_add_str(buf, base_str_of(i == 0 ? "" : ", "));
        (void)base_buf_add_json(buf, object->name);
        (void)base_buf_addf(buf, ": \"%s\"",
                            object->is_per_rank ? "rank" : "job");
    }
    (void)base_buf_add_str(buf, BASE_STR("}}\n"));
    return base_buf_check(buf, err);
}
