"""Names, not bytes: opens, stats, listings, and how soon a flip is seen."""
import os
import statistics
import time

from state.common import median_of, median_ratio
from state.mounts import Mount
from state.states import Store, make_many

N_TENSORS = 10000
N_CALLS = 20000
FLIP_S = 30


def per_second(work, path, n):
    """Calls of @work a second; a try-out first."""
    work(path)
    begin = time.perf_counter()
    for _ in range(n):
        work(path)
    return n / (time.perf_counter() - begin)


def open_close(path):
    os.close(os.open(path, os.O_RDONLY))


def list_with_stats(path):
    """Each entry with what readdirplus brings along."""
    n = 0
    with os.scandir(path) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)
            n += 1
    return n


def calls(title, work, shown, plain, n, runs):
    pairs = []
    for k in range(runs + 1):
        a = {"per_s": per_second(work, shown, n)}
        b = {"per_s": per_second(work, plain, n)}
        if k > 0:
            pairs.append((a, b))
    return {"case": title, "per_s": median_of([a for a, _ in pairs], "per_s"),
            "ratio": median_ratio(pairs, "per_s")}


def listing(title, work, where, runs):
    """Entries a second; @where(n): a directory that was not listed yet."""
    rates = []
    for n in range(runs):
        begin = time.perf_counter()
        found = work(where(n))
        rates.append(found / (time.perf_counter() - begin))
    return {"case": title, "per_s": statistics.median(rates)}


def flip(mount, store, spec):
    """ms from a version's publication until `current` leads to it, at most:
    what one look at each takes is in it."""
    number = store.numbers()[-1] + 1
    published = store.root / "jobs" / "bench" / "versions" / str(number)
    current, wanted = mount.where / "current", f"versions/{number}"
    pid = os.fork()
    if pid == 0:
        os.execv(store.args("x")[0],
                 [str(a) for a in store.args("rescale", "--to", spec)])
    until = time.monotonic() + FLIP_S
    while not os.path.exists(published) and time.monotonic() < until:
        pass
    begin = time.perf_counter()
    while os.readlink(current) != wanted and time.monotonic() < until:
        pass
    ms = (time.perf_counter() - begin) * 1e3
    if os.waitpid(pid, 0)[1] != 0 or time.monotonic() >= until:
        raise SystemExit("a rescale was not seen")
    return ms


def bench(top, args):
    specs = make_many(top / "many", N_TENSORS)
    store = Store(top / "store")
    store.import_and_forget(top / "many")
    plain = top / "plain"
    (plain / "versions/1/ranks/000").mkdir(parents=True)
    file = "ranks/000/model.safetensors"
    (plain / "versions/1" / file).write_bytes(b"x")
    rows = []
    with Mount(top / "mnt", store=store) as mount:
        version = mount.where / "versions/1"
        for title, work in (("open and close", open_close),
                            ("stat", os.stat)):
            rows.append(calls(title, work, version / file,
                              plain / "versions/1" / file, N_CALLS, args.runs))
        fd = os.open(version / file, os.O_RDONLY)
        other = os.open(plain / "versions/1" / file, os.O_RDONLY)
        rows.append(calls("fstat of an open file", os.stat, fd, other, N_CALLS,
                          args.runs))
        os.close(fd)
        os.close(other)
        rows.append(listing(f"list {N_TENSORS} names", lambda path: len(
            os.listdir(path)), lambda _: version / "npy", args.runs))
        rows.append(listing("list and stat them", list_with_stats,
                            lambda _: version / "npy", args.runs))
        times = [flip(mount, store, specs[n % 2])
                 for n in range(max(args.runs, 5))]
        rows.append({"case": "a flip is seen",
                     "ms": statistics.median(times), "worst_ms": max(times)})
    return rows
