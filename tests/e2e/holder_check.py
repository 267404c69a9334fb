#!/usr/bin/env python3
"""Readers that must not notice that their server dies.

    holder_check.py loop READY STOP MAX_STALL_S FILE=>WANT...
        until STOP exists: read each FILE, with read(2) and through a map, by a
        handle that stays open and by new ones, and compare with WANT's bytes;
        READY is made after the first round.  Prints the longest wait of a call.
    holder_check.py hold FILE...
        open all, print "ready"; for each line of stdin print "ok", or the name
        of the error that reading them anew gives
    holder_check.py waiting PID...
        those threads of the processes that wait for a FUSE server
"""
import errno
import mmap
import os
import pathlib
import sys
import time


class Clock:
    """The longest of some calls."""

    def __init__(self):
        self.worst = 0.0

    def __call__(self, call, *args):
        begin = time.monotonic()
        result = call(*args)
        self.worst = max(self.worst, time.monotonic() - begin)
        return result


class Shown:
    def __init__(self, path, want, clock):
        self.path = path
        self.want = pathlib.Path(want).read_bytes()
        self.clock = clock
        self.fd = os.open(path, os.O_RDONLY)

    def read(self, fd):
        got, n = b"", len(self.want) + 1
        while more := self.clock(os.pread, fd, n - len(got), len(got)):
            got += more  # a read may be short
        return got

    def check(self):
        assert self.read(self.fd) == self.want, f"{self.path}: the kept handle"
        fd = self.clock(os.open, self.path, os.O_RDONLY)
        try:
            assert self.read(fd) == self.want, f"{self.path}: a new handle"
            with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as memory:
                got = self.clock(memory.read)
            assert got == self.want, f"{self.path}: a map"
        finally:
            os.close(fd)
        names = self.clock(os.listdir, os.path.dirname(self.path))
        assert os.path.basename(self.path) in names, names


def loop(ready, stop, max_stall_s, *pairs):
    clock = Clock()
    shown = [Shown(*pair.split("=>"), clock) for pair in pairs]
    rounds = 0
    while not os.path.exists(stop) or rounds == 0:
        for one in shown:
            one.check()
        rounds += 1
        pathlib.Path(ready).touch()
    print(f"{rounds} rounds, a call took {clock.worst:.2f} s at most")
    assert clock.worst < float(max_stall_s), f"it waited {clock.worst:.2f} s"


def hold(*paths):
    fds = [os.open(path, os.O_RDONLY) for path in paths]
    print("ready", flush=True)
    for _ in sys.stdin:
        answer = "ok"
        for fd in fds:
            try:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                assert os.pread(fd, 100, 0)
            except OSError as error:
                answer = errno.errorcode[error.errno]
        print(answer, flush=True)


def waiting(*pids):
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
            stack = (task / "stack").read_text()
            if "request_wait_answer" in stack:
                print(task, stack)


if __name__ == "__main__":
    {"loop": loop, "hold": hold, "waiting": waiting}[sys.argv[1]](*sys.argv[2:])
