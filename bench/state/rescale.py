"""A rescale, and the first read of all that it made.

The job goes back and forth between two layouts.  What counts is the time of the
whole `retile rescale` process, then of reading every rank's files into touched
memory, against a plain read(2) of the same bytes from files of the same tmpfs,
by the same processes into the same memory.
"""
import json
import re
import shutil

from state.common import (MIB, RETILE, median_of, median_ratio, run, timed,
                          tree_bytes)
from state.mounts import Mount
from state.reads import Readers, rank_files
from state.states import Store, make_many, make_states

LAYOUTS = ("gpt2:tp=2,pp=2", "gpt2:tp=4")
WHOLE = 1 << 31  # more than a read(2) gives: a call a file
# name, offset in a page, huge pages: as numpy allocates, and as torch does
BUFFERS = (("numpy", 16, True), ("torch", 64, False))
CALLS = (("a call a file", WHOLE - 4096), ("1 MiB a call", MIB))


def rescale(store, spec):
    done = timed(store.args("rescale", "--to", spec, "--json"))
    told = json.loads(done["out"])
    return {"wall": done["wall"], "cpu": done["cpu"],
            "written": told["written_bytes"]}


def straced_bytes(top, store, spec):
    """Bytes of files written and copied, as the kernel counts them."""
    log = top / "strace.log"
    run("strace", "-f", "-e", "trace=write,pwrite64,writev,pwritev,"
        "copy_file_range,sendfile,splice", "-o", log,
        *store.args("rescale", "--to", spec))
    total = sum(int(found[1]) for found in
                re.finditer(r"= (\d+)$", log.read_text(), re.MULTILINE))
    log.unlink()
    return total


def publish(top, title, store, specs, runs):
    """How long a rescale takes, and what it writes."""
    done = []
    for n in range(runs + 1):
        done.append(rescale(store, specs[n % 2]))
        store.keep_newest()
    row = {"case": f"rescale of {title}",
           "ms": median_of(done[1:], "wall") * 1e3,
           "cpu_ms": median_of(done[1:], "cpu") * 1e3,
           "written_bytes": done[-1]["written"]}
    if shutil.which("strace"):
        row["strace_written_bytes"] = straced_bytes(top, store, specs[0])
    return row


def first_reads(top, store, plain, n_processes, buffer, call, runs):
    """Rescale and read, against plain reads, in turn."""
    rounds = []
    per_plain = {spec: rank_files(plain[spec], n_processes)
                 for spec in LAYOUTS}
    sizes = [max(sum(map(size_of, per_plain[spec][i])) for spec in LAYOUTS)
             for i in range(n_processes)]
    with Mount(top / "mnt", store=store) as mount, \
            Readers(sizes, buffer[1], buffer[2]) as readers:
        for n in range(runs + 1):
            spec = LAYOUTS[n % 2]
            server0 = mount.cpu()
            made = rescale(store, spec)
            version = mount.wait_for(f"versions/{store.numbers()[-1]}")
            shown = rank_files(version, n_processes)
            read = readers.read(shown, call[1])
            ours = {"wall": made["wall"] + read["wall"],
                    "cpu": made["cpu"] + read["cpu"] + mount.cpu() - server0}
            plainly = readers.read(per_plain[spec], call[1])
            assert read["bytes"] == plainly["bytes"], (read, plainly)
            again = readers.read(shown, call[1], mount)
            if n > 0:
                rounds.append((ours, plainly, again))
            store.keep_newest()
    pairs = [(a, b) for a, b, _ in rounds]
    return {
        "case": f"{n_processes} process{'es' if n_processes > 1 else ''}, "
                f"{buffer[0]} buffers, {call[0]}",
        "bytes": plainly["bytes"],
        "wall_s": median_of([a for a, _ in pairs], "wall"),
        "plain_wall_s": median_of([b for _, b in pairs], "wall"),
        "wall_ratio": median_ratio(pairs, "wall"),
        "cpu_ratio": median_ratio(pairs, "cpu"),
        "second_read_ratio": median_ratio([(c, b) for _, b, c in rounds],
                                          "wall"),
    }


def size_of(path):
    with open(path, "rb") as file:
        return file.seek(0, 2)


def bench(top, args):
    many = top / "of-many"
    many.mkdir()
    specs = make_many(many / "many", 10000)
    store = Store(many / "store")
    store.import_and_forget(many / "many")
    rows = [publish(top, "10,000 tensors", store, specs, args.runs)]
    store.remove()
    shutil.rmtree(many)

    dp2 = make_states(top, args.gib)
    shutil.rmtree(top / "hf")
    store = Store(top / "store")
    store.import_and_forget(dp2)
    n_bytes = tree_bytes(store.root / "blobs")
    rows.append(publish(top, f"{n_bytes / 2**30:.1f} GiB", store, LAYOUTS,
                        args.runs))
    return rows


def bench_first(top, args):
    dp2 = make_states(top, args.gib)
    shutil.rmtree(top / "hf")
    store = Store(top / "store")
    store.import_and_forget(dp2)
    plain = {}
    for n, spec in enumerate(LAYOUTS):
        plain[spec] = top / f"plain{n}"
        run(RETILE, "export", plain[spec], "--store", store.root, "--job",
            "bench", "--to", spec)
    return [first_reads(top, store, plain, n_processes, buffer, call, args.runs)
            for n_processes in (4, 1) for buffer in BUFFERS for call in CALLS]
