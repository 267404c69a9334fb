#!/usr/bin/env python3
"""scripts/curves.py draws what it was given: both curves, the lost steps, each
event with its label, all inside the picture.

    curves.py
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as tree

SCRIPT = pathlib.Path(os.environ["RETILE_SOURCE"]) / "scripts" / "curves.py"
SVG = "{http://www.w3.org/2000/svg}"


def check(is_so, *what):
    if not is_so:
        raise AssertionError("\n    ".join(map(str, what)))


def lines(steps, front=""):
    return "".join(f"{front}step {s} loss {5 / s + 2:.9f} ms 12\n"
                   for s in steps)


def draw(folder, alone, run, events, code=0):
    for name, text in (("alone", alone), ("run", run),
                       ("events", json.dumps(events))):
        (folder / name).write_text(text)
    found = subprocess.run(
        [sys.executable, "-B", SCRIPT, folder / "alone", folder / "run",
         "--events", folder / "events", "-o", folder / "svg"],
        timeout=60, capture_output=True, text=True)
    check(found.returncode == code, f"exit {found.returncode}", found.stderr)
    return tree.parse(folder / "svg").getroot() if code == 0 else found.stderr


def n_points(picture):
    return [len(curve.get("points").split())
            for curve in picture.iter(f"{SVG}polyline")]


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        labels = ["pp=2 & <dp=1>", "device 1 failed", "a longer label than most",
                  "the end"]
        events = [{"step": 10 + 12 * i, "kind": "rescale", "label": label}
                  for i, label in enumerate(labels)]
        picture = draw(folder, lines(range(1, 51)), "begin 0\n[rank 3] begin 0\n"
                       + lines([*range(1, 31), *range(21, 51)], "[rank 3] "),
                       events)
        # Steps 21 to 30 were lost once.
        check(n_points(picture) == [50, 10, 50], n_points(picture))
        texts = {text.text: text for text in picture.iter(f"{SVG}text")}
        for label in labels:
            check(label in texts, label, *texts)
            n = 7.4 * len(label) * (-1 if texts[label].get("text-anchor") == "end"
                                    else 1)
            end = float(texts[label].get("x")) + n
            check(0 < end < int(picture.get("width")), label, "ends at", end)

        # One step, no event, no difference: still a picture.
        check(n_points(draw(folder, lines([1]), lines([1]), [])) == [1, 1], "one")
        refused = draw(folder, lines([1]), "nothing\n", [], code=1)
        check("run: no line says" in refused, refused)
    print("curves, lost steps and labels are drawn")


if __name__ == "__main__":
    main()
