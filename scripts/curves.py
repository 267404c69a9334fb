#!/usr/bin/env python3
"""Draw a run's losses beside those of an uninterrupted one, as an SVG.

    curves.py ALONE RUN [--events FILE] [--title TEXT] -o PICTURE.svg

ALONE and RUN are what train_gpt.py printed, or a launcher that puts ranks in
front: lines that say "step 17 loss 3.14".  A step that RUN did again, after a
failure, counts as it was done last; what it did before was lost, and is drawn
as that.  FILE is a JSON list of what happened after which step:

    [{"step": 40, "kind": "rescale", "label": "pp=2"},
     {"step": 60, "kind": "failure", "label": "device 1 failed"}]

Above are both losses, below is by how much they differ, on a logarithmic axis.
"""
import argparse
import json
import math
import pathlib
import re
import sys
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 960, 78, 28
ROW = 19             # of labels of events
UPPER, LOWER = 300, 96
INK, PALE, GRID = "#1f2933", "#66727f", "#e4e8ec"
ALONE, RUN, LOST = "#f2b45c", "#1d5fa8", "#c8453b"
KINDS = {"failure": "#c8453b", "rescale": "#3b8254"}  # others: PALE
OVER = {"stroke": "#ffffff", "stroke_width": 5, "stroke_linejoin": "round",
        "paint_order": "stroke"}  # for text over the lines of events
# What train_gpt.py says of runs under several meshes.
TOLERANCE = 1e-7
LOSS = re.compile(r"\bstep (\d+) loss (\d+(?:\.\d+)?)")


def read_losses(path):
    """(step, loss) as they were printed."""
    found = [(int(m[1]), float(m[2])) for m in
             map(LOSS.search, path.read_text().splitlines()) if m]
    if not found:
        sys.exit(f"curves: {path}: no line says 'step N loss X'")
    return found


def kept_and_lost(losses):
    """The steps that count, and the parts of the run that were lost."""
    kept, lost = [], []
    for step, loss in losses:
        again = [point for point in kept if point[0] >= step]
        if again:
            lost.append(again)
            kept = kept[:-len(again)]
        kept.append((step, loss))
    return kept, lost


def ticks(low, high, n):
    """Some @n round numbers from low to high."""
    raw = max(high - low, 1e-9) / n
    size = 10.0 ** math.floor(math.log10(raw))
    size *= next(m for m in (1, 2, 5, 10) if m * size >= raw)
    first = math.ceil(low / size - 1e-9)
    return [i * size for i in range(first, math.floor(high / size + 1e-9) + 1)]


class Picture:
    def __init__(self):
        self.parts = []

    def add(self, name, text=None, **attributes):
        words = "".join(f' {key.replace("_", "-")}="{value}"'
                        for key, value in attributes.items())
        self.parts.append(f"<{name}{words}/>" if text is None else
                          f"<{name}{words}>{escape(text)}</{name}>")

    def line(self, x1, y1, x2, y2, color, width=1, **more):
        self.add("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}",
                 y2=f"{y2:.1f}", stroke=color, stroke_width=width, **more)

    def text(self, x, y, text, color=INK, anchor="start", size=13, **more):
        self.add("text", text, x=f"{x:.1f}", y=f"{y:.1f}", fill=color,
                 text_anchor=anchor, font_size=size, **more)

    def curve(self, points, color, width, **more):
        self.add("polyline", points=" ".join(
            f"{x:.1f},{y:.1f}" for x, y in points), fill="none", stroke=color,
            stroke_width=width, stroke_linejoin="round",
            stroke_linecap="round", **more)

    def whole(self, height):
        return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
                f'height="{height}" viewBox="0 0 {WIDTH} {height}" font-family='
                '"DejaVu Sans, Helvetica, Arial, sans-serif">\n'
                + "\n".join(self.parts) + "\n</svg>\n")


def scale(low, high, begin, end):
    return lambda value: begin + (value - low) / (high - low) * (end - begin)


def grid(picture, marks, y, names):
    for value in marks:
        picture.line(LEFT, y(value), WIDTH - RIGHT, y(value), GRID)
        picture.text(LEFT - 9, y(value) + 4.5, names(value), PALE, "end")


def place_labels(events, x):
    """(event, row, text anchor): in the first row in which it touches no
    other; one that would leave the picture ends at its line."""
    placed, rows = [], []
    for event in events:
        width = 7.4 * len(event["label"]) + 22
        at = x(event["step"])
        is_left = at + width > WIDTH - RIGHT
        begin, end = (at - width, at) if is_left else (at, at + width)
        row = 0
        while row < len(rows) and any(b < end and begin < e
                                      for b, e in rows[row]):
            row += 1
        rows[row:] = rows[row:] or [[]]
        rows[row].append((begin, end))
        placed.append((event, row, "end" if is_left else "start"))
    return placed, len(rows)


def draw_events(picture, placed, x, top, bottom):
    lines = [(event, x(event["step"]), top - 10 - ROW * row, anchor,
              KINDS.get(event.get("kind"), PALE))
             for event, row, anchor in placed]
    for _, at, y, _, color in lines:
        picture.line(at, y - 5, at, bottom, color, 1.3, stroke_dasharray="4 3")
    for event, at, y, anchor, color in lines:  # over the lines of others
        picture.add("circle", cx=f"{at:.1f}", cy=f"{y - 5:.1f}", r=4, fill=color)
        picture.text(at + (9 if anchor == "start" else -9), y, event["label"],
                     color, anchor, **OVER)


def draw_legend(picture, x, y, has_lost):
    entries = [("an uninterrupted run, one process", ALONE, 6, {}),
               ("this run", RUN, 1.8, {})]
    if has_lost:
        entries.append(("steps lost and done again", LOST, 2.4,
                        {"stroke_dasharray": "2 4"}))
    picture.add("rect", x=f"{x - 12:.1f}", y=f"{y - 21:.1f}", width=318,
                height=21 * len(entries) + 12, rx=5, fill="#ffffff",
                stroke=GRID)
    for text, color, width, more in entries:
        picture.line(x, y - 4.5, x + 34, y - 4.5, color, width, **more)
        picture.text(x + 43, y, text)
        y += 21


def draw(alone, losses, events, title):
    run, lost = kept_and_lost(losses)
    alone = kept_and_lost(alone)[0]
    want = dict(alone)
    apart = [(s, abs(v - want[s])) for s, v in run if s in want]
    steps = [s for s, _ in alone + run] + [e["step"] for e in events]
    all_losses = [v for _, v in alone + losses]
    last = max(max(steps), min(steps) + 1)
    x = scale(min(steps), last, LEFT, WIDTH - RIGHT)
    placed, n_rows = place_labels(sorted(events, key=lambda e: e["step"]), x)
    top = 50 + ROW * n_rows
    bottom, under = top + UPPER, top + UPPER + 42
    low, high = min(all_losses), max(all_losses)
    room = 0.04 * max(high - low, 1e-9)
    y = scale(low - room, high + room, bottom, top)

    picture = Picture()
    height = under + LOWER + 54
    picture.add("rect", width=WIDTH, height=height, fill="#ffffff")
    picture.text(LEFT, 31, title, size=18, font_weight="bold")
    grid(picture, ticks(low, high, 6), y, lambda v: f"{v:g}")
    picture.text(0, 0, "loss", PALE, "middle", transform=f"translate(20 "
                 f"{(top + bottom) / 2:.1f}) rotate(-90)")
    picture.curve([(x(s), y(v)) for s, v in alone], ALONE, 6)

    # What differs by nothing is drawn at the foot of the lower axis.
    found = [d for _, d in apart if d > 0]
    floor = min([math.floor(math.log10(min(found))) if found else -9, -3])
    roof = max([math.ceil(math.log10(max(found))) if found else -6, floor + 2])
    z = scale(floor, roof, under + LOWER, under)
    grid(picture, range(floor, roof + 1, max(1, (roof - floor + 2) // 4)), z,
         lambda e: f"1e{e}" if e > floor else "0")
    for step in ticks(min(steps), last, 10):
        picture.line(x(step), under + LOWER, x(step), under + LOWER + 5, PALE)
        picture.text(x(step), under + LOWER + 20, f"{step:g}", PALE, "middle")
    picture.text(WIDTH - RIGHT, under + LOWER + 40, "step", PALE, "end")

    draw_events(picture, placed, x, top, under + LOWER)
    picture.text(LEFT + 6, under - 9, "difference of the two" + (
        "" if found else ": none in the digits that were printed"), PALE, **OVER)
    for part in lost:  # raised, since they were done again as they had been
        picture.curve([(x(s), y(v)) for s, v in part], LOST, 2.4,
                      stroke_dasharray="2 4", transform="translate(0 -7)")
    picture.curve([(x(s), y(v)) for s, v in run], RUN, 1.8)
    for step, d in apart:
        at = z(math.log10(d)) if d > 0 else z(floor)
        picture.add("circle", cx=f"{x(step):.1f}", cy=f"{at:.1f}", r=1.7,
                    fill=RUN)
    for edge in bottom, under + LOWER:
        picture.line(LEFT, edge, WIDTH - RIGHT, edge, PALE)
    draw_legend(picture, WIDTH - RIGHT - 316, top + 30, bool(lost))
    return picture.whole(height)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("alone", type=pathlib.Path)
    parser.add_argument("run", type=pathlib.Path)
    parser.add_argument("--events", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--title", default="The loss of a run that changes")
    parser.add_argument("-o", dest="picture", type=pathlib.Path, required=True,
                        metavar="PICTURE.svg")
    args = parser.parse_args()
    events = json.loads(args.events.read_text()) if args.events else []
    args.picture.write_text(draw(read_losses(args.alone), read_losses(args.run),
                                 events, args.title))


if __name__ == "__main__":
    main()
