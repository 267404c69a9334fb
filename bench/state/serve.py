"""Reads of a version, by class of serving: sequential, random, mapped.

One matrix in a store.  Its own files are passed through, or sent by direct I/O
from one piece or through the page cache; as four ranks by columns they are
gathered.  Each against plain files of the same bytes.
"""
import mmap
import os
import random
import shutil
import time

from state.common import MIB, median_of, median_ratio
from state.mounts import Mount
from state.reads import files_of, touched
from state.states import Store, write_safetensors

COLS = 16384  # f32: four pieces of 16 KiB a row
N_RANDOM = 20000
CLASSES = (("passthrough", (), "ranks"),
           ("direct, one piece", ("mask=passthrough",), "ranks"),
           ("direct, 16 KiB pieces", (), "as/columns"),
           ("page", ("mask=passthrough", "cache=page"), "ranks"))


def read_whole(fd, view):
    at = 0
    while n := os.preadv(fd, [view[at % len(view):at % len(view) + MIB]], at):
        at += n
    return at


def sequential(path, view):
    fd = os.open(path, os.O_RDONLY)
    try:
        return read_whole(fd, view)
    finally:
        os.close(fd)


def make_random(size):
    source = random.Random(5)
    return [source.randrange(size // 4096) * 4096 for _ in range(N_RANDOM)]


def random_reads(path, view):
    """N_RANDOM reads of 4 KiB."""
    fd = os.open(path, os.O_RDONLY)
    page = [view[:4096]]
    try:
        for at in make_random(os.fstat(fd).st_size):
            os.preadv(fd, page, at)
    finally:
        os.close(fd)
    return N_RANDOM


def mapped(path, view):
    """A shared map, copied out of."""
    fd = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        with mmap.mmap(fd, size, prot=mmap.PROT_READ) as shown:
            source = memoryview(shown)
            for at in range(0, size, MIB):
                n = min(MIB, size - at)
                to = at % len(view)
                view[to:to + n] = source[at:at + n]
            source.release()
    finally:
        os.close(fd)
    return size


def warm_reads(path, view):
    """The second read of an open file."""
    fd = os.open(path, os.O_RDONLY)
    try:
        read_whole(fd, view)
        begin = time.perf_counter()
        cpu0 = time.process_time()
        n = read_whole(fd, view)
        return n, time.perf_counter() - begin, time.process_time() - cpu0
    finally:
        os.close(fd)


def timed(work, path, view, server=None):
    cpu0 = time.process_time() + (server.cpu() if server else 0)
    begin = time.perf_counter()
    done = work(path, view)
    wall = time.perf_counter() - begin
    cpu = time.process_time() + (server.cpu() if server else 0) - cpu0
    if isinstance(done, tuple):  # it took the time of a part itself
        done, wall, cpu = done
    return {"done": done, "wall": wall, "cpu": cpu}


def make_cold(path):
    """Drop what the kernel keeps of a mounted file."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def compare(title, work, shown, plain, server, runs):
    view = memoryview(touched(64 * MIB))
    pairs = []
    for n in range(runs + 1):
        make_cold(shown)
        a = timed(work, shown, view, server)
        b = timed(work, plain, view)
        assert a["done"] == b["done"], (a, b)
        if n > 0:
            pairs.append((a, b))
    wall = median_of([a for a, _ in pairs], "wall")
    row = {"case": title}
    if work is random_reads:
        row["per_s"] = pairs[0][0]["done"] / wall
    else:
        row["gb_per_s"] = pairs[0][0]["done"] / wall / 1e9
    row["rate_ratio"] = 1 / median_ratio(pairs, "wall")
    row["cpu_ratio"] = median_ratio(pairs, "cpu")
    return row


def one_class(top, store, name, options, below, runs):
    """@below: which of the version's trees; rank 0's file of it is read."""
    plain = top / "plain.safetensors"
    rows = []
    options = [*options, f"layout=columns:{top}/columns.yaml"]
    with Mount(top / "mnt", store=store, options=options) as mount:
        shown = files_of(mount.where / "current" / below / "ranks"
                         if below != "ranks" else
                         mount.where / "current" / below)[0]
        shutil.copyfile(shown, plain)
        accesses = [("sequential", sequential), ("random 4 KiB", random_reads),
                    ("mapped", mapped)]
        if name == "page":
            accesses.append(("sequential, again", warm_reads))
        for access, work in accesses:
            rows.append(compare(f"{name}: {access}", work, shown, plain, mount,
                                runs))
        plain.unlink()
    return rows


def bench(top, args):
    source = top / "source"
    source.mkdir()
    n_rows = max(int(args.gib * 512 * MIB) // (COLS * 4), 4)
    write_safetensors(source / "model.safetensors",
                      [("matrix", "F32", (n_rows, COLS))])
    (top / "columns.yaml").write_text(
        "mesh: {tp: 4}\nrules:\n  - {match: matrix, dims: [~, tp]}\n")
    store = Store(top / "store")
    store.import_and_forget(source)
    return [row for name, options, below in CLASSES
            for row in one_class(top, store, name, options, below, args.runs)]
