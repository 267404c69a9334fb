#!/usr/bin/env python3
"""A rank of a job whose state is a vector that goes its chaotic way, element
by element: what it is after any step is known, whatever the layout was.

    retile launch JOB -- toy_rank.py --steps S --every E --trace FILE

It imports little, so it starts at once.  FILE gets, in one write each:
    load G RANK VERSION   (a version's number; 0: from nothing)
    step G RANK STEP CRC  (of our part after it)
    saved G STEP
With the file FINISH it ends as if it had done all its steps.  While HANG is
there, the last rank waits for ever, as in a collective that others have left;
all the others wait for it.  While HOLD is there, a rank that has begun makes
HOLD.G.RANK, and waits before it looks at what there is to load.
"""
import argparse
import array
import json
import os
import pathlib
import socket
import sys
import time
import zlib

N = 48


def start():
    return array.array("d", [0.1 + i / 100 for i in range(N)])


def advance(part, step):
    return array.array("d", [1 - 1.7 * x * x + step / 1e6 for x in part])


def after(step):
    """The whole vector after @step, as a run alone has it."""
    whole = start()
    for s in range(1, step + 1):
        whole = advance(whole, s)
    return whole


def part_of(whole, i, n):
    return whole[i * len(whole) // n:(i + 1) * len(whole) // n]


def encode(name, part):
    header = json.dumps({"__metadata__": {"format": "pt"}, name: {
        "dtype": "F64", "shape": [len(part)],
        "data_offsets": [0, 8 * len(part)]}}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + part.tobytes()


def decode(name, data):
    n = int.from_bytes(data[:8], "little")
    begin, end = json.loads(data[8:8 + n])[name]["data_offsets"]
    return array.array("d", data[8 + n + begin:8 + n + end])


class Ring:
    """Rank 0 hears from all, and tells all."""

    def __init__(self, rank, n_ranks, address):
        self.rank, self.others = rank, []
        if rank == 0:
            listener = socket.create_server(address)
            self.others = [listener.accept()[0] for _ in range(n_ranks - 1)]
            return
        end = time.monotonic() + 60
        while True:
            try:
                self.others = [socket.create_connection(address)]
                return
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def hear(self, one):
        data = one.recv(1)
        if not data:
            sys.exit("toy_rank: another rank is gone")
        return data

    def tell(self, word=b"-"):
        """What rank 0 says, when all are here."""
        if self.rank == 0:
            for one in self.others:
                self.hear(one)
            for one in self.others:
                one.sendall(word)
            return word
        self.others[0].sendall(b".")
        return self.hear(self.others[0])


def stops_after(where, step):
    wish = (where / "request").read_bytes().strip()
    after_step = json.loads(wish).get("stop_after") if wish else step + 1
    return after_step is None or after_step <= step


def save(where, ring, rank, step, model, moment, batch):
    tmp = where / "save" / f"{step}.tmp"
    here = tmp / "ranks" / f"{rank:03d}"
    tmp.mkdir(exist_ok=True)
    here.mkdir(parents=True, exist_ok=True)
    (here / "model.safetensors").write_bytes(encode("w", model))
    (here / "optim.safetensors").write_bytes(encode("optim.m.w", moment))
    if rank == 0:
        (tmp / "retile.json").write_text(
            json.dumps({"step": step, "samples": step * batch}))
    ring.tell()
    word = b"y"
    if rank == 0:
        try:
            tmp.rename(tmp.with_suffix(""))
        except OSError as error:
            print(f"toy_rank: step {step}: {error}", file=sys.stderr)
            word = b"n"
    if ring.tell(word) != b"y":
        sys.exit(1)


def main():
    parser = argparse.ArgumentParser()
    for name in "steps", "every":
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--pause", type=float, default=0.02)
    parser.add_argument("--trace", required=True)
    parser.add_argument("--hang", type=pathlib.Path)
    parser.add_argument("--hold", type=pathlib.Path)
    parser.add_argument("--finish", type=pathlib.Path)
    args = parser.parse_args()
    env = os.environ
    rank, n_ranks = int(env["RANK"]), int(env["WORLD_SIZE"])
    coords = dict(word.split("=") for word in env["RETILE_COORDS"].split(","))
    mesh = dict(word.split("=") for word in env["RETILE_MESH"].split(","))
    generation, where = env["RETILE_GENERATION"], pathlib.Path(env["RETILE_DIR"])
    trace = os.open(args.trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def say(what, *words):
        os.write(trace, " ".join(map(str, [what, generation, *words, "\n"]))
                 .encode())

    if args.hold and args.hold.exists():
        pathlib.Path(f"{args.hold}.{generation}.{rank}").touch()
        while args.hold.exists():
            time.sleep(0.01)
    load, step, version = where / "load", 0, 0
    model = part_of(start(), int(coords["tp"]), int(mesh["tp"]))
    moment = model
    if os.path.lexists(load):
        version = os.path.basename(os.readlink(load))
        step = json.loads((load / "retile.json").read_text())["step"]
        model, moment = (decode(name, (load / f"ranks/{rank:03d}" / file)
                                .read_bytes()) for name, file in
                         (("w", "model.safetensors"),
                          ("optim.m.w", "optim.safetensors")))
    elif env["RETILE_LOAD"] != "0":
        sys.exit("toy_rank: what to begin with is gone: the mount died")
    say("load", rank, version)
    ring = Ring(rank, n_ranks, (env["MASTER_ADDR"], int(env["MASTER_PORT"])))
    while step < args.steps:
        step += 1
        time.sleep(args.pause)
        while args.hang and args.hang.exists() and rank == n_ranks - 1:
            time.sleep(0.05)
        moment, model = model, advance(model, step)
        say("step", rank, step, zlib.crc32(model.tobytes()))
        is_end = args.finish is not None and args.finish.exists()
        stops = b"s" if rank == 0 and (is_end or stops_after(where, step)) \
            else b"-"
        stops = ring.tell(stops) == b"s" or step == args.steps
        if stops or step % args.every == 0:
            save(where, ring, rank, step, model, moment, 4)
            if rank == 0:
                say("saved", step)
        if stops:
            break


if __name__ == "__main__":
    main()
