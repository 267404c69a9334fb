#!/usr/bin/env python3
"""A store as a whole: import, rescale, export, what is refused, what is damaged.

    store.py [PART-OF-A-NAME]...     only those parts (see PARTS)

  - what is exported equals what `retile convert` writes, byte for byte, before
    and after every rescale and rollback;
  - a budget refuses before a byte is written;
  - two processes at once;
  - a damaged version is told as such, beside the others;
  - flipped bits are all found by scrub, by tensor and version (RETILE_FLIPS).
"""
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile

RETILE = os.path.join(os.environ["RETILE_BIN"], "retile")
N_FLIPS = int(os.environ.get("RETILE_FLIPS", "150"))
SPEC = """mesh: {{pp: {pp}, tp: {tp}}}
stages: {{axis: pp, layer: 'h\\.(\\d+)\\.'}}
flats: {{z: {{over: [pp, tp], align: 8}}}}
rules:
  - {{match: 'optim.*', flat: z}}
  - {{match: 'h.*.in.weight', dims: [tp, ~], stage: layer}}
  - {{match: 'h.*.out.weight', dims: [~, tp], stage: layer}}
  - {{match: 'h.*', stage: layer}}
  - {{match: '*'}}
objects: {{'*': {{on_change: copy}}}}
"""
LAYOUTS = ((2, 3), (1, 4), (4, 1), (2, 2))


def fail(*what):
    sys.exit("FAIL " + "\n    ".join(map(str, what)))


def scratch_root():
    """Memory, where there is some and nothing else is said."""
    for place in (os.environ.get("RETILE_TMP"), os.environ.get("TMPDIR"),
                  "/dev/shm"):
        if place and os.access(place, os.W_OK):
            return place
    return None


def check(is_so, *what):
    if not is_so:
        fail(*what)


def write_safetensors(path, tensors, seed):
    """name -> shape, all F32, of random bytes."""
    header, at = {}, 0
    for name, shape in tensors.items():
        n = 4
        for length in shape:
            n *= length
        header[name] = {"dtype": "F32", "shape": shape,
                        "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text +
                     random.Random(seed).randbytes(at))


def make_source(path):
    model = {"emb.weight": [500, 200]}
    for n in range(4):
        model[f"h.{n}.in.weight"] = [300, 200]
        model[f"h.{n}.out.weight"] = [200, 301]
        model[f"h.{n}.norm"] = [200]
    path.mkdir()
    write_safetensors(path / "model.safetensors", model, 1)
    write_safetensors(path / "optim.safetensors",
                      {f"optim.m.{name}": shape
                       for name, shape in model.items()}, 2)
    (path / "config.json").write_text('{"model_type": "none"}')
    (path / "retile.json").write_text('{"step": 70, "samples": 4480}')


def run(*args, fault=None, code=0):
    """Run retile; @code None: any."""
    env = {k: v for k, v in os.environ.items() if k != "RETILE_FAULT"}
    if fault is not None:
        env["RETILE_FAULT"] = fault
    done = subprocess.run([RETILE, *map(str, args)], env=env,
                          capture_output=True, text=True, timeout=120)
    if code is not None:
        check(done.returncode == code, args, fault, done.returncode,
              done.stdout, done.stderr)
    return done


def same(a, b, what):
    names = [sorted(str(p.relative_to(top)) for p in top.rglob("*"))
             for top in (a, b)]
    check(names[0] == names[1], what, "other names", *names)
    for name in names[0]:
        if (a / name).is_file():
            check((a / name).read_bytes() == (b / name).read_bytes(), what,
                  name, "differs")


class Store:
    """A store below @top, and directories to compare exports with."""

    def __init__(self, top, *init):
        self.top = top
        self.root = top / "store"
        run("store", "init", self.root, *init)

    def job(self, verb, *args, job="j", **more):
        return run(verb, *args, "--store", self.root, "--job", job, **more)

    def numbers(self, job="j"):
        listed = json.loads(run("store", "ls", self.root, "--json").stdout)
        for one in listed["jobs"]:
            if one["job"] == job:
                return one["versions"]
        return []

    def used(self):
        return json.loads(run("store", "ls", self.root,
                              "--json").stdout)["used_bytes"]

    def fsck(self, what, verb="fsck"):
        """Nothing is found but what the next change removes anyway."""
        done = run("store", verb, self.root, "--json", code=None)
        check(done.returncode in (0, 3), what, verb, done.stderr)
        found = [line for line in json.loads(done.stdout)["findings"]
                 if "left by a change that died" not in line]
        check(not found, what, verb, *found)

    def export_is(self, wanted, what, *args, job="j"):
        out = self.top / "out"
        self.job("export", out, *args, job=job)
        same(out, wanted, what)
        shutil.rmtree(out)


def wanted(top, pp, tp):
    """The tree that convert writes, and its spec; made once."""
    spec, tree = top / f"{pp}x{tp}.yaml", top / f"want-{pp}x{tp}"
    if not tree.exists():
        spec.write_text(SPEC.format(pp=pp, tp=tp))
        run("convert", top / "in", tree, "--to", spec)
    return spec, tree


def exports(top, work):
    """Import of every form; a chain of rescales; rollback."""
    store = Store(work)
    store.job("import", top / "in")
    hf = top / "want-hf"
    run("convert", top / "in", hf, "--to", "hf")
    store.export_is(hf, "hf import")
    for n, (pp, tp) in enumerate(LAYOUTS):
        spec, tree = wanted(top, pp, tp)
        store.export_is(tree, f"export --to {pp}x{tp}", "--to", spec)
        store.job("rescale", "--to", spec)
        store.export_is(tree, f"rescale {n}")
        store.export_is(hf, f"hf after rescale {n}", "--to", "hf")
    store.job("version", "rollback", 2)
    store.export_is(wanted(top, *LAYOUTS[0])[1], "rollback")
    for pp, tp in LAYOUTS:
        tree = wanted(top, pp, tp)[1]
        store.job("import", tree, job="ranks")
        store.export_is(tree, "import of ranks", job="ranks")
    shown = json.loads(store.job("version", "show", "--json").stdout)
    check((shown["number"], shown["parent"], shown["origin"], shown["step"],
           shown["samples"]) == (6, 2, "rollback", 70, 4480), shown)
    check(len(json.loads(store.job("version", "ls",
                                   "--json").stdout)["versions"]) == 6, "ls")
    store.fsck("exports", "scrub")


def rescale_is_small(top, work):
    """A rescale writes what a manifest takes; usage is unchanged."""
    store = Store(work)
    store.job("import", top / "in")
    used = store.used()
    spec, _ = wanted(top, 2, 3)
    done = json.loads(store.job("rescale", "--to", spec, "--json").stdout)
    check(done["written_bytes"] < 100_000, done)
    check(done["read_bytes"] < 200_000, done)
    check(store.used() == used, "blobs were added", used, store.used())


def errors(top, work):
    """A call that fails: exit 1, nothing left, nothing changed."""
    spec, tree = wanted(top, 2, 2)
    store = Store(work)
    store.job("import", tree)
    used = store.used()
    for point in ("io.write", "io.sync", "io.rename", "store.blob",
                  "store.sealed", "store.publish"):
        for verb, args in (("import", [top / "in"]),
                           ("rescale", ["--to", spec])):
            what = f"{verb} {point}=error"
            done = store.job(verb, *args, fault=point + "=error", code=None)
            if point == "store.blob" and verb == "rescale":
                check(done.returncode == 0, what, done.stderr)
                continue
            check(done.returncode == 1, what, done.returncode, done.stderr)
            check(store.used() == used, what, "blobs are left")
            check(not any((store.root / "staging").iterdir()), what, "staging")
            store.fsck(what)
    store.export_is(tree, "after errors")


def budget(top, work):
    """Refused before a byte; what was released makes room."""
    need = sum(p.stat().st_size for p in (top / "in").iterdir())
    store = Store(work, "--budget", str(need + need // 2))
    store.job("import", top / "in")
    used = store.used()
    done = store.job("import", top / "in", code=1)
    check("budget" in done.stderr, done.stderr)
    check(store.used() == used and store.numbers() == [1], "not refused whole")
    spec, tree = wanted(top, 2, 3)
    store.job("rescale", "--to", spec)  # needs no room
    store.export_is(tree, "within the budget")


def two_at_once(top, work):
    """Both get a number of their own."""
    spec, tree = wanted(top, 2, 3)
    store = Store(work)
    store.job("import", top / "in")
    for n in range(5):
        children = [subprocess.Popen(
            [RETILE, *args, "--store", store.root, "--job", "j"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            for args in (["rescale", "--to", spec], ["import", top / "in"])]
        texts = [child.communicate(timeout=60)[1] for child in children]
        check([c.returncode for c in children] == [0, 0], texts)
        check(store.numbers() == list(range(1, 2 * n + 4)), store.numbers())
    store.fsck("two at once", "scrub")


def compacts(top, work):
    """Bytes stay, blobs change, the old ones go with the sweep."""
    spec, tree = wanted(top, 2, 3)
    store = Store(work)
    store.job("import", top / "in")
    store.job("rescale", "--to", spec)
    shown = json.loads(store.job("version", "show", "--json").stdout)
    check(shown["compaction"]["is_due"], shown)
    done = json.loads(run("store", "compact", store.root, "--json").stdout)
    check([(v["number"], v["compacted"]) for v in done["versions"]] ==
          [(1, False), (2, True)], done)
    check(done["versions"][1]["copied_bytes"] == shown["compaction"]["bytes"],
          done, shown)
    store.export_is(tree, "compacted")
    store.job("version", "release", 1)
    listed = json.loads(run("store", "ls", store.root, "--json").stdout)
    swept = json.loads(run("store", "sweep", store.root, "--json").stdout)
    check(swept["freed_bytes"] == listed["unnamed_bytes"] > 4_000_000, swept,
          listed)
    store.export_is(tree, "compacted and swept")
    shown = json.loads(store.job("version", "show", "--json").stdout)
    check(shown["compaction"]["is_compact"], shown)
    used = store.used()
    done = run("store", "compact", store.root, "j").stdout
    check("is compact" in done and store.used() == used, done)
    store.fsck("compacted", "scrub")
    run("store", "compact", store.root, "j@9", code=3)
    run("store", "compact", store.root, "other", code=3)
    run("store", "scrub", store.root, "j", code=2)


def damaged(top, work):
    """One damaged version does not hide the others."""
    store = Store(work)
    store.job("import", top / "in")
    store.job("import", top / "in")
    manifest = store.root / "jobs/j/versions/1/manifest"
    text = bytearray(manifest.read_bytes())
    text[300] ^= 1
    manifest.write_bytes(text)
    lines = store.job("version", "ls").stdout.splitlines()
    check(len(lines) == 3 and "damaged" in lines[1] and
          "import" in lines[2], *lines)
    listed = json.loads(store.job("version", "ls", "--json").stdout)
    check([v["number"] for v in listed["versions"]] == [1, 2], listed)
    check("digest" in listed["versions"][0]["damaged"], listed)
    check("1 damaged" in run("store", "ls", store.root).stdout)
    store.job("version", "show")
    store.job("version", "show", 1, code=1)


def flips(top, work):
    """Each flipped bit of a blob is found and named."""
    spec, _ = wanted(top, 2, 3)
    store = Store(work)
    store.job("import", wanted(top, 2, 3)[1])
    blobs = sorted(p for p in (store.root / "blobs").rglob("*")
                   if p.is_file() and p.stat().st_size > 0)
    sizes = [p.stat().st_size for p in blobs]
    rng = random.Random(int(os.environ.get("RETILE_SEED", "5")))
    for n in range(N_FLIPS):
        blob = rng.choices(blobs, sizes)[0]
        at, bit = rng.randrange(blob.stat().st_size), 1 << rng.randrange(8)
        os.chmod(blob, 0o600)
        with open(blob, "r+b") as file:
            for _ in range(2):  # flip it, and back
                file.seek(at)
                byte = file.read(1)[0]
                file.seek(at)
                file.write(bytes([byte ^ bit]))
                file.flush()
                if _ == 0:
                    done = run("store", "scrub", store.root, code=3)
        text = done.stdout
        check("j@1" in text, blob, at, text)
        if blob.stat().st_size > 100_000 and at > 8192:
            check(any(word in text for word in
                      ("h.", "emb.weight", "optim", "flat")), at, text)
    store.fsck("flips", "scrub")
    print(f"{N_FLIPS} flipped bits found", flush=True)


PARTS = (exports, rescale_is_small, errors, budget, two_at_once,
         compacts, damaged, flips)


def main():
    parent = os.environ.get("RETILE_TMP")
    with tempfile.TemporaryDirectory(prefix="retile-store-",
                                     dir=parent) as top:
        top = pathlib.Path(top)
        make_source(top / "in")
        for part in PARTS:
            if not sys.argv[1:] or any(word in part.__name__
                                       for word in sys.argv[1:]):
                work = top / part.__name__
                work.mkdir()
                part(top, work)
                shutil.rmtree(work)
                print(part.__name__, "ok", flush=True)
    print("all right")


if __name__ == "__main__":
    main()
