"""A cluster of this machine for tests: coordinator, agent and launcher are
processes of the test, which starts them again when they die, as systemd would.

  Cluster(deadline_s)         a Lab, with all of it
  cluster.api                 a client that is built from reflection alone
  cluster.launch(JOB, ...)    `retile launch JOB -- ...`
  cluster.trace()             what the ranks of toy_rank.py have written
"""
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import zlib

import grpc

import toy_rank
from mounted import BIN, Lab, check, eventually, mounts_below
from reflected import Api

RETILE = os.path.join(BIN, "retile")
TOY = pathlib.Path(toy_rank.__file__).resolve()
LAYOUT = """mesh: {dp: 1, tp: 2}
rules:
  - {match: 'w', dims: [tp]}
"""
END_STATES = ("DONE", "FAILED", "LOST")


class Daemon:
    """A program that is started again, in a while, when it has died."""

    def __init__(self, cluster, name, words, ends=()):
        """@ends: exit codes after which it is left alone."""
        self.cluster, self.name, self.words = cluster, name, words
        self.ends = ends
        self.log = cluster.path / f"{name}.log"
        self.fault, self.stopping, self.n_starts = None, False, 0
        self.away = threading.Lock()  # held: it is not started
        self.process = None
        self.start()
        self.thread = threading.Thread(target=self.tend, daemon=True)
        self.thread.start()

    def start(self):
        env = dict(os.environ)
        if self.fault:
            env["RETILE_FAULT"], self.fault = self.fault, None
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.words, env=env, stdout=log,
                                            stderr=log)
        self.n_starts += 1

    def tend(self):
        while True:
            self.process.wait()
            if self.stopping or self.process.returncode in self.ends:
                return
            time.sleep(0.2)
            with self.away:
                self.start()

    def restart(self, fault):
        """End it by SIGKILL; the next one has the fault armed."""
        self.fault = fault
        self.kill(signal.SIGKILL)

    def kill(self, number):
        self.process.send_signal(number)

    def stop(self):
        self.stopping = True
        self.kill(signal.SIGCONT)
        self.kill(signal.SIGTERM)
        self.thread.join(30)
        check(self.process.returncode == 0, f"{self.name} ends with",
              self.process.returncode, self.log.read_text()[-2000:])


class Cluster(Lab):
    def __init__(self, deadline_s, slots=8, small_db=False,
                 agent_options=()):
        """@small_db: the coordinator's database is on a file system of 16 MiB:
        its log has 4 of them before it is checkpointed."""
        super().__init__(deadline_s)
        (self.path / "db").mkdir()
        self.db = self.path / "db" / "c.db"
        self.small_db = small_db
        if small_db:
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none",
                            self.db.parent], check=True)
        self.address = f"unix:{self.path}/c.sock"
        self.agent_address = f"unix:{self.path}/agent/agent.sock"
        self.trace_path = self.path / "trace"
        self.launches, self.n_ids = [], 0
        self.coordinator = Daemon(self, "coordinator", [
            os.path.join(BIN, "retile-coordinator"), f"--listen={self.address}",
            f"--db={self.db}", "--backoff-ms=50"])
        self.agent = Daemon(self, "agent", [
            os.path.join(BIN, "retile-worker"), f"--store={self.store}",
            f"--coordinator={self.address}", f"--run={self.path}/agent",
            "--host=h", f"--slots={slots}", *agent_options])
        channel = grpc.insecure_channel(self.address, options=[
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 200)])
        grpc.channel_ready_future(channel).result(30)
        self.api = Api(channel)
        self.until("the host is up", lambda: [
            h for h in self.api("Devices/List").hosts if h.state == 1])

    def until(self, what, claim, timeout_s=60):
        """A coordinator that is away is asked again."""
        found = []

        def is_so():
            try:
                found[:] = [claim()]
            except grpc.RpcError as error:
                check(error.code() in (grpc.StatusCode.UNAVAILABLE,
                                       grpc.StatusCode.DEADLINE_EXCEEDED),
                      what, error.code(), error.details())
                return False
            return bool(found[0])
        eventually(what, is_so, self.tell, timeout_s)
        return found[0]

    def change(self, path, timeout_s=60, **fields):
        """A call that changes something: one id, until there is an answer."""
        self.n_ids += 1
        return self.until(path, lambda: self.api(
            path, request_id=f"test-{self.n_ids}", timeout=5, **fields),
            timeout_s)

    def get(self, name="toy"):
        return self.until("Jobs/Get", lambda: self.api(
            "Jobs/Get", name=name, timeout=5).job)

    def state(self, name="toy"):
        job = self.get(name)
        field = job.DESCRIPTOR.fields_by_name["state"]
        return field.enum_type.values_by_number[job.state].name[4:]

    def wait_state(self, wanted, name="toy", timeout_s=60):
        def is_it():
            found = self.state(name)
            check(found == wanted or found not in END_STATES,
                  f"{name} is {found}", self.get(name))
            return found == wanted
        self.until(f"{name} is {wanted}", is_it, timeout_s)

    def wait_generation(self, above, name="toy", timeout_s=60):
        """One that runs, with its number."""
        return self.until("a new generation runs", lambda: (
            lambda g: g.number if g.number > above and g.state == 3 else 0)(
                self.get(name).generation), timeout_s)

    def submit(self, name="toy", **more):
        more.setdefault("layout", LAYOUT)
        return self.change("Jobs/Submit", name=name, **more)

    def launch(self, name, *command, output=None, fault=None, prefix=()):
        """@prefix: words before it, of a program that runs it."""
        env = dict(os.environ, RETILE_AGENT=self.agent_address)
        if fault:
            env["RETILE_FAULT"] = fault
        path = output or self.path / f"launch-{len(self.launches)}.out"
        with open(path, "ab") as out:
            process = subprocess.Popen(
                [*prefix, RETILE, "launch", name, "--", *map(str, command)], env=env,
                stdout=out, stderr=out)
        self.launches.append((process, path))
        return process

    def launch_toy(self, steps, *more, every=10, name="toy", **how):
        return self.launch(name, sys.executable, "-B", TOY, "--steps", steps,
                           "--every", every, "--trace", self.trace_path, *more,
                           **how)

    def trace(self):
        if not self.trace_path.exists():
            return []
        lines = self.trace_path.read_text().splitlines(True)
        return [line.split() for line in lines if line.endswith("\n")]

    def last_step(self):
        return max((int(w[3]) for w in self.trace() if w[0] == "step"),
                   default=0)

    def wait_step(self, step, timeout_s=60):
        self.until(f"step {step}", lambda: self.last_step() >= step, timeout_s)

    def check_trace(self, steps):
        """Every step was done, and rightly; no generation is of two minds."""
        whole, done, loads = {}, set(), {}
        for s in range(steps + 1):
            whole[s] = toy_rank.after(s) if s == 0 else \
                toy_rank.advance(whole[s - 1], s)
        for words in self.trace():
            if words[0] == "load":
                loads.setdefault(words[1], set()).add(words[3])
            elif words[0] == "step":
                step = int(words[3])
                done.add(step)
                right = {zlib.crc32(toy_rank.part_of(whole[step], i, n)
                                    .tobytes())
                         for n in (1, 2, 3, 4, 6, 8) for i in range(n)}
                check(int(words[4]) in right, "a step went wrong", words)
        check(done == set(range(1, steps + 1)), "steps", sorted(done))
        check(all(len(found) == 1 for found in loads.values()),
              "a generation loaded two versions", loads)
        return loads

    def events(self, name="toy"):
        newest, found = self.api("Watch/Revision").newest, []
        for response in self.api("Watch/Watch", from_revision=1, job=name,
                                 timeout=10):
            found += response.events
            if found and (found[-1].revision >= newest or found[-1].text in
                          ("done", "failed", "lost")):
                break
        return found

    def check_saves(self):
        """What was told to be saved is in all that came after."""
        saved, begun = 0, set()
        for words in self.trace():
            if words[0] == "saved":
                saved = max(saved, int(words[2]))
            elif words[0] == "step" and words[1] not in begun:
                begun.add(words[1])
                check(int(words[3]) > saved, f"step {saved} was saved, and "
                      "forgotten", words)

    def mount(self, name="toy"):
        return self.path / "agent" / "mnt" / name

    def tell(self):
        found = []
        for path in sorted(self.path.glob("*.log")) + [
                path for _, path in self.launches]:
            if path.exists():
                found.append(f"--- {path.name}\n{path.read_text()[-2500:]}")
        return "\n".join(found)

    def close(self):
        """All ended; nothing is left of anything."""
        self.agent.stop()
        self.coordinator.stop()
        for process, _ in self.launches:
            check(process.poll() is not None, "a launcher is left", process.pid)
        if self.small_db:
            subprocess.run(["umount", self.db.parent], check=True)
        self.end_check()
        self.done()
