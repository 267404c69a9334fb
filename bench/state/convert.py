"""`retile convert` on a disk, against `cp -r` of the same output plus sync."""
import json
import os
import re
import shutil

from state.common import (MIB, RETILE, median_of, median_ratio, run, timed,
                          tree_bytes, warm)
from state.states import make_states


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


def one_case(top, title, source, spec, args):
    target, copy = top / "converted", top / "copied"
    pairs = []
    for n in range(args.runs + 1):  # the first pair is not counted
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
        if n > 0:
            pairs.append((a, b))
    ours = [a for a, _ in pairs]
    copies = [b for _, b in pairs]
    needed = ours[-1]["state_bytes"]
    result = {
        "case": title,
        "state_bytes": needed,
        "output_bytes": tree_bytes(target),
        "wall_s": median_of(ours, "wall"),
        "cpu_s": median_of(ours, "cpu"),
        "cp_wall_s": median_of(copies, "wall"),
        "cp_cpu_s": median_of(copies, "cpu"),
        "wall_ratio": median_ratio(pairs, "wall"),
        "cpu_ratio": median_ratio(pairs, "cpu"),
        "peak_anon_mib": max(a["peak_anon"] for a in ours) / MIB,
        "read_bytes": ours[-1]["read_bytes"],
        "written_bytes": ours[-1]["written_bytes"],
        "read_amplification": ours[-1]["read_bytes"] / needed,
    }
    if args.strace:
        result.update(strace_bytes(top, source, spec))
    for directory in (target, copy):
        shutil.rmtree(directory)
    return result


def bench(top, args):
    dp2 = make_states(top, args.gib)
    return [one_case(top, "TP4 PP1 DP2 -> TP2 PP2 DP1", dp2, "gpt2:tp=2,pp=2",
                     args),
            one_case(top, "TP1 -> TP4", top / "hf", "gpt2:tp=4", args)]
