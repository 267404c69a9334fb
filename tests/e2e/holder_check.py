#!/usr/bin/env python3
"""Readers that must not notice that their server dies.

    holder_check.py loop READY STOP FILE=>WANT...
        until STOP exists: read each FILE, with read(2) and through a map, by a
        handle that stays open and by new ones, and compare with WANT's bytes;
        READY is made after the first round.  Prints the longest wait of a call,
        and fails if that was no pause any more (a busy machine makes it long).
    holder_check.py hold FILE...
        open all, print "ready"; for each line of stdin print "ok", or the name
        of the error that reading them anew gives
    holder_check.py waiting PID...
        those threads of the processes that wait for a FUSE server
    holder_check.py next HOLDER PID
        kill the server PID, and the next one before it can serve: the holder,
        stopped meanwhile, has not read what that one said
    holder_check.py stuck HOLDER PID
        kill the server PID, and stop the next one before it has the device;
        prints that one
    holder_check.py closing FILE WANT N STATUS
        have N handles of FILE; kill its server; read one and compare while the
        others are closed
    holder_check.py texts FILE N
        have N handles of FILE; kill its server; read each by several threads
"""
import concurrent.futures
import errno
import json
import mmap
import os
import pathlib
import signal
import sys
import threading
import time


MAX_STALL_S = 60


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


def loop(ready, stop, *pairs):
    clock = Clock()
    shown = [Shown(*pair.split("=>"), clock) for pair in pairs]
    rounds = 0
    while not os.path.exists(stop) or rounds == 0:
        for one in shown:
            one.check()
        rounds += 1
        pathlib.Path(ready).touch()
    print(f"{rounds} rounds, a call took {clock.worst:.2f} s at most")
    assert clock.worst < MAX_STALL_S, f"it waited {clock.worst:.2f} s"


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


def children(pid):
    return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def is_server(pid):  # no prober, which has the holder's name
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text() == "retile-fuse\n"
    except OSError:  # it has ended
        return False


def kill_and_await(holder, server):
    """The child of the holder that follows the server."""
    before = children(holder)
    os.kill(int(server), signal.SIGKILL)
    until = time.monotonic() + 10
    while not (found := [c for c in children(holder)
                         if c not in before and is_server(c)]):
        assert time.monotonic() < until, "there is no next server"
    return found[0]


def has_device(pid):
    fds = pathlib.Path(f"/proc/{pid}/fd").iterdir()
    return any(os.readlink(fd) == "/dev/fuse" for fd in fds)


def next_server(holder, server):
    for _ in range(50):  # it may be faster than we
        server = kill_and_await(holder, server)
        os.kill(int(holder), signal.SIGSTOP)
        time.sleep(0.2)  # it gets as far as it can
        is_early = not has_device(server)
        if is_early:
            os.kill(int(server), signal.SIGKILL)
        os.kill(int(holder), signal.SIGCONT)
        if is_early:
            return
    raise AssertionError("each had the device at once")


def stuck(holder, server):
    for _ in range(50):  # it may be faster than we
        server = kill_and_await(holder, server)
        os.kill(int(server), signal.SIGSTOP)
        time.sleep(0.1)
        if not has_device(server):
            print(server)
            return
    raise AssertionError("each had the device at once")


def kill_server(status):
    os.kill(json.loads(pathlib.Path(status).read_text())["pid"], signal.SIGKILL)


def closing(path, want, n, status):
    want = pathlib.Path(want).read_bytes()
    fds = [os.open(path, os.O_RDONLY) for _ in range(int(n))]
    kill_server(status)
    closer = threading.Thread(target=lambda: [os.close(fd) for fd in fds[1:]])
    closer.start()
    rounds = 0
    while closer.is_alive() or rounds == 0:
        got = b""
        while more := os.pread(fds[0], 1 << 20, len(got)):
            got += more
        assert got == want, "other bytes"
        rounds += 1


def texts(path, n):
    fds = [os.open(path, os.O_RDONLY) for _ in range(int(n))]
    kill_server(path)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for fd in fds:
            got = set(pool.map(lambda _: os.pread(fd, 1 << 20, 0), range(4)))
            assert len(got) == 1, got
            json.loads(got.pop())


if __name__ == "__main__":
    {"loop": loop, "hold": hold, "waiting": waiting, "next": next_server,
     "stuck": stuck, "closing": closing, "texts": texts}[
         sys.argv[1]](*sys.argv[2:])
