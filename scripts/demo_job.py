#!/usr/bin/env python3
"""The run of demo.sh: a job that is trained, rescaled, hit by a failure, and
rescaled again, told live; then its losses beside those of an uninterrupted run,
and what each change took.

    demo_job.py --retile PROGRAM --dir CLUSTER --out FOLDER

All that it does it does with the command line, as a person would.
"""
import argparse
import json
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

import curves
from demo_report import Report, read_lines

ROOT = pathlib.Path(__file__).resolve().parent.parent
TRAIN = ROOT / "examples" / "train_gpt.py"
LAYOUT = ROOT / "examples" / "train_gpt.yaml"
STEPS, EVERY = 200, 20
LINE = re.compile(r"\[\d+\] (begin|step|saved) (\d+)(?: loss (\S+))?")
# After which step what is done.
PLAN = [(50, "rescale", "tp=1,pp=2,dp=1"), (93, "fail", None),
        (110, "recover", None), (135, "rescale", "tp=2,pp=2,dp=2")]


class Screen:
    """One line that changes, on a terminal; else one now and then."""

    def __init__(self):
        self.is_live = sys.stdout.isatty()
        self.told_at = 0

    def live(self, text, is_due):
        if self.is_live:
            print(f"\r\x1b[K{text}", end="", flush=True)
        elif is_due:
            print(text, flush=True)

    def say(self, text):
        print(f"\r\x1b[K{text}" if self.is_live else text, flush=True)


class Demo:
    def __init__(self, args):
        self.args, self.screen = args, Screen()
        self.out = args.out
        self.alone, self.losses = {}, {}
        self.mesh, self.generation, self.lost = "", 0, {}
        self.plan, self.running, self.events = list(PLAN), [], []
        self.device = None

    def shell(self, *words):
        """Told, run to its end; its standard output."""
        self.screen.say("$ retile " + shlex.join(words))
        done = subprocess.run([self.args.retile, *words], text=True, check=False,
                              stdout=subprocess.PIPE)
        if done.returncode != 0:
            sys.exit(f"demo: `retile {words[0]}` failed: {done.returncode}")
        return done.stdout

    def begin(self, *words):
        """Told, begun; (what, process, its output's file)."""
        self.screen.say("$ retile " + shlex.join(words))
        path = self.out / f"change-{len(self.running) + 1}.json"
        with open(path, "wb") as file:
            self.running.append((words, subprocess.Popen(
                [self.args.retile, *words, "--json"], stdout=file,
                stderr=subprocess.DEVNULL), path))

    def run_alone(self):
        self.screen.say(f"\nthe same script alone, one process, {STEPS} steps: "
                        "what the losses must be")
        with open(self.out / "alone.out", "wb") as file:
            subprocess.run([sys.executable, TRAIN, "--steps", str(STEPS)],
                           stdout=file, check=True)
        self.alone = dict(curves.read_losses(self.out / "alone.out"))

    def job(self):
        return json.loads(subprocess.run(
            [self.args.retile, "job", "show", "gpt", "--json"], check=True,
            stdout=subprocess.PIPE).stdout)["job"]

    def act(self, step):
        """What is due after @step."""
        if not self.plan or step < self.plan[0][0]:
            return
        _, verb, to = self.plan.pop(0)
        if verb == "rescale":
            self.begin("rescale", "gpt", "--to", to, "--wait")
            self.events.append({"step": step, "kind": "rescale", "label": to})
        elif verb == "fail":
            used = self.job()["generation"]["placements"][-1]
            self.device = f"{used['host']}/{used['device']}"
            self.shell("device", "fail", self.device, "--reason", "the demo")
            self.events.append({"step": step, "kind": "failure",
                                "label": f"device {used['device']} fails"})
        else:
            self.shell("device", "recover", self.device)

    def take(self, line):
        """A line of the launcher's output."""
        found = LINE.search(line)
        if not found:
            return
        what, step = found[1], int(found[2])
        if what == "begin":
            job = self.job()
            self.generation = job["generation"]["number"]
            self.mesh = job["generation"]["mesh"]
            again = [s for s in self.losses if s > step]
            self.lost[self.generation] = len(again)
            self.screen.say(f"generation {self.generation}, {self.mesh}: goes on "
                            f"after step {step}" + (
                                f"; {len(again)} steps are done again"
                                if again else ""))
        elif what == "step":
            self.losses[step] = float(found[3])
            apart = abs(self.losses[step] - self.alone[step])
            self.screen.live(
                f"step {step:3d}/{STEPS}  loss {self.losses[step]:.6f}  alone "
                f"{self.alone[step]:.6f}  apart {apart:.0e}  generation "
                f"{self.generation}  {self.mesh}", step % 10 == 0)
            self.act(step)

    def train(self):
        command = ["launch", "gpt", "--", sys.executable, TRAIN, "--steps",
                   str(STEPS), "--save-every", str(EVERY), "--json-lines",
                   self.out / "run.jsonl"]
        self.screen.say("$ retile launch gpt -- python examples/train_gpt.py "
                        f"--steps {STEPS} --save-every {EVERY}")
        with open(self.out / "run.out", "w", encoding="utf-8") as copy, \
                open(self.out / "launch.err", "wb") as errors:
            launch = subprocess.Popen(
                [self.args.retile, *map(str, command)], text=True,
                stdout=subprocess.PIPE, stderr=errors)
            for line in launch.stdout:
                copy.write(line)
                copy.flush()
                self.take(line)
            if launch.wait() != 0:
                sys.exit("demo: the run failed:\n"
                         + (self.out / "launch.err").read_text())
        for words, process, _ in self.running:
            if process.wait() != 0:
                sys.exit(f"demo: `retile {shlex.join(words)}` failed")

    def cluster(self):
        for path in self.out.glob("change-*.json"):
            path.unlink()
        (self.out / "run.jsonl").unlink(missing_ok=True)
        for name, value in re.findall(
                r"export (\w+)='(.*)'", self.shell(
                    "dev", "up", "--slots", "8", "--dir", str(self.args.dir))):
            os.environ[name] = value
        self.shell("job", "submit", "gpt", "--layout", str(LAYOUT))
        with open(self.out / "events.jsonl", "wb") as file:
            watch = subprocess.Popen(  # it would wait for ever without us
                ["setpriv", "--pdeathsig", "INT", self.args.retile, "watch",
                 "gpt", "--from", "1", "--json"], stdout=file)
        try:
            self.train()
            print(self.shell("job", "show", "gpt"))
            # What the launcher knows the watch is told, in its own time.
            end = time.monotonic() + 10
            while not any(e["kind"] == "job" and e["text"] == "done"
                          for e in read_lines(self.out / "events.jsonl")):
                if time.monotonic() > end:
                    sys.exit("demo: the watch never said that the job is done")
                time.sleep(0.05)
        finally:
            watch.send_signal(signal.SIGINT)
            watch.wait()
        self.shell("dev", "down", "--dir", str(self.args.dir))

    def end(self):
        report = Report(self.out, self.lost)
        picture = self.out / "curves.svg"
        picture.write_text(curves.draw(
            curves.read_losses(self.out / "alone.out"),
            curves.read_losses(self.out / "run.out"), self.events,
            "A GPT that is rescaled, fails, and is rescaled again"))
        apart = max(abs(self.losses[s] - self.alone[s]) for s in self.alone)
        if sorted(self.losses) != sorted(self.alone):
            sys.exit("demo: the two runs have not the same steps")
        print(report.text())
        print(f"the largest difference of the {len(self.alone)} losses from the "
              f"uninterrupted run's: {apart:.1e} (may be {curves.TOLERANCE:.0e})")
        print(f"the two curves as a picture: {picture}")
        if apart > curves.TOLERANCE:
            sys.exit("demo: they differ by more than they may")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in "retile", "dir", "out":
        parser.add_argument(f"--{name}", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.retile = args.retile.resolve()
    begin = time.monotonic()
    demo = Demo(args)
    demo.run_alone()
    demo.cluster()
    demo.end()
    print(f"{time.monotonic() - begin:.0f} s in all; what README shows under "
          "\"Using it\" can be typed now")


if __name__ == "__main__":
    main()
