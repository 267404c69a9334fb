#include "base/yaml.h"

#include "tests/unit/unit.h"

#define MANY_BYTES ((size_t)128 << 20)

static enum base_code parse(struct base_str text,
                            struct base_arena *arena,
                            const struct base_yaml_node **ret,
                            struct base_err *err)
{
    return base_yaml_parse(text, "f.yaml", arena, ret, err);
}

static void test_tree_has_kinds_keys_and_lines(void **state)
{
    BASE_AUTO(base_arena) arena = base_arena_create(MANY_BYTES);
    const struct base_yaml_node *root;
    const struct base_yaml_node *node;
    struct base_err err = {0};

    (void)state;
    assert_ok(parse(BASE_STR("# a comment\n"
                             "list: [~, '~', null, 7,\n"
                             "  \"x y\"]\n"
                             "map:\n"
                             "  inner: ''\n"
                             "nothing:\n"),
                    arena, &root, &err),
              &err);
    assert_int_equal(root->kind, BASE_YAML_MAP);
    assert_int_equal(root->n_children, 3);

    node = root->children;
    assert_string_equal(node->key.ptr, "list");
    assert_int_equal(node->line, 2);
    assert_int_equal(node->kind, BASE_YAML_LIST);
    assert_int_equal(node->n_children, 5);
    node = node->children;
    assert_int_equal(node->kind, BASE_YAML_NULL);
    node = node->next;
    assert_int_equal(node->kind, BASE_YAML_TEXT);
    assert_false(node->is_plain);
    node = node->next;
    assert_int_equal(node->kind, BASE_YAML_NULL);
    node = node->next;
    assert_string_equal(node->text.ptr, "7");
    assert_true(node->is_plain);
    node = node->next;
    assert_string_equal(node->text.ptr, "x y");
    assert_int_equal(node->line, 3);
    assert_null(node->next);

    node = root->children->next;
    assert_string_equal(node->key.ptr, "map");
    assert_string_equal(node->children->key.ptr, "inner");
    assert_int_equal(node->children->kind, BASE_YAML_TEXT);
    assert_int_equal(node->children->line, 5);
    assert_int_equal(node->next->kind, BASE_YAML_NULL);
}

static void test_nothing_is_a_null(void **state)
{
    static const char *const texts[] = {"", "# only this\n", "\n\n", "~\n"};

    (void)state;
    for (size_t i = 0; i < N_ITEMS(texts); i++) {
        BASE_AUTO(base_arena) arena = base_arena_create(MANY_BYTES);
        const struct base_yaml_node *root = NULL;
        struct base_err err = {0};

        assert_ok(parse(base_str_of(texts[i]), arena, &root, &err), &err);
        assert_int_equal(root->kind, BASE_YAML_NULL);
        assert_int_equal(root->line, 1);
        assert_null(root->children);
    }
}

static void test_what_specs_do_not_need_is_refused(void **state)
{
    static const struct {
        const char *text;
        enum base_code code;
        const char *error;
    } cases[] = {
        {"a: &x 1\nb: 2", BASE_BAD_INPUT, "f.yaml:1: anchors are not allowed"},
        {"a: 1\nb: &x [1]", BASE_BAD_INPUT,
         "f.yaml:2: anchors are not allowed"},
        {"b: &x {c: 1}", BASE_BAD_INPUT, "f.yaml:1: anchors are not allowed"},
        {"&x a: 1", BASE_BAD_INPUT, "f.yaml:1: anchors are not allowed"},
        {"a: *x", BASE_BAD_INPUT,
         "f.yaml:1: aliases are not allowed (write a glob in quotes)"},
        {"*x : 1", BASE_BAD_INPUT,
         "f.yaml:1: aliases are not allowed (write a glob in quotes)"},
        {"a: !!int 1", BASE_BAD_INPUT, "f.yaml:1: tags are not allowed"},
        {"a: !t [1]", BASE_BAD_INPUT, "f.yaml:1: tags are not allowed"},
        {"a: !t {b: 1}", BASE_BAD_INPUT, "f.yaml:1: tags are not allowed"},
        {"a: 1\n---\nb: 2", BASE_BAD_INPUT, "f.yaml:2: a second document"},
        {"%YAML 1.1\n---\na: 1", BASE_BAD_INPUT,
         "f.yaml:1: directives are not allowed"},
        {"a: 1\nb: 2\na: 3", BASE_BAD_INPUT,
         "f.yaml:3: a: this key is there twice (see line 1)"},
        {"a: 1\n'a': 3", BASE_BAD_INPUT,
         "f.yaml:2: a: this key is there twice (see line 1)"},
        {"[a]: 1", BASE_BAD_INPUT, "f.yaml:1: a key must be a text"},
        {"{a: 1}: 1", BASE_BAD_INPUT, "f.yaml:1: a key must be a text"},
        {"a: |\n  one\n  two\n", BASE_BAD_INPUT,
         "f.yaml:1: a text with a line break, NUL or control character"},
        {"a: \"b\\0\"", BASE_BAD_INPUT,
         "f.yaml:1: a text with a line break, NUL or control character"},
        {"a: \"b\\N\"", BASE_BAD_INPUT,
         "f.yaml:1: a text with a line break, NUL or control character"},
        {"a: \"b\\L\"", BASE_BAD_INPUT,
         "f.yaml:1: a text with a line break, NUL or control character"},
        {"a: \"\\uFEFF\"", BASE_BAD_INPUT,
         "f.yaml:1: a text with a line break, NUL or control character"},
        {"a: \"\\x7f\"", BASE_BAD_INPUT,
         "f.yaml:1: a text with a line break, NUL or control character"},
        {"a: \"\\t\"", BASE_BAD_INPUT,
         "f.yaml:1: a text with a line break, NUL or control character"},
        {"a: \xc3\x28", BASE_BAD_INPUT, "f.yaml:1: the text is not UTF-8"},
        {"\xff\xfe"
         "a",
         BASE_BAD_INPUT, "f.yaml:1: the text is not UTF-8"},
        {"[[[[[[[[1]]]]]]]]", BASE_OK, ""},
        {"[[[[[[[[[1]]]]]]]]]", BASE_LIMIT,
         "f.yaml:1: nested deeper than 8 levels"},
        {"[[[[[[[[{a: 1}]]]]]]]]", BASE_LIMIT,
         "f.yaml:1: nested deeper than 8 levels"},
        {"a: [1\nb: 2", BASE_BAD_INPUT, NULL},
        {"{match: *.weight}", BASE_BAD_INPUT, NULL},
        {"a: 'x", BASE_BAD_INPUT, NULL},
        {"\t- a", BASE_BAD_INPUT, NULL},
        {"a: \"\\ud800\"", BASE_BAD_INPUT, NULL},
    };
    size_t i;

    (void)state;
    for (i = 0; i < N_ITEMS(cases); i++) {
        BASE_AUTO(base_arena) arena = base_arena_create(MANY_BYTES);
        const struct base_yaml_node *root = NULL;
        struct base_err err = {0};

        assert_int_equal(parse(base_str_of(cases[i].text), arena, &root, &err),
                         cases[i].code);
        if (cases[i].error != NULL) {
            assert_string_equal(err.text, cases[i].error);
        } else {
            assert_non_null(strstr(err.text, ": bad YAML: "));
        }
    }
}

static void test_nul_bytes_are_refused_with_their_line(void **state)
{
    BASE_AUTO(base_arena) arena = base_arena_create(MANY_BYTES);
    const struct base_yaml_node *root;
    struct base_err err = {0};

    (void)state;
    assert_int_equal(parse(BASE_STR("a: 1\nb\0: 2"), arena, &root, &err),
                     BASE_BAD_INPUT);
    assert_string_equal(err.text, "f.yaml:2: a NUL byte");
}

static void test_numbers_of_nodes_and_keys_are_limited(void **state)
{
    BASE_AUTO(base_arena) arena = base_arena_create(MANY_BYTES);
    const struct base_yaml_node *root;
    struct base_err err = {0};
    BASE_AUTO_BUF text;
    unsigned i;

    (void)state;
    base_buf_init(&text, 4 << 20);
    for (i = 0; i <= BASE_YAML_MAX_KEYS; i++) {
        assert_int_equal(base_buf_addf(&text, "k%u: 1\n", i), BASE_OK);
    }
    assert_int_equal(parse(base_buf_str(&text), arena, &root, &err),
                     BASE_LIMIT);
    assert_string_equal(err.text,
                        "f.yaml:257: more than 256 keys in one mapping");

    base_buf_done(&text);
    base_buf_init(&text, 4 << 20);
    for (i = 0; i <= BASE_YAML_MAX_NODES; i++) {
        (void)base_buf_add(&text, i == 0 ? "[a" : ",a", 2);
    }
    assert_ok(base_buf_check(&text, &err), &err);
    assert_int_equal(parse(base_buf_str(&text), arena, &root, &err),
                     BASE_LIMIT);
    assert_string_equal(err.text, "f.yaml:1: more than 600000 values");
}

static void test_a_full_arena_is_an_error(void **state)
{
    BASE_AUTO(base_arena) arena = base_arena_create(100);
    const struct base_yaml_node *root;
    struct base_err err = {0};

    (void)state;
    assert_int_equal(parse(BASE_STR("[a, b, c]"), arena, &root, &err),
                     BASE_NO_MEM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tree_has_kinds_keys_and_lines),
        cmocka_unit_test(test_nothing_is_a_null),
        cmocka_unit_test(test_what_specs_do_not_need_is_refused),
        cmocka_unit_test(test_nul_bytes_are_refused_with_their_line),
        cmocka_unit_test(test_numbers_of_nodes_and_keys_are_limited),
        cmocka_unit_test(test_a_full_arena_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
