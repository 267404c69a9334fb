#!/usr/bin/env python3
"""kill -9 of each verb that touches a store, at each fault point.

    crash_store.py [VERB]...          only these verbs (see VERBS)

The points are those that `retile fault ls` prints.  A verb is killed at the 1st,
2nd, 4th, ... pass of each (RETILE_CASES: at every pass), until it gets through.
Then: fsck finds nothing, the versions that were there are the same, the verb can
be run again, and a sweep leaves nothing of the dead one.

All of it is in memory, where that is writable, else each sync waits for a disk.
A point that no verb passes is a failure: then a test is missing.  Those of a
mount and its saves are for mount_kill.py.
"""
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile

import store as lab

# Passed by a mount only, or where a coordinator decides; mount_kill.py,
# test_vote_fault.c, agent.py and coordinator.py have the same test for these.
MOUNTS = ("mount.", "save.", "digest.", "vote.", "agent.", "coordinator.")
EVERY_PASS = "RETILE_CASES" in os.environ
check, run, same = lab.check, lab.run, lab.same


def at(work, verb, *args, **more):
    return run(verb, *args, "--store", work / "store", "--job", "j", **more)


class Verb:
    """@call(work, fault, code) runs it on work/store."""

    def __init__(self, name, call, again=(0,), is_change=True, before=None):
        self.name = name
        self.call = call
        self.again = again  # exit codes of a run after one that was killed
        self.is_change = is_change
        self.before = before


def job_verb(name, *words, **more):
    return Verb(name, lambda w, f, c: at(w, *words, fault=f, code=c), **more)


def store_verb(name, *words, **more):
    """The second word is followed by the store's path."""
    return Verb(name, lambda w, f, c: run("store", words[0], w / "store",
                                          *words[1:], fault=f, code=c), **more)


def export(work, fault, code):
    return at(work, "export", work / "out", "--threads", "1", fault=fault,
              code=code)


def new_store(work, fault, code):
    return run("store", "init", work / "new", fault=fault, code=code)


def verbs_of(top, spec):
    released = ("version", "release", 1)
    return [
        Verb("init", new_store, again=(0, 1), is_change=False),
        job_verb("import", "import", top / "in", "--threads", "1"),
        Verb("first import", lambda w, f, c: run(
            "import", top / "in", "--store", w / "store", "--job", "new",
            "--threads", "1", fault=f, code=c)),
        job_verb("rescale", "rescale", "--to", spec),
        job_verb("rollback", "version", "rollback", 1),
        job_verb("pin", "version", "pin", 1, "--why", "for the paper"),
        job_verb("unpin", "version", "unpin", 1,
                 before=lambda w: at(w, "version", "pin", 1, "--why", "x")),
        job_verb("release", *released, again=(0, 3)),
        store_verb("compact", "compact", "j@3", "--threads", "1"),
        store_verb("sweep", "sweep", before=lambda w: (
            at(w, *released), run("store", "compact", w / "store", "j@3"))),
        Verb("export", export, again=(0, 1), is_change=False),
        store_verb("ls", "ls", is_change=False),
        store_verb("fsck", "fsck", is_change=False),
        store_verb("scrub", "scrub", is_change=False),
        job_verb("version ls", "version", "ls", is_change=False),
        job_verb("version show", "version", "show", is_change=False),
    ]


def fsck(work, what, verb="fsck"):
    """Nothing is found but what the next change removes anyway."""
    done = run("store", verb, work / "store", "--json", code=None)
    check(done.returncode in (0, 3), what, verb, done.stderr)
    found = [line for line in json.loads(done.stdout)["findings"]
             if not line.startswith("staging/")]
    check(not found, what, verb, *found)


def must_have(work, what, trees):
    """The versions that were there are the same."""
    for number, tree in trees.items():
        out = work / "exported"
        done = at(work, "export", out, "--version", number, code=None)
        if done.returncode == 3 and number == 1:
            continue  # released
        check(done.returncode == 0, what, f"version {number}", done.stderr)
        same(out, tree, f"{what}: version {number}")
        shutil.rmtree(out)


def names_of(work):
    return sorted(str(p) for p in work.rglob("*"))


def after(work, verb, what, trees):
    fsck(work, what)
    if verb.is_change:
        must_have(work, what, trees)
    if verb.name == "export" and (work / "out").exists():
        same(work / "out", trees[3], what)
    done = verb.call(work, None, None)
    check(done.returncode in verb.again, what, "again:", done.returncode,
          done.stderr)
    if verb.name == "export":
        same(work / "out", trees[3], what)
        shutil.rmtree(work / "out")
    if verb.name == "init":
        check(json.loads(run("store", "ls", work / "new", "--json").stdout)
              ["jobs"] == [], what)
        shutil.rmtree(work / "new")
    run("store", "sweep", work / "store")
    fsck(work, what, "scrub")
    if verb.is_change:
        must_have(work, what, trees)
    check(not any((work / "store/staging").iterdir()), what, "staging is left")
    left = [n for n in os.listdir(work) if n != "store"]
    check(not left, what, "left:", left)


def copy_file(source, target):
    """Blobs are never written: another name will do."""
    return (os.link if "/blobs/" in source else shutil.copy2)(source, target)


def kill(fresh, verb, point, trees):
    """At each pass, until it gets through; how often it was killed."""
    n, n_killed = 1, 0
    while True:
        what = f"{verb.name}: {point}=crash@{n}"
        work = fresh.parent / "work"
        shutil.copytree(fresh, work, copy_function=copy_file)
        before = names_of(work)
        done = verb.call(work, f"{point}=crash@{n}", None)
        if done.returncode != -signal.SIGKILL:
            check(done.returncode == 0, what, done.returncode, done.stderr)
            shutil.rmtree(work)
            return n_killed
        n_killed += 1
        if not verb.is_change and verb.name not in ("export", "init"):
            check(names_of(work) == before, what, "something was changed")
        after(work, verb, what, trees)
        shutil.rmtree(work)
        n += 1 if EVERY_PASS else n


def pass_none(fresh, verb, points):
    """All of @points at once: the verb gets through."""
    work = fresh.parent / "work"
    shutil.copytree(fresh, work, copy_function=copy_file)
    done = verb.call(work, ",".join(f"{p}=crash" for p in points), None)
    check(done.returncode == 0, verb.name, "passes a point of a mount's, or "
          "does not run:", done.returncode, done.stderr)
    shutil.rmtree(work)


def make_store(work, trees):
    """j@1 and j@2 imported, j@3 the same rescaled."""
    work.mkdir()
    run("store", "init", work / "store")
    at(work, "import", trees[1])
    at(work, "import", trees[2])
    return work


def main():
    names = [p["name"] for p in
             json.loads(run("fault", "ls", "--json").stdout)["points"]]
    points = [n for n in names if not n.startswith(MOUNTS)]
    elsewhere = [n for n in names if n.startswith(MOUNTS)]
    passed = set()
    with tempfile.TemporaryDirectory(prefix="retile-crash-",
                                     dir=lab.scratch_root()) as top:
        top = pathlib.Path(top)
        lab.make_source(top / "in")
        spec, tree = lab.wanted(top, 2, 2)
        other, rescaled = lab.wanted(top, 2, 3)
        trees = {1: tree, 2: tree, 3: rescaled}
        for verb in verbs_of(top, spec):
            if sys.argv[1:] and verb.name not in sys.argv[1:]:
                continue
            fresh = make_store(top / "fresh", trees)
            at(fresh, "rescale", "--to", other)
            if verb.before is not None:
                verb.before(fresh)
            pass_none(fresh, verb, elsewhere)
            n_killed = 0
            for point in points:
                n = kill(fresh, verb, point, trees)
                n_killed += n
                if n > 0:
                    passed.add(point)
            shutil.rmtree(fresh)
            print(f"{verb.name}: killed {n_killed} times", flush=True)
    if not sys.argv[1:]:
        missed = [p for p in points if p not in passed]
        check(not missed, "points that no verb passes:", *missed)
    print("all right")


if __name__ == "__main__":
    main()
