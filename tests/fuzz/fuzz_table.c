/* Input: a table's text.  What parses keeps the table's invariants, and its
 * canonical text parses to an equal table. */
#include "ptc/table.h"
#include "tests/fuzz/fuzz.h"

static void check_table(const struct ptc_table *table)
{
    uint64_t n_bytes = 0;

    for (uint32_t i = 0; i < ptc_table_n_tensors(table); i++) {
        const struct ptc_tensor *t = ptc_table_tensor(table, i);
        const struct ptc_tensor *root =
            ptc_table_tensor(table, ptc_table_root(table, i));

        FUZZ_CHECK(ptc_table_find(table, t->name) == i);
        FUZZ_CHECK(i == 0 || base_str_cmp(ptc_table_tensor(table, i - 1)->name,
                                          t->name) < 0);
        FUZZ_CHECK(ptc_name_check(t->name, "tensor", NULL) == BASE_OK);
        FUZZ_CHECK(ptc_name_check(t->group, "group", NULL) == BASE_OK);
        FUZZ_CHECK(root->tie == PTC_NONE);
        FUZZ_CHECK(root->n_bytes == t->n_bytes && root->dtype == t->dtype);
        n_bytes += t->tie == PTC_NONE ? t->n_bytes : 0;
    }
    FUZZ_CHECK(n_bytes == ptc_table_n_bytes(table));
    for (uint32_t i = 1; i < ptc_table_n_groups(table); i++) {
        FUZZ_CHECK(base_str_cmp(ptc_table_group(table, i - 1),
                                ptc_table_group(table, i)) < 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    BASE_AUTO(ptc_table) table = NULL;
    BASE_AUTO(ptc_table) back = NULL;
    BASE_AUTO_BUF text;
    struct base_err err = {0};
    enum base_code code =
        ptc_table_parse(fuzz_str(data, size), "fuzz", &table, &err);

    base_buf_init(&text, 1u << 26);
    if (code != BASE_OK) {
        FUZZ_CHECK(table == NULL);
        fuzz_check_error(code, &err);
        return 0;
    }
    check_table(table);
    FUZZ_CHECK(ptc_table_format(table, &text, &err) == BASE_OK);
    FUZZ_CHECK(ptc_table_parse(base_buf_str(&text), "fuzz", &back, &err) ==
               BASE_OK);
    FUZZ_CHECK(base_digest_eq(ptc_table_digest(table), ptc_table_digest(back)));
    return 0;
}
