"""What each change of a job took, from what `retile watch --json`, `retile
rescale --wait --json` and train_gpt.py --json-lines have written.

    Report(FOLDER, lost).text()

A change begins when it is asked for, or a device fails, and ends with the first
step of the next generation.  In between

  save, stop   training processes end their step, save, exit; or are killed
  version      the next version is made: coordinator and agent
  ready        nothing is left of the old generation, the next is prepared:
               coordinator and agent
  start        its processes: fork, import torch, find each other, load
  first step   of training
"""
import datetime
import json


def read_lines(path):
    """The JSON objects of a file, one a line; not of a line that is written."""
    return [json.loads(line) for line in path.read_text().splitlines(True)
            if line.endswith("\n")]


def seconds(text):
    return datetime.datetime.fromisoformat(text).timestamp()


class Report:
    def __init__(self, folder, lost):
        """@lost: generation -> steps that it did again."""
        self.lost = lost
        self.events = read_lines(folder / "events.jsonl")
        self.facts = read_lines(folder / "run.jsonl")
        self.plans = [json.loads(path.read_text()) for path in
                      sorted(folder.glob("change-*.json"))]

    def when(self, kind, number, word):
        """When that generation, or attempt, became @word; None: never."""
        key = "generation" if kind == "generation" else "version"
        for event in self.events:
            words = event["text"].replace(":", " ").split()
            if event["kind"] == kind and event[key] == number and \
                    words[2:3] == [word]:
                return seconds(event["time"])
        return None

    def end_of(self, generation):
        return self.when("generation", generation, "ended") or \
            self.when("generation", generation, "revoked")

    def row(self, old, new):
        """The change from generation @old to @new."""
        is_failure = self.when("generation", old, "draining") is None
        made = [e["version"] for e in self.events if e["kind"] == "attempt"
                and e["text"].startswith("rescale")
                and self.end_of(old) <= seconds(e["time"])
                <= self.when("generation", new, "preparing")]
        facts = [f for f in self.facts if f["generation"] == new]
        begun = next(f["time"] for f in facts if "begin" in f)
        first = next(f["time"] for f in facts if "step" in f)
        ended = self.end_of(old)
        asked = self.when("generation", old, "draining") or ended
        prepared = self.when("generation", new, "preparing")
        ready = self.when("generation", new, "ready")
        version = self.when("attempt", made[0], "ready") - \
            self.when("attempt", made[0], "open") if made else 0
        if is_failure:
            what, moved, bound = "a device fails", 0, 0
        else:
            plan = self.plans.pop(0)
            what = "rescale to " + plan["mesh"]
            moved, bound = (plan["plan"][key] for key in
                            ("moved_bytes", "bound_bytes"))
        return (what, first - asked, ended - asked, version, ready - prepared,
                begun - ready, first - begun, moved, bound,
                self.lost.get(new, 0))

    def rows(self):
        generations = sorted({f["generation"] for f in self.facts})
        return [self.row(old, new) for old, new in
                zip(generations, generations[1:])]

    def text(self):
        lines = [f"{'':24}{'seconds':>8} = {'save,':>6}  {'version':>7}  "
                 f"{'ready':>6}  {'start':>6}  {'first':>6}   {'bytes':>6}  "
                 f"{'least':>6}  {'lost':>5}",
                 f"{'change':24}{'in all':>8}   {'stop':>6}  {'':7}  {'':6}  "
                 f"{'':6}  {'step':>6}   {'moved':>6}  {'':6}  {'steps':>5}"]
        for what, total, *parts, moved, bound, lost in self.rows():
            stop, version, ready, start, step = (f"{p:.3f}" for p in parts)
            lines.append(f"{what:24}{total:8.3f}   {stop:>6}  {version:>7}  "
                         f"{ready:>6}  {start:>6}  {step:>6}   {moved:6}  "
                         f"{bound:6}  {lost:5}")
        lines.append("version and ready are Retile's own; the rest is of the "
                     "training processes,\nmost of it `import torch`")
        return "\n".join(lines)
