"""`retile store scrub` and `fsck`, against reading and copying as many bytes."""
import time

from state.common import MIB, RETILE, median_of, median_ratio, timed
from state.reads import read_files, touched
from state.states import Store, make_states


def read_blobs(paths, view):
    begin, cpu0 = time.perf_counter(), time.process_time()
    read_files(paths, view, MIB, wrap_bytes=len(view) - MIB)
    return {"wall": time.perf_counter() - begin,
            "cpu": time.process_time() - cpu0}


def copy_bytes(n_bytes, source, target):
    """memcpy, 64 MiB at a time."""
    begin = time.perf_counter()
    for _ in range(n_bytes // len(source)):
        target[:] = source
    return {"wall": time.perf_counter() - begin}


def bench(top, args):
    dp2 = make_states(top, args.gib)
    store = Store(top / "store")
    store.import_and_forget(dp2)
    blobs = [p for p in (store.root / "blobs").rglob("*") if p.is_file()]
    n_bytes = sum(p.stat().st_size for p in blobs)
    view = memoryview(touched(65 * MIB))
    source, target = (memoryview(touched(64 * MIB)) for _ in range(2))
    rounds = []
    for n in range(args.runs + 1):
        one = {"scrub": timed([RETILE, "store", "scrub", store.root]),
               "read": read_blobs(blobs, view),
               "memcpy": copy_bytes(n_bytes, source, target),
               "fsck": timed([RETILE, "store", "fsck", store.root])}
        if n > 0:
            rounds.append(one)
    rows = []
    for name in ("scrub", "read", "memcpy"):
        wall = median_of([one[name] for one in rounds], "wall")
        rows.append({"case": name, "bytes": n_bytes, "wall_s": wall,
                     "gb_per_s": n_bytes / wall / 1e9,
                     "wall_to_read": median_ratio(
                         [(one[name], one["read"]) for one in rounds], "wall")})
    rows[0]["cpu_s"] = median_of([one["scrub"] for one in rounds], "cpu")
    rows[1]["cpu_s"] = median_of([one["read"] for one in rounds], "cpu")
    rows.append({"case": "fsck", "wall_s": median_of(
        [one["fsck"] for one in rounds], "wall")})
    return rows
