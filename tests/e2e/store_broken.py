#!/usr/bin/env python3
"""A store that somebody has meddled with: refused or told, never believed.

    store_broken.py [PART-OF-A-NAME]...     only those parts (see PARTS)

Each part takes a good store, damages it in one way or asks for the impossible,
and looks that no verb hangs, crashes, or makes it worse.
"""
import json
import os
import pathlib
import random
import resource
import shutil
import subprocess
import time

import store as lib
from store import RETILE, Store, check, run

VERBS = (("store", "ls"), ("store", "fsck"), ("store", "scrub"),
         ("store", "sweep"))
JOB_VERBS = (("version", "ls"), ("version", "show"),
             ("version", "rollback", "1"), ("rescale", "--to", "hf"))


def spec(top, pp, tp):
    path = top / f"{pp}x{tp}.yaml"
    path.write_text(lib.SPEC.format(pp=pp, tp=tp))
    return path


def ends(done, *what):
    """By itself, not by a signal, and without a sanitizer's report."""
    check(done.returncode >= 0 and "Sanitizer" not in done.stderr, *what,
          done.returncode, done.stderr)
    return done


def all_verbs(store, what):
    for verb in VERBS:
        ends(run(*verb, store.root, code=None), what, verb)
    for verb in JOB_VERBS:
        ends(store.job(*verb, code=None), what, verb)
    ends(store.job("export", store.top / "out", code=None), what, "export")


def odd_files(top, work):
    """FIFOs, directories, symlinks, short or no files in place of our own."""
    def link(path):
        path.symlink_to("/dev/zero")

    def short(path):
        path.write_bytes(b"x")

    def missing(path):
        check(not path.exists())

    good = work / "good"
    good.mkdir()
    Store(good).job("import", top / "in")
    version = "jobs/j/versions/1"
    for maker in (os.mkfifo, link, short, pathlib.Path.mkdir, missing):
        for pattern in ("id", "lock", "blobs/*/*", "tables/*", "jobs/j/last",
                        f"{version}/lock", f"{version}/manifest",
                        f"{version}/pin", version, "jobs/j/versions", "blobs",
                        "tables", "staging"):
            here = work / "here"
            shutil.copytree(good, here)
            store = Store.__new__(Store)
            store.top, store.root = here, here / "store"
            path = next(iter(sorted(store.root.glob(pattern))),
                        store.root / pattern)
            if path.is_dir():
                shutil.rmtree(path)
            elif path.exists():
                path.unlink()
            maker(path)
            what = f"{maker.__name__} as {pattern}"
            done = run("store", "fsck", store.root, code=None)
            may_be = path.is_dir() and pattern in ("jobs/j/versions", "staging")
            may_be |= maker is missing and pattern in (
                f"{version}/pin", version, "jobs/j/versions", "jobs/j/last")
            may_be |= maker is short and pattern in (
                "lock", f"{version}/lock", f"{version}/pin")
            check(may_be or done.returncode != 0, what, "fsck finds nothing")
            all_verbs(store, what)
            shutil.rmtree(here)


def numbers(top, work):
    """Numbers only grow, also when `last` is lost; there is an end to them."""
    store = Store(work)
    for _ in range(3):
        store.job("import", top / "in")
    last = store.root / "jobs/j/last"
    last.unlink()
    store.job("import", top / "in")
    check(store.numbers() == [1, 2, 3, 4], store.numbers())
    os.mkdir(store.root / f"jobs/j/versions/{2**64 - 1}")
    done = store.job("import", top / "in", code=1)
    check("last of all numbers" in done.stderr, done.stderr)
    check(last.read_text() == "4\n", last.read_text())
    for number in ("0", "-1", str(2**64), "1x", ""):
        store.job("version", "show", number, code=2)
    store.job("version", "show", "77", code=3)


def table_damaged(top, work):
    """A damaged table is not taken for good by the next import."""
    store = Store(work)
    store.job("import", top / "in")
    table = next((store.root / "tables").iterdir())
    table.write_bytes(table.read_bytes()[:-5])
    store.job("version", "show", code=1)
    store.job("import", top / "in")
    store.job("version", "show")
    store.fsck("a table made anew")


def many_versions(top, work):
    """fsck holds all versions open, past the usual limit of open files."""
    store = Store(work)
    store.job("import", top / "in")
    for _ in range(40):
        store.job("version", "rollback", 1)
    done = subprocess.run(
        [RETILE, "store", "fsck", store.root], capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE,
                                              (24, 4096)))
    check(done.returncode == 0, done.stdout[:300], done.stderr)


def sums(top, work):
    """Sums of sizes do not wrap: refused before anything is reserved."""
    store = Store(work, "--budget", "1GiB")
    shutil.copytree(top / "in", work / "in")
    for name in ("a.bin", "b.bin"):
        with open(work / "in" / name, "wb") as file:
            try:
                file.truncate(2**63 - 1)
            except OSError:
                print("sums: skipped, no such large files here")
                return
    done = store.job("import", work / "in", code=1)
    check("2^63 bytes" in done.stderr, done.stderr)


def words(top, work):
    """What init takes and says."""
    for size in ("0", "-1", "x", "8EiB", str(2**64 - 1)):
        run("store", "init", work / "s", "--budget", size, code=2)
    made = json.loads(run("store", "init", work / "s", "--budget", "1GiB",
                          "--json").stdout)
    listed = json.loads(run("store", "ls", work / "s", "--json").stdout)
    check(made["id"] == listed["id"], made, listed)
    check(listed["budget_bytes"] == 1 << 30, listed)
    run("store", "sweep", work / "s", "--budget", "2GiB", code=2)


def names(top, work):
    """A job's name is a file's name; all verbs say so alike."""
    store = Store(work)
    for job in ("..", ".", "", "a/b", "/etc", "x" * 300, "x" * 5000, "a\nb",
                ".hidden"):
        for verb in (["import", top / "in"], ["version", "ls"],
                     ["version", "pin", "1"], ["version", "release", "1"],
                     ["version", "rollback", "1"], ["rescale", "--to", "hf"],
                     ["export", work / "out"]):
            store.job(*verb, job=job, code=2)
    check(not list((store.root / "jobs").iterdir()), "a job was made")


def dropped(top, work):
    """A rescale tells which objects of ranks have no place."""
    tree = work / "tree"
    run("convert", top / "in", tree, "--to", spec(top, 2, 2))
    for rank in range(4):
        (tree / f"ranks/{rank:03}/rng.bin").write_bytes(b"%d" % rank)
    store = Store(work)
    store.job("import", tree)
    done = store.job("rescale", "--to", spec(top, 1, 2))
    check("dropped" in done.stderr and done.stderr.count("rng.bin") == 2,
          done.stderr)
    run("convert", tree, work / "again", "--to", spec(top, 2, 2), "--verify")


def kills(top, work):
    """SIGKILL at random moments."""
    store = Store(work)
    store.job("import", top / "in")
    tree = work / "want"
    store.job("export", tree)
    seed = int(os.environ.get("RETILE_SEED", "7"))
    rng = random.Random(seed)
    paths = [spec(top, 2, 2), spec(top, 1, 3)]
    for n in range(40):
        what = f"seed {seed}, kill {n}"
        verb = rng.choice([["import", top / "in"],
                           ["rescale", "--to", rng.choice(paths)],
                           ["version", "rollback", "1"], None])
        child = subprocess.Popen(
            [RETILE, "store", "sweep", store.root] if verb is None else
            [RETILE, *verb, "--store", store.root, "--job", "j"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.random() * 0.1)
        child.kill()
        child.wait()
        store.fsck(what)
        if n % 10 == 9:
            for number in store.numbers()[1:-1]:
                store.job("version", "release", number)
            run("store", "sweep", store.root)
            store.fsck(what, "scrub")
            store.export_is(tree, what, "--version", "1")


PARTS = (odd_files, numbers, table_damaged, many_versions, sums, words, names,
         dropped, kills)


if __name__ == "__main__":
    lib.PARTS = PARTS
    lib.main()
