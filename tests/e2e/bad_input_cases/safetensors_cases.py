"""One safetensors file: each rule of the format, broken by itself."""
from .kit import (both, case, directory, entry, fifo, link, raw,
                  safetensors, tree)

FILE = "w.safetensors"


def one(content):
    return tree({FILE: content})


def bad(name, content, *needles):
    return case("st-" + name, one(content), "inspect " + FILE, 1, FILE,
                *needles)


def tensor(name="blk.w", extra_data=0, **fields):
    """A file of one tensor whose entry is changed by @fields (None: left
    out)."""
    whole = {**entry("F32", [2, 2], 0, 16), **fields}
    whole = {key: value for key, value in whole.items() if value is not None}
    return raw({name: whole}, bytes(16 + extra_data))


def text(header, data=b""):
    return raw(header, data)


def two(first, second, n_data):
    return raw({"blk.a": entry("U8", [first[1] - first[0]], *first),
                "blk.b": entry("U8", [second[1] - second[0]], *second)},
               bytes(n_data))


def shaped(dtype, shape, n_data=0):
    return raw({"blk.w": entry(dtype, shape, 0, n_data)}, bytes(n_data))


ENTRY = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
BIG = 18446744073709551616  # 2^64
DEEP = 100000

CASES = [
    # The length and the JSON as a whole.
    bad("empty", b"", "byte"),
    bad("seven-bytes", b"\2\0\0\0\0\0\0", "byte"),
    bad("length-zero", raw(b"")),
    bad("length-past-limit", raw(b"{}", length=100_000_001), "100000001"),
    bad("length-overflows", raw(b"{}", length=2**64 - 1)),
    bad("length-wraps-with-8", raw(b"{}", length=2**64 - 8)),
    bad("length-past-end", raw(b"{}", length=3)),
    bad("json-truncated", text('{"blk.w":{"dtype":"U8"')),
    bad("json-array", text('[]')),
    bad("json-text", text('"blk"')),
    bad("json-leading-blank", text(' {}')),
    bad("json-garbage-behind", text('{} {}')),
    bad("json-padded-with-nul", text(b'{}\0\0\0\0\0\0')),
    bad("json-not-utf8", text(b'{"blk\xff":' + ENTRY.encode() + b'}', b"x")),
    bad("json-lone-surrogate", text('{"blk\\ud800":' + ENTRY + '}', b"x")),
    bad("json-nested-deep", text('{"blk.w":' + "[" * DEEP + "]" * DEEP + '}')),
    bad("json-objects-nested-deep",
        text('{"blk.w":' + '{"a":' * DEEP + "1" + "}" * DEEP + '}')),
    bad("json-90-million-brackets",
        lambda: text(b'{"blk.w":' + b"[" * 90_000_000)),
    bad("json-90-million-blanks", lambda: text(b" " * 90_000_000)),
    bad("json-90-million-byte-name",
        lambda: text(b'{"' + b"n" * 90_000_000 + b'":0}')),
    # Keys.
    bad("tensor-twice", text('{"blk.w":%s,"blk.w":%s}' % (ENTRY, ENTRY), b"x"),
        "blk.w"),
    bad("tensor-twice-by-escape",
        text('{"blk.w":%s,"\\u0062lk.w":%s}' % (ENTRY, ENTRY), b"x"), "blk.w"),
    bad("field-twice",
        text('{"blk.w":{"dtype":"U8","dtype":"U8","shape":[1],'
             '"data_offsets":[0,1]}}', b"x"), "blk.w", "dtype"),
    bad("field-unknown", tensor(strides=[2, 1]), "blk.w", "strides"),
    bad("dtype-missing", tensor(dtype=None), "blk.w", "dtype"),
    bad("shape-missing", tensor(shape=None), "blk.w", "shape"),
    bad("offsets-missing", tensor(data_offsets=None), "blk.w", "data_offsets"),
    bad("entry-no-object", text('{"blk.w":3}'), "blk.w"),
    bad("entry-null", text('{"blk.w":null}'), "blk.w"),
    # dtype and shape.
    bad("dtype-unknown", tensor(dtype="F17"), "blk.w", "F17"),
    bad("dtype-lower-case", tensor(dtype="f32"), "blk.w", "f32"),
    bad("dtype-number", tensor(dtype=32), "blk.w", "dtype"),
    bad("shape-negative", tensor(shape=[-2, 2]), "blk.w", "shape"),
    bad("shape-fraction", tensor(shape=[2.0, 2]), "blk.w", "shape"),
    bad("shape-text", tensor(shape=["2", 2]), "blk.w", "shape"),
    bad("shape-true", tensor(shape=[True, 4]), "blk.w", "shape"),
    bad("shape-no-array", tensor(shape=4), "blk.w", "shape"),
    bad("shape-past-u64", tensor(shape=[BIG, 1]), "blk.w", "shape"),
    bad("shape-product-overflows", shaped("U8", [2**32, 2**32, 2]), "blk.w"),
    bad("shape-bits-overflow", shaped("F64", [2**61]), "blk.w"),
    bad("shape-product-wraps-to-size", shaped("U8", [2**32, 2**32], 0),
        "blk.w"),
    bad("shape-nine-dims", tensor(shape=[1] * 7 + [2, 2]), "blk.w"),
    bad("shape-half-byte", shaped("F4", [3], 1), "blk.w"),
    # Where the data lie.
    bad("offsets-three", tensor(data_offsets=[0, 8, 16]), "blk.w",
        "data_offsets"),
    bad("offsets-negative", tensor(data_offsets=[-16, 0]), "blk.w",
        "data_offsets"),
    bad("offsets-backwards", tensor(data_offsets=[16, 0]), "blk.w"),
    bad("offsets-fraction", tensor(data_offsets=[0.0, 16.0]), "blk.w",
        "data_offsets"),
    bad("offsets-no-array", tensor(data_offsets="0:16"), "blk.w",
        "data_offsets"),
    bad("size-not-shape", tensor(shape=[2, 3]), "blk.w"),
    bad("hole-in-front", two((1, 3), (3, 5), 5), "blk.a"),
    bad("hole-between", two((0, 2), (3, 5), 5), "blk.b"),
    bad("overlap", two((0, 3), (2, 5), 5), "blk.b"),
    bad("overlap-whole", two((0, 3), (0, 3), 3), "blk."),
    bad("data-truncated", tensor()[:-1], "data", "truncated"),
    bad("data-trailing", tensor(extra_data=1)),
    bad("data-without-tensor", text("{}", b"x")),
    bad("offsets-near-u64",
        raw({"blk.w": entry("U8", [16], 2**64 - 16, 2**64 - 1)}, bytes(16)),
        "blk.w"),
    # Metadata.
    bad("meta-no-object", text('{"__metadata__":[]}'), "__metadata__"),
    bad("meta-number", text('{"__metadata__":{"step":1}}'), "__metadata__"),
    bad("meta-key-twice", text('{"__metadata__":{"step":"1","step":"2"}}'),
        "step"),
    bad("meta-twice", text('{"__metadata__":{},"__metadata__":{}}'),
        "__metadata__"),
    # Names.
    bad("name-slash", tensor("../blk/w"), "../blk/w", "'/'"),
    bad("name-nul", tensor("blk\0w"), "NUL"),
    bad("name-newline", tensor("blk\nw"), "control"),
    bad("name-escape-sequence", tensor("blk\x1b[31m"), "control"),
    bad("name-empty", tensor(""), "empty"),
    bad("name-dots", tensor(".."), ".."),
    bad("name-241-bytes", tensor("n" * 241), "241"),
    # What is no file.
    case("st-fifo", fifo(FILE), "inspect " + FILE, 1, FILE, "regular"),
    case("st-link-loop", link(FILE, FILE), "inspect " + FILE, 1, FILE),
    case("st-dangling-link", link(FILE, "nowhere"), "inspect " + FILE, 3,
         FILE),
    case("st-device", link(FILE, "/dev/zero"), "inspect " + FILE, 1, FILE,
         "regular"),
    case("st-empty-directory", directory(FILE), "inspect " + FILE, 1, FILE),
    # The other verbs refuse the same file.
    case("st-convert", one(tensor(shape=[2, 3])),
         f"convert {FILE} out --to hf", 1, FILE, "blk.w"),
    case("st-plan", one(tensor(dtype="F17")),
         f"plan {FILE} --to fsdp2:dp=2", 1, FILE, "F17"),
    case("st-verify", one(tensor()[:-1]), f"verify {FILE}", 1, FILE,
         "truncated"),
    case("st-verify-second",
         both(one(safetensors({"blk.w": ("U8", [4])})),
              tree({"b.safetensors": tensor(data_offsets=[16, 0])})),
         f"verify {FILE} b.safetensors", 1, "b.safetensors", "blk.w"),
    case("st-mount", both(one(tensor(shape=[2, 3])), directory("mnt")),
         f"mount {FILE} mnt", 1, FILE, "blk.w"),
]
