#!/usr/bin/env python3
"""Saves through a mount, by writers that know nothing of it.

    mount_save.py [--user] [PART-OF-A-NAME]...      only those parts (see PARTS)

  - files written by safetensors, torch, numpy, cp, rsync, tar, dd, mv, in any
    order, through maps, with fsync, truncate, rename: the version has exactly
    those bytes, by file and by tensor;
  - a save that is not right is refused whole; .retile/events names tensor and
    rank; mended, it is committed;
  - what a step, a generation and a budget allow.

Each in the classes passthrough, direct and buffered (RETILE_CLASSES); with
--user as an ordinary user.
"""
import ctypes
import errno
import json
import mmap
import os
import random
import shutil
import subprocess
import sys
import threading
import time

import numpy as np
import safetensors.numpy
from safetensors import safe_open

from mounted import (LIBC, Lab, become_user, check, classes, eventually, fails,
                     fallocate)

N_RANKS = 4
SHAPES = {  # name: shape, the dimension that tp cuts
    "emb": ((400, 32), 0),
    "up": ((256, 60), 0),
    "down": ((60, 256), 1),
    "norm": ((60,), None),
    "uneven": ((10, 7, 5), 0),
}
SPEC = """mesh: {tp: 4}
rules:
  - {match: emb, dims: [tp, ~]}
  - {match: up, dims: [tp, ~]}
  - {match: down, dims: [~, tp]}
  - {match: uneven, dims: [tp]}
  - {match: norm}
  - {match: 'optim.step', optional: true}
  - {match: 'extra.*', optional: true}
objects: {'*': {on_change: copy}}
"""


class State:
    """A model and its optimizer, different for each step."""

    def __init__(self, step):
        rng = np.random.default_rng(step)
        self.step = step
        self.groups = {"model": {}, "optim": {}}
        for name, (shape, _) in SHAPES.items():
            self.groups["model"][name] = rng.standard_normal(shape, np.float32)
            self.groups["optim"][f"optim.m.{name}"] = rng.standard_normal(shape)
        self.groups["optim"]["optim.step"] = np.array(step, np.int64)

    def whole(self):
        return {n: v for g in self.groups.values() for n, v in g.items()}

    def shard(self, name, rank):
        value = self.whole()[name]
        _, dim = SHAPES.get(name.removeprefix("optim.m."), (None, None))
        if dim is None:
            return value
        size = -(-value.shape[dim] // N_RANKS)
        index = [slice(None)] * value.ndim
        index[dim] = slice(rank * size, (rank + 1) * size)
        return np.ascontiguousarray(value[tuple(index)])

    def rank(self, rank):
        return {group: {name: self.shard(name, rank) for name in tensors}
                for group, tensors in self.groups.items()}


def write_plain(folder, state):
    """The save as a plain directory: what the others write again."""
    for rank in range(N_RANKS):
        place = folder / "ranks" / f"{rank:03d}"
        place.mkdir(parents=True)
        for group, tensors in state.rank(rank).items():
            safetensors.numpy.save_file(tensors, place / f"{group}.safetensors",
                                        metadata={"format": "pt"})
        (place / "rng.bin").write_bytes(random.Random(state.step + rank)
                                        .randbytes(5000 + rank))
    write_position(folder, state.step)


def write_position(folder, step):
    (folder / "retile.json").write_text(
        json.dumps({"step": step, "samples": 32 * step}))


class Saves:
    """A mount, the steps saved through it, and copies of them outside."""

    def __init__(self, lab, mount):
        self.lab, self.mount, self.step = lab, mount, 0

    def new(self):
        """The next step: a plain copy of it outside, and its STEP.tmp."""
        self.step += 1
        state = State(self.step)
        plain = self.lab.path / "plain" / str(self.step)
        plain.mkdir(parents=True)
        write_plain(plain, state)
        tmp = self.mount.save() / f"{self.step}.tmp"
        tmp.mkdir()
        return state, plain, tmp

    def commit(self, tmp):
        final = tmp.with_suffix("")
        os.rename(tmp, final)
        check(final.is_dir() and not tmp.exists(), "the step was not renamed")
        return int(os.getxattr(final, "user.retile.version"))

    def check_version(self, number, state, plain):
        """Version @number is @state, byte for byte, in every view of it."""
        shown = self.mount.path / "versions" / str(number)
        check(os.readlink(self.mount.path / "current") == f"versions/{number}",
              "current is another version")
        for rank in range(N_RANKS):
            for group, tensors in state.rank(rank).items():
                path = shown / "ranks" / f"{rank:03d}" / f"{group}.safetensors"
                with safe_open(path, framework="np") as file:
                    check(set(file.keys()) == set(tensors), path, "names")
                    for name, want in tensors.items():
                        check(np.array_equal(file.get_tensor(name), want),
                              path, f"{name} differs")
        for name, want in state.whole().items():
            got = np.load(shown / "npy" / f"{name}.npy", mmap_mode="r")
            check(got.dtype == want.dtype and np.array_equal(got, want),
                  f"npy/{name} differs")
        for rank in range(N_RANKS):
            part = f"ranks/{rank:03d}/rng.bin"
            if (plain / part).exists():
                check((shown / part).read_bytes() ==
                      (plain / part).read_bytes(), f"{part} differs")
        check(json.loads((shown / "retile.json").read_text())["step"] ==
              state.step, "retile.json differs")

    def check_step(self, tmp, number):
        """STEP leads into the version, and nobody can change it."""
        step = tmp.with_suffix("")
        part = "ranks/001/model.safetensors"
        path = step / part
        check(path.resolve() == self.mount.path.resolve() / "versions" /
              str(number) / part, "the saved step leads elsewhere",
              path.resolve())
        check(all(entry.is_symlink() for entry in os.scandir(step)),
              "not all in a saved step are links", *os.listdir(step))
        fails("writing into a sealed step", errno.EROFS,
              (step / "new").write_bytes, b"x")
        fails("removing from a sealed step", errno.EROFS, os.unlink, path)
        fails("opening a sealed file to write", errno.EROFS, os.open, path,
              os.O_WRONLY)


# How files are written.  Each gets what to write (a plain directory) and the
# STEP.tmp to write it to.

def files_of(plain):
    return sorted(p.relative_to(plain) for p in plain.rglob("*")
                  if p.is_file())


def run(*args, **more):
    found = subprocess.run(args, capture_output=True, text=True, timeout=60,
                           **more)
    check(found.returncode == 0, " ".join(map(str, args)), found.stderr)


def per_file(write):
    """A writer of one file, (data, path), as a writer of a directory."""
    def writer(plain, tmp):
        for part in files_of(plain):
            (tmp / part).parent.mkdir(parents=True, exist_ok=True)
            write((plain / part).read_bytes(), tmp / part)
    writer.__name__ = write.__name__
    return writer


def by_safetensors(plain, tmp):
    state = State(int(plain.name))
    for rank in range(N_RANKS):
        place = tmp / "ranks" / f"{rank:03d}"
        place.mkdir(parents=True)
        for group, tensors in state.rank(rank).items():
            safetensors.numpy.save_file(tensors, place / f"{group}.safetensors")
        shutil.copy(plain / f"ranks/{rank:03d}/rng.bin", place)
    write_position(tmp, state.step)


def by_torch(plain, tmp):
    try:
        import torch
        from safetensors.torch import save_file
    except ImportError:
        print("  (no torch)")
        return by_safetensors(plain, tmp)
    state = State(int(plain.name))
    for rank in range(N_RANKS):
        place = tmp / "ranks" / f"{rank:03d}"
        place.mkdir(parents=True)
        for group, tensors in state.rank(rank).items():
            save_file({n: torch.from_numpy(v) for n, v in tensors.items()},
                      place / f"{group}.safetensors", metadata={"format": "pt"})
        torch.save({"rng": torch.arange(100) + rank, "epoch": 3},
                   place / "rng.bin")
        check(torch.load(place / "rng.bin")["rng"][0] == rank, "torch.load")
        shutil.copy(place / "rng.bin", plain / f"ranks/{rank:03d}/rng.bin")
    write_position(tmp, state.step)


def by_numpy_save(plain, tmp):
    by_safetensors(plain, tmp)
    for rank in range(N_RANKS):
        path = tmp / f"ranks/{rank:03d}/rng.bin"
        with open(path, "wb") as file:  # np.save seeks and tells
            np.save(file, np.arange(777) + rank)
        check(np.load(path, mmap_mode="r")[0] == rank, "np.load")
        shutil.copy(path, plain / f"ranks/{rank:03d}/rng.bin")


def by_cp(plain, tmp):
    run("cp", "-r", f"{plain}/.", tmp)


def by_cp_sparse(plain, tmp):
    run("cp", "-r", "--sparse=always", f"{plain}/.", tmp)


def by_rsync(plain, tmp):
    if shutil.which("rsync") is None:
        print("  (no rsync)")
        return by_cp(plain, tmp)
    run("rsync", "-a", f"{plain}/", tmp)
    run("rsync", "-a", "--checksum", "--delete", f"{plain}/", tmp)


def by_rsync_inplace(plain, tmp):
    by_cp(plain, tmp)
    path = tmp / "ranks/002/model.safetensors"
    with open(path, "r+b") as file:
        file.seek(9000)
        file.write(b"wrong" * 100)
    if shutil.which("rsync") is None:
        print("  (no rsync)")
        return by_cp(plain, tmp)
    run("rsync", "-a", "--checksum", "--inplace", "--no-whole-file",
        f"{plain}/", tmp)


def by_tar(plain, tmp):
    run("bash", "-c", 'tar -C "$1" -c . | tar -C "$2" -x', "tar", plain, tmp)


@per_file
def by_dd_out_of_order(data, path):
    path.touch()
    blocks = list(range(-(-len(data) // 40_000)))
    random.Random(1).shuffle(blocks)
    for i in blocks:
        run("dd", "bs=40000", f"seek={i}", "conv=notrunc", "status=none",
            f"of={path}", input=None, stdin=piped(
                data[i * 40_000:(i + 1) * 40_000]))


def piped(data):
    """@data to be read from a pipe."""
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)

    def fill():
        with open(writer, "wb") as file:
            file.write(data)
    threading.Thread(target=fill).start()
    return os.fdopen(reader, "rb")


@per_file
def by_dd_append(data, path):
    half = len(data) // 2
    for part in (data[:half], data[half:]):
        run("dd", "iflag=fullblock", "bs=30000", "oflag=append",
            "conv=notrunc,fsync", "status=none", f"of={path}",
            stdin=piped(part))


def by_mv(plain, tmp):
    """From outside, and under another name first."""
    other = plain.parent / "moved"
    shutil.copytree(plain, other)
    for part in other.iterdir():
        run("mv", part, tmp)
    other.rmdir()
    os.rename(tmp / "ranks/003", tmp / "three")
    os.rename(tmp / "ranks", tmp / "all")
    (tmp / "ranks").mkdir()
    for rank in range(3):
        os.rename(tmp / f"all/{rank:03d}", tmp / f"ranks/{rank:03d}")
    os.rename(tmp / "three", tmp / "ranks/003")
    os.rmdir(tmp / "all")


@per_file
def by_rename(data, path):
    """As safetensors and DCP do: another name, fsync, rename over; what was
    there before is held open, by a reader and a map."""
    path.write_bytes(b"an earlier one" * 1000)
    with open(path, "rb") as file, \
            mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as shared:
        other = path.parent / f".{path.name}.tmp"
        with open(other, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        os.rename(other, path)
        fd = os.open(path.parent, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        check(shared[:14] == file.read(14) == b"an earlier one", "the old one")


@per_file
def by_map(data, path):
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.ftruncate(fd, len(data))
    with mmap.mmap(fd, len(data)) as shared:
        for at in reversed(range(0, len(data), 10_000)):
            shared[at:at + 10_000] = data[at:at + 10_000]
    os.close(fd)


@per_file
def by_pwrite_out_of_order(data, path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    starts = list(range(0, len(data), 5003))
    random.Random(2).shuffle(starts)
    for i, at in enumerate(starts):
        os.pwrite(fd, data[at:at + 5003], at)
        if i % 7 == 0:
            os.fdatasync(fd)
    os.close(fd)


@per_file
def by_threads(data, path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    quarter = len(data) // 4 + 1
    threads = [threading.Thread(target=os.pwrite,
                                args=(fd, data[at:at + quarter], at))
               for at in range(0, len(data), quarter)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    os.close(fd)


@per_file
def by_append_and_truncate(data, path):
    with open(path, "ab", buffering=1000) as file:
        file.write(data + b"too much")
    os.truncate(path, len(data))


@per_file
def by_fallocate(data, path):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    fallocate(fd, 0, 0, len(data) + 10_000)
    os.pwrite(fd, b"x" * len(data), 0)
    fallocate(fd, 3, 0, len(data) // 2)
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, len(data))
    os.close(fd)


@per_file
def by_second_try(data, path):
    """A first file was removed while it was open, and is still written."""
    first = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.write(first, data[:100])
    os.unlink(path)
    os.write(first, b"nobody sees this")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, data)
    os.close(fd)
    check(os.pread(first, 50, min(100, len(data))) == b"nobody sees this", "an unlinked file")
    os.close(first)


def by_processes(plain, tmp):
    """A process per rank, all at once, and the parent commits."""
    children = []
    (tmp / "ranks").mkdir()
    for rank in range(N_RANKS):
        pid = os.fork()
        if pid == 0:
            name = f"ranks/{rank:03d}"
            shutil.copytree(plain / name, tmp / name)
            os._exit(0)
        children.append(pid)
    for pid in children:
        check(os.waitpid(pid, 0)[1] == 0, "a rank failed")
    shutil.copy(plain / "retile.json", tmp)


WRITERS = [by_safetensors, by_torch, by_numpy_save, by_cp, by_cp_sparse, by_rsync,
           by_rsync_inplace, by_tar, by_dd_out_of_order, by_dd_append, by_mv,
           by_rename, by_map, by_pwrite_out_of_order, by_threads,
           by_append_and_truncate, by_fallocate, by_second_try, by_processes]


def writers(lab, options):
    """Every writer's save becomes a version of its bytes."""
    mount = lab.mount(*options, layout=lab.spec)
    check(not (mount.gen() / "load").exists(), "there is something to load")
    saves = Saves(lab, mount)
    for writer in WRITERS:
        try:
            state, plain, tmp = saves.new()
            writer(plain, tmp)
            # It reads as it was written while it is being written, too.
            for part in files_of(plain):
                if part.suffix != ".safetensors" or writer is by_cp:
                    check((tmp / part).read_bytes() ==
                          (plain / part).read_bytes(), f"{part} differs")
            number = saves.commit(tmp)
            saves.check_version(number, state, plain)
            saves.check_step(tmp, number)
        except (AssertionError, OSError, RuntimeError) as e:
            print(*mount.events(), sep="\n", file=sys.stderr)
            raise AssertionError(f"{writer.__name__}: {e!r}") from e
        print(f"  ok: {writer.__name__}")
    # What is in the store is what a convert of the plain directory says it is.
    shown = mount.path / "versions" / str(number)
    lab.retile("verify", str(plain), str(shown), "--from", str(lab.spec))
    check(len(lab.versions()) == len(WRITERS), "versions", lab.versions())
    eventually("staging is cleared", lambda: not any(
        (lab.store / "staging" / f"save.{lab.job}" / str(step)).exists()
        for step in range(1, saves.step + 1)))
    lab.retile("store", "scrub", str(lab.store))
    mount.unmount()


# Saves that are not right.

def told(mount, before, *words):
    """An event that was not among those @before has all these words."""
    texts = [json.dumps(event) for event in mount.events()
             if event not in before]
    check(any(all(word in text for word in words) for text in texts),
          f"no event says {words}", *texts)


def rewrite(tmp, state, rank, group, change):
    """Write a rank's file again, after @change of its tensors."""
    tensors = dict(state.rank(rank)[group])
    change(tensors)
    path = tmp / f"ranks/{rank:03d}/{group}.safetensors"
    safetensors.numpy.save_file(tensors, path)


def snapshot(tmp):
    return {str(p.relative_to(tmp)): p.read_bytes()
            for p in tmp.rglob("*") if p.is_file()}


def drop_tensor(name):
    return lambda tensors: tensors.pop(name)


def as_type(name, dtype):
    def change(tensors):
        tensors[name] = tensors[name].astype(dtype)
    return change


def of_shape(name, shape):
    def change(tensors):
        tensors[name] = np.zeros(shape, tensors[name].dtype)
    return change


def cut_file(tmp, state):
    path = tmp / "ranks/001/optim.safetensors"
    os.truncate(path, path.stat().st_size - 100)


def other_step(tmp, state):
    safetensors.numpy.save_file(state.rank(2)["model"],
                                tmp / "ranks/002/model.safetensors",
                                metadata={"format": "pt", "step": "9999"})


def spoil(rank, group, change):
    return lambda tmp, state: rewrite(tmp, state, rank, group, change)


def remove(part):
    return lambda tmp, state: os.unlink(tmp / part)


def remove_group(tmp, state):
    for rank in range(N_RANKS):
        os.unlink(tmp / f"ranks/{rank:03d}/optim.safetensors")


def position_of(text):
    return lambda tmp, state: (tmp / "retile.json").write_text(text)


REFUSED = [  # what is done to a good save, what the events must name
    ("a box that nobody wrote", spoil(2, "model", drop_tensor("up")),
     ["up", "2"]),
    ("a wrong dtype", spoil(1, "model", as_type("down", np.float64)),
     ["down", "001"]),
    ("a wrong shape", spoil(3, "model", of_shape("emb", (99, 32))),
     ["emb", "003"]),
    ("a tensor of another group",
     spoil(0, "model", lambda t: t.update({"optim.m.up": t.pop("up")})),
     ["up"]),
    ("a group that is missing", remove_group, ["optim"]),
    ("a rank's file that is missing",
     remove("ranks/002/model.safetensors"), ["2"]),
    ("a rank's object that is missing", remove("ranks/002/rng.bin"),
     ["rng.bin", "2"]),
    ("a file that is cut short", cut_file, ["ranks/001/optim.safetensors"]),
    ("a file that says it is of another step", other_step, ["9999", "002"]),
    ("retile.json of another step", position_of('{"step": 9999, "samples": 1}'),
     ["9999"]),
    ("retile.json that is none", position_of('{"step": '), ["retile.json"]),
]


def refusals(lab, options):
    """A save that is not right: EINVAL, told, unchanged, mended, committed."""
    mount = lab.mount(*options, layout=lab.spec)
    saves = Saves(lab, mount)
    state, plain, tmp = saves.new()
    # The first save has no parent to compare with, but its layout.
    by_cp(plain, tmp)
    rewrite(tmp, state, 2, "model", drop_tensor("up"))
    fails("the first save without a box", errno.EINVAL, saves.commit, tmp)
    rewrite(tmp, state, 2, "model", lambda tensors: None)
    parent = saves.commit(tmp)
    for what, spoil_it, words in REFUSED:
        state, plain, tmp = saves.new()
        by_cp(plain, tmp)
        spoil_it(tmp, state)
        before, events = snapshot(tmp), mount.events()
        fails(what, errno.EINVAL, os.rename, tmp, tmp.with_suffix(""))
        check(snapshot(tmp) == before, f"{what}: the refused save was changed")
        check(lab.versions()[-1] == parent, f"{what}: a version was made")
        told(mount, events, *words)
        by_cp(plain, tmp)
        parent = saves.commit(tmp)
        saves.check_version(parent, state, plain)
        print(f"  ok: {what}")
    mount.unmount()


def steps(lab, options):
    """Which steps there may be, and what their names may do."""
    mount = lab.mount(*options, layout=lab.spec)
    saves = Saves(lab, mount)
    folder = mount.save()
    for name in ("x", "1", "01.tmp", "-1.tmp", "1.tmp.tmp", "0x1.tmp",
                 "99999999999999999999.tmp", ".tmp"):
        fails(f"mkdir {name}", errno.EINVAL, os.mkdir, folder / name)
    state, plain, tmp = saves.new()
    fails("a second step", errno.EBUSY, os.mkdir, folder / "2.tmp")
    fails("the same step", errno.EEXIST, os.mkdir, tmp)
    fails("another name", errno.EINVAL, os.rename, tmp, folder / "2")
    fails("elsewhere", errno.EINVAL, os.rename, tmp, tmp / "ranks")
    by_cp(plain, tmp)
    fails("a step that is not empty", errno.ENOTEMPTY, os.rmdir, tmp)
    saves.commit(tmp)
    fails("a step that was saved", errno.EEXIST, os.mkdir, tmp)
    saves.step = 9
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    saves.commit(tmp)
    fails("a smaller step", errno.EINVAL, os.mkdir, folder / "5.tmp")
    fails("step 0", errno.EINVAL, os.mkdir, folder / "0.tmp")
    # One that is given up.
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    shutil.rmtree(tmp)
    check(sorted(os.listdir(folder)) == ["1", "10"], os.listdir(folder))
    os.mkdir(folder / "11.tmp")
    os.rmdir(folder / "11.tmp")
    # Files outside of steps.
    for path in (folder / "file", mount.gen() / "file", mount.path / "file",
                 mount.path / "versions" / "file"):
        fails(f"making {path}", (errno.EROFS, errno.EPERM, errno.EACCES,
                                 errno.EINVAL), path.write_bytes, b"x")
    mount.unmount()


class SharedMap:
    """Unlike mmap.mmap it keeps no descriptor."""

    def __init__(self, fd):
        self.size = os.fstat(fd).st_size
        LIBC.mmap.restype = ctypes.c_void_p
        self.at = LIBC.mmap(None, ctypes.c_size_t(self.size),
                            mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED,
                            fd, ctypes.c_int64(0))
        check(self.at != ctypes.c_void_p(-1).value, "cannot map")

    def byte(self, offset):
        return ctypes.string_at(self.at + offset, 1)[0]

    def close(self):
        LIBC.munmap(ctypes.c_void_p(self.at), ctypes.c_size_t(self.size))


def still_written(lab, options):
    """A file that somebody can still write: EBUSY in time, then committed."""
    mount = lab.mount(*options, "-o", "commit_wait=1", layout=lab.spec)
    saves = Saves(lab, mount)
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    path = tmp / "ranks/001/model.safetensors"
    for what in ("a handle", "a map"):
        events = mount.events()
        fd = os.open(path, os.O_RDWR)
        shared = None
        if what == "a map":
            shared = SharedMap(fd)
            os.close(fd)
        begin = time.monotonic()
        fails(what, errno.EBUSY, os.rename, tmp, tmp.with_suffix(""))
        took = time.monotonic() - begin
        check(0.5 < took < 5, f"{what}: answered after {took:.1f} s")
        told(mount, events, "ranks/001/model.safetensors")
        if shared is not None:
            ctypes.memset(shared.at + 9000, shared.byte(9000), 1)  # still ours
            shared.close()
        else:
            os.pwrite(fd, os.pread(fd, 4, 9000), 9000)
            os.close(fd)
    # Who closes while the rename waits.
    fd = os.open(path, os.O_RDWR)
    threading.Timer(0.3, os.close, (fd,)).start()
    # Readers do not matter.
    reader = open(path, "rb")
    number = saves.commit(tmp)
    saves.check_version(number, state, plain)
    check(reader.read() == (plain / "ranks/001/model.safetensors").read_bytes(),
          "a reader of the staged file")
    reader.close()
    mount.unmount()


def replicas(lab, options):
    """Two ranks that wrote different bytes: told, or refused."""
    mount = lab.mount(*options, layout=lab.spec)
    saves = Saves(lab, mount)
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)

    def spoil_norm(tensors):
        tensors["norm"] = tensors["norm"] + 1
    rewrite(tmp, state, 3, "model", spoil_norm)
    number = saves.commit(tmp)
    eventually("the difference is told", lambda: any(
        "norm" in json.dumps(e) for e in mount.events()),
        lambda: mount.events())
    got = np.load(mount.path / f"versions/{number}/npy/norm.npy")
    check(np.array_equal(got, state.whole()["norm"]), "not the lowest rank's")
    mount.unmount()
    mount = lab.mount(*options, "-o", "replicas=refuse", layout=lab.spec)
    saves = Saves(lab, mount)
    saves.step = 1
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    rewrite(tmp, state, 3, "model", spoil_norm)
    events = mount.events()
    fails("replicas that differ", errno.EINVAL, saves.commit, tmp)
    told(mount, events, "norm", "3")
    rewrite(tmp, state, 3, "model", drop_tensor("norm"))  # it need not have it
    number = saves.commit(tmp)
    saves.check_version(number, state, plain)
    mount.unmount()


def generations(lab, options):
    """A rescale from outside: the next generation, and EROFS for the old."""
    mount = lab.mount(*options, layout=lab.spec)
    saves = Saves(lab, mount)
    check(os.readlink(mount.path / "gen/current") == "1", "the first is 1")
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    number = saves.commit(tmp)
    check(os.readlink(mount.path / "gen/current") == "1", "a save is no start")
    old_gen = mount.gen()
    _, plain2, tmp2 = saves.new()
    by_cp(plain2, tmp2)
    fd = os.open(tmp2 / "ranks/000/model.safetensors", os.O_RDWR)
    lab.of_job("rescale", "--to", str(lab.spec2))
    eventually("the next generation", lambda: os.readlink(
        mount.path / "gen/current") == "2")
    gen = mount.gen()
    check(os.readlink(gen / "load") == f"../../versions/{number + 1}",
          os.readlink(gen / "load"))
    check(sorted(os.listdir(gen / "load/ranks")) == ["000", "001"], "2 ranks")

    def is_dropped():
        return not tmp2.exists()
    eventually("the open save is dropped", is_dropped)
    fails("a revoked generation's mkdir", errno.EROFS,
          os.mkdir, old_gen / "save/3.tmp")
    fails("opening for writing in it", (errno.EROFS, errno.ENOENT), os.open,
          tmp2 / "new", os.O_WRONLY | os.O_CREAT)
    fails("its commit", (errno.EROFS, errno.ENOENT), os.rename, tmp2,
          tmp2.with_suffix(""))
    check(os.pread(fd, 8, 0), "what is open stays readable")
    os.close(fd)
    told(mount, [], "2")
    # The new one goes on, under its own layout.
    tmp = gen / "save/5.tmp"
    tmp.mkdir()
    half = State(5)
    for rank in range(2):
        place = tmp / f"ranks/{rank:03d}"
        place.mkdir(parents=True)
        for group, tensors in half.groups.items():
            mine = {}
            for name, value in tensors.items():
                dim = SHAPES.get(name.removeprefix("optim.m."), (0, None))[1]
                mine[name] = value if dim is None else np.ascontiguousarray(
                    np.array_split(value, 2, axis=dim)[rank])
            safetensors.numpy.save_file(mine, place / f"{group}.safetensors")
        (place / "rng.bin").write_bytes(b"rng")
    write_position(tmp, 5)
    os.rename(tmp, gen / "save/5")
    for name, want in half.whole().items():
        got = np.load(mount.path / f"current/npy/{name}.npy")
        check(np.array_equal(got, want), f"{name} differs")
    mount.unmount()


def expiry(lab, options):
    """A save that nobody goes on with is removed, one that is written is not."""
    mount = lab.mount(*options, "-o", "save_expire=1", layout=lab.spec)
    saves = Saves(lab, mount)
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    eventually("the abandoned save expires", lambda: not tmp.exists())
    eventually("that is told", lambda: any(
        "1" in json.dumps(e) for e in mount.events()), mount.events)
    eventually("its files are gone", lambda: not any(
        p.name == "model.safetensors"
        for p in (lab.store / "staging").rglob("*")))
    state, plain, tmp = saves.new()
    for part in files_of(plain):  # slowly, but on and on
        (tmp / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(plain / part, tmp / part)
        time.sleep(0.2)
    saves.check_version(saves.commit(tmp), state, plain)
    mount.unmount()


def objects_and_groups(lab, options):
    """A save may bring objects and groups, and leave out job objects."""
    mount = lab.mount(*options, layout=lab.spec)
    saves = Saves(lab, mount)
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    (tmp / "config.json").write_text('{"a": 1}')
    saves.commit(tmp)
    check((mount.path / "current/config.json").read_text() == '{"a": 1}', "")
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    for rank in range(N_RANKS):
        safetensors.numpy.save_file({"extra.mean": np.arange(9.0)},
                                    tmp / f"ranks/{rank:03d}/stats.safetensors")
    number = saves.commit(tmp)
    shown = mount.path / f"versions/{number}"
    check((shown / "config.json").read_text() == '{"a": 1}',
          "the parent's object")
    check(np.array_equal(np.load(shown / "npy/extra.mean.npy"), np.arange(9.0)),
          "a new group")
    # Without retile.json: a version that knows its step, but no position.
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    for rank in range(N_RANKS):
        safetensors.numpy.save_file({"extra.mean": np.arange(9.0) + 1},
                                    tmp / f"ranks/{rank:03d}/stats.safetensors")
    os.unlink(tmp / "retile.json")
    number = saves.commit(tmp)
    check(not (mount.path / f"versions/{number}/retile.json").exists(),
          "retile.json of another step")
    mount.unmount()


def budget(lab, options):
    """ENOSPC before damage: the store's budget bounds what a save may take."""
    lab.retile("store", "init", str(lab.path / "small"), "--budget", "3MiB")
    where, lab.where = lab.where, ["--store", str(lab.path / "small"), "--job",
                                   lab.job]
    mount = lab.mount(*options, layout=lab.spec)
    saves = Saves(lab, mount)
    state, plain, tmp = saves.new()
    by_cp(plain, tmp)
    junk = tmp / "junk"

    def fill():  # a passed-through handle knows no budget, so a new one each
        for _ in range(200):
            with open(junk, "ab", buffering=0) as file:
                file.write(bytes(100_000))
            time.sleep(0.01)
    fails("writing more than the budget has", errno.ENOSPC, fill)
    check(junk.stat().st_size < 8 << 20, junk.stat().st_size)
    if not options:  # passed through: it is past the budget
        fails("nor can it be committed", errno.ENOSPC, os.rename, tmp,
              tmp.with_suffix(""))
    junk.unlink()
    eventually("there is room again", lambda: can_write(tmp / "try"))
    with open(junk, "wb", buffering=0) as held:
        def go_on():
            for _ in range(200):
                held.write(bytes(100_000))
        if options:
            fails("a write through us that passes it", errno.ENOSPC, go_on)
        else:  # the kernel writes past us: all that is new is refused
            go_on()
            time.sleep(0.3)
            fails("a new file", errno.ENOSPC, (tmp / "new").write_bytes, b"x")
            fails("the file again", errno.ENOSPC, open, junk, "ab")
            fails("a commit", errno.ENOSPC, os.rename, tmp,
                  tmp.with_suffix(""))
    junk.unlink()
    eventually("there is room again", lambda: can_write(tmp / "try"))
    (tmp / "try").unlink()
    versions = []

    def is_committed():  # the kernel may still know the file that was removed
        try:
            versions.append(saves.commit(tmp))
        except OSError as error:
            check(error.errno == errno.ENOSPC, error)
        return versions
    eventually("the removed file's room is free", is_committed)
    saves.check_version(versions[0], state, plain)
    mount.unmount()
    lab.where = where


def can_write(path):
    try:
        path.write_bytes(b"x" * 10_000)
    except OSError:
        return False
    return True


PARTS = [writers, refusals, steps, still_written, replicas, generations, expiry,
         objects_and_groups, budget]
IN_EVERY_CLASS = [writers, still_written, budget]


def main():
    become_user()
    only = [a for a in sys.argv[1:] if not a.startswith("--")]
    for i, (name, options) in enumerate(classes()):
        for part in PARTS:
            if only and not any(word in part.__name__ for word in only):
                continue
            if i > 0 and part not in IN_EVERY_CLASS:
                continue
            print(f"{part.__name__}, {name}", flush=True)
            begin = time.monotonic()
            lab = Lab(100)
            lab.spec, lab.spec2 = lab.path / "four.yaml", lab.path / "two.yaml"
            lab.spec.write_text(SPEC)
            lab.spec2.write_text(SPEC.replace("tp: 4", "tp: 2"))
            part(lab, options)
            lab.end_check()
            lab.done()
            print(f"  {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
