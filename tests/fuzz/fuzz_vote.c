/* Input: a vote's file.  What is read has bounds, and is written as it was. */
#include "store/vote_priv.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    STORE_AUTO_VOTE_FILE file = {0};
    BASE_AUTO_BUF text;
    struct base_err err = {0};
    enum base_code code =
        store_vote_parse(fuzz_str(data, size), "fuzz", &file, &err);

    base_buf_init(&text, 1u << 26);
    if (code != BASE_OK) {
        fuzz_check_error(code, &err);
        return 0;
    }
    FUZZ_CHECK(strlen(file.vote.job) <= STORE_VOTE_JOB_MAX);
    FUZZ_CHECK(strlen(file.vote.origin) <= STORE_VOTE_ORIGIN_MAX);
    FUZZ_CHECK(file.vote.parent < file.vote.number);
    FUZZ_CHECK(!file.vote.is_damaged);
    FUZZ_CHECK(store_vote_format(&file, &text, &err) == BASE_OK);
    FUZZ_CHECK(text.len == size && memcmp(text.ptr, data, size) == 0);
    return 0;
}
