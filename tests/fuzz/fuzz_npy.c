/* Input: the first bytes of a .npy file.  What parses lies within them, and
 * for a dtype of ours is the same after it was written and read again. */
#include "ptc/npy.h"
#include "tests/fuzz/fuzz.h"

static void check_rewritten(const struct ptc_npy_header *header,
                            enum ptc_dtype dtype)
{
    struct ptc_npy_header back;
    BASE_AUTO_BUF buf;
    struct base_err err = {0};

    base_buf_init(&buf, 1u << 16);
    FUZZ_CHECK(ptc_npy_header_write(dtype, header->n_dims, header->shape, &buf,
                                    &err) == BASE_OK);
    FUZZ_CHECK(buf.len == 4096);
    FUZZ_CHECK(ptc_npy_header_parse(base_buf_str(&buf), "fuzz", &back, &err) ==
               BASE_OK);
    FUZZ_CHECK(back.data_offset == 4096);
    FUZZ_CHECK(strcmp(back.descr, header->descr) == 0);
    FUZZ_CHECK(back.n_dims == header->n_dims);
    FUZZ_CHECK(memcmp(back.shape, header->shape,
                      header->n_dims * sizeof(*back.shape)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ptc_npy_header header;
    struct base_err err = {0};
    enum base_code code =
        ptc_npy_header_parse(fuzz_str(data, size), "fuzz", &header, &err);

    if (code != BASE_OK) {
        fuzz_check_error(code, &err);
        return 0;
    }
    FUZZ_CHECK(header.data_offset <= size);
    FUZZ_CHECK(header.n_dims <= PTC_MAX_DIMS);
    FUZZ_CHECK(strlen(header.descr) >= 3);
    for (unsigned i = 0; i < PTC_N_DTYPES; i++) {
        if (strcmp(ptc_dtype_descr((enum ptc_dtype)i), header.descr) == 0) {
            check_rewritten(&header, (enum ptc_dtype)i);
            break;
        }
    }
    return 0;
}
