#!/usr/bin/env python3
"""What becomes of versions that a mount has open, and of what it was asked for.

    mount_upkeep.py [--user] [PART-OF-A-NAME]...    only those parts (see PARTS)

  - a version that was compacted gives its old blobs back without an unmount,
    and whoever has a file of it open reads on;
  - with -o verify=read damaged bytes are an error, not data;
  - a job that the store does not know is an error, unless it is asked for;
  - commits while the store is locked, and while the mount ends, are answered.
"""
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time

import safetensors.numpy

from mount_save import (SPEC, Saves, State, by_cp, drop_tensor, rewrite,
                        write_plain)
from mounted import (RETILE, Lab, become_user, check, eventually, fails)


def imported(lab, step=1):
    """Version 1, from a plain directory."""
    plain = lab.path / f"in{step}"
    plain.mkdir()
    write_plain(plain, State(step))
    (plain / "layout.yaml").write_text(SPEC)
    lab.of_job("import", str(plain))
    return State(step)


def blob_bytes(lab):
    return sum(p.stat().st_size for p in (lab.store / "blobs").glob("*/*"))


def memory_returns(lab):
    """The blobs from before a compaction go once no handle is open."""
    state = imported(lab)
    mount = lab.mount()
    lab.of_job("rescale", "--to", str(lab.spec2))
    eventually("generation 2 begins", lambda: mount.gen().name == "2")
    eventually("version 1 is closed", lambda: lab.of_job(
        "version", "release", "1", code=None).returncode == 0)
    lab.retile("store", "sweep", str(lab.store))
    small = mount.path / "versions/2/ranks/001/model.safetensors"
    eventually("upkeep compacts", lambda:
               mount.status()["upkeep"]["compacted"] == 1)
    eventually("the old blobs go", lambda: blob_bytes(lab) < 1.5 * size_of(state),
               lambda: (blob_bytes(lab), size_of(state), mount.events()))
    check(safetensors.numpy.load_file(small)["emb"].tobytes() ==
          state.whole()["emb"][200:].tobytes(), "other bytes")
    lab.fsck()
    mount.unmount()


def size_of(state):
    return sum(v.nbytes for v in state.whole().values())


def open_handles_read_on(lab):
    """Another program compacts; a handle keeps what it opened."""
    state = imported(lab)
    mount = lab.mount("-o", "compact=off")
    lab.of_job("rescale", "--to", str(lab.spec2))
    path = mount.path / "versions/2/ranks/001/model.safetensors"
    file = open(path, "rb")
    want = file.read()
    eventually("version 1 is closed", lambda: lab.of_job(
        "version", "release", "1", code=None).returncode == 0)
    lab.retile("store", "compact", str(lab.store), lab.job)
    lab.retile("store", "sweep", str(lab.store))
    time.sleep(6)  # manifests are looked at every 5 s
    check(blob_bytes(lab) > 1.8 * size_of(state), "the handle's blobs went")
    file.seek(0)
    check(file.read() == want, "the handle has other bytes")
    check(path.read_bytes() == want, "the path has other bytes")
    file.close()
    eventually("the old blobs go", lambda: blob_bytes(lab) < 1.5 * size_of(state),
               lambda: (blob_bytes(lab), size_of(state), mount.events()))
    check(path.read_bytes() == want, "other bytes afterwards")
    check(any(e["event"] == "store swept" for e in mount.events()),
          mount.events())
    lab.fsck()
    mount.unmount()


def flip(lab, data):
    """Flip a bit of @data, wherever the store has it."""
    for path in (lab.store / "blobs").glob("*/*"):
        at = path.read_bytes().find(data)
        if at >= 0:
            path.chmod(0o600)
            with open(path, "r+b") as file:
                file.seek(at + len(data) // 2)
                byte = file.read(1)[0]
                file.seek(at + len(data) // 2)
                file.write(bytes([byte ^ 4]))
            path.chmod(0o400)
            return
    raise AssertionError("no blob has these bytes")


def damage_is_told(lab):
    state = imported(lab)
    flip(lab, state.shard("up", 1).tobytes())
    flip(lab, (lab.path / "in1/ranks/002/rng.bin").read_bytes())
    mount = lab.mount("-o", "verify=read")
    shown = mount.path / "versions/1"
    check("passthrough" not in mount.status()["class"] and
          mount.status()["verify"] == "read", mount.status())
    for path in ("npy/up.npy", "ranks/001/model.safetensors",
                 "ranks/002/rng.bin"):
        fails(f"reading {path}", errno.EIO, (shown / path).read_bytes)
        events = [e for e in mount.events() if e["file"].endswith(path)]
        check(events and "@1" in events[-1]["reason"], mount.events())
    check(any(" up: " in e["reason"] for e in mount.events()), mount.events())
    good = shown / "ranks/000/model.safetensors"
    for _ in range(2):  # the second time nothing is digested
        check(safetensors.numpy.load_file(good)["up"].tobytes() ==
              state.shard("up", 0).tobytes(), "a good file differs")
    check((shown / "ranks/001/rng.bin").read_bytes() ==
          (lab.path / "in1/ranks/001/rng.bin").read_bytes(), "rng.bin differs")
    mount.unmount()
    mount = lab.mount()  # nobody asked: nothing is compared
    (mount.path / "versions/1/npy/up.npy").read_bytes()
    mount.unmount()


def undigested_is_told(lab):
    mount = lab.mount("-o", "verify=read,digest=off", layout=lab.spec)
    saves = Saves(lab, mount)
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    number = saves.commit(tmp)
    saves.check_version(number, state, plain)
    mount.unmount()


def unknown_job(lab):
    imported(lab)
    job, lab.where[3] = lab.where[3], "nett"

    def mount(*options):
        return subprocess.run(
            [RETILE, "mount", *lab.where, str(lab.mnt), *options],
            capture_output=True, text=True, timeout=60)
    refused = mount()
    check(refused.returncode == 3 and "nett" in refused.stderr and
          "net" in refused.stderr.split() and "-o new" in refused.stderr,
          refused)
    check(not (lab.store / "jobs/nett").exists(), "it is a job now")
    made = lab.mount("-o", "new")
    check(not (made.path / "current").exists() and
          os.listdir(made.path / "gen") != [], os.listdir(made.path))
    made.unmount()
    lab.where[3] = job


def mv_is_told_once(lab):
    """mv(1) asks twice where it was refused."""
    mount = lab.mount(layout=lab.spec)
    saves = Saves(lab, mount)
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    rewrite(tmp, state, 1, "model", drop_tensor("norm"))
    rewrite(tmp, state, 2, "model", drop_tensor("down"))
    moved = subprocess.run(["mv", tmp, tmp.with_suffix("")],
                           capture_output=True)
    check(moved.returncode != 0, "the save is not right")
    events = [(e["event"], e["reason"]) for e in mount.events()
              if e["level"] == "error"]
    check(len(set(events)) == len(events) > 1 and
          all("times" not in e for e in mount.events()), mount.events())
    check(mount.status()["saves"]["refused"] == 1, mount.status()["saves"])
    by_cp(plain, tmp)
    subprocess.run(["mv", tmp, tmp.with_suffix("")], check=True)
    check(lab.versions() == [1], lab.versions())
    mount.unmount()


def while_locked(lab):
    """Somebody changes the store for longer than a commit waits."""
    mount = lab.mount(layout=lab.spec)
    saves = Saves(lab, mount)
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    with open(lab.store / "lock", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        begin = time.monotonic()
        fails("a commit of a locked store", errno.EBUSY, os.rename, tmp,
              tmp.with_suffix(""))
        check(5 < time.monotonic() - begin < 25, time.monotonic() - begin)
    check("changing the store" in mount.events()[-1]["reason"],
          mount.events())
    saves.check_version(saves.commit(tmp), state, plain)
    mount.unmount()


def ends_while_committing(lab):
    """A commit that waits for a writer does not keep the mount from ending."""
    mount = lab.mount("-o", "commit_wait=600", layout=lab.spec)
    saves = Saves(lab, mount)
    _, plain, tmp = saves.new()
    by_cp(plain, tmp)
    found = []

    def commit():
        try:
            os.rename(tmp, tmp.with_suffix(""))
        except OSError as e:
            found.append(e.errno)
    writer = open(tmp / "late", "wb")
    thread = threading.Thread(target=commit)
    thread.start()
    time.sleep(0.5)
    os.kill(mount.pid, signal.SIGTERM)
    thread.join(10)
    check(found == [errno.EBUSY], found, thread.is_alive())
    try:
        writer.close()
    except OSError:
        pass
    eventually("the mount ends", lambda: lab.others() == [], lab.others)
    subprocess.run(["fusermount3", "-u", str(lab.mnt)], capture_output=True)


def few_threads(lab):
    """Two threads serve eight writers that a commit waits for."""
    mount = lab.mount("-o", "threads=2,mask=passthrough", layout=lab.spec)
    saves = Saves(lab, mount)
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    files = [open(tmp / f"late{i}", "wb", buffering=0) for i in range(8)]

    refused = []

    def write(file):
        try:
            for _ in range(50):
                file.write(bytes(100_000))
                time.sleep(0.01)
        except OSError as e:
            refused.append(e.errno)
        file.close()
    threads = [threading.Thread(target=write, args=(f,)) for f in files]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    begin = time.monotonic()
    number = saves.commit(tmp)
    check(time.monotonic() - begin < 5, time.monotonic() - begin)
    for thread in threads:
        thread.join()
    check(refused == [], refused)  # who is waited for may go on
    for i in range(8):
        size = (lab.mnt / "versions" / str(number) / f"late{i}").stat().st_size
        check(size == 50 * 100_000, i, size)
    saves.check_version(number, state, plain)
    mount.unmount()


PARTS = [memory_returns, open_handles_read_on, damage_is_told,
         undigested_is_told, unknown_job, mv_is_told_once, while_locked,
         ends_while_committing, few_threads]


def main():
    become_user()
    only = [a for a in sys.argv[1:] if not a.startswith("--")]
    for part in PARTS:
        if only and not any(word in part.__name__ for word in only):
            continue
        begin = time.monotonic()
        lab = Lab(100)
        lab.spec, lab.spec2 = lab.path / "four.yaml", lab.path / "two.yaml"
        lab.spec.write_text(SPEC)
        lab.spec2.write_text(SPEC.replace("tp: 4", "tp: 2"))
        part(lab)
        lab.end_check()
        lab.done()
        print(f"{part.__name__}: {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
