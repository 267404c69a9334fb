#!/usr/bin/env python3
"""Long work shows on a terminal how far it is, and ends on Ctrl-C.

    progress.py [VERB]...             only these verbs (see VERBS)

Each verb runs with its standard error on a terminal of its own, made slow by a
fault point.  When it has said how far it is, it is interrupted: exit 1, one line
that says so, nothing is left and nothing has changed.  Without a terminal it
shows nothing.
"""
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import store as lab

check, run = lab.check, lab.run
SLOW = "io.read=slow:20@1+,io.write=slow:20@1+"
SHOWN_S, ENDED_S = 40, 20


class Terminal:
    """A process whose standard error is a terminal."""

    def __init__(self, args, fault):
        env = {k: v for k, v in os.environ.items() if k != "RETILE_FAULT"}
        if fault is not None:
            env["RETILE_FAULT"] = fault
        self.fd, end = pty.openpty()
        self.child = subprocess.Popen([lab.RETILE, *map(str, args)], env=env,
                                      stdout=subprocess.PIPE, stderr=end)
        os.close(end)
        self.text = ""

    def read(self, until_s, word=None):
        """What it says until @word is there, or it ends."""
        end = time.monotonic() + until_s
        while word is None or word not in self.text:
            left = end - time.monotonic()
            check(left > 0, f"not within {until_s} s", word, repr(self.text))
            if not select.select([self.fd], [], [], left)[0]:
                continue
            try:
                got = os.read(self.fd, 1 << 16)
            except OSError:  # its end is closed
                got = b""
            if not got:
                break
            self.text += got.decode()

    def done(self):
        self.child.stdout.close()
        code = self.child.wait(ENDED_S)
        os.close(self.fd)
        return code


def names(top):
    return sorted(str(p.relative_to(top)) for p in top.rglob("*"))


def begin(args, what, signo, top):
    """Interrupted when it has shown how far it is."""
    before = names(top)
    process = Terminal(args, SLOW)
    try:
        process.read(SHOWN_S, f"{what} [")
        process.read(SHOWN_S, "%")
        process.child.send_signal(signo)
        process.read(ENDED_S)
        code = process.done()
    finally:
        if process.child.poll() is None:
            process.child.kill()
            process.child.wait()
    check(code == 1, args, "exit", code, repr(process.text))
    last = process.text.replace("\r", "\n").strip().split("\n")[-1]
    check("interrupted" in last, args, repr(process.text))
    left = set(names(top)) ^ set(before)
    left = {n for n in left if not n.endswith("/lock")}
    check(not left, args, "left, or gone:", *left)


def whole(args, what):
    """Not interrupted, and fast: shown at least once, and cleared."""
    process = Terminal(args, None)
    process.read(SHOWN_S)
    check(process.done() == 0, args, repr(process.text))
    check(f"{what} [" in process.text, args, repr(process.text))
    check(process.text.endswith("\r\x1b[K"), args, "the line is not cleared",
          repr(process.text[-80:]))


def main():
    with tempfile.TemporaryDirectory(prefix="retile-progress-",
                                     dir=os.environ.get("RETILE_TMP")) as top:
        top = pathlib.Path(top)
        lab.make_source(top / "in")
        spec, tree = lab.wanted(top, 2, 2)
        work = top / "work"
        of_job = ["--store", work / "store", "--job", "j"]

        def make():
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            run("store", "init", work / "store")
            run("import", tree, *of_job)
            run("rescale", *of_job, "--to", lab.wanted(top, 2, 3)[0])
        verbs = {
            "convert": ("converting", ["convert", top / "in", work / "out",
                                       "--to", spec]),
            "verify": ("verifying", ["verify", top / "in", tree]),
            "import": ("importing", ["import", top / "in", *of_job]),
            "export": ("exporting", ["export", work / "out", *of_job]),
            "scrub": ("scrubbing", ["store", "scrub", work / "store"]),
            "compact": ("compacting", ["store", "compact", work / "store",
                                       "j@2"]),
        }
        for name, (what, args) in verbs.items():
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            make()
            for signo in (signal.SIGINT, signal.SIGTERM):
                begin(args, what, signo, work)
            check(json.loads(run("store", "ls", work / "store",
                                 "--json").stdout)["jobs"][0]["versions"] ==
                  [1, 2], args, "a version was made")
            run("store", "scrub", work / "store")
            quiet = run(*args)
            check(what not in quiet.stderr, args, quiet.stderr)
            make()
            whole(args, what)
            print(f"{name}: shown, and interrupted", flush=True)
    print("all right")


if __name__ == "__main__":
    main()
