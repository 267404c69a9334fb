#!/usr/bin/env python3
"""A convert that dies, fails or is stopped: DST is absent or complete.

    crash_convert.py [PART-OF-A-NAME]...     only those parts (see PARTS)

  - every named fault point that convert passes, at its 1st, 2nd, ... pass until a
    run gets through (the common ones thinned out), with every action;
  - SIGKILL at random moments (RETILE_SEED replays), SIGINT and SIGTERM;
  - a file system that is full, or has no room for another file;
  - two runs at once, and what a dead run may have left behind.
After each, DST is not there or equals what an undisturbed run writes, and a plain
run succeeds (or is refused because DST is there) and leaves no temporary
directory.
"""
import hashlib
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

RETILE = os.path.join(os.environ["RETILE_BIN"], "retile")
SPEC = """mesh: {pp: 2, tp: 3}
stages: {axis: pp, layer: 'h\\.(\\d+)\\.'}
rules:
  - {match: 'h.*.in.weight', dims: [tp, ~], stage: layer}
  - {match: 'h.*.out.weight', dims: [~, tp], stage: layer}
  - {match: 'h.*', stage: layer}
  - {match: '*'}
objects: {'*': {on_change: copy}}
"""
TMP = ".out.retile-tmp"
n_runs = 0


def fail(*what):
    sys.exit("FAIL " + "\n    ".join(map(str, what)))


def check(is_so, *what):
    if not is_so:
        fail(*what)


# The source.

def write_safetensors(path, tensors, sparse=False):
    """name -> shape, all F32.  @sparse: data are a hole."""
    header, at = {}, 0
    for name, shape in tensors.items():
        n = 4
        for length in shape:
            n *= length
        header[name] = {"dtype": "F32", "shape": shape,
                        "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if sparse:
            file.truncate(8 + len(text) + at)
        else:
            file.write(random.Random(1).randbytes(at))


def make_source(path):
    model = {}
    for n in range(4):
        model[f"h.{n}.in.weight"] = [300, 200]
        model[f"h.{n}.out.weight"] = [200, 301]
        model[f"h.{n}.norm"] = [200]
    model["emb.weight"] = [500, 200]
    path.mkdir()
    write_safetensors(path / "model.safetensors", model)
    write_safetensors(path / "optim.safetensors",
                      {f"optim.m.{name}": shape
                       for name, shape in model.items()})
    (path / "config.json").write_text('{"model_type": "none"}')
    (path.parent / "spec.yaml").write_text(SPEC)


# Running.

def command(top, *more, source="in"):
    return [RETILE, "convert", top / source, top / "out", "--to",
            top / "spec.yaml", "--threads", "2", "--memory", "2MiB", *more]


def environment(fault=None):
    env = {k: v for k, v in os.environ.items() if k != "RETILE_FAULT"}
    if fault is not None:
        env["RETILE_FAULT"] = fault
    return env


def convert(top, *more, fault=None, source="in"):
    global n_runs
    n_runs += 1
    return subprocess.run(command(top, *more, source=source),
                          env=environment(fault), capture_output=True,
                          text=True, timeout=120)


def digest(root):
    """Of names and bytes of a tree."""
    total = hashlib.blake2b()
    for path in sorted(root.rglob("*")):
        total.update(str(path.relative_to(root)).encode() + b"\0")
        if path.is_file():
            total.update(path.read_bytes())
    return total.hexdigest()


def is_one_line(done):
    lines = done.stderr.splitlines()
    return (len([l for l in lines if l.startswith("retile: convert: ")]) == 1
            and all(l.startswith(("retile: ", "hint: ")) for l in lines))


def absent_or_complete(top, wanted, what):
    """True when DST is there."""
    out = top / "out"
    if not os.path.lexists(out):
        return False
    check(digest(out) == wanted, what, "DST is there, but not complete")
    check(not (top / TMP).exists(), what, "DST and a temporary directory")
    return True


def plain_run(top, wanted, what):
    """A run without a fault puts everything right; then DST is removed."""
    was_there = os.path.lexists(top / "out")
    done = convert(top)
    if was_there:
        check(done.returncode == 1 and "exists" in done.stderr, what,
              "a present DST was not refused:", done.stderr)
    else:
        check(done.returncode == 0, what, "the next run failed:", done.stderr)
    check(digest(top / "out") == wanted, what, "the next run differs")
    check(not os.path.lexists(top / TMP), what, "a temporary directory is left")
    shutil.rmtree(top / "out")


# Named fault points.

def passes(point):
    """Which passes to try: all of rare points, fewer and fewer of others."""
    n = 1
    while True:
        yield n
        if point in ("io.read", "io.write", "io.open", "convert.block"):
            n += 1 + n // 8
        elif n > 300:
            fail(point, "more than 300 passes")
        else:
            n += 1


def after_crash(top, wanted, done, what):
    check(done.returncode == -signal.SIGKILL, what, done.returncode,
          done.stderr)
    absent_or_complete(top, wanted, what)
    plain_run(top, wanted, what)


def after_error(top, wanted, done, what):
    check(done.returncode == 1 and is_one_line(done), what, done.returncode,
          done.stderr)
    is_there = absent_or_complete(top, wanted, what)
    check(not os.path.lexists(top / TMP), what, "a temporary directory is left")
    if is_there:  # all was done but the last sync
        shutil.rmtree(top / "out")


def try_point(top, wanted, point, action, *more):
    """Fault it at each pass until a run gets through; how often it did not."""
    n_faults = 0
    for n in passes(point):
        what = f"{point}={action}@{n} {' '.join(more)}"
        done = convert(top, *more, fault=f"{point}={action}@{n}")
        if done.returncode == 0:
            check(digest(top / "out") == wanted, what, "exit 0, DST differs")
            check(not os.path.lexists(top / TMP), what, "temporary directory")
            shutil.rmtree(top / "out")
            if action != "short" or n > 60:
                return n_faults
            continue
        n_faults += 1
        if action == "crash":
            after_crash(top, wanted, done, what)
        else:
            after_error(top, wanted, done, what)


def fault_points(top, wanted):
    listed = subprocess.run([RETILE, "fault", "ls", "--json"], check=True,
                            capture_output=True, text=True).stdout
    points = [point["name"] for point in json.loads(listed)["points"]
              if not point["name"].startswith("store.")]  # see store.py
    passed = set()
    for point in points:
        for action in ("crash", "error", "nospace", "short"):
            if action == "short" and point not in ("io.read", "io.write"):
                continue
            n = try_point(top, wanted, point, action)
            if n:
                passed.add(point)
            print(f"{point}={action}: {n} passes", flush=True)
    n = try_point(top, wanted, "io.read", "error", "--verify")
    print(f"io.read=error with --verify: {n} passes", flush=True)
    # Those that belong to convert are really there.
    needed = {p for p in points if p.startswith(("convert.", "io."))}
    check(passed >= needed, "points that convert never passes:",
          needed - passed)


# From outside.

def random_kills(top, wanted):
    seed = int(os.environ.get("RETILE_SEED", time.time_ns() % 2**32))
    print(f"SIGKILL at random: RETILE_SEED={seed}", flush=True)
    rng = random.Random(seed)
    begin = time.monotonic()
    plain_run(top, wanted, "undisturbed")
    whole_s = time.monotonic() - begin
    n_killed = n_there = 0
    for n in range(40):
        child = subprocess.Popen(command(top), env=environment(),
                                 stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL)
        try:
            child.wait(timeout=rng.uniform(0, whole_s))
        except subprocess.TimeoutExpired:
            child.kill()
            n_killed += 1
        child.wait()
        what = f"kill {n} of seed {seed}"
        n_there += absent_or_complete(top, wanted, what)
        plain_run(top, wanted, what)
    print(f"{n_killed} of 40 killed, DST was there {n_there} times",
          flush=True)


def stop_once(top, signo):
    """Send @signo when data are being copied; the exit code."""
    child = subprocess.Popen(command(top, source="big"), env=environment(),
                             stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (top / TMP / "ranks").exists() and child.poll() is None:
        check(time.monotonic() < deadline, "no temporary directory")
        time.sleep(0.001)
    child.send_signal(signo)
    _, stderr = child.communicate(timeout=60)
    what = signal.Signals(signo).name
    if child.returncode == 0:  # it was past copying: all is there
        check((top / "out").exists(), what, "exit 0 without DST")
        shutil.rmtree(top / "out")
    else:
        check(child.returncode == 1, what, child.returncode, stderr)
        check(stderr.count("\n") == 1 and "interrupt" in stderr, what, stderr)
        check(not os.path.lexists(top / "out"), what, "DST is there")
    check(not os.path.lexists(top / TMP), what, "a temporary directory is left")
    return child.returncode


def stopped(top, _wanted):
    (top / "big").mkdir()
    write_safetensors(top / "big/model.safetensors", {
        "h.0.in.weight": [6000, 5000], "h.0.out.weight": [6000, 5000],
        "h.1.norm": [3], "emb.weight": [3]}, sparse=True)
    for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        codes = [stop_once(top, signo) for _ in range(3)]
        check(1 in codes, signal.Signals(signo).name, "came too late thrice")
    shutil.rmtree(top / "big")
    print("SIGINT, SIGTERM, SIGHUP: exit 1, nothing left", flush=True)


def on_tmpfs(top, options, needle, limit):
    """Convert onto a small tmpfs; then make it larger."""
    where = top / "small"
    where.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", where],
                      capture_output=True).returncode != 0:
        where.rmdir()
        return False
    try:
        (where / "spec.yaml").write_text(SPEC)
        (where / "in").symlink_to(top / "in")
        done = convert(where)
        what = f"tmpfs {options}"
        check(done.returncode == 1 and is_one_line(done), what,
              done.returncode, done.stderr)
        check(needle in done.stderr.lower(), what, done.stderr)
        check(sorted(os.listdir(where)) == ["in", "spec.yaml"], what,
              os.listdir(where))
        subprocess.run(["mount", "-o", "remount," + limit, where], check=True)
        done = convert(where)
        check(done.returncode == 0, what, "with room:", done.stderr)
    finally:
        subprocess.run(["umount", "-l", where], check=True)
        where.rmdir()
    return True


def full_disk(top, _wanted):
    if not (on_tmpfs(top, "size=2m", "free", "size=64m") and
            on_tmpfs(top, "size=64m,nr_inodes=12", "no space",
                     "nr_inodes=1000")):
        print("full file system: skipped, no tmpfs can be mounted")
        return
    print("full file system, no more inodes: refused, then done", flush=True)


def file_limit(top, wanted):
    """RLIMIT_FSIZE stands for a quota: writing fails in the middle."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    done = subprocess.run(command(top), env=environment(), preexec_fn=limit,
                          capture_output=True, text=True, timeout=120)
    check(done.returncode == 1 and is_one_line(done), "RLIMIT_FSIZE",
          done.returncode, done.stderr)
    check(sorted(os.listdir(top)) == ["in", "spec.yaml"], "RLIMIT_FSIZE",
          os.listdir(top))
    plain_run(top, wanted, "RLIMIT_FSIZE")
    print("files that may not grow: refused, nothing left", flush=True)


def two_at_once(top, wanted):
    for n in range(20):
        children = [subprocess.Popen(command(top), env=environment(),
                                     stdout=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE, text=True)
                    for _ in range(2)]
        texts = [child.communicate(timeout=120)[1] for child in children]
        codes = [child.returncode for child in children]
        check(sorted(codes) == [0, 1], f"two at once, round {n}", codes, texts)
        loser = texts[codes.index(1)]
        check(loser.count("\n") == 1 and loser.startswith("retile: convert: "),
              f"two at once, round {n}", loser)
        check(absent_or_complete(top, wanted, "two at once"), "no DST")
        shutil.rmtree(top / "out")
    print("two at once: one wins, the other is refused, 20 times", flush=True)


def leftovers(top, wanted):
    """What a dead run left is removed without following links."""
    (top / "kept").mkdir()
    (top / "kept/file").write_text("kept")
    (top / TMP / "ranks/000").mkdir(parents=True)
    (top / TMP / "ranks/000/model.safetensors").write_text("half")
    (top / TMP / "elsewhere").symlink_to(top / "kept")
    (top / TMP / "file").symlink_to(top / "kept/file")
    plain_run(top, wanted, "leftovers")
    check((top / "kept/file").read_text() == "kept", "followed a link")
    shutil.rmtree(top / "kept")
    print("a dead run's directory is removed, links are not followed",
          flush=True)


PARTS = (fault_points, random_kills, stopped, full_disk, file_limit,
         two_at_once, leftovers)


def main():
    parent = os.environ.get("RETILE_TMP")
    with tempfile.TemporaryDirectory(prefix="retile-crash-",
                                     dir=parent) as top:
        top = pathlib.Path(top)
        make_source(top / "in")
        done = convert(top)
        check(done.returncode == 0, "undisturbed:", done.stderr)
        subprocess.run([RETILE, "verify", top / "in", top / "out"], check=True,
                       stdout=subprocess.DEVNULL)
        wanted = digest(top / "out")
        shutil.rmtree(top / "out")
        for part in PARTS:
            if not sys.argv[1:] or any(word in part.__name__
                                       for word in sys.argv[1:]):
                part(top, wanted)
    print(f"all right, after {n_runs} runs and more")


if __name__ == "__main__":
    main()
