#!/usr/bin/env python3
"""examples/train_numpy.py, saved, killed and rescaled, trains as if nothing had
happened: its losses are those of an uninterrupted run, to the last bit.

    train.py
"""
import os
import pathlib
import subprocess
import sys

from mounted import Lab, check, children_of, eventually

SOURCE = pathlib.Path(os.environ["RETILE_SOURCE"])
SCRIPT = SOURCE / "examples" / "train_numpy.py"
SPEC = SOURCE / "examples" / "train_numpy.yaml"
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def train(mount, *options):
    return subprocess.Popen([sys.executable, "-B", SCRIPT, mount, *options],
                            env={**ENV, "RETILE_LAB": os.environ["RETILE_LAB"]},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)


def losses_of(process, code=0):
    out, err = process.communicate(timeout=60)
    check(process.returncode == code, f"exit {process.returncode}", out, err)
    return out.splitlines()


def run(mount, ranks, steps, every=5):
    return losses_of(train(mount, "--ranks", str(ranks), "--steps", str(steps),
                           "--every", str(every)))


def main():
    lab = Lab(150)
    two = lab.path / "two.yaml"
    two.write_text(SPEC.read_text().replace("tp: 4", "tp: 2"))

    # Uninterrupted, on a plain folder, which will do.
    plain = lab.path / "plain"
    (plain / "gen/1/save").mkdir(parents=True)
    (plain / "gen/current").symlink_to("1")
    want = run(plain, 1, 40)
    check(len(want) == 40, "losses", *want)

    mount = lab.mount(layout=SPEC)
    check(run(mount.path, 4, 10) == want[:10], "4 ranks, from nothing")
    check(lab.versions() == [1, 2], "saves", lab.versions())
    lab.of_job("rescale", "--to", str(two))
    check(run(mount.path, 2, 10) == want[10:20], "2 ranks, rescaled")

    # Rank 1 is killed in step 22 or later; the save of step 20 counts.
    lab.of_job("rescale", "--to", str(SPEC))
    doomed = train(mount.path, "--ranks", "4", "--steps", "100000", "--every",
                   "100000")
    for _ in range(3):
        check(doomed.stdout.readline() in [f"{line}\n" for line in want],
              "a doomed run's losses")
    os.kill(sorted(children_of(doomed.pid))[1], 9)
    losses_of(doomed, 1)
    check(run(mount.path, 4, 10) == want[20:30], "4 ranks, after a kill")

    # A mount that ends and comes again goes on, too.
    mount.unmount()
    lab.of_job("rescale", "--to", "hf")
    mount = lab.mount()
    check(run(mount.path, 1, 10) == want[30:], "1 rank, another mount")
    shown = mount.path / "current"
    lab.retile("verify", str(plain / "gen/1/save/40"), str(shown), "--from",
               "hf")
    eventually("saves are digested", lambda: lab.retile(
        "store", "scrub", str(lab.store), code=None).returncode == 0)
    mount.unmount()
    lab.end_check()
    lab.done()
    print("40 steps on 4, 2, 4 and 1 ranks: the losses of an uninterrupted run")


if __name__ == "__main__":
    main()
