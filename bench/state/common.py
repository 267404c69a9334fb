"""Running commands, counting CPU seconds, printing tables, cleaning up."""
import contextlib
import os
import pathlib
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

BIN = pathlib.Path(os.environ.get("RETILE_BIN", "build/release/bin")).absolute()
RETILE = BIN / "retile"
MIB = 1 << 20
_huge = [False]


def is_huge():
    """Are stores on a tmpfs of their own, with huge pages?"""
    return _huge[0]


def set_huge(is_on):
    _huge[0] = is_on


def run(*args, **kwargs):
    done = subprocess.run([str(a) for a in args], capture_output=True,
                          text=True, **kwargs)
    if done.returncode != 0:
        sys.exit(f"{args}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


class PeakAnon(threading.Thread):
    """Watches a process's RssAnon."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.peak, self.is_over = pid, 0, False

    def run(self):
        while not self.is_over:
            try:
                text = pathlib.Path(f"/proc/{self.pid}/status").read_text()
            except OSError:
                return
            found = re.search(r"RssAnon:\s+(\d+) kB", text)
            if found:
                self.peak = max(self.peak, int(found[1]) * 1024)
            time.sleep(0.005)


def timed(args, shell=False):
    """Wall, CPU, peak anonymous memory of a command and its children."""
    begin = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    child = subprocess.Popen(args if shell else [str(a) for a in args],
                             shell=shell, stdout=subprocess.PIPE, text=True)
    watch = PeakAnon(child.pid)
    watch.start()
    out = child.communicate()[0]
    wall = time.perf_counter() - begin
    watch.is_over = True
    watch.join()
    if child.returncode != 0:
        sys.exit(f"{args}: exit {child.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    return {"wall": wall, "cpu": cpu, "peak_anon": watch.peak, "out": out}


def cpu_of(pid):
    """CPU seconds of a process and all below it that live.

    From the scheduler: /proc/PID/stat counts in hundredths.
    """
    total = 0
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):  # it may end meanwhile
            total += int((task / "schedstat").read_text().split()[0]) / 1e9
            for child in (task / "children").read_text().split():
                total += cpu_of(child)
    return total


def settle(pid, quiet_s=0.3, deadline_s=60):
    """Wait until a process has nothing to do; its CPU seconds."""
    until = time.monotonic() + deadline_s
    last = cpu_of(pid)
    while time.monotonic() < until:
        time.sleep(quiet_s)
        now = cpu_of(pid)
        if now - last < 0.02 * quiet_s:
            return now
        last = now
    sys.exit(f"process {pid} does not come to rest in {deadline_s} s")


def tree_bytes(directory):
    return sum(p.stat().st_size for p in directory.rglob("*") if p.is_file())


def warm(directory):
    buffer = bytearray(4 * MIB)
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            with open(path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def median_of(rows, key):
    return statistics.median(row[key] for row in rows)


def median_ratio(pairs, key):
    return statistics.median(a[key] / b[key] for a, b in pairs)


def table(rows):
    keys = list(dict.fromkeys(k for row in rows for k in row))

    def text(value):
        if not isinstance(value, float):
            return str(value)
        return f"{value:.0f}" if value >= 1000 else f"{value:.3g}" \
            if value < 0.1 else f"{value:.2f}"

    widths = [max(len(k), *(len(text(r.get(k, ""))) for r in rows))
              for k in keys]
    print("  ".join(k.ljust(w) for k, w in zip(keys, widths)))
    for row in rows:
        print("  ".join(text(row.get(k, "")).ljust(w)
                        for k, w in zip(keys, widths)))
    print(flush=True)


def mounts_below(top):
    """(mountpoint, minor device number, type), the deepest first."""
    found = []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[4].startswith(f"{top}/"):
            found.append((fields[4], fields[2].split(":")[1],
                          fields[fields.index("-") + 1]))
    return sorted(found, reverse=True)


def drop_mounts(top):
    """Free whoever waits for a mount below @top, then take it away."""
    for point, minor, kind in mounts_below(top):
        if kind == "tmpfs":  # a store's own
            subprocess.run(["umount", "-l", point], check=False)
            continue
        abort = pathlib.Path(f"/sys/fs/fuse/connections/{minor}/abort")
        with contextlib.suppress(OSError):
            abort.write_text("1")
        subprocess.run(["fusermount3", "-u", "-z", point], check=False,
                       capture_output=True)


@contextlib.contextmanager
def workplace(path, deadline_s=3600):
    """An empty directory that is removed afterwards, with mounts in it.

    Past the deadline its mounts are aborted: a reader of a mount that nobody
    serves could not even be killed.
    """
    top = pathlib.Path(path).absolute()
    drop_mounts(top)
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir(parents=True)
    watchdog = threading.Timer(deadline_s, drop_mounts, [top])
    watchdog.daemon = True
    watchdog.start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    try:
        yield top
    finally:
        watchdog.cancel()
        drop_mounts(top)
        shutil.rmtree(top, ignore_errors=True)
