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
    said = agent.votes[0].version
    check((said.number, said.step, said.has_step, said.samples, said.mesh) ==
          (1, 5, True, 160, "tp=4") and said.n_bytes > 50000 and
          "'emb'" in said.layout, "what was voted for", said)
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
        # One that is away is asked until time is up, which may be what is told.
        why = mount.tells("save not begun")[-1]["reason"]
        check(f"it is {refusal.name}" in why or refusal == code.UNAVAILABLE and
              "has not answered in time" in why, mount.events()[-1])
    # A coordinator that is away for a moment is waited for.
    tries = iter(range(3))

    def comes_back(_):
        if next(tries, None) is not None:
            raise Refusal(code.UNAVAILABLE, "no session now")

    agent.on_open = comes_back
    mount.tmp(5).mkdir()
    check(next(tries, None) is None, "it was not asked again")
    mount.tmp(5).rmdir()
    eventually("it is told", lambda: len(agent.closed) == 1)
    agent.closed.clear()
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


def part_revoked(lab, agent):
    """Leftovers of an old generation write nothing and complete nothing."""
    mount = AgentMount(lab, agent)
    agent.order(generation=1, layout=LAYOUT)
    old = mount.tmp(5, 1)
    (old / "ranks/000").mkdir(parents=True)
    attempt = agent.attempts[(1, 5)]
    with open(old / "ranks/000/a", "wb", buffering=0) as left:
        left.write(b"x" * 5000)
        agent.order(generation=2, layout=LAYOUT)
        for what, do in (
                ("mkdir of a step", lambda: mount.tmp(9, 1).mkdir()),
                ("a new file", lambda: (old / "ranks/000/b").write_bytes(b"")),
                ("the rename", lambda: os.rename(old, old.with_suffix("")))):
            fails(what, (errno.EROFS, errno.ENOENT), do)
        with_errno(left)
    check(os.listdir(mount.path / "gen/1/save") == [], "the step is there")
    eventually("its attempt is closed", lambda: attempt in [
        c.attempt for c in agent.closed])
    check(commit(mount.begin(6)) > 0, "the next generation cannot save")
    check(lab.versions() == [agent.attempts[(2, 6)]], lab.versions())
    # The current one, too.
    old = mount.begin(7)
    agent.order(generation=2, is_revoked=True)
    fails("mkdir in a revoked one", errno.EROFS, mount.tmp(8).mkdir)
    fails("its rename", (errno.EROFS, errno.ENOENT), os.rename, old,
          old.with_suffix(""))
    agent.order(generation=2, is_revoked=False)
    fails("what is revoked stays so", errno.EROFS, mount.tmp(8).mkdir)
    os.kill(mount.pid, signal.SIGKILL)  # and for the next server
    fails("after the server", errno.EROFS, mount.tmp(8).mkdir)
    check(len(lab.versions()) == 1, lab.versions())
    mount.unmount()


def with_errno(left):
    """A handle that was open may take bytes, but into nothing that counts."""
    try:
        left.write(b"y" * 5000)
    except OSError as e:
        check(e.errno in (errno.EROFS, errno.ENOENT, errno.EIO), e)


def part_decisions(lab, agent):
    """COMMIT, ABORT, and no decision for a while."""
    import fake_agent
    mount = AgentMount(lab, agent, "decide_wait=1")
    agent.order(generation=1, layout=LAYOUT)
    agent.on_vote = lambda _: fake_agent.ABORT
    tmp = mount.begin(5)
    fails("an abort", errno.EIO, commit, tmp)
    check("the test says so" in mount.tells("save not committed")[-1]["reason"],
          mount.events()[-1])
    (tmp / "more").write_bytes(b"it is open again")
    agent.on_vote = None
    check(commit(tmp) == agent.votes[-1].attempt != agent.votes[0].attempt,
          "an attempt was used twice", agent.votes)
    check((mount.path / "current/more").read_bytes() == b"it is open again",
          "another content")
    # What is not right has no vote, and can be mended.
    tmp = mount.begin(6)
    (tmp / "ranks/001/model.safetensors").unlink()
    n_votes = len(agent.votes)
    fails("an incomplete save", errno.EINVAL, commit, tmp)
    check(len(agent.votes) == n_votes, "voted for what is refused")
    saves.write_plain(lab.path / "mended", saves.State(6))
    shutil.copy(lab.path / "mended/ranks/001/model.safetensors",
                tmp / "ranks/001/model.safetensors")
    check(commit(tmp) == agent.votes[-1].attempt, "another version")
    undecided(lab, agent, mount)
    mount.unmount()


def undecided(lab, agent, mount):
    import fake_agent
    import grpc
    n_versions = len(lab.versions())

    def away(_):
        raise fake_agent.Refusal(grpc.StatusCode.UNAVAILABLE, "nobody is there")

    def aborts_over(_):
        agent.order(generation=2, shown=False)
        eventually("it is followed", lambda: os.readlink(
            mount.path / "gen/current") == "2")
        return fake_agent.ABORT

    agent.on_vote = away
    tmp = mount.begin(10)
    begin = time.monotonic()
    fails("no decision", errno.ETIMEDOUT, commit, tmp)
    check(time.monotonic() - begin < 10, "it waited for longer than was said")
    fails("it stays frozen", errno.EBUSY, (tmp / "x").write_bytes, b"")
    fails("it is not removed", errno.EBUSY, tmp.rmdir)
    fails("another step", errno.EBUSY, mount.tmp(11).mkdir)
    check(len(lab.versions()) == n_versions, "it was published")
    line = (f"{lab.where[-1]}: attempt {agent.attempts[(1, 10)]}, save, "
            "step 10, waits for the coordinator")
    text = lab.retile("store", "ls", str(lab.store))
    check(line in text.splitlines(), "what store ls says", line, text)
    fails("nor now", errno.ETIMEDOUT, commit, tmp)
    agent.on_vote = None
    number = commit(tmp)
    check(lab.versions()[-1] == number == agent.attempts[(1, 10)], number)
    # Nobody renames again: it is decided all the same.
    for step, answer in ((12, None), (13, fake_agent.ABORT)):
        agent.on_vote = away
        tmp = mount.begin(step)
        fails("no decision", errno.ETIMEDOUT, commit, tmp)
        agent.on_vote = None if answer is None else lambda _: fake_agent.ABORT
        if answer is None:
            eventually("it is committed", tmp.with_suffix("").exists)
        else:
            eventually("it is open again", lambda: writes(tmp / "x"))
            agent.on_vote = None
            (tmp / "x").unlink()
            commit(tmp)
    # The generation is over when it is decided.
    tmp = mount.begin(14)
    agent.on_vote = aborts_over
    fails("an abort, since it is over", errno.EROFS, commit, tmp)
    check(not tmp.exists(), "the step is there")
    agent.on_vote = None


def part_lost(lab, agent):
    """Committed, and it cannot be published: all are told, and it is mended."""
    import fake_agent
    staging = lab.store / "staging"
    mount = AgentMount(lab, agent)
    agent.order(generation=1, layout=LAYOUT)

    commit(mount.begin(4))

    def write_past_us(request):
        """Into a file that was voted for, and commit."""
        if not request.HasField("version"):
            return fake_agent.ABORT
        with open(next(staging.glob("save.*/5/ranks/*/model.safetensors")),
                  "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"!")
        return fake_agent.COMMIT

    def damage(request):
        if request.HasField("version"):
            next(staging.glob("vote.*/version/manifest")).unlink()
            return fake_agent.COMMIT
        return fake_agent.ABORT

    for step, harm in ((5, write_past_us), (6, damage)):
        agent.on_vote = harm
        tmp = mount.begin(step)
        before = lab.versions()
        n_events = len(mount.tells("save lost"))
        fails(harm.__name__, errno.EIO, commit, tmp)
        check(len(mount.tells("save lost")) == n_events + 1, mount.events())
        check([v.HasField("version") for v in agent.votes[-2:]] ==
              [True, False], agent.votes)
        check(lab.versions() == before, "it was published", lab.versions())
        shutil.rmtree(tmp / "ranks")
        saves.write_plain(tmp, saves.State(step))
        agent.on_vote = None
        check(commit(tmp) == agent.votes[-1].attempt, "it cannot be mended")
    mount.unmount()


def part_closes(lab, agent):
    """What a dead server had to tell its agent the next one tells."""
    mount = AgentMount(lab, agent)
    agent.order(generation=1, layout=LAYOUT)
    first = commit(mount.begin(5))
    tmp = mount.tmp(9)
    tmp.mkdir()
    agent.die()
    tmp.rmdir()
    os.kill(mount.pid, signal.SIGKILL)
    os.listdir(mount.path)
    agent.live()
    eventually("it is told that the step is gone", lambda: [
        c.attempt for c in agent.closed] == [agent.votes[-1].attempt + 1])
    # A number that the store has given, of which nobody could say so.
    agent.on_open = lambda _: agent.__setattr__("on_open", None) or first
    tmp = mount.begin(10)
    check(agent.on_open is None, "it did not ask")
    check(commit(tmp) > first, "it does not ask for another number")
    mount.unmount()


def writes(path):
    try:
        path.write_bytes(b"")
    except OSError as e:
        check(e.errno == errno.EBUSY, e)
        return False
    return True


def part_away(lab, agent):
    """An agent that dies and comes back; a mount that goes on showing."""
    mount = AgentMount(lab, agent)
    agent.order(generation=1, layout=LAYOUT, request="drain")
    commit(mount.begin(5))
    agent.die()
    eventually("it is told", lambda: mount.tells("agent lost, calling again"))
    check((mount.path / "gen/1/request").read_text() == "drain", "request")
    check((mount.path / "current/layout.yaml").exists(), "what is shown")
    check(mount.status()["agent"]["connected"] is False, mount.status())
    fails("nobody to ask", errno.ETIMEDOUT, mount.tmp(6).mkdir)
    os.kill(mount.pid, signal.SIGKILL)
    check((mount.path / "gen/1/request").read_text() == "drain",
          "the next server knows no request")
    agent.live()
    agent.order(generation=1, request="", next_step=6)
    eventually("the request is another", lambda: (
        mount.path / "gen/1/request").read_text() == "")
    check(commit(mount.begin(6)) == agent.attempts[(1, 6)], "a save")
    eventually("it is told", lambda: mount.status()["agent"]["connected"])
    mount.unmount()


def part_request(lab, agent):
    """Whoever reads the request reads one, whole."""
    mount = AgentMount(lab, agent)
    agent.order(generation=1, layout=LAYOUT)
    path = mount.path / "gen/1/request"
    texts = ["", *(json.dumps({"stop_after": n, "deadline_s": n,
                               "pad": "x" * (n * 37 % 900)})
                   for n in range(200))]
    seen, wrong, end = set(), [], threading.Event()

    def read():
        while not end.is_set():
            text = path.read_text()
            seen.add(text)
            if text not in texts:
                wrong.append(text)
    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for text in texts[1:]:
        agent.order(generation=1, request=text, shown=False)
        time.sleep(0.001)
    eventually("the last one is read", lambda: texts[-1] in seen)
    end.set()
    for reader in readers:
        reader.join()
    check(not wrong, "neither one nor the other", wrong[:2])
    check(len(seen) > 5, "hardly any was seen", len(seen))
    check(os.stat(path).st_size == len(texts[-1]), "its size")
    fails("it is read-only", errno.EROFS, path.write_text, "")
    agent.order(generation=2)
    check(path.read_text() == "", "the one before is asked for nothing")
    mount.unmount()


POINTS = ["mount.opened", "mount.commit", "save.adopted", "vote.made",
          "vote.voted", "mount.voted", "mount.decided", "vote.publish",
          "vote.published", "mount.committed"]


def part_killed(lab, agent):
    """A server that is killed at each point: its rename returns, as decided."""
    import fake_agent
    mount = AgentMount(lab, agent)
    agent.order(generation=1, layout=LAYOUT)
    commit(mount.begin(5))
    mount.unmount()
    for n, point in enumerate(POINTS):
        for decision in (fake_agent.ABORT, fake_agent.COMMIT):
            killed(lab, agent, point, decision, 10 + n)


def killed(lab, agent, point, decision, step):
    import fake_agent
    if decision == fake_agent.ABORT and point.split(".")[1] in (
            "publish", "published", "committed"):
        return
    mount = AgentMount(lab, agent, fault=f"{point}=crash")
    n_votes = len(agent.votes)
    before = lab.versions()
    agent.on_vote = lambda _: decision
    tmp = mount.tmp(step, 1)
    eventually("a generation", tmp.parent.exists)
    tmp.mkdir()
    saves.write_plain(tmp, saves.State(step))
    if decision == fake_agent.ABORT:
        fails(f"{point}: aborted", errno.EIO, commit, tmp)
        check(lab.versions() == before, point, lab.versions())
    else:
        number = commit(tmp)
        check(lab.versions() == [*before, number], point, lab.versions())
        check(number == agent.votes[-1].attempt, point, agent.votes)
        check({v.attempt for v in agent.votes[n_votes:]} == {number}, point,
              agent.votes[n_votes:])
    check(mount.status()["restarts"] == 1, f"{point} was not met")
    mount.unmount()
    lab.retile("store", "sweep", str(lab.store))
    check(lab.staging() == [], point, lab.staging())


PARTS = [part_orders, part_refusals, part_revoked, part_decisions, part_lost,
         part_closes, part_away,
         part_request, part_killed]


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
        try:
            part(lab, agent)
        finally:
            agent.die()
        lab.end_check()
        lab.done()
        print(f"{part.__name__}: {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
