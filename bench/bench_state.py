#!/usr/bin/python3
"""Convert and mounted reads of a GPT-like training state, against cp and read.

    bench_state.py [--gib 2] [--runs 5] [--dir DIR] [--read-dir DIR]
                   [--json FILE] [--strace] [convert] [mount] [pieces]

convert works in --dir (a disk, default build/bench), the reads in --read-dir
(memory, default /dev/shm/retile-bench).

The state: bf16 weights, fp32 master, two fp32 moments.  Everything that is
compared runs in turn (A B A B ..) in one process tree on one machine; ratios
are medians of the pairs' ratios.

convert   TP4 PP1 DP2 -> TP2 PP2 DP1 and TP1 -> TP4, against `cp -r
          --reflink=never` of the same output bytes plus sync.
mount     reads of all rank files of TP2 PP2 out of a mount of TP4 PP1 DP2,
          against plain reads of the same bytes from files, both warm, 1 MiB a
          call; CPU seconds are the reader's and the server's.
pieces    the same by size of the gathered piece, 512 B to 64 KiB: one matrix cut
          in four along its columns, read whole (gather) and the other way
          round (scatter: every fourth piece of a row).

CPU seconds are user + system of all processes concerned.  Bytes read and
written are Retile's own count; --strace compares them with the kernel's.
"""
import argparse
import contextlib
import json
import mmap
import os
import pathlib
import re
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time

import numpy as np

BIN = pathlib.Path(os.environ.get("RETILE_BIN", "build/release/bin"))
RETILE = BIN / "retile"
MIB = 1 << 20


def write_safetensors(path, entries):
    """entries: (name, dtype, shape, bytes function) in any order."""
    header, at = {}, 0
    rank = {"F32": 2, "BF16": 1}
    sizes = {"F32": 4, "BF16": 2}
    entries = sorted(entries, key=lambda e: (-rank[e[1]], e[0]))
    for name, dtype, shape in entries:
        n = int(np.prod(shape)) * sizes[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape),
                        "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 4096)
    noise = np.random.default_rng(7).bytes(16 * MIB + 1)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        left = at
        while left > 0:
            n = min(left, len(noise))
            out.write(memoryview(noise)[:n])
            left -= n


def make_gpt(directory, gib):
    """A Hugging Face directory of about gib GiB; returns heads."""
    width, heads, layers = 1536, 24, 0
    per_layer = 12 * width * width * 14  # bf16 + 3 fp32
    layers = max(2, round((gib * 1024 * MIB - 50304 * width * 14) / per_layer))
    layers += layers % 2
    params = [("transformer.wte.weight", (50304, width)),
              ("transformer.wpe.weight", (1024, width)),
              ("transformer.ln_f.weight", (width,)),
              ("transformer.ln_f.bias", (width,))]
    for n in range(layers):
        at = f"transformer.h.{n}."
        for norm in ("ln_1", "ln_2"):
            params += [(at + norm + ".weight", (width,)),
                       (at + norm + ".bias", (width,))]
        for name, rows, cols in (("attn.c_attn", width, 3 * width),
                                 ("attn.c_proj", width, width),
                                 ("mlp.c_fc", width, 4 * width),
                                 ("mlp.c_proj", 4 * width, width)):
            params += [(at + name + ".weight", (rows, cols)),
                       (at + name + ".bias", (cols,))]
    directory.mkdir(parents=True)
    write_safetensors(directory / "model.safetensors",
                      [(n, "BF16", s) for n, s in params])
    write_safetensors(directory / "optim.safetensors",
                      [(f"optim.{state}.{n}", "F32", s) for n, s in params
                       for state in ("master", "exp_avg", "exp_avg_sq")])
    (directory / "config.json").write_text(json.dumps(
        {"model_type": "gpt2", "n_embd": width, "n_head": heads,
         "n_layer": layers}))


def run(*args, **kwargs):
    done = subprocess.run([str(a) for a in args], capture_output=True,
                          text=True, **kwargs)
    if done.returncode != 0:
        sys.exit(f"{args}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


class PeakAnon(threading.Thread):
    """Watches a process's RssAnon."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peak, self.is_over = pid, 0, False

    def run(self):
        while not self.is_over:
            try:
                text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
            except OSError:
                return
            found = re.search(r"RssAnon:\s+(\d+) kB", text)
            if found:
                self.peak = max(self.peak, int(found[1]) * 1024)
            time.sleep(0.005)


def timed(args, shell=False):
    """Wall, CPU, peak anonymous memory of a command and its children."""
    begin = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = subprocess.Popen(args if shell else [str(a) for a in args],
                             shell=shell, stdout=subprocess.PIPE, text=True)
    watch = PeakAnon(child.pid)
    watch.start()
    out = child.communicate()[0]
    wall = time.perf_counter() - begin
    watch.is_over = True
    watch.join()
    if child.returncode != 0:
        sys.exit(f"{args}: exit {child.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    return {"wall": wall, "cpu": cpu, "peak_anon": watch.peak, "out": out}


def tree_bytes(directory):
    return sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())


def warm(directory):
    buffer = bytearray(4 * MIB)
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def median_ratio(pairs, key):
    return statistics.median(a[key] / b[key] for a, b in pairs)


def bench_convert(top, title, source, spec, runs, with_strace):
    target, copy = top / "converted", top / "copied"
    pairs = []
    needed = None
    for n in range(runs + 1):  # the first pair is not counted
        for directory in (target, copy):
            shutil.rmtree(directory, ignore_errors=True)
        os.sync()
        warm(source)
        a = timed([RETILE, "convert", source, target, "--to", spec, "--json"])
        a.update(json.loads(a.pop("out")))
        os.sync()
        warm(target)
        b = timed(f"cp -r --reflink=never '{target}' '{copy}' && sync -f "
                  f"'{copy}'", shell=True)
        needed = a["state_bytes"]
        if n > 0:
            pairs.append((a, b))
    result = {
        "case": title,
        "state_bytes": needed,
        "output_bytes": tree_bytes(target),
        "wall_s": statistics.median(a["wall"] for a, _ in pairs),
        "cpu_s": statistics.median(a["cpu"] for a, _ in pairs),
        "cp_wall_s": statistics.median(b["wall"] for _, b in pairs),
        "cp_cpu_s": statistics.median(b["cpu"] for _, b in pairs),
        "wall_ratio": median_ratio(pairs, "wall"),
        "cpu_ratio": median_ratio(pairs, "cpu"),
        "peak_anon_mib": max(a["peak_anon"] for a, _ in pairs) / MIB,
        "read_bytes": pairs[-1][0]["read_bytes"],
        "written_bytes": pairs[-1][0]["written_bytes"],
        "read_amplification": pairs[-1][0]["read_bytes"] / needed,
    }
    if with_strace:
        result.update(strace_bytes(top, source, spec))
    for directory in (target, copy):
        shutil.rmtree(directory)
    return result


def strace_bytes(top, source, spec):
    """What the kernel says was read and written, by system call."""
    target, log = top / "straced", top / "strace.log"
    run("strace", "-f", "-e", "trace=read,pread64,readv,preadv,write,pwrite64,"
        "writev,pwritev,copy_file_range,sendfile", "-o", log, RETILE, "convert",
        source, target, "--to", spec)
    sums = {"read": 0, "write": 0}
    for line in log.read_text().splitlines():
        found = re.search(r"(\w+)(?:\(| resumed>).*= (\d+)$", line)
        if found:
            kind = "read" if "read" in found[1] else "write"
            sums[kind] += int(found[2])
    shutil.rmtree(target)
    log.unlink()
    return {"strace_read_bytes": sums["read"],
            "strace_written_bytes": sums["write"]}


def cpu_of(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1]
    fields = fields.split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Mount:
    def __init__(self, source, where, *options):
        self.where = where
        where.mkdir(exist_ok=True)
        self.child = subprocess.Popen(
            [str(RETILE), "mount", "-f", *options, str(source), str(where)])
        deadline = time.monotonic() + 20
        while not os.path.ismount(where):
            if time.monotonic() > deadline or self.child.poll() is not None:
                sys.exit("the mount does not come up")
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        run("fusermount3", "-u", self.where)
        self.child.wait(timeout=30)


def read_all(paths, buffer, server=None):
    """Read files into one touched buffer, a MiB a call."""
    view = memoryview(buffer)[:64 * MIB]
    n_bytes = 0
    cpu0 = time.process_time()
    server0 = cpu_of(server) if server else 0
    begin = time.perf_counter()
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        at = 0
        while True:
            n = os.preadv(fd, [view[at % len(view):at % len(view) + MIB]], at)
            if n == 0:
                break
            at += n
        os.close(fd)
        n_bytes += at
    wall = time.perf_counter() - begin
    cpu = time.process_time() - cpu0 + (
        (cpu_of(server) - server0) if server else 0)
    return {"wall": wall, "cpu": cpu, "bytes": n_bytes}


def compare_reads(title, shown, plain, server, runs):
    """shown and plain: lists of paths with equal bytes.

    Into a buffer from malloc, as numpy, torch and bytes objects have (a MiB
    is two requests, and the kernel copies to an odd address), and into one
    that begins on a page, which a plain read likes even better.
    """
    result = {"case": title}
    for prefix, buffer in (("", bytearray(65 * MIB)),
                           ("aligned_", mmap.mmap(-1, 65 * MIB))):
        for at in range(0, len(buffer), 4096):
            buffer[at] = 1
        pairs = []
        for n in range(runs + 1):
            a = read_all(shown, buffer, server)
            b = read_all(plain, buffer)
            assert a["bytes"] == b["bytes"], (a, b)
            if n > 0:
                pairs.append((a, b))
        result["bytes"] = pairs[0][0]["bytes"]
        for name, side in (("gb_per_s", 0), ("plain_gb_per_s", 1)):
            result[prefix + name] = statistics.median(
                pair[side]["bytes"] / pair[side]["wall"] / 1e9
                for pair in pairs)
        result[prefix + "rate_ratio"] = 1 / median_ratio(pairs, "wall")
        result[prefix + "cpu_ratio"] = median_ratio(pairs, "cpu")
    return result


def files_of(directory):
    return sorted(str(p) for p in directory.rglob("*.safetensors"))


def bench_mount(top, source, spec, runs):
    plain = top / "plain"
    run(RETILE, "convert", source, plain, "--to", spec)
    with Mount(source, top / "mnt") as mount:
        shown = files_of(mount.where / "as" / spec)
        warm(source)
        warm(plain)
        result = compare_reads(f"mounted read of {spec}", shown,
                               files_of(plain), mount.child.pid, runs)
    shutil.rmtree(plain)
    return result


def bench_pieces(top, runs, total=512 * MIB):
    results = []
    for piece in (512, 1024, 2048, 4096, 8192, 65536):
        cols = piece  # f32: four pieces of `piece` bytes a row
        rows = total // (cols * 4)
        whole, ranks = top / "whole", top / "ranks"
        whole.mkdir()
        write_safetensors(whole / "model.safetensors",
                          [("matrix", "F32", (rows, cols))])
        spec = top / "columns.yaml"
        spec.write_text("mesh: {tp: 4}\nrules:\n"
                        "  - {match: matrix, dims: [~, tp]}\n")
        run(RETILE, "convert", whole, ranks, "--to", spec)
        # The same bytes as plain files: one converted to the other.
        with Mount(ranks, top / "mnt") as mount:
            warm(ranks)
            warm(whole)
            plain = top / "plain.safetensors"
            shutil.copyfile(mount.where / "hf" / "model.safetensors", plain)
            results.append(compare_reads(
                f"gather {piece} B", [mount.where / "hf" / "model.safetensors"],
                [plain], mount.child.pid, runs))
            plain.unlink()
        with Mount(whole, top / "mnt", "-o", f"layout=cols:{spec}") as mount:
            warm(whole)
            results.append(compare_reads(
                f"scatter {piece} B", files_of(mount.where / "as" / "cols"),
                files_of(ranks), mount.child.pid, runs))
        shutil.rmtree(whole)
        shutil.rmtree(ranks)
    return results


def table(rows):
    keys = list(dict.fromkeys(k for row in rows for k in row))

    def text(value):
        return f"{value:.2f}" if isinstance(value, float) else str(value)

    widths = [max(len(k), *(len(text(r.get(k, ""))) for r in rows))
              for k in keys]
    print("  ".join(k.ljust(w) for k, w in zip(keys, widths)))
    for row in rows:
        print("  ".join(text(row.get(k, "")).ljust(w)
                        for k, w in zip(keys, widths)))
    print(flush=True)


@contextlib.contextmanager
def workplace(path):
    """An empty directory that is removed afterwards."""
    top = pathlib.Path(path).absolute()
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir(parents=True)
    try:
        yield top
    finally:
        shutil.rmtree(top, ignore_errors=True)


def make_states(top, gib):
    """top/hf and top/tp4dp2; returns the latter."""
    make_gpt(top / "hf", gib)
    run(RETILE, "convert", top / "hf", top / "tp4dp2", "--to",
        "gpt2:tp=4,dp=2")
    return top / "tp4dp2"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*",
                        help="convert, mount, pieces; default: all")
    parser.add_argument("--gib", type=float, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dir", default="build/bench")
    parser.add_argument("--read-dir", default="/dev/shm/retile-bench")
    parser.add_argument("--json")
    parser.add_argument("--strace", action="store_true")
    args = parser.parse_args()
    what = args.what or ["convert", "mount", "pieces"]
    report = {"version": 1, "machine": " ".join(os.uname()),
              "cpus": os.cpu_count()}
    if "convert" in what:
        with workplace(args.dir) as top:
            dp2 = make_states(top, args.gib)
            report["convert"] = [
                bench_convert(top, "TP4 PP1 DP2 -> TP2 PP2 DP1", dp2,
                              "gpt2:tp=2,pp=2", args.runs, args.strace),
                bench_convert(top, "TP1 -> TP4", top / "hf", "gpt2:tp=4",
                              args.runs, args.strace)]
            table(report["convert"])
    if "mount" in what:
        with workplace(args.read_dir) as top:
            dp2 = make_states(top, args.gib)
            report["mount"] = [
                bench_mount(top, dp2, "gpt2:tp=2,pp=2", args.runs),
                bench_mount(top, top / "hf", "gpt2:tp=4", args.runs)]
            table(report["mount"])
    if "pieces" in what:
        with workplace(args.read_dir) as top:
            report["pieces"] = bench_pieces(top, args.runs)
            table(report["pieces"])
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
