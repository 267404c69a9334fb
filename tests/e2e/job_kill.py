#!/usr/bin/env python3
"""Whatever is killed or stopped, a job goes on: nothing that was saved is
forgotten, a call is done once or clearly not, and nothing is left at the end.

    job_kill.py [CASE]...       RETILE_SEED replays; RETILE_CASES=N: N times
"""
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time

import grpc

from cluster_lab import RETILE, TOY, Cluster, Daemon
from mounted import check, processes_of

MESHES = ("tp=2,dp=1", "tp=4,dp=1", "tp=1,dp=2", "tp=3,dp=1", "tp=2,dp=2")
N_CASES = int(os.environ.get("RETILE_CASES", 1))
# What passes while a job is saved, rescaled and started, by who passes it.
POINTS = {
    "coordinator": ("coordinator.commit", "coordinator.committed"),
    "agent": ("agent.prepared", "agent.started", "agent.voted", "agent.publish",
              "agent.published", "vote.made", "vote.voted", "vote.publish",
              "vote.published", "vote.removed", "store.sealed"),
    "mount": ("mount.opened", "mount.commit", "mount.voted", "mount.decided",
              "mount.committed", "save.checked", "save.adopted"),
}


class Toy:
    """A job that trains until it is told to finish, under a launcher that is
    started again when it is killed."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.finish = cluster.path / "finish"
        self.mesh, self.n_rescales = "dp=1,tp=2", 0
        cluster.submit(max_restarts=1000)
        os.environ["RETILE_AGENT"] = cluster.agent_address
        self.launch = Daemon(cluster, "launch", [
            RETILE, "launch", "toy", "--", sys.executable, "-B", str(TOY),
            "--steps", "1000000", "--every", "5", "--trace",
            str(cluster.trace_path), "--finish", str(self.finish),
            "--hold", str(cluster.path / "hold"), "--pause", "0.01"], ends=(0,))
        cluster.wait_generation(0)
        # Without a version a rescale makes none.
        cluster.until("a version", lambda: cluster.get().version)

    def rescale(self):
        """To another mesh, by one request id, until there is an answer."""
        to = random.choice([m for m in MESHES if sorted(m.split(",")) !=
                            sorted(self.mesh.split(","))])
        generation = self.cluster.get().generation.number
        answer = self.cluster.change("Jobs/Rescale", job="toy", to=to,
                                     deadline_s=20)
        self.mesh, self.n_rescales = answer.mesh, self.n_rescales + 1
        return generation

    def goes_on(self, above):
        """The rescale is done, and training goes on under it."""
        cluster = self.cluster
        cluster.until("the change is done", lambda: not cluster.get().HasField(
            "change"))
        cluster.wait_generation(above)
        check(sorted(cluster.get().mesh.split(",")) ==
              sorted(self.mesh.split(",")), "mesh", cluster.get().mesh,
              self.mesh)
        self.steps_on()

    def steps_on(self):
        step = self.cluster.last_step()
        self.cluster.wait_step(step + 6)

    def mount_pids(self):
        """(server, holder) of the mount."""
        found = []
        for pid in processes_of(self.cluster.mark):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
                with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
                    parent = int(file.read().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            if words[0].endswith(b"retile-fuse"):
                found.append((pid, parent))
        pids = {pid for pid, _ in found}
        return ([p for p, parent in found if parent in pids],
                [p for p, parent in found if parent not in pids])

    def rank_pids(self):
        found = []
        for pid in processes_of(self.cluster.mark):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if b"toy_rank.py" in b" ".join(words) and b"launch" not in words:
                found.append(pid)
        return found

    def victim(self, who):
        cluster = self.cluster
        pids = {"coordinator": lambda: [cluster.coordinator.process.pid],
                "agent": lambda: [cluster.agent.process.pid],
                "launch": lambda: [self.launch.process.pid],
                "server": lambda: self.mount_pids()[0],
                "holder": lambda: self.mount_pids()[1],
                "rank": self.rank_pids}[who]()
        return random.choice(pids) if pids else None

    def end(self):
        cluster = self.cluster
        self.finish.touch()
        cluster.wait_state("DONE")
        self.launch.thread.join(30)
        check(self.launch.process.returncode == 0, "launch ends with",
              self.launch.process.returncode)
        cluster.check_trace(cluster.last_step())
        cluster.check_saves()
        check([v.step for v in cluster.get().versions][-1] ==
              cluster.last_step(), "the last step is no version")
        made = {e.version for e in cluster.events() if
                e.text.startswith("rescale") and e.text.endswith("ready")}
        check(len(made) == self.n_rescales,
              f"{self.n_rescales} rescales were asked for", sorted(made))
        cluster.change("Jobs/Remove", name="toy")
        cluster.until("it is removed",
                      lambda: not cluster.api("Jobs/List").jobs)


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def case_random(cluster):
    """Each in turn, at a random moment of a rescale."""
    toy = Toy(cluster)
    victims = [(who, number) for number in (signal.SIGKILL, signal.SIGSTOP)
               for who in ("coordinator", "agent", "server", "holder", "launch",
                           "rank")] * N_CASES
    random.shuffle(victims)
    for who, number in victims:
        above = toy.rescale() if random.random() < 0.7 else None
        time.sleep(random.random() * 0.3)
        pid = toy.victim(who)
        print(f"{number.name} of {who} {pid}", "while it is rescaled" if above
              else "", flush=True)
        if pid is not None:
            send(pid, number)
            if number == signal.SIGSTOP:
                time.sleep(1 + 2 * random.random())
                send(pid, signal.SIGCONT)
        if above is not None:
            toy.goes_on(above)
        toy.steps_on()
    toy.end()


def case_points(cluster):
    """A kill at each point that such a job passes."""
    toy = Toy(cluster)
    todo = [(who, point, action) for who, points in POINTS.items()
            for point in points for action in ("crash", "stop")]
    random.shuffle(todo)
    is_over = threading.Event()

    def wake():  # what has stopped itself, after a while
        while not is_over.wait(1.5):
            for pid in [cluster.coordinator.process.pid,
                        cluster.agent.process.pid, *sum(toy.mount_pids(), [])]:
                send(pid, signal.SIGCONT)
    waker = threading.Thread(target=wake, daemon=True)
    waker.start()
    for who, point, action in todo[:10 * N_CASES]:
        nth = random.randint(1, 3) if who != "mount" else 1
        fault = f"{point}={action}@{nth}"
        print(f"RETILE_FAULT={fault} of {who}", flush=True)
        daemon = cluster.coordinator if who == "coordinator" else cluster.agent
        n_starts = daemon.n_starts
        daemon.restart(fault)
        cluster.until("it is started", lambda: daemon.n_starts > n_starts)
        if who == "mount":  # which the agent starts, with its environment
            for pid in toy.mount_pids()[1]:
                send(pid, signal.SIGKILL)
        toy.goes_on(toy.rescale())
        daemon.restart(None)  # the fault may not have come
        if who == "mount":
            for pid in toy.mount_pids()[1]:
                send(pid, signal.SIGKILL)
        toy.steps_on()
    is_over.set()
    waker.join()
    toy.end()


def fill(path):
    with open(path, "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def case_nospace(cluster):
    """Nothing more fits beside the coordinator's database."""
    toy = Toy(cluster)
    toy.goes_on(toy.rescale())
    above = cluster.get().generation.number
    filler = cluster.db.parent / "filler"
    seen = set()
    end = time.monotonic() + 5
    while time.monotonic() < end and "OK" not in seen:
        fill(filler)  # again: one that starts anew makes its log shorter
        seen.add(cluster.api.code("Jobs/Rescale", request_id="full", job="toy",
                                  to="tp=4,dp=2", timeout=2).split(":")[0])
        time.sleep(0.1)
    print("no space:", sorted(seen), flush=True)
    check(seen - {"OK"} and seen <= {"UNAVAILABLE", "RESOURCE_EXHAUSTED",
                                     "DEADLINE_EXCEEDED", "INTERNAL", "OK"},
          "answers", seen)
    filler.unlink()
    answer = cluster.until("the same call again", lambda: cluster.api(
        "Jobs/Rescale", request_id="full", job="toy", to="tp=4,dp=2",
        timeout=5))
    toy.mesh, toy.n_rescales = answer.mesh, toy.n_rescales + 1
    toy.goes_on(above)
    toy.end()


def case_snapshot(cluster):
    """The coordinator's database is put back to what it was a while ago."""
    toy = Toy(cluster)
    toy.goes_on(toy.rescale())
    copy = cluster.path / "copy.db"
    source = sqlite3.connect(f"file:{cluster.db}?mode=ro", uri=True)
    target = sqlite3.connect(copy)
    source.backup(target)
    source.close()
    target.close()
    toy.goes_on(toy.rescale())
    before = cluster.get()
    with cluster.coordinator.away:
        cluster.coordinator.kill(signal.SIGKILL)
        cluster.coordinator.process.wait()
        for name in os.listdir(cluster.db.parent):
            if name.startswith(cluster.db.name):
                (cluster.db.parent / name).unlink()
        shutil.copy(copy, cluster.db)
        time.sleep(0.3)  # or longer: nothing depends on it
    generation = cluster.wait_generation(before.generation.number)
    after = cluster.get()
    check(after.version >= before.version and
          generation > before.generation.number, "numbers", before, after)
    toy.steps_on()
    toy.mesh = after.mesh
    above = toy.rescale()
    toy.goes_on(above)
    toy.n_rescales = len({e.version for e in cluster.events() if e.text.
                          startswith("rescale") and e.text.endswith("ready")})
    toy.end()


def case_unmounted(cluster):
    """Ranks that look for what to load while the mount is dead, and no other one
    is there yet, do not begin from nothing."""
    toy = Toy(cluster)
    hold = cluster.path / "hold"
    hold.touch()
    above = toy.rescale()
    begun = cluster.until("ranks have begun", lambda: list(
        cluster.path.glob("hold.*.*")))
    generation = begun[0].name.split(".")[1]
    agent = cluster.agent.process.pid
    send(agent, signal.SIGSTOP)  # which starts the next mount
    for pid in toy.mount_pids()[1]:
        send(pid, signal.SIGKILL)
    cluster.until("the mount is dead", lambda: not os.path.lexists(
        cluster.mount() / ".retile" / "status"))
    hold.unlink()
    cluster.until("they have begun to train, or ended", lambda: any(
        w[:2] == ["load", generation] for w in cluster.trace()) or
        not toy.rank_pids())
    send(agent, signal.SIGCONT)
    toy.goes_on(above)
    found = [w for w in cluster.trace() if w[:2] == ["load", generation]]
    check(all(w[3] != "0" for w in found), "from nothing", found)
    toy.end()


CASES = [case_random, case_points, case_nospace, case_snapshot, case_unmounted]


def main():
    seed = int(os.environ.get("RETILE_SEED", 0)) or random.randrange(1 << 32)
    print(f"RETILE_SEED={seed}", flush=True)
    wanted = sys.argv[1:]
    for case in CASES:
        name = case.__name__[5:]
        if wanted and name not in wanted:
            continue
        if name == "nospace" and os.geteuid() != 0:
            print("nospace is root's: it mounts a small tmpfs")
            continue
        random.seed(seed)
        begin = time.monotonic()
        cluster = Cluster(120 + 240 * N_CASES, small_db=name == "nospace")
        try:
            case(cluster)
            cluster.close()
        except BaseException:
            print(cluster.tell(), file=sys.stderr)
            raise
        print(f"ok {name} {time.monotonic() - begin:.1f} s", flush=True)


if __name__ == "__main__":
    main()
