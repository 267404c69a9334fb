#!/usr/bin/env python3
"""Write the seed inputs of the fuzz targets for file formats and boxes.

Seeds have plain names; what fuzzing found is kept beside them as crash-*.
usage: make_corpus.py [FOLDER]      (default: corpus/ beside this script)
"""

import json
import pathlib
import struct
import sys


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors(header, data_bytes, pad=0):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", data_bytes) + text + b" " * pad


def npy(text, version=1):
    text = text.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text


def npy_dict(descr, order, shape):
    return ("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }   \n"
            % (descr, order, shape))


def table(tensors, ties, objects):
    return json.dumps({"retile_table": 1, "tensors": tensors, "ties": ties,
                       "objects": objects}).encode()


def tensor(name, group="model", dtype="F32", shape=(2, 3)):
    return {"name": name, "group": group, "dtype": dtype, "shape": list(shape)}


GOLDEN = pathlib.Path(__file__).parent.parent / "golden"


def manifest(number=1, parent=0, blobs=(), tensors=(), words=(), regions=(),
             chunks=0, objects=(), names=b"", layout=b"mesh: {}\nrules: []\n",
             origin=b"save", flags=1):
    """A manifest whose digests are zero: the target makes them right."""
    text = layout + origin + names
    parts = (
        (24, b"".join(bytes([i]) * 16 + struct.pack("<Q", n)
                      for i, n in enumerate(blobs))),
        (24, b"".join(struct.pack("<QQII", *t) for t in tensors)),
        (8, b"".join(struct.pack("<Q", w) for w in words)),
        (56, b"".join(struct.pack("<IIQQQ", *r) + bytes(16)
                      + struct.pack("<II", flags, 0) for r in regions)),
        (16, bytes(16 * chunks)),
        (16, b"".join(struct.pack("<IIII", *o) for o in objects)),
        (1, text))
    at = 208
    places = b""
    for record, part in parts:
        places += struct.pack("<QQ", at, len(part) // record)
        at += len(part)
    pad = -at % 8
    return (b"RETILEMF" + struct.pack("<IIQQQQQq", 2, 0, at + pad + 16, number,
                                      parent, 0, 0, 0)
            + bytes(16) + places
            + struct.pack("<IIII", 0, len(layout), len(layout), len(origin))
            + b"".join(part for _, part in parts) + bytes(pad + 16))


def golden_manifest():
    return (GOLDEN / "manifest-2.bin").read_bytes()


SHARDING = {"w": {"saved_offsets": [128, 0]}, "s": {"saved_offsets": []}}
RETILE = {"version": 1,
          "tensors": {"w": {"shape": [4, 2], "offset": [2, 0]}}, "ties": {}}

def field(number, value):
    """One field of a protobuf message: an int, or bytes with their length."""
    def varint(n):
        out = b""
        while n > 0x7f:
            out += bytes([n & 0x7f | 0x80])
            n >>= 7
        return out + bytes([n])
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def message(index, *fields):
    return bytes([index]) + b"".join(field(*one) for one in fields)


def parts(*fields):
    return b"".join(field(*one) for one in fields)


DEVICE = parts((2, 1), (3, "cpu"), (4, "slot 1"))
VERSION = parts((1, 3), (2, 2), (3, 1), (4, 40), (5, 1), (9, "mesh: {tp: 2}"))
STATUS = parts((1, "gpt"), (2, 9), (3, VERSION),
               (4, parts((1, 2), (2, 1), (4, parts((1, 1), (2, 3), (4, 9))))))
HELLO = parts((1, "host-0"), (2, "00112233445566778899aabbccddeeff"),
              (9, DEVICE), (10, STATUS), (11, "a1"))


def vote(magic="retile vote 1", job="j", parent=5, step="100", adopted=0):
    return (f"{magic}\njob {job}\nnumber 7\ngeneration 0\norigin rescale\n"
            f"step {step}\nparent {parent}\nmanifest {'0f' * 16}\n"
            f"adopted {adopted}\n").encode()


CORPUS = {
    "check": {
        "submit": message(0, (1, "id"), (2, "gpt"), (3, "tp=2"), (5, "a@7")),
        "rescale": message(8, (1, "id"), (2, "gpt"), (3, "tp=2,pp=2"),
                           (4, DEVICE), (5, 1), (6, 300)),
        "hello": message(32, (1, HELLO)),
        "status": message(32, (3, STATUS)),
        "vote": message(38, (1, 7), (2, "gpt"), (3, 3), (4, 2), (5, VERSION)),
        "events": message(29, (1, parts((1, 5), (3, 2), (4, "ready")))),
        "bad_utf8": message(4, (1, b"\xff")),
        "bad_enum": message(39, (1, 99)),
        "bad_number": message(12, (1, "id"), (2, "j"), (3, (1 << 64) - 1)),
    },
    "safetensors": {
        "empty": safetensors({}, 0),
        "one": safetensors({"a": entry("F32", [2, 3], 0, 24)}, 24, pad=7),
        "scalar": safetensors({"s": entry("F64", [], 0, 8)}, 8),
        "zero_dim": safetensors({"z": entry("BF16", [0, 5], 0, 0),
                                 "a": entry("U8", [1], 0, 1)}, 1),
        "sub_byte": safetensors({"q": entry("F4", [2, 3], 0, 3),
                                 "p": entry("F6_E2M3", [4], 3, 6)}, 6),
        "metadata": safetensors(
            {"__metadata__": {"format": "pt", "retile": json.dumps(RETILE)},
             "w": entry("F32", [2, 2], 0, 16)}, 16),
        "dcp": safetensors(
            {"__metadata__": {"format": "pt", "DCP_VERSION": "1.0",
                              "DCP_SHARDING_INFO": json.dumps(SHARDING)},
             "w": entry("F32", [2, 2], 0, 16),
             "s": entry("I64", [], 16, 24)}, 24),
        "escapes": safetensors(
            b'{"\\u00e9\\ud83d\\ude00\\"\\\\":{"dtype":"U8","shape":[1],'
            b'"data_offsets":[0,1]}}', 1),
        "bad_hole": safetensors({"a": entry("U8", [1], 0, 1),
                                 "b": entry("U8", [1], 2, 3)}, 3),
        "bad_overlap": safetensors({"a": entry("U8", [2], 0, 2),
                                    "b": entry("U8", [2], 1, 3)}, 3),
        "bad_overflow": safetensors(
            {"a": entry("F32", [1 << 32, 1 << 32], 0, 4)}, 4),
        "bad_twice": safetensors(
            b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
            b'"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}', 0),
        "bad_nul": safetensors(b'{"a\\u0000":{}}', 0),
        "bad_float": safetensors({"a": entry("U8", [1.0], 0, 1)}, 1),
        "bad_negative": safetensors({"a": entry("U8", [-1], 0, 1)}, 1),
    },
    "hf_index": {
        "two": json.dumps({
            "metadata": {"total_size": 40},
            "weight_map": {"b": "model-00001-of-00002.safetensors",
                           "a": "model-00002-of-00002.safetensors"},
        }, indent=2).encode(),
        "no_metadata": b'{"weight_map":{}}',
        "fraction": b'{"metadata":{"total_size":12.0},"weight_map":{}}',
        "bad_path": b'{"weight_map":{"a":"../x.safetensors"}}',
        "bad_key": b'{"weight_maps":{}}',
        "bad_deep": b'{"metadata":{"a":' + b"[" * 40 + b"]" * 40 + b"}}",
    },
    "dcp": {
        "two": json.dumps(SHARDING).encode(),
        "empty": b"{}",
        "bad_negative": b'{"a":{"saved_offsets":[-1]}}',
        "bad_key": b'{"a":{"saved_offset":[1]}}',
    },
    "npy": {
        "f4": npy(npy_dict("<f4", "False", "(3, 4)")),
        "one": npy(npy_dict("<i8", "False", "(3,)")),
        "scalar": npy(npy_dict("|V1", "False", "()")),
        "version2": npy(npy_dict("<V2", "False", "(1, 2, 3)"), version=2),
        "bad_object": npy(npy_dict("|O", "False", "(3,)")),
        "bad_fortran": npy(npy_dict("<f4", "True", "(3, 4)")),
        "bad_struct": npy("{'descr': [('a', '<f4')], 'shape': ()}"),
    },
    "table": {
        "full": table([tensor("a"), tensor("b", "extra", "BF16", ())],
                      {"z": "a", "y": "z"},
                      {"rng.pt": "rank", "opt.json": "job"}),
        "empty": table([], {}, {}),
        "bad_circle": table([], {"a": "b", "b": "a"}, {}),
        "bad_twice": table([tensor("a"), tensor("a")], {}, {}),
        "bad_target": table([tensor("a")], {"b": "c"}, {}),
    },
    "manifest": {
        "golden": golden_manifest(),
        "empty": manifest(),
        "one": manifest(blobs=[64], tensors=[(0, 1, 1, 8)],
                        words=[0, 8, 1, 56, 0], regions=[(0, 0, 56, 8, 0)],
                        chunks=1),
        "undigested": manifest(
            blobs=[64], tensors=[(0, 1, 1, 8)], words=[0, 8, 1, 56, 0],
            regions=[(0, 0, 56, 8, 0)], chunks=1, flags=0),
        "bad_flags": manifest(
            blobs=[64], tensors=[(0, 1, 1, 8)], words=[0, 8, 1, 56, 0],
            regions=[(0, 0, 56, 8, 0)], chunks=1, flags=2),
        "scalar": manifest(blobs=[8], tensors=[(0, 1, 0, 64)], words=[0, 0]),
        "objects": manifest(
            blobs=[3], regions=[(0xffffffff, 0, 0, 3, 0)], chunks=1,
            objects=[(23, 1, 0xffffffff, 0), (24, 1, 0, 0), (24, 1, 4, 0)],
            names=b"ab"),
        "bad_parent": manifest(number=3, parent=3),
        "bad_stride": manifest(blobs=[64], tensors=[(0, 1, 1, 8)],
                               words=[0, 8, 1 << 61, 0, 0]),
        "bad_blob": manifest(blobs=[64], tensors=[(0, 1, 1, 8)],
                             words=[0, 8, 1, 0, 1]),
        "bad_chunks": manifest(blobs=[1 << 40],
                               regions=[(0xffffffff, 0, 0, 1 << 40, 0)]),
        "bad_name": manifest(blobs=[3],
                             regions=[(0xffffffff, 0, 0, 3, 0)], chunks=1,
                             objects=[(23, 2, 0, 0)], names=b".."),
        "bad_short": golden_manifest()[:600],
    },
    "vote": {
        "golden": (GOLDEN / "vote.txt").read_bytes(),
        "rescale": vote(),
        "unknown_step": vote(step="-"),
        "bad_magic": vote(magic="retile vote 2"),
        "bad_parent": vote(parent=7),
        "bad_count": vote(adopted=1 << 63),
        "bad_job": vote(job="a/b"),
        "bad_end": vote() + b"\n",
    },
    "box": {
        "zero": b"",
        "two": bytes([2, 1, 4, 2, 5, 3, 4, 1, 9, 5, 6, 0, 0, 7, 0, 0, 11]),
        "eight": bytes([8] + [1, 3] * 8 + [2, 3] * 8 + [3] * 8
                       + [0, 1, 2, 0, 9, 9]),
    },
}


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else \
        pathlib.Path(__file__).parent / "corpus"
    for target, inputs in CORPUS.items():
        folder = root / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (folder / name).write_bytes(data)
    print(sum(map(len, CORPUS.values())), "seeds written")


if __name__ == "__main__":
    main()
