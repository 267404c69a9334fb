"""Writing a new file into a save, against a new file of the same tmpfs.

Each class of serving in turn: passed through, direct (mask=passthrough) and
through the page cache (cache=page).
"""
import os
import time

from state.common import MIB, median_of, median_ratio
from state.mounts import Mount
from state.reads import touched
from state.states import Store

CLASSES = (("passthrough", ()),
           ("direct", ("mask=passthrough",)),
           ("buffered", ("mask=passthrough", "cache=page")))
# bytes a call -> bytes of the file
CALLS = ((MIB, 1024 * MIB), (128 << 10, 512 * MIB), (4 << 10, 64 * MIB))
RELEASED_S = 0.05  # the kernel tells the server of a close after it


def write_file(path, view, n_bytes, server=None):
    """A new file, written, synced and closed; then removed."""
    cpu0 = time.process_time() + (server.cpu() if server else 0)
    begin = time.perf_counter()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for _ in range(n_bytes // len(view)):
            n = os.write(fd, view)
            assert n == len(view), n
        os.fsync(fd)
    finally:
        os.close(fd)
    wall = time.perf_counter() - begin
    cpu = time.process_time() + (server.cpu() if server else 0) - cpu0
    assert os.stat(path).st_size == n_bytes
    os.unlink(path)
    time.sleep(RELEASED_S)
    return {"wall": wall, "cpu": cpu}


def one_class(top, name, options, runs, scale):
    rows = []
    store = Store(top / "store")
    with Mount(top / "mnt", store=store,
               options=[*options, "new"]) as mount:
        where = mount.wait_for("gen/current/save") / "100.tmp/ranks/000"
        where.mkdir(parents=True)
        for call_bytes, n_bytes in CALLS:
            n_bytes = max(int(n_bytes * scale) // MIB, 1) * MIB
            view = memoryview(touched(call_bytes))
            pairs = []
            for n in range(runs + 1):
                a = write_file(where / f"{n}.bin", view, n_bytes, mount)
                b = write_file(top / f"{n}.bin", view, n_bytes)
                if n > 0:
                    pairs.append((a, b))
            wall = median_of([a for a, _ in pairs], "wall")
            rows.append({
                "case": f"{name}, {call_bytes >> 10} KiB a call",
                "bytes": n_bytes,
                "gb_per_s": n_bytes / wall / 1e9,
                "rate_ratio": 1 / median_ratio(pairs, "wall"),
                "cpu_ratio": median_ratio(pairs, "cpu"),
            })
    return rows


def bench(top, args):
    rows = []
    for name, options in CLASSES:
        below = top / name
        below.mkdir()
        rows += one_class(below, name, options, args.runs, args.gib / 2)
    return rows
