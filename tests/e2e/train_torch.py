#!/usr/bin/env python3
"""examples/train_torch.py, rolled back, does its steps again as they were, and is
rescaled to more ranks.

    train_torch.py
"""
import os
import pathlib
import subprocess
import sys

from mounted import Lab, check

SOURCE = pathlib.Path(os.environ["RETILE_SOURCE"])
SCRIPT = SOURCE / "examples" / "train_torch.py"
SPEC = SOURCE / "examples" / "train_torch.yaml"


def train(mount, ranks, steps):
    done = subprocess.run(
        [sys.executable, "-B", SCRIPT, mount, "--ranks", str(ranks), "--steps",
         str(steps), "--every", "4"], timeout=100, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    check(done.returncode == 0, f"exit {done.returncode}", done.stderr)
    return done.stdout.splitlines()


def main():
    lab = Lab(400)
    mount = lab.mount(layout=SPEC)
    want = train(mount.path, 2, 8)
    check(len(want) == 8 and lab.versions() == [1, 2], "saves", *want)
    lab.of_job("version", "rollback", "1")
    check(train(mount.path, 2, 4) == want[4:], "two ranks, from step 4 again")

    three = lab.path / "three.yaml"
    three.write_text(SPEC.read_text().replace("dp: 2", "dp: 3"))
    lab.of_job("rescale", "--to", str(three))
    ranks = mount.path / "gen/current/load/ranks"
    for name in "model.safetensors", "optim.safetensors", "rng.pt":
        check((ranks / "002" / name).read_bytes() ==
              (ranks / "000" / name).read_bytes(), name, "of a new rank")
    check((ranks / "001/rng.pt").read_bytes() !=
          (ranks / "000/rng.pt").read_bytes(), "random numbers are each rank's")
    mount.unmount()
    lab.end_check()
    lab.done()
    print("4 of 8 steps on 2 ranks done again: the same losses")


if __name__ == "__main__":
    main()
