#!/usr/bin/env python3
"""Read a model back through a Retile mount and compare it with the original.

    compare_bert.py ORIGINAL.safetensors MOUNT SHORT_FORM

Opens every rank file of the layout SHORT_FORM (as MOUNT/as/SHORT_FORM shows
it), puts each tensor together from the coordinates in the files' metadata, and
compares it with the original; does the same with MOUNT/hf.
"""
import json
import pathlib
import sys

import numpy as np
from safetensors import safe_open


def indices_of(coords, shape):
    """np.ix_ arguments that say where a shard of that shape belongs."""
    if "ranges" in coords:
        return [
            np.concatenate([np.arange(begin, end) for begin, end in dim])
            for dim in coords["ranges"]
        ]
    return [np.arange(o, o + n) for o, n in zip(coords["offset"], shape)]


def read_ranks(directory):
    """Name -> whole tensor, put together from all rank files."""
    whole, seen = {}, {}
    n_files = 0
    for path in sorted(directory.glob("ranks/*/model.safetensors")):
        n_files += 1
        with safe_open(path, framework="np") as file:
            coords = json.loads(file.metadata()["retile"])["tensors"]
            for name in file.keys():
                shard = file.get_tensor(name)
                c = coords[name]
                if name not in whole:
                    whole[name] = np.zeros(c["shape"], shard.dtype)
                    seen[name] = np.zeros(c["shape"], bool)
                where = np.ix_(*indices_of(c, shard.shape))
                whole[name][where] = shard
                seen[name][where] = True
    for name, mask in seen.items():
        assert mask.all(), f"{name}: a part of it is on no rank"
    return whole, n_files


def compare(what, original, found):
    assert original.keys() == found.keys(), (
        what, original.keys() ^ found.keys())
    for name, tensor in original.items():
        assert tensor.dtype == found[name].dtype, (what, name)
        assert tensor.shape == found[name].shape, (what, name)
        assert tensor.tobytes() == found[name].tobytes(), (what, name)
    n_bytes = sum(t.nbytes for t in original.values())
    print(f"{what}: all {len(original)} tensors equal, {n_bytes:,} bytes")


def main():
    original_path, mount, short_form = sys.argv[1:]
    mount = pathlib.Path(mount)
    with safe_open(original_path, framework="np") as file:
        original = {name: file.get_tensor(name) for name in file.keys()}
    found, n_files = read_ranks(mount / "as" / short_form)
    compare(f"{short_form}, {n_files} rank files", original, found)
    with safe_open(mount / "hf" / "model.safetensors", framework="np") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}
    compare("hf/model.safetensors", original, found)


if __name__ == "__main__":
    main()
