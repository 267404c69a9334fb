#!/usr/bin/python3
"""What a training state costs: converted, mounted, saved, rescaled, checked.

    bench_state.py [options] [convert] [mount] [pieces] [ingest] [serve]
                   [metadata] [rescale] [cluster] [scrub] [dcp]

The state: bf16 weights, fp32 master, two fp32 moments of a GPT-2.  Everything
that is compared runs in turn (A B A B ..) on one machine; ratios are medians of
the pairs' ratios.  CPU seconds are user + system of all processes concerned,
the mount's too.  convert works in --dir (a disk), the others in --read-dir
(memory).  Needs no more than Python; dcp needs --python.

convert   TP4 PP1 DP2 -> TP2 PP2 DP1 and TP1 -> TP4, against `cp -r
          --reflink=never` of the same output bytes plus sync.  Bytes read and
          written are Retile's own count; --strace adds the kernel's.
mount     reads of all rank files of TP2 PP2 out of a mount of TP4 PP1 DP2,
          against plain reads of the same bytes, both warm, 1 MiB a call.
pieces    the same by size of the gathered piece, 512 B to 64 KiB: one matrix
          cut in four along its columns, read whole (gather) and the other way
          round (scatter: every fourth piece of a row).
ingest    writing new files into a save, by class of serving and bytes a call.
serve     reads of a version, by class: sequential, random, mapped.
metadata  opens, stats, listings; how soon a published version is seen.
rescale   time and bytes of `retile rescale`; then with the first read of all
          rank files, against a plain read of the same bytes.
cluster   rescales of a job that runs, by coordinator, agent and mount: which
          part took what, in milliseconds.
scrub     scrub and fsck, against reading and copying as many bytes.
dcp       save, rescale and load of a state by processes with torch, against
          torch.distributed.checkpoint; and convert against its load and save.
"""
import argparse
import json
import os
import pathlib

from state import (cluster, convert, dcp, ingest, metadata, mounted, rescale,
                   scrub, serve)
from state.common import set_huge, table, workplace

# name -> (on a disk, the parts that make one table each)
BENCHES = {
    "convert": (True, [convert.bench]),
    "mount": (False, [mounted.bench]),
    "pieces": (False, [mounted.bench_pieces]),
    "ingest": (False, [ingest.bench]),
    "serve": (False, [serve.bench]),
    "metadata": (False, [metadata.bench]),
    "rescale": (False, [rescale.bench, rescale.bench_first]),
    "cluster": (False, [cluster.bench]),
    "scrub": (False, [scrub.bench]),
    "dcp": (False, [dcp.bench]),
}

WITH_STORE = ("ingest", "serve", "metadata", "rescale", "scrub", "dcp")


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT",
                        help="default: all, dcp if there is --python")
    parser.add_argument("--gib", type=float, default=2,
                        help="size of the state (dcp needs five times as much "
                             "memory, the others up to four)")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dir", default="build/bench")
    parser.add_argument("--read-dir", default="/dev/shm/retile-bench")
    parser.add_argument("--python", metavar="INTERPRETER",
                        help="has torch >= 2.3 with gloo, and safetensors")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--strace", action="store_true")
    parser.add_argument("--huge", action="store_true",
                        help="each part that has a store once more with that "
                             "on a tmpfs with huge=within_size (root)")
    args = parser.parse_args()
    args.what = args.what or [name for name in BENCHES
                              if name != "dcp" or args.python]
    for name in args.what:
        if name not in BENCHES:
            parser.error(f"no bench {name}")
    if "dcp" in args.what and not args.python:
        parser.error("dcp needs --python")
    return args


def main():
    args = parse()
    report = {"version": 1, "machine": " ".join(os.uname()),
              "cpus": os.cpu_count()}
    for name in args.what:
        is_on_disk, parts = BENCHES[name]
        report[name] = []
        for part, huge in [(part, huge) for part in parts for huge in
                           ((False, True) if args.huge and name in WITH_STORE
                            else (False,))]:
            set_huge(huge)
            with workplace(args.dir if is_on_disk else args.read_dir) as top:
                rows = part(top, args)
            rows = [{**row, "huge": True} for row in rows] if huge else rows
            table(rows)
            report[name] += rows
            if args.json:  # what there is, even if the next one fails
                pathlib.Path(args.json).write_text(
                    json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
