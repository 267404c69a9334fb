#!/usr/bin/env python3
"""What --json prints has the keys that docs/formats.md lists, of each verb.

    json_output.py
"""
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

from bad_input_cases import kit

BIN = pathlib.Path(os.environ["RETILE_BIN"])
FORMATS = pathlib.Path(os.environ["RETILE_SOURCE"]) / "docs" / "formats.md"
JOB = "--store s --job j"
COMMANDS = (  # in this order
    "inspect in", "plan in --to fsdp2:dp=2", "convert in two --to fsdp2:dp=2",
    "verify in", "store init s", f"import in {JOB}",
    f"rescale {JOB} --to fsdp2:dp=2", f"export out {JOB}", f"version ls {JOB}",
    f"version show {JOB}", f"version pin 1 --why x {JOB}",
    f"version unpin 1 {JOB}", f"version rollback 1 {JOB}",
    f"version release 1 {JOB}", "store ls s", "store fsck s", "store scrub s",
    "store compact s", "store sweep s", "fault ls")


def documented():
    """"store ls" or "store ls: jobs[]" -> keys."""
    text = FORMATS.read_text().split("## What `--json` prints")[1]
    rows = {}
    for verbs, keys in re.findall(r"^\| (`.*?) \| `(.*?)`", text, re.MULTILINE):
        for verb in re.findall(r"`(.*?)`", verbs):
            rows[verb] = keys.split()
    return rows


def compare(what, found, keys):
    if sorted(found) != sorted(keys):
        sys.exit(f"FAIL {what}: {sorted(found)}, the document says "
                 f"{sorted(keys)}")


def put_vote(store):
    """j@1 once more, as what job k waits for; no command votes."""
    folder = store / "staging" / "vote.k.1"
    folder.mkdir()
    shutil.copytree(store / "jobs/j/versions/1", folder / "version")
    digest = (folder / "version/manifest").read_bytes()[-16:].hex()
    (folder / "vote").write_text(
        "retile vote 1\njob k\nnumber 1\ngeneration 2\norigin import\nstep -\n"
        f"parent 0\nmanifest {digest}\nadopted 0\n")


def main():
    rows = documented()
    seen = set()
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "rescale":
            put_vote(pathlib.Path("s"))
        done = subprocess.run([BIN / "retile", *words, "--json"], timeout=60,
                              capture_output=True, check=True)
        found = json.loads(done.stdout)
        verb = next(v for v in (" ".join(words[:2]), words[0]) if v in rows)
        for row in (row for row in rows if row.split(":")[0] == verb):
            part = found
            if ": " in row:
                part = found[row.split(": ")[1].removesuffix("[]")]
                part = part[0] if isinstance(part, list) else part
            compare(row, part, rows[row])
            seen.add(row)
    compare("verbs", seen, rows)
    print(f"{len(COMMANDS)} commands print what {len(rows)} rows say")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as top:
        os.chdir(top)
        kit.good(pathlib.Path(top))
        main()
        os.chdir("/")
