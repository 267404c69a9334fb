"""What the tests of a mount that is written to share.

A Lab is a scratch folder with a store, its mounts, and a guard: a process of
its own that takes everything away when the test ends, however it ends, and that
aborts the mounts when a deadline has passed, since a process that waits for a
mount nobody serves cannot be killed.  All that a lab starts has RETILE_LAB in
its environment, which is how the guard, and a test, find it.

  Lab(deadline_s)          lab.path, lab.store, lab.mnt
  lab.retile(ARG...)       runs it; its standard output
  lab.mount(OPTION...)     a mount of lab.job; .gen() is gen/G as a path

RETILE_CLASSES says in which classes of service a test runs: passthrough,
direct, buffered.  With --user in its arguments a script of root's goes on as an
ordinary user.
"""
import contextlib
import ctypes
import errno
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BIN = os.environ["RETILE_BIN"]
RETILE = os.path.join(BIN, "retile")
NOBODY = 65534
# How each class of service is had on this kernel.
CLASSES = {
    "passthrough": [],
    "direct": ["-o", "mask=passthrough"],
    "buffered": ["-o", "mask=passthrough+allow_mmap"],
}


def skip(why):
    print(f"skipped: {why}")
    sys.exit(77)


def check(is_so, *what):
    if not is_so:
        raise AssertionError("\n    ".join(map(str, what)))


def become_user():
    """With --user: go on as nobody, in a mount namespace whose /dev/fuse
    everybody may open, as on an ordinary desktop."""
    if "--user" not in sys.argv or os.geteuid() != 0:
        return
    inside = """
set -e
# Other tests' mounts were copied; here they would outlive their end.
for point in $(awk '/ - fuse\\.retile / { print $5 }' /proc/self/mountinfo); do
    umount -l "$point" || true
done
dir=$(mktemp -d)
mknod -m 666 "$dir/fuse" c 10 229
mount --bind "$dir/fuse" /dev/fuse
rm -r "$dir"
exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"
"""
    os.execvp("unshare", ["unshare", "-m", "bash", "-c", inside, "bash",
                          sys.executable, "-B", *sys.argv])


def scratch_root():
    """Memory, where there is some: a store's usual place."""
    for place in (os.environ.get("TMPDIR"), "/dev/shm", "/tmp"):
        if place and os.access(place, os.W_OK):
            return place
    return None


def mounts_below(path):
    """(device, mountpoint) of each, the innermost first."""
    found = []
    for line in open("/proc/self/mountinfo"):
        words = line.split()
        if words[4].startswith(str(path) + "/"):
            found.append((words[2], words[4]))
    return found[::-1]


def processes_of(mark):
    """Those that have RETILE_LAB=@mark in their environment, but for us."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                words = file.read().split(b"\0")
            with open(f"/proc/{pid}/stat") as file:
                state = file.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if f"RETILE_LAB={mark}".encode() in words and state != "Z":
            found.append(int(pid))
    return found


def abort(device):
    minor = device.split(":")[1]
    with contextlib.suppress(OSError):
        with open(f"/sys/fs/fuse/connections/{minor}/abort", "w") as file:
            file.write("1")


def abort_mounts(path):
    """Free whoever waits for a mount below @path, and unmount it."""
    for device, point in mounts_below(path):
        abort(device)
        if subprocess.run(["fusermount3", "-u", "-z", point],
                          stderr=subprocess.DEVNULL).returncode != 0:
            subprocess.run(["umount", "-l", point], stderr=subprocess.DEVNULL)


class Lab:
    def __init__(self, deadline_s=200, job="net", budget=None):
        if not os.path.exists("/dev/fuse"):
            skip("no /dev/fuse")
        if os.geteuid() == 0 and not os.listdir("/sys/fs/fuse/connections"):
            subprocess.run(["mount", "-t", "fusectl", "none",
                            "/sys/fs/fuse/connections"],
                           stderr=subprocess.DEVNULL)
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="retile-lab.",
                                                  dir=scratch_root()))
        self.mark = str(self.path)
        self.job = job
        self.store = self.path / "store"
        self.mnt = self.path / "mnt"
        self.mnt.mkdir()
        self.start_guard(deadline_s)
        os.environ["RETILE_LAB"] = self.mark
        # For the tests of tests: leaves no core, says what leaks at its end.
        init = ["--budget", budget] if budget else []
        self.retile("store", "init", str(self.store), *init)
        self.where = ["--store", str(self.store), "--job", job]

    def start_guard(self, deadline_s):
        reader, self.alive = os.pipe()
        owner = os.getpid()
        guard = os.fork()
        if guard != 0:
            os.close(reader)
            return
        os.setsid()
        os.close(self.alive)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        ready, _, _ = select.select([reader], [], [], deadline_s)
        done = bool(ready) and os.read(reader, 4) == b"done"
        if not ready:
            print(f"guard: {deadline_s} s are over", file=sys.stderr)
            self.tell_stacks(owner)
        abort_mounts(self.path)
        if not ready:
            os.kill(owner, signal.SIGKILL)
        for pid in processes_of(self.mark):
            if pid != owner:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                    os.kill(pid, signal.SIGKILL)
        if done:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            print(f"kept: {self.path}", file=sys.stderr)
        os._exit(0)

    def tell_stacks(self, owner):
        for pid in [owner, *processes_of(self.mark)]:
            for what in ("cmdline", "wchan", "stack"):
                try:
                    with open(f"/proc/{pid}/{what}", "rb") as file:
                        text = file.read(2000).replace(b"\0", b" ")
                except OSError:
                    continue
                print(pid, what, text.decode(errors="replace").strip(),
                      file=sys.stderr)

    def done(self):
        """All went well: nothing is kept."""
        os.write(self.alive, b"done")
        os.close(self.alive)
        os.wait()

    def retile(self, *args, code=0, fault=None, where=False, timeout=60):
        env = dict(os.environ)
        if fault is not None:
            env["RETILE_FAULT"] = fault
        args = [*args, *(self.where if where else [])]
        found = subprocess.run([RETILE, *args], env=env, timeout=timeout,
                               capture_output=True, text=True)
        if code is not None:
            check(found.returncode == code, f"retile {' '.join(args)}: "
                  f"exit {found.returncode}, not {code}", found.stdout,
                  found.stderr)
        return found.stdout if code == 0 else found

    def of_job(self, *args, **more):
        return self.retile(*args, where=True, **more)

    def mount(self, *options, fault=None, **more):
        return Mount(self, options, fault, **more)

    def versions(self):
        text = self.of_job("version", "ls", "--json")
        return [v["number"] for v in json.loads(text)["versions"]]

    def fsck(self):
        self.retile("store", "fsck", str(self.store))

    def staging(self):
        folder = self.store / "staging"
        return sorted(os.listdir(folder)) if folder.exists() else []

    def blobs(self):
        return sorted(p.name for p in (self.store / "blobs").glob("*/*"))

    def end_check(self):
        """No mount, no process, nothing in staging, and fsck is content."""
        check(not mounts_below(self.path), "mounts are left over",
              mounts_below(self.path))
        eventually("processes are gone", lambda: self.others() == [],
                   lambda: [open(f"/proc/{p}/cmdline").read()
                            for p in self.others()])
        # What a dead mount left in staging, the next change takes away.
        self.retile("store", "sweep", str(self.store))
        check(self.staging() == [], "staging is not empty", self.staging())
        self.fsck()

    def others(self):
        mine = {os.getpid(), *children_of(os.getpid())}
        return [pid for pid in processes_of(self.mark) if pid not in mine]


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return set(map(int, file.read().split()))


def eventually(what, condition, tell=lambda: "", timeout_s=60):
    until = time.monotonic() + timeout_s
    while not condition():
        check(time.monotonic() < until, f"not within {timeout_s} s: {what}",
              tell())
        time.sleep(0.02)


class Mount:
    def __init__(self, lab, options, fault=None, layout=None):
        self.lab = lab
        self.path = lab.mnt
        env = dict(os.environ)
        if fault is not None:
            env["RETILE_FAULT"] = fault
        args = [RETILE, "mount", *lab.where, str(self.path), *options]
        if layout is not None:
            args += ["--layout", str(layout)]
        self.log = lab.path / "mount.log"
        args += ["-o", f"log={self.log}"]
        found = subprocess.run(join_options(args), env=env, timeout=60,
                               capture_output=True, text=True)
        check(found.returncode == 0, "cannot mount", args, found.stderr)
        try:
            self.pid = self.status()["pid"]
        except OSError:  # a fault that the first read or open meets
            self.pid = self.status()["pid"]

    def status(self):
        return json.loads((self.path / ".retile/status").read_text())

    def events(self):
        text = (self.path / ".retile/events").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def gen(self):
        return (self.path / "gen/current").resolve()

    def save(self):
        return self.gen() / "save"

    def unmount(self):
        """As users do; waits for the server.

        A process that was cloned into a mount namespace of its own, of another
        test say, has the mount still; then the connection is aborted."""
        device = dict((point, device) for device, point in
                      mounts_below(self.lab.path))[str(self.path)]
        eventually("unmount", lambda: subprocess.run(
            ["fusermount3", "-u", str(self.path)],
            capture_output=True).returncode == 0)
        begin = time.monotonic()

        def is_over():
            if time.monotonic() - begin > 2:
                abort(device)
            return self.lab.others() == []
        eventually("the server ends", is_over, self.lab.others)


def join_options(args):
    """Several -o as one, which is all that the command line takes."""
    kept, joined, words = [], [], iter(args)
    for word in words:
        if word == "-o":
            joined.append(next(words))
        else:
            kept.append(word)
    return kept + (["-o", ",".join(joined)] if joined else [])


def classes():
    wanted = os.environ.get("RETILE_CLASSES")
    names = wanted.split(",") if wanted else list(CLASSES)
    if os.geteuid() != 0 and "passthrough" in names:
        names.remove("passthrough")  # needs CAP_SYS_ADMIN
    return [(name, CLASSES[name]) for name in names]


def fails(what, expected, do, *args):
    """@do fails with an OSError of this errno, or one of these."""
    numbers = expected if isinstance(expected, tuple) else (expected,)
    names = " or ".join(errno.errorcode[n] for n in numbers)
    try:
        do(*args)
    except OSError as e:
        check(e.errno in numbers, f"{what}: {e!r}, not {names}")
        return
    raise AssertionError(f"{what}: succeeded, not {names}")


LIBC = ctypes.CDLL(None, use_errno=True)
PUNCH_HOLE = 1 | 2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE


def fallocate(fd, mode, offset, length):
    rc = LIBC.fallocate(ctypes.c_int(fd), ctypes.c_int(mode),
                        ctypes.c_int64(offset), ctypes.c_int64(length))
    if rc != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
