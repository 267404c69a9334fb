#!/usr/bin/env python3
"""What the mount tests do in Python.

    mount_check.py make SRC SPEC             a checkpoint and a layout of it
    mount_check.py wide SRC SPEC             the same of one tensor, 1100 ranks
    mount_check.py readers DIR REFERENCE S   random reads by many threads for S
                                             seconds, compared with the same
                                             files in REFERENCE
    mount_check.py maps MNT SRC              shared maps: numpy and safetensors
                                             over the mount against SRC
    mount_check.py hold FILE                 open, read a page, print "ready";
                                             at each line of input read all and
                                             print the errno's name, or "ok"
"""
import errno
import json
import mmap
import os
import pathlib
import random
import sys
import threading
import time

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

# name: shape, cut (in the spec's order of dimensions)
TENSORS = {
    "embed.weight": ((1000, 64), ["tp", None]),
    "layers.0.narrow.weight": ((512, 300), [None, "tp"]),  # pieces of 300 bytes
    "layers.0.wide.weight": ((96, 16384), [None, "tp"]),  # pieces of 16 KiB
    "layers.0.rows.weight": ((1024, 512), ["tp", None]),
    "layers.0.norm.weight": ((512,), [None]),
    "layers.0.uneven.weight": ((10, 7, 33), ["tp"]),
}


def make(src, spec):
    src = pathlib.Path(src)
    src.mkdir()
    rng = np.random.default_rng(1)
    model = {name: rng.standard_normal(shape, dtype=np.float32)
             for name, (shape, _) in TENSORS.items()}
    save_file(model, src / "model.safetensors", metadata={"format": "pt"})
    optim = {f"optim.exp_avg.{name}": value * 2 for name, value in model.items()}
    optim["optim.step.embed.weight"] = np.array(7, dtype=np.int64)
    save_file(optim, src / "optim.safetensors", metadata={"format": "pt"})
    (src / "retile.json").write_text('{"step": 7, "samples": 1000}\n')
    lines = ["mesh: {dp: 1, tp: 4}", "rules:",
             "  - {match: 'optim.step.*', dims: []}"]
    for name, (_, dims) in TENSORS.items():
        cut = ", ".join(axis or "~" for axis in dims)
        lines.append(f"  - {{match: '{name}', dims: [{cut}]}}")
    pathlib.Path(spec).write_text("\n".join(lines) + "\n")


def wide(src, spec):
    src = pathlib.Path(src)
    src.mkdir()
    value = np.arange(20 * 1100, dtype=np.float32).reshape(20, 1100)
    save_file({"a": value}, src / "model.safetensors",
              metadata={"format": "pt"})
    pathlib.Path(spec).write_text(
        "mesh: {tp: 1100}\nrules: [{match: a, dims: [~, tp]}]\n")


def files_below(folder):
    folder = pathlib.Path(folder)
    return sorted(p.relative_to(folder) for p in folder.rglob("*")
                  if p.is_file())


def reader(seed, pairs, until, bad):
    rng = random.Random(seed)
    while time.monotonic() < until and not bad:
        fd, want, name = rng.choice(pairs)
        n = rng.choice([1, 17, 4096, 5000, 65536, 1 << 20, (3 << 20) + 5])
        at = rng.choice([rng.randrange(len(want) + 100),
                         rng.randrange(len(want) // 4096 + 1) * 4096])
        got = b""
        while len(got) < min(n, max(0, len(want) - at)):
            part = os.pread(fd, n - len(got), at + len(got))
            if not part:
                break
            got += part
        if got != want[at:at + n]:
            bad.append(f"{name}: {n} bytes at {at} differ (got {len(got)})")


def readers(folder, reference, seconds):
    names = files_below(reference)
    if files_below(folder) != names:
        sys.exit(f"{folder} and {reference} do not have the same files")
    pairs = []
    for name in names:
        fd = os.open(os.path.join(folder, name), os.O_RDONLY)
        want = pathlib.Path(reference, name).read_bytes()
        if os.fstat(fd).st_size != len(want):
            sys.exit(f"{name}: size {os.fstat(fd).st_size}, not {len(want)}")
        pairs.append((fd, want, name))
    bad = []
    until = time.monotonic() + float(seconds)
    threads = [threading.Thread(target=reader, args=(i, pairs, until, bad))
               for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if bad:
        sys.exit("\n".join(bad))
    print(f"{len(names)} files agree under random reads")


def chunk(value, dim, part, parts):
    """torch.chunk's part."""
    size = -(-value.shape[dim] // parts)
    index = [slice(None)] * value.ndim
    index[dim] = slice(part * size, (part + 1) * size)
    return value[tuple(index)]


def maps(mnt, src):
    whole = {}
    for file in pathlib.Path(src).glob("*.safetensors"):
        with safe_open(file, framework="numpy") as f:
            whole.update({name: f.get_tensor(name) for name in f.keys()})
    for name, value in whole.items():
        got = np.load(f"{mnt}/npy/{name}.npy", mmap_mode="r")
        assert isinstance(got, np.memmap), name
        assert got.dtype == value.dtype and np.array_equal(got, value), name
    seen = set()
    for rank in range(4):
        for group in ("model", "optim"):
            path = f"{mnt}/as/four/ranks/{rank:03d}/{group}.safetensors"
            with safe_open(path, framework="numpy") as f:
                for name in f.keys():
                    value = whole[name]
                    dims = TENSORS.get(name.removeprefix("optim.exp_avg."),
                                       (None, []))[1]
                    if "tp" in dims:
                        value = chunk(value, dims.index("tp"), rank, 4)
                    assert np.array_equal(f.get_tensor(name), value), name
                    seen.add((rank, name))
    assert len(seen) == 4 * len(whole), len(seen)
    with open(f"{mnt}/as/four/ranks/001/model.safetensors", "rb") as f:
        shared = mmap.mmap(f.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
        f.seek(0)
        assert shared[:] == f.read()
    print(f"{len(whole)} arrays and {len(seen)} shards agree, mapped")


def hold(path):
    fd = os.open(path, os.O_RDONLY)
    os.pread(fd, 4096, 0)
    print("ready", flush=True)
    for _ in sys.stdin:
        try:
            at = 0
            while part := os.pread(fd, 1 << 20, at):
                at += len(part)
            print("ok", flush=True)
        except OSError as error:
            print(errno.errorcode[error.errno], flush=True)


if __name__ == "__main__":
    {"make": make, "wide": wide, "readers": readers, "maps": maps,
     "hold": hold}[sys.argv[1]](*sys.argv[2:])
