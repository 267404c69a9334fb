"""A mount that is a directory: what retile-worker sees of retile-fuse --agent.

Shows what it is ordered to show: gen/G/load/ranks/000...; FAKE_MOUNT says how it
misbehaves: `die` ends at its first order, `mute` never calls.  A mountpoint takes
nothing, so root's mounts a tmpfs there.
"""
import errno
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time

from agent_lib import Local, M

N_RANKS = 16


def argument(name):
    return sys.argv[sys.argv.index(name) + 1]


def open_up(mountpoint):
    """Can be written to; true: since it was mounted."""
    if os.geteuid() != 0:
        mountpoint.chmod(0o700)
    try:
        (mountpoint / "gen").mkdir(exist_ok=True)
        return False
    except OSError as error:
        assert error.errno == errno.EROFS, error
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none",
                    mountpoint], check=True)
    return True


def show(mountpoint, order):
    folder = mountpoint / "gen" / str(order.generation)
    folder.mkdir(parents=True, exist_ok=True)
    if order.load:
        for rank in range(N_RANKS):
            (folder / "load" / "ranks" / f"{rank:03d}").mkdir(
                parents=True, exist_ok=True)
    (folder / "request").write_text(order.request)


def main():
    mountpoint = pathlib.Path(sys.argv[-1])
    job = argument("--job")
    mode = os.environ.get("FAKE_MOUNT", "")

    is_mounted = open_up(mountpoint)

    def end(number, frame):
        shutil.rmtree(mountpoint / "gen", ignore_errors=True)
        if is_mounted:
            subprocess.run(["umount", "-l", mountpoint], check=False)
        os._exit(0)

    signal.signal(signal.SIGTERM, end)
    while mode == "mute":
        signal.pause()
    local = Local(argument("--agent"))
    shown = 0

    def follow():
        nonlocal shown
        said = queue.Queue()

        def report():
            said.put(M["MountReport"](job=job, pid=os.getpid(),
                                      generation=shown))

        report()
        for order in local.stream("Mount", iter(said.get, None)):
            if mode == "die":
                os._exit(1)
            if not order.is_revoked and order.generation >= shown:
                show(mountpoint, order)
                shown = order.generation
            report()

    def forever():
        while True:
            try:
                follow()
            except Exception:  # the agent is away: call again
                time.sleep(0.05)

    threading.Thread(target=forever, daemon=True).start()
    while True:
        signal.pause()


main()
