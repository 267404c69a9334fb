#!/usr/bin/env python3
"""A mount under an agent: generations as ordered, saves as decided.

    mount_agent.py [--user] [PART-OF-A-NAME]...     only those parts (see PARTS)
"""
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

from mounted import (BIN, Lab, Mount, become_user, check, eventually, fails)
import mount_save as saves

LAYOUT = saves.SPEC


class AgentMount(Mount):
    """As its agent starts it."""

    def __init__(self, lab, agent, *options, fault=None):
        self.lab, self.path, self.agent = lab, lab.mnt, agent
        env = dict(os.environ)
        if fault is not None:
            env["RETILE_FAULT"] = fault
        words = ",".join(["decide_wait=20", f"log={lab.path}/mount.log",
                          *options])
        found = subprocess.run(
            [f"{BIN}/retile-fuse", *lab.where, "--agent", agent.target,
             str(lab.mnt), "-o", words], env=env, timeout=60,
            capture_output=True, text=True)
        check(found.returncode == 0, "cannot mount", found.stderr)
        self.pid = self.status()["pid"]

    def tmp(self, step, generation="current"):
        return self.path / f"gen/{generation}/save/{step}.tmp"

    def begin(self, step):
        """STEP.tmp with all that a save has."""
        tmp = self.tmp(step)
        tmp.mkdir()
        saves.write_plain(tmp, saves.State(step))
        return tmp

    def tells(self, event):
        return [e for e in self.events() if e["event"] == event]


def commit(tmp):
    final = tmp.with_suffix("")
    os.rename(tmp, final)
    return int(os.getxattr(final, "user.retile.version"))


def part_orders(lab, agent):
    """Generations are those that were ordered, with their numbers."""
    mount = AgentMount(lab, agent)
    check(os.listdir(mount.path / "gen") == [], "a generation without order")
    fails("gen/current", errno.ENOENT, os.readlink, mount.path / "gen/current")
    agent.order(generation=3, layout=LAYOUT)
    check(os.readlink(mount.path / "gen/current") == "3", "another is current")
    check(sorted(os.listdir(mount.path / "gen/3")) == ["request", "save"],
          "what a generation has", os.listdir(mount.path / "gen/3"))
    fails("load of nothing", errno.ENOENT, os.readlink,
          mount.path / "gen/3/load")
    check(commit(mount.begin(5)) == 1, "its version is not the attempt's")
    agent.order(generation=70, load=1, next_step=6)
    check(sorted(os.listdir(mount.path / "gen")) == ["3", "70", "current"],
          "generations", os.listdir(mount.path / "gen"))
    check(os.readlink(mount.path / "gen/70/load") == "../../versions/1",
          "it loads another version")
    # Of an agent that knows less, and what may be asked for twice.
    agent.order(generation=3, load=0, shown=False)
    agent.order(generation=70, load=1, next_step=6, request="x")
    check(os.readlink(mount.path / "gen/current") == "70", "it went back")
    lab.of_job("rescale", "--to", "hf", code=None)
    check(os.readlink(mount.path / "gen/current") == "70",
          "a version that was published began a generation")
    # What it loads cannot be opened: the mount says so, and shows it when it can.
    agent.order(generation=71, load=99, shown=False)
    eventually("trouble is told", lambda: "99" in agent.reports[-1].trouble)
    check(agent.reports[-1].generation == 70, agent.reports[-1])
    fails("a save of the one before", errno.EROFS, mount.tmp(7, 70).mkdir)
    agent.order(generation=72, load=1, next_step=6)
    mount.unmount()


def part_refusals(lab, agent):
    """What the coordinator refuses has its own errno."""
    import grpc
    from fake_agent import Refusal
    code = grpc.StatusCode
    mount = AgentMount(lab, agent)
    agent.order(generation=1, layout=LAYOUT, next_step=3)
    for refusal, expected in (
            (code.ALREADY_EXISTS, errno.EEXIST), (code.ABORTED, errno.EBUSY),
            (code.FAILED_PRECONDITION, errno.EROFS),
            (code.OUT_OF_RANGE, errno.EINVAL),
            (code.RESOURCE_EXHAUSTED, errno.ENOSPC),
            (code.UNAVAILABLE, errno.ETIMEDOUT), (code.INTERNAL, errno.EIO)):
        def refuse(_, refusal=refusal):
            raise Refusal(refusal, f"it is {refusal.name}")
        agent.on_open = refuse
        fails(refusal.name, expected, mount.tmp(5).mkdir)
        check(f"it is {refusal.name}" in mount.tells("save not begun")[-1]
              ["reason"], mount.events()[-1])
    n_asked = len(agent.opened)
    fails("below the least step", errno.EINVAL, mount.tmp(2).mkdir)
    check(len(agent.opened) == n_asked, "asked, though we know")
    agent.on_open = None
    tmp = mount.tmp(5)
    tmp.mkdir()
    attempt = agent.attempts[(1, 5)]
    check([s["attempt"] for s in mount.status()["steps"]] == [attempt],
          mount.status()["steps"])
    tmp.rmdir()
    eventually("it is told that the step is gone", lambda: [
        c.attempt for c in agent.closed] == [attempt])
    tmp.mkdir()  # another attempt
    check(agent.attempts[(1, 5)] > attempt, agent.attempts)
    mount.unmount()
    eventually("the end of an open step is told", lambda: len(agent.closed) == 2)


PARTS = [part_orders, part_refusals]


def main():
    become_user()
    wanted = [a for a in sys.argv[1:] if not a.startswith("-")]
    for part in PARTS:
        if wanted and not any(w in part.__name__ for w in wanted):
            continue
        lab = Lab(deadline_s=120)
        from fake_agent import FakeAgent  # after the lab, which forks
        begin = time.monotonic()
        agent = FakeAgent(lab)
        part(lab, agent)
        agent.die()
        lab.end_check()
        lab.done()
        print(f"{part.__name__}: {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
