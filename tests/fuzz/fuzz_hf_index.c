/* Input: an index.  What parses has sorted entries and files, and is the same
 * after it was written and read again. */
#include "ptc/hf_index.h"
#include "tests/fuzz/fuzz.h"

static void check_index(const struct ptc_hf_index *index)
{
    for (uint32_t i = 0; i < index->n_files; i++) {
        FUZZ_CHECK(base_str_ends(index->files[i], BASE_STR(".safetensors")));
        FUZZ_CHECK(memchr(index->files[i].ptr, '/', index->files[i].len) ==
                   NULL);
        FUZZ_CHECK(i == 0 ||
                   base_str_cmp(index->files[i - 1], index->files[i]) < 0);
    }
    for (uint32_t i = 0; i < index->n_entries; i++) {
        FUZZ_CHECK(index->entries[i].file < index->n_files);
        FUZZ_CHECK(i == 0 || base_str_cmp(index->entries[i - 1].tensor,
                                          index->entries[i].tensor) < 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    BASE_AUTO(ptc_hf_index) index = NULL;
    BASE_AUTO(ptc_hf_index) back = NULL;
    BASE_AUTO_BUF text;
    BASE_AUTO_BUF again;
    struct base_err err = {0};
    enum base_code code;

    base_buf_init(&text, 1u << 26);
    base_buf_init(&again, 1u << 26);
    code = ptc_hf_index_parse(fuzz_str(data, size), "fuzz", &index, &err);
    if (code != BASE_OK) {
        FUZZ_CHECK(index == NULL);
        fuzz_check_error(code, &err);
        return 0;
    }
    check_index(index);
    FUZZ_CHECK(ptc_hf_index_write(index, &text, &err) == BASE_OK);
    FUZZ_CHECK(ptc_hf_index_parse(base_buf_str(&text), "fuzz", &back, &err) ==
               BASE_OK);
    FUZZ_CHECK(back->n_entries == index->n_entries);
    FUZZ_CHECK(back->n_files == index->n_files);
    FUZZ_CHECK(back->total_size == index->total_size);
    FUZZ_CHECK(ptc_hf_index_write(back, &again, &err) == BASE_OK);
    FUZZ_CHECK(base_str_eq(base_buf_str(&text), base_buf_str(&again)));
    return 0;
}
