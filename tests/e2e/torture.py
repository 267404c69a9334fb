#!/usr/bin/env python3
"""Rescales, saves, compaction, releases and sweeps under the eyes of readers.

    torture.py         RETILE_CASES rescales (default 20), RETILE_SEED

Every element of every tensor is made of the state's number, the tensor's and
its own index, so a reader can tell from the bytes of a file which version they
are and whether each is in its place.  Readers open paths, keep handles and keep
maps, and read them again and again: each must show one version, the one it
was opened in, for ever.  At the end nothing is left of the versions that went.
"""
import json
import mmap
import os
import random
import struct
import sys
import time
import traceback

import numpy as np
import safetensors.numpy

from mounted import Lab, check, eventually

SHAPES = {  # name: shape, the dimension that tp cuts
    "rows": ((64, 300), 0),
    "columns": ((96, 64), 1),
    "both": ((16, 4, 40), 0),
    "norm": ((33,), None),
}
NAMES = sorted(SHAPES)
SPEC = """mesh: {tp: %d}
rules:
  - {match: rows, dims: [tp]}
  - {match: columns, dims: [~, tp]}
  - {match: both, dims: [tp]}
  - {match: norm}
"""
SIZES = (1, 2, 4)


def whole(name, step):
    shape, _ = SHAPES[name]
    base = (step << 40) + (NAMES.index(name) << 32)
    return base + np.arange(np.prod(shape), dtype=np.int64).reshape(shape)


def shard(value, name, rank, n_ranks):
    dim = SHAPES[name][1]
    if dim is None:
        return value
    size = -(-value.shape[dim] // n_ranks)
    index = [slice(None)] * value.ndim
    index[dim] = slice(rank * size, (rank + 1) * size)
    return np.ascontiguousarray(value[tuple(index)])


def check_bytes(data, step, rank, n_ranks, where):
    """@data are the file of @rank: each element of it."""
    n = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + n])
    names = set(header) - {"__metadata__"}
    check(names == set(NAMES), where, f"tensors {names}")
    for name in names:
        begin, end = header[name]["data_offsets"]
        got = np.frombuffer(data[8 + n + begin:8 + n + end], np.int64)
        want = shard(whole(name, step), name, rank, n_ranks)
        check(got.size == want.size, where, f"size of {name}: {got.size}")
        bad = np.flatnonzero(got != want.ravel())
        check(bad.size == 0, f"{where}: {name} of step {step}, rank {rank} of "
              f"{n_ranks}: {bad.size} of {want.size} elements differ, the "
              f"first is {got[bad[:1]]} of step {got[bad[:1]] >> 40}")


class Kept:
    """A file that stays open, or mapped."""

    def __init__(self, path, is_map):
        self.path = path
        self.fd = os.open(path, os.O_RDONLY)
        self.map = None
        if is_map:
            self.map = mmap.mmap(self.fd, 0, prot=mmap.PROT_READ)
            os.close(self.fd)
        self.first = self.read()

    def read(self):
        if self.map is not None:
            return self.map[:]
        parts = []
        while part := os.pread(self.fd, 70_000, sum(map(len, parts))):
            parts.append(part)
        return b"".join(parts)

    def close(self):
        if self.map is not None:
            self.map.close()
        else:
            os.close(self.fd)


def reader(mount, seed, alive):
    """Until @alive has an end of file."""
    rng, kept, n = random.Random(seed), [], 0
    os.set_blocking(alive, False)
    while True:
        try:
            if os.read(alive, 1) == b"":
                break
        except BlockingIOError:
            pass
        try:
            version = mount / os.readlink(mount / "current")
            ranks = sorted(os.listdir(version / "ranks"))
            step = json.loads((version / "retile.json").read_text())["step"]
            rank = rng.randrange(len(ranks))
            view = rng.choice(["ranks", "ranks", "as"])
            n_ranks = len(ranks)
            path = version / f"ranks/{rank:03d}/model.safetensors"
            if view == "as":
                n_ranks, rank = 3, rng.randrange(3)
                path = version / f"as/three/ranks/{rank:03d}/model.safetensors"
            now = Kept(path, rng.random() < 0.5)
        except FileNotFoundError:
            continue  # it was released between two of these
        n += 1
        check_bytes(now.first, step, rank, n_ranks, path)
        kept.append(now)
        if len(kept) > 6:
            kept.pop(rng.randrange(len(kept))).close()
        for one in rng.sample(kept, min(3, len(kept))):
            check(one.read() == one.first, f"{one.path} changed under a "
                  f"{'map' if one.map else 'handle'}")
    for one in kept:
        check(one.read() == one.first, f"{one.path} changed")
        one.close()
    print(f"  a reader read {n} files", flush=True)


def start_readers(mount, seed, n):
    alive_out, alive_in = os.pipe()
    pids = []
    for i in range(n):
        pid = os.fork()
        if pid == 0:
            os.close(alive_in)
            try:
                reader(mount.path, seed + i, alive_out)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        pids.append(pid)
    os.close(alive_out)
    return pids, alive_in


def save(mount, step):
    gen = mount.gen()
    n_ranks = len(os.listdir(gen / "load/ranks"))
    tmp = gen / f"save/{step}.tmp"
    tmp.mkdir()
    (tmp / "retile.json").write_text(json.dumps({"step": step, "samples": 0}))
    for rank in range(n_ranks):
        place = tmp / f"ranks/{rank:03d}"
        place.mkdir(parents=True)
        safetensors.numpy.save_file(
            {name: shard(whole(name, step), name, rank, n_ranks)
             for name in NAMES}, place / "model.safetensors")
    os.rename(tmp, gen / f"save/{step}")


def loaded(mount):
    return os.path.basename(os.readlink(mount.gen() / "load"))


def tidy(lab):
    """Release what can be released, and sweep."""
    for number in lab.versions()[:-1]:
        lab.of_job("version", "release", str(number), code=None)
    lab.retile("store", "sweep", str(lab.store))


def main():
    n = int(os.environ.get("RETILE_CASES") or 20)
    seed = int(os.environ.get("RETILE_SEED") or random.randrange(1 << 32))
    print(f"RETILE_SEED={seed}", flush=True)
    rng = random.Random(seed)
    lab = Lab(120 + n * 2)
    specs = []
    for size in (*SIZES, 3):
        specs.append(lab.path / f"{size}.yaml")
        specs[-1].write_text(SPEC % size)
    source = lab.path / "source"
    for rank in range(2):
        (source / f"ranks/{rank:03d}").mkdir(parents=True)
        safetensors.numpy.save_file(
            {name: shard(whole(name, 1), name, rank, 2) for name in NAMES},
            source / f"ranks/{rank:03d}/model.safetensors")
    (source / "retile.json").write_text('{"step": 1, "samples": 0}')
    lab.of_job("import", str(source), "--from", str(specs[1]))
    mount = lab.mount("-o", f"layout=three:{specs[3]}")
    readers, alive = start_readers(mount, seed, 3)
    step = 1
    for i in range(n):
        lab.of_job("rescale", "--to", str(rng.choice(specs[:3])))
        newest = lab.versions()[-1]
        check(os.readlink(mount.path / "current") == f"versions/{newest}",
              "current is behind")
        eventually("the next generation", lambda: loaded(mount) == str(newest))
        if i % 4 == 1:
            step += 1
            save(mount, step)
        if i % 5 == 2:
            lab.retile("store", "compact", str(lab.store), lab.job)
        if i % 3 == 2:
            tidy(lab)
        time.sleep(0.05)
        for pid in readers:
            check(os.waitpid(pid, os.WNOHANG) == (0, 0), "a reader ended")
    os.close(alive)
    for pid in readers:
        check(os.waitpid(pid, 0)[1] == 0, "a reader failed")

    # Nothing is left of what went.
    last = lab.versions()[-1]

    def only_the_last():
        tidy(lab)
        return lab.versions() == [last]
    eventually("old versions can be released", only_the_last,
               lambda: lab.versions(), timeout_s=20)
    lab.retile("store", "compact", str(lab.store), lab.job)
    mount.unmount()  # it had what was there before the compaction
    check(blobs_fit(lab), "blobs are left over", *lab.blobs())
    lab.retile("store", "scrub", str(lab.store))
    check(lab.staging() == [], "staging", lab.staging())
    lab.end_check()
    lab.done()
    print(f"{n} rescales, {step - 1} saves: every handle read one version")


def blobs_fit(lab):
    """Bytes in blobs/ are the last version's, each rank's replica at most."""
    lab.retile("store", "sweep", str(lab.store))
    n_bytes = sum(p.stat().st_size for p in
                  (lab.store / "blobs").glob("*/*"))
    one = sum(np.prod(shape) * 8 for shape, _ in SHAPES.values())
    return n_bytes <= one * 1.5 + (64 << 10)


if __name__ == "__main__":
    sys.exit(main())
