"""One process of a training job that does next to nothing: bench's job.

    retile launch JOB -- cluster_rank.py LOG

Loads its files whole, and writes them back when it is asked to stop.  A line of LOG is JSON: generation, rank, what, time_ns.
"""
import json
import os
import pathlib
import socket
import sys
import time

STEP_S = 0.01  # what a step would take
WAIT_S = 120
RANK, N_RANKS = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
WHERE = pathlib.Path(os.environ["RETILE_DIR"])


def tell(what, **more):
    line = json.dumps({"generation": int(os.environ["RETILE_GENERATION"]),
                       "rank": RANK, "what": what, "time_ns": time.time_ns(),
                       **more}) + "\n"
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(log, line.encode())  # one write: lines do not mix
    os.close(log)


class Ring:
    """All ranks, over sockets to rank 0."""

    def __init__(self):
        at = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        self.others = []
        if RANK == 0:
            with socket.create_server(at, backlog=N_RANKS) as server:
                server.settimeout(WAIT_S)
                self.others = [server.accept()[0] for _ in range(N_RANKS - 1)]
        else:
            self.others = [self.connect(at)]
        for other in self.others:
            other.settimeout(WAIT_S)

    @staticmethod
    def connect(at):
        until = time.monotonic() + WAIT_S
        while True:
            try:
                return socket.create_connection(at, WAIT_S)
            except ConnectionRefusedError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.005)

    def hear(self):
        got = [other.recv(1) for other in self.others]
        if b"" in got:
            sys.exit("a rank is gone")
        return got

    def say(self, byte):
        for other in self.others:
            other.sendall(byte)

    def agree(self, byte=b"-"):
        """Wait for all; what rank 0 says."""
        if RANK == 0:
            self.hear()
            self.say(byte)
            return byte
        self.say(b"-")
        return self.hear()[0]


def load():
    here = WHERE / "load" / "ranks" / f"{RANK:03d}"
    files = {}
    for path in sorted(here.iterdir()):
        files[path.name] = bytearray(path.stat().st_size)
        with open(path, "rb", buffering=0) as file:
            view, at = memoryview(files[path.name]), 0
            while at < len(view):
                at += file.readinto(view[at:])
    step = 0
    if (WHERE / "load" / "retile.json").exists():
        step = json.loads((WHERE / "load" / "retile.json").read_text())["step"]
    return files, step


def save(ring, files, step):
    tmp = WHERE / "save" / f"{step}.tmp"
    here = tmp / "ranks" / f"{RANK:03d}"
    here.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        with open(here / name, "wb", buffering=0) as file:
            view, at = memoryview(data), 0
            while at < len(view):
                at += file.write(view[at:])
    if RANK == 0:
        (tmp / "retile.json").write_text(
            json.dumps({"step": step, "samples": step}))
    ring.agree()
    if RANK == 0:
        tell("written")
        tmp.rename(tmp.with_suffix(""))
        tell("saved")
    ring.agree()


def main():
    tell("began")
    ring = Ring()
    files, step = load()
    ring.agree()
    tell("loaded")
    wish = b"-"
    while wish != b"!":
        step += 1
        time.sleep(STEP_S)
        if RANK == 0 and (WHERE / "request").read_bytes().strip():
            tell("asked")
            wish = b"!"
        wish = ring.agree(wish)
    save(ring, files, step)
    files.clear()  # freeing much memory is the process's own time
    tell("exits")
    os._exit(0)


main()
