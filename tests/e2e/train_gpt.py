#!/usr/bin/env python3
"""examples/train_gpt.py under one mesh and the next: its losses are those of a
run on one process, within TOLERANCE; started again under the same mesh it
does the same to the last bit; and it stops when it is asked to.

    train_gpt.py
"""
import json
import os
import pathlib
import socket
import subprocess
import sys

from mounted import Lab, check, eventually

SOURCE = pathlib.Path(os.environ["RETILE_SOURCE"])
SCRIPT = SOURCE / "examples" / "train_gpt.py"
SPEC = SOURCE / "examples" / "train_gpt.yaml"
# What train_gpt.py says of --compute float64.  Less than 1e-15 was seen.
TOLERANCE = 1e-7


class Job:
    """Processes as `retile launch` starts them, over a mount that no
    coordinator has: the request file is ours."""

    def __init__(self, lab, mount):
        self.lab, self.mount = lab, mount
        self.dir = lab.path / "dir"
        self.request = self.dir / "request"
        self.dir.mkdir()

    def wish(self, text):
        self.request.write_text(text)

    def start(self, mesh, *options, log=None):
        for name in "load", "save":
            (self.dir / name).unlink(missing_ok=True)
            (self.dir / name).symlink_to(self.mount.gen() / name)
        return start(mesh, *options, RETILE_DIR=str(self.dir), log=log)

    def run(self, mesh, *options, log=None):
        return lines_of(self.start(mesh, *options, log=log))

    def change(self, *verb):
        """Another version: the next generation begins with it."""
        before = self.mount.gen()
        self.lab.of_job(*verb)
        eventually("the next generation", lambda: self.mount.gen() != before)

    def rescale(self, mesh):
        spec = self.lab.path / "next.yaml"
        spec.write_text(spec_of(mesh))
        self.change("rescale", "--to", str(spec))

    def model(self, version):
        """The bytes of all tensors of all ranks."""
        ranks = self.mount.path / f"versions/{version}/ranks"
        files = sorted(ranks.glob("*/*.safetensors"))
        check(files, f"version {version} has files")
        return [file.read_bytes() for file in files]


def spec_of(mesh):
    sizes = mesh.replace("=", ": ").replace(",", ", ")
    lines = [f"mesh: {{{sizes}}}" if line.startswith("mesh:") else line
             for line in SPEC.read_text().splitlines()]
    return "\n".join(lines) + "\n"


def start(mesh, *options, log=None, **more):
    """All ranks of @mesh."""
    sizes = [(axis, int(size)) for axis, size in
             (word.split("=") for word in mesh.split(","))]
    n_ranks = 1
    for _, size in sizes:
        n_ranks *= size
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--json-lines", str(log), *options] if log else options
    processes = []
    for rank in range(n_ranks):
        at, rest = [], rank
        for axis, size in reversed(sizes):
            at.insert(0, f"{axis}={rest % size}")
            rest //= size
        env = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank),
               "WORLD_SIZE": str(n_ranks), "LOCAL_WORLD_SIZE": str(n_ranks),
               "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
               "RETILE_MESH": mesh, "RETILE_COORDS": ",".join(at), **more}
        processes.append(subprocess.Popen(
            [sys.executable, "-B", SCRIPT, *options], env=env, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    return processes


def lines_of(processes, code=0):
    """What the ranks printed, when all have ended: one of them has it all."""
    found = [process.communicate(timeout=100) for process in processes]
    for process, (out, err) in zip(processes, found):
        check(process.returncode == code, f"exit {process.returncode}", out, err)
    telling = [out.splitlines() for out, _ in found if out]
    check(len(telling) == 1, "one rank tells", *telling)
    return telling[0]


def losses(lines):
    words = [line.split() for line in lines]
    return {int(w[1]): w[3] for w in words if w[0] == "step"}


def saves(lines):
    return [int(line.split()[1]) for line in lines if line.startswith("saved")]


def check_losses(lines, want, steps, what):
    found = losses(lines)
    check(list(found) == list(steps), what, f"steps {list(found)}")
    worst = max(abs(float(found[s]) - float(want[s])) for s in steps)
    check(worst <= TOLERANCE, f"{what}: losses differ by {worst}",
          *[f"{s}: {found[s]} {want[s]}" for s in steps])


def main():
    lab = Lab(300)
    alone = start("dp=1", "--steps", "24")
    lost = start("dp=1", RETILE_DIR=str(lab.path), RETILE_LOAD="3")[0]
    mount = lab.mount(layout=SPEC)
    job = Job(lab, mount)
    log = lab.path / "log"

    four = "pp=1,dp=2,tp=2"
    job.wish('{"stop_after": 8, "deadline_s": 60}')
    first = job.run(four, "--steps", "24", "--save-every", "4", log=log)
    want = losses(lines_of(alone))
    told = lost.communicate(timeout=100)
    check(lost.returncode == 1 and "is gone" in told[1] and not told[0],
          "it began from nothing", lost.returncode, *told)
    check(list(want) == list(range(1, 25)), "24 losses", want)
    check_losses(first, want, range(1, 9), four)
    check(saves(first) == [4, 8], "stopped after a wish", *first)
    facts = [json.loads(line) for line in log.read_text().splitlines()]
    check([f["step"] for f in facts if "step" in f] == list(range(1, 9))
          and facts[1]["mesh"] == four, "JSON", *facts)

    job.change("version", "rollback", "1")
    again = job.run(four, "--steps", "24")
    check(losses(again) == {s: losses(first)[s] for s in range(5, 9)},
          "from step 4 again: not the same", *first, *again)
    check(lab.versions()[-1] == 4 and job.model(2) == job.model(4),
          "files of step 8, done again, differ", lab.versions())

    two = "pp=2,dp=1,tp=1"
    job.rescale(two)
    job.wish('{"stop_after": null, "deadline_s": 60}')
    lines = job.run(two, "--steps", "24")
    check_losses(lines, want, [9], "stopped at once")
    job.wish("")
    job.rescale(two)
    check_losses(job.run(two, "--steps", "16"), want, range(10, 17), two)

    eight = "pp=2,dp=2,tp=2"
    job.rescale(eight)
    job.request.unlink()
    check_losses(job.run(eight, "--steps", "24"), want, range(17, 25), eight)
    told = [e for e in mount.events() if e.get("level") != "notice"]
    check(not told, "ranks that hold the same wrote the same", *told)
    mount.unmount()
    lab.end_check()
    lab.done()
    print(f"24 steps on 4, 2 and 8 ranks: losses within {TOLERANCE} of one's")


if __name__ == "__main__":
    main()
