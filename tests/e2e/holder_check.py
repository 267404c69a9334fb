#!/usr/bin/env python3
"""Readers that must not notice that their server dies.

    holder_check.py loop READY STOP MAX_STALL_S FILE=>WANT...
        until STOP exists: read each FILE, with read(2) and through a map, by a
        handle that stays open and by new ones, and compare with WANT's bytes;
        READY is made after the first round.  Prints rounds and longest wait.
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


class Shown:
    def __init__(self, path, want):
        self.path = path
        self.want = pathlib.Path(want).read_bytes()
        self.fd = os.open(path, os.O_RDONLY)

    def check(self):
        kept = os.pread(self.fd, len(self.want) + 1, 0)
        offset = len(kept)
        while offset < len(self.want):  # a read may be short
            more = os.pread(self.fd, len(self.want) + 1 - offset, offset)
            assert more, f"{self.path}: ends at {offset}"
            kept += more
            offset += len(more)
        assert kept == self.want, f"{self.path}: the kept handle"
        with open(self.path, "rb", buffering=0) as file:
            assert file.readall() == self.want, f"{self.path}: a new handle"
            with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
                assert memory[:] == self.want, f"{self.path}: a map"
        names = os.listdir(os.path.dirname(self.path))
        assert os.path.basename(self.path) in names, names


def loop(ready, stop, max_stall_s, *pairs):
    shown = [Shown(*pair.split("=>")) for pair in pairs]
    rounds, worst = 0, 0.0
    while True:
        for one in shown:
            begin = time.monotonic()
            one.check()
            worst = max(worst, time.monotonic() - begin)
        rounds += 1
        if rounds == 1:
            pathlib.Path(ready).touch()
        if os.path.exists(stop):
            break
    print(f"{rounds} rounds, {worst:.2f} s at most")
    assert worst < float(max_stall_s), f"a reader waited for {worst:.2f} s"


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
