#include "tests/unit/store/sample.h"

#include "tests/unit/unit.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

struct ptc_table *sample_table(void)
{
    static const struct {
        const char *name, *group;
        uint32_t n_dims;
        uint64_t shape[2];
    } tensors[] = {
        {"w", "model", 2, {7, 6}},
        {"u", "model", 2, {3, 10}},
        {"v", "model", 1, {5}},
        {"s", "model", 0, {0}},
        {"optim.m.w", "optim", 2, {7, 6}},
        {"optim.step.w", "optim", 0, {0}},
    };
    BASE_AUTO(ptc_table_builder) builder = ptc_table_builder_create();
    struct ptc_table *table = NULL;
    struct base_err err = {0};

    assert_non_null(builder);
    for (size_t i = 0; i < N_ITEMS(tensors); i++) {
        assert_ok(ptc_table_add(builder, base_str_of(tensors[i].name),
                                base_str_of(tensors[i].group), PTC_F32,
                                tensors[i].n_dims, tensors[i].shape, &err),
                  &err);
    }
    assert_ok(ptc_table_add_tie(builder, BASE_STR("t"), BASE_STR("w"), &err),
              &err);
    assert_ok(ptc_table_finish(builder, &table, &err), &err);
    return table;
}

struct ptc_layout *sample_layout(const char *yaml,
                                 const struct ptc_table *table)
{
    BASE_AUTO(ptc_spec) spec = NULL;
    struct ptc_layout *layout = NULL;
    struct base_err err = {0};

    assert_ok(ptc_spec_parse(base_str_of(yaml), "spec", &spec, &err), &err);
    assert_ok(ptc_layout_create(&spec, table, &layout, &err), &err);
    return layout;
}

char *sample_write(const char *root, const char *name, const char *yaml)
{
    BASE_AUTO(ptc_table) table = sample_table();
    BASE_AUTO(ptc_layout) layout = sample_layout(yaml, table);
    char *path = base_path("%s/%s", root, name);

    assert_non_null(path);
    tree_dir_write(path, layout);
    return path;
}

void sample_put_st(const char *dir,
                   const char *name,
                   const char *header,
                   uint64_t n_bytes)
{
    uint64_t n = strlen(header);
    BASE_AUTO_BUF bytes;

    base_buf_init(&bytes, 1 << 24);
    for (unsigned i = 0; i < 8; i++) {
        char byte = (char)(n >> (8 * i) & 0xff);

        assert_int_equal(base_buf_add(&bytes, &byte, 1), BASE_OK);
    }
    assert_int_equal(base_buf_add(&bytes, header, n), BASE_OK);
    for (uint64_t i = 0; i < n_bytes; i++) {
        char byte = (char)(unsigned char)(i % 251);

        assert_int_equal(base_buf_add(&bytes, &byte, 1), BASE_OK);
    }
    tree_dir_put(dir, name, base_buf_str(&bytes));
}

void sample_make_dir(const char *root, const char *name)
{
    BASE_AUTO_MEM char *path = base_path("%s/%s", root, name);

    assert_non_null(path);
    assert_int_equal(mkdir(path, 0777), 0);
}
