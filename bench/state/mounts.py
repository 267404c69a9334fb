"""Mounts that are measured."""
import json
import os
import subprocess
import sys
import time

from state.common import RETILE, cpu_of, drop_mounts, settle

STOP_S = 60


class Mount:
    """A mount of a directory, or of the job of a Store."""

    def __init__(self, where, source=None, store=None, options=()):
        self.where = where
        where.mkdir(exist_ok=True)
        what = [str(source)] if store is None else \
            ["--store", str(store.root), "--job", "bench"]
        args = ["-o", ",".join(options)] if options else []
        self.child = subprocess.Popen(
            [str(RETILE), "mount", "-f", *args, *what, str(where)])
        deadline = time.monotonic() + 20
        while not os.path.ismount(where):
            if time.monotonic() > deadline or self.child.poll() is not None:
                self.__exit__()
                sys.exit("the mount does not come up")
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        done = subprocess.run(["fusermount3", "-u", str(self.where)],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            drop_mounts(self.where.parent)
        try:
            self.child.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            sys.exit("the mount did not end")

    def cpu(self):
        """CPU seconds of all its processes."""
        return cpu_of(self.child.pid)

    def settle(self):
        return settle(self.child.pid)

    def status(self):
        return json.loads((self.where / ".retile/status").read_text())

    def wait_for(self, path, deadline_s=20):
        """The path, once it is there."""
        until = time.monotonic() + deadline_s
        while not os.path.lexists(self.where / path):
            if time.monotonic() > until:
                sys.exit(f"{path} does not appear in {deadline_s} s")
            time.sleep(0.001)
        return self.where / path
