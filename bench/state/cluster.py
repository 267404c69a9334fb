"""A rescale of a job that runs: which part of it took what.

A cluster of this machine, its store in memory, and its database, too; once more
with that on a disk.  A job trains (cluster_rank.py),
and goes back and forth between two layouts.  Times are the coordinator's, of
its API, and the ranks' own; it is one clock.  "ready" is what counts: from the
last process's end to the next generation that a launcher may start.
"""
import datetime
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time

from state.common import RETILE, cpu_of, run, workplace
from state.states import make_gpt

SPECS = ("tp=2,pp=2", "tp=4,pp=1")
WAIT_S = 300
RANK = pathlib.Path(__file__).with_name("cluster_rank.py")
NAMES = ("coordinator", "agent", "mount")


def ns_of(text):
    """2026-11-22T06:43:55.000123Z"""
    when = datetime.datetime.fromisoformat(text)
    return int(when.timestamp()) * 10**9 + when.microsecond * 1000


def until(what, condition):
    end = time.monotonic() + WAIT_S
    while not (found := condition()):
        if time.monotonic() > end:
            sys.exit(f"not within {WAIT_S} s: {what}")
        time.sleep(0.02)
    return found


class Cluster:
    """`retile dev up`, one job of it, and what runs it."""

    def __init__(self, top, log, db=None):
        """@db: where the coordinator's database is, if not beside the rest."""
        self.dir, self.log, self.launch = top / "dev", log, None
        if db is not None:
            self.dir.mkdir(0o700)
            (self.dir / "retile-dev").touch(0o600)  # it is for `dev up`
            (self.dir / "coordinator.db").symlink_to(db)
        run(RETILE, "dev", "up", "--slots", "4", "--dir", self.dir)
        told = json.loads(run(RETILE, "dev", "status", "--json", "--dir",
                              self.dir))
        self.pids = {name: told[f"{name}_pid"]
                     for name in ("coordinator", "agent")}
        os.environ["RETILE_COORDINATOR"] = told["coordinator"]
        os.environ["RETILE_AGENT"] = told["agent"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.launch is not None:
            self.launch.send_signal(signal.SIGTERM)
            self.launch.wait(WAIT_S)
        run(RETILE, "dev", "down", "--dir", self.dir)

    def start(self):
        self.launch = subprocess.Popen(
            [str(RETILE), "launch", "bench", "--", sys.executable, str(RANK),
             str(self.log)], stdout=subprocess.DEVNULL)
        agent = self.pids["agent"]
        self.pids["mount"] = int(pathlib.Path(
            f"/proc/{agent}/task/{agent}/children").read_text().split()[0])

    def job(self):
        return json.loads(run(RETILE, "job", "show", "bench", "--json"))["job"]

    def cpu(self):
        """Seconds; of threads that have ended, too."""
        return {name: cpu_of(pid) if name == "mount" else
                time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3)
                for name, pid in self.pids.items()}

    def written(self):
        """Bytes that coordinator and agent wrote, by any call."""
        total = 0
        for name in ("coordinator", "agent"):
            io = pathlib.Path(f"/proc/{self.pids[name]}/io").read_text()
            total += int(io.split("wchar:")[1].split()[0])
        return total

    def told(self, generation, what):
        """When its ranks said so, the last of them."""
        lines = map(json.loads, self.log.read_text().splitlines())
        return [line["time_ns"] for line in lines
                if (line["generation"], line["what"]) == (generation, what)]

    def wait_loaded(self, generation):
        until(f"generation {generation} is loaded",
              lambda: self.log.exists() and
              len(self.told(generation, "loaded")) == 4)


def rescale(cluster, spec):
    """One of them, as milliseconds by part."""
    old = cluster.job()["generation"]["number"]
    cpu0, written0 = cluster.cpu(), cluster.written()
    asked = time.time_ns()
    run(RETILE, "rescale", "bench", "--to", spec, "--wait")
    cpu1, written1 = cluster.cpu(), cluster.written()
    cluster.wait_loaded(old + 1)
    job = cluster.job()
    now, before = job["generation"], job["history"][0]
    version = next(v for v in job["versions"] if v["number"] == now["load"])
    assert (now["number"], before["number"]) == (old + 1, old), job
    assert version["kind"] == "rescale", version
    at = {"asked": asked, "ended": ns_of(before["ended"]),
          "opened": ns_of(version["opened"]),
          "committed": ns_of(version["created"]),
          "published": ns_of(version["ready"]),
          "created": ns_of(now["created"]), "ready": ns_of(now["ready"]),
          "running": ns_of(now["running"])}
    for what, generation in (("seen", old), ("written", old), ("saved", old),
                             ("exits", old), ("began", old + 1),
                             ("loaded", old + 1)):
        at[what] = max(cluster.told(generation, {"seen": "asked"}.get(
            what, what)))

    def ms(begin, end):
        return (at[end] - at[begin]) / 1e6

    return {
        "load": os.getloadavg()[0], "seen": ms("asked", "seen"), "written": ms("seen", "written"),
        "save": ms("written", "saved"), "exits": ms("saved", "exits"),
        "told": ms("exits", "opened"), "voted": ms("opened", "committed"),
        "published": ms("committed", "published"),
        "prepared": ms("created", "ready"), "ready": ms("exits", "ready"),
        "started": ms("ready", "running"), "loaded": ms("running", "loaded"),
        **{f"{name}_cpu": (cpu1[name] - cpu0[name]) * 1e3 for name in NAMES},
        "written_kb": (written1 - written0) / 1e3,
    }


def bench(top, args):
    rows = measure(top / "memory", args)
    with workplace(args.dir) as disk:
        rows += [{"db": "disk", **row} for row in
                 measure(top / "disk", args, (disk / "c.db").resolve())]
    return rows


def measure(top, args, db=None):
    top.mkdir()
    make_gpt(top / "hf", args.gib)
    run(RETILE, "convert", top / "hf", top / "tp4", "--to", "gpt2:tp=4,pp=1")
    shutil.rmtree(top / "hf")
    with Cluster(top, top / "ranks.log", db) as cluster:
        run(RETILE, "job", "submit", "bench", "--import", top / "tp4",
            "--keep", "1", "--wait")
        shutil.rmtree(top / "tp4")
        n_bytes = cluster.job()["versions"][-1]["n_bytes"]
        cluster.start()
        cluster.wait_loaded(cluster.job()["generation"]["number"])
        rows = [rescale(cluster, SPECS[n % 2]) for n in range(args.runs + 1)]
    shown = [{"case": f"to {SPECS[n % 2]}", **row}
             for n, row in enumerate(rows)]
    for title, pick in (("median", statistics.median), ("worst", max)):
        shown.append({"case": title, **{key: pick(row[key] for row in rows[1:])
                                        for key in rows[0]}})
    return [{**row, "state_gib": n_bytes / 2**30} for row in shown]
