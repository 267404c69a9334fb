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


SHARDING = {"w": {"saved_offsets": [128, 0]}, "s": {"saved_offsets": []}}
RETILE = {"version": 1,
          "tensors": {"w": {"shape": [4, 2], "offset": [2, 0]}}, "ties": {}}

CORPUS = {
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
