"""Save, rescale and load, against PyTorch's distributed checkpoint (DCP).

The same processes with the same DTensors do both, in turn.  DCP: all save, then
processes of another layout load, which reshards.  Ours: all save safetensors
into the mount and one renames, `retile rescale`, then the others read their
files.  Start-up, imports and first uses are in neither; what the mount's
processes and `retile` do is in ours, also what the mount does afterwards
(digests), which is told apart as well.  All in one tmpfs.

Then the offline way: `retile convert` of what ranks wrote, against loading and
saving by DCP.
"""
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import time

from state.common import (RETILE, median_of, median_ratio, run, timed,
                          tree_bytes)
from state.mounts import Mount
from state.states import Store, gpt_params

ANSWER_S = 600
CUT_COLUMNS = ("c_attn.weight", "c_fc.weight")
# Orders to a rank: the library's function, which makes copies of its own, and
# one write(2) a tensor.
WRITERS = {"save": "save_file", "write": "plain writes"}
# layout, ranks that save; the same, ranks that load
CASES = (("tp", 4, "tp", 2), ("fsdp", 2, "fsdp", 4))


def params_of(gib):
    """[name, shape, the dimension that tensor parallelism cuts]"""
    return [[name, list(shape), 1 if name.endswith(CUT_COLUMNS) else 0]
            for name, shape in gpt_params(gib)[0]]


def write_spec(path, layout, world):
    if layout == "tp":
        path.write_text(
            f"mesh: {{tp: {world}}}\nrules:\n"
            "  - {match: '*.bias'}\n  - {match: '*.ln_*'}\n"
            "  - {match: '*.c_attn.weight', dims: [~, tp]}\n"
            "  - {match: '*.c_fc.weight', dims: [~, tp]}\n"
            "  - {match: '*', dims: [tp]}\n")
    else:
        path.write_text(f"mesh: {{dp: {world}}}\nrules:\n"
                        "  - {match: '*', dims: [dp]}\n")
    return path


class Job:
    """Processes of one layout."""

    def __init__(self, python, top, name, layout, world, params):
        rendezvous = top / f"rendezvous-{name}"
        script = pathlib.Path(__file__).with_name("dcp_rank.py")
        env = dict(os.environ, OMP_NUM_THREADS="1", GLOO_SOCKET_IFNAME="lo",
                   PYTHONWARNINGS="ignore")
        self.processes = [subprocess.Popen(
            [python, str(script), str(rank), str(world), str(rendezvous),
             json.dumps(params), layout], env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for rank in range(world)]
        self.n_bytes = sum(a["bytes"] for a in self.answers())

    def answers(self):
        until = time.monotonic() + ANSWER_S
        found = []
        for process in self.processes:
            left = until - time.monotonic()
            if not select.select([process.stdout], [], [], max(left, 0))[0]:
                sys.exit(f"a rank does not answer in {ANSWER_S} s")
            line = process.stdout.readline()
            if not line:
                sys.exit("a rank has ended")
            found.append(json.loads(line))
        return found

    def order(self, what, path="-"):
        """Wall of the slowest, CPU of all."""
        for process in self.processes:
            process.stdin.write(f"{what} {path}\n")
            process.stdin.flush()
        answers = self.answers()
        if "wall" not in answers[0]:
            return answers
        return {"wall": max(a["wall"] for a in answers),
                "cpu": sum(a["cpu"] for a in answers)}

    def check(self, what):
        if not all(a["is_same"] for a in self.order("check")):
            sys.exit(f"{what}: other bytes than were saved")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for process in self.processes:
            if kind is not None:
                process.kill()
            else:
                process.stdin.close()
        for process in self.processes:
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def added(*parts):
    return {"wall": sum(p["wall"] for p in parts),
            "cpu": sum(p["cpu"] for p in parts)}


def dcp_way(top, savers, loaders):
    shutil.rmtree(top / "dcp", ignore_errors=True)
    save = savers.order("dcp-save", top / "dcp")
    loaders.order("clear")
    load = loaders.order("dcp-load", top / "dcp")
    loaders.check("DCP")
    return {"save": save, "load": load, **added(save, load)}


def our_way(store, mount, specs, savers, loaders, step, writer):
    """@specs: of the savers and of the loaders."""
    save_dir = mount.wait_for("gen/current/save")
    at_work = mount.settle()
    step_dir = save_dir / f"{step}.tmp"
    step_dir.mkdir()
    if not store.numbers():
        shutil.copyfile(specs[0], step_dir / "layout.yaml")
    save = savers.order(writer, step_dir)
    rescale = timed(store.args("rescale", "--to", specs[1]))
    loaders.order("clear")
    newest = mount.wait_for(f"versions/{store.numbers()[-1]}")
    load = loaders.order("read", newest)
    served = mount.cpu()
    afterwards = mount.settle()
    loaders.check("ours")
    ours = {"save": save, "rescale": rescale, "load": load,
            "mount_cpu": served - at_work, "later_cpu": afterwards - served,
            **added(save, rescale, load)}
    ours["cpu"] += afterwards - at_work
    # Back to the savers' layout, for the next one.
    generation = os.readlink(mount.where / "gen/current")
    store.job("rescale", "--to", specs[0])
    until = time.monotonic() + 20
    while os.readlink(mount.where / "gen/current") == generation:
        if time.monotonic() > until:
            sys.exit("no new generation in 20 s")
        time.sleep(0.01)
    store.keep_newest()
    return ours


def way_row(title, n_bytes, pairs):
    ours = [a for a, _ in pairs]
    theirs = [b for _, b in pairs]
    row = {"case": title, "bytes": n_bytes,
           "wall_s": median_of(ours, "wall"), "cpu_s": median_of(ours, "cpu"),
           "dcp_wall_s": median_of(theirs, "wall"),
           "dcp_cpu_s": median_of(theirs, "cpu"),
           "dcp_wall_ratio": 1 / median_ratio(pairs, "wall"),
           "dcp_cpu_ratio": 1 / median_ratio(pairs, "cpu"),
           "mount_cpu_s": median_of(ours, "mount_cpu"),
           "later_cpu_s": median_of(ours, "later_cpu")}
    for part in ("save", "rescale", "load"):
        for key in ("wall", "cpu"):
            row[f"{part}_{key}_s"] = median_of([a[part] for a in ours], key)
    for part in ("save", "load"):
        for key in ("wall", "cpu"):
            row[f"dcp_{part}_{key}_s"] = median_of([b[part] for b in theirs],
                                                   key)
    return row


def one_way(top, args, case):
    layouts, worlds = case[::2], case[1::2]
    params = params_of(args.gib)
    specs = [write_spec(top / f"{n}.yaml", layouts[n], worlds[n])
             for n in range(2)]
    rounds = []
    store = Store(top / "store")
    with Mount(top / "mnt", store=store, options=["new"]) as mount, \
            Job(args.python, top, "savers", layouts[0], worlds[0],
                params) as savers, \
            Job(args.python, top, "loaders", layouts[1], worlds[1],
                params) as loaders:
        for n in range(args.runs + 1):
            ours = {writer: our_way(store, mount, specs, savers, loaders,
                                    100 * (n + 1) + k, writer)
                    for k, writer in enumerate(WRITERS)}
            theirs = dcp_way(top, savers, loaders)
            if n > 0:
                rounds.append((ours, theirs))
        n_bytes = savers.n_bytes
    shutil.rmtree(top / "dcp")
    store.remove()
    return [way_row(f"{layouts[0]}={worlds[0]} saved, {layouts[1]}="
                    f"{worlds[1]} loaded, {title}", n_bytes,
                    [(ours[writer], theirs) for ours, theirs in rounds])
            for writer, title in WRITERS.items()]


def convert_case(top, args, case):
    """Offline: what was saved, in the other layout, saved again."""
    layouts, worlds = case[::2], case[1::2]
    params = params_of(args.gib)
    specs = [write_spec(top / f"{n}.yaml", layouts[n], worlds[n])
             for n in range(2)]
    (top / "source").mkdir()
    source, target, again = top / "source", top / "target", top / "dcp-again"
    with Job(args.python, top, "writers", layouts[0], worlds[0],
             params) as savers:
        savers.order("dcp-save", top / "dcp")
        savers.order("write", source)
    shutil.copyfile(specs[0], source / "layout.yaml")
    pairs = []
    with Job(args.python, top, "converters", layouts[1], worlds[1],
             params) as loaders:
        for n in range(args.runs + 1):
            shutil.rmtree(target, ignore_errors=True)
            shutil.rmtree(again, ignore_errors=True)
            ours = timed([RETILE, "convert", source, target, "--to", specs[1]])
            loaders.order("clear")
            load = loaders.order("dcp-load", top / "dcp")
            theirs = added(load, loaders.order("dcp-save", again))
            if n == 0:
                loaders.order("clear")
                loaders.order("read", target)
                loaders.check("convert")
            else:
                pairs.append((ours, theirs))
    n_bytes = tree_bytes(target)
    for path in (source, target, again, top / "dcp"):
        shutil.rmtree(path)
    return {"case": f"convert {layouts[0]}={worlds[0]} to {layouts[1]}="
                    f"{worlds[1]}", "bytes": n_bytes,
            "wall_s": median_of([a for a, _ in pairs], "wall"),
            "cpu_s": median_of([a for a, _ in pairs], "cpu"),
            "dcp_wall_s": median_of([b for _, b in pairs], "wall"),
            "dcp_cpu_s": median_of([b for _, b in pairs], "cpu"),
            "dcp_wall_ratio": 1 / median_ratio(pairs, "wall"),
            "dcp_cpu_ratio": 1 / median_ratio(pairs, "cpu")}


def bench(top, args):
    run(args.python, "-c", "import safetensors.torch, torch.distributed.tensor")
    rows = []
    for case in CASES:
        rows += one_way(top, args, case)
        rows.append(convert_case(top, args, case))
    return rows
