"""What tests of the coordinator share: one that is started, agents that are
played, certificates, and checks."""
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import grpc

from reflected import Api

BIN = pathlib.Path(os.environ["RETILE_BIN"])
LAYOUT = """mesh: {dp: 2}
rules:
  - {match: '*', dims: [~]}
"""
DEADLINE_S = 30


def wait(claim, what):
    """Wait until @claim() is true, and return it."""
    end = time.monotonic() + DEADLINE_S
    while True:
        found = claim()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError("waited in vain: " + what)
        time.sleep(0.01)


class Lab:
    """A directory, and all that runs in it; gone at the end."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="retile-coord-"))
        self.running = []
        return self

    def __exit__(self, kind, *_):
        for one in self.running:
            one.kill()
        if kind is not None and not issubclass(kind, KeyboardInterrupt):
            for log in sorted(self.path.glob("*.log")):
                print(f"--- {log.name}\n{log.read_text()[-4000:]}")
        shutil.rmtree(self.path)


class Coordinator:
    def __init__(self, lab, *options, name="c", fault=None, listen=None,
                 wait_ready=True, env=None):
        self.socket = f"unix:{lab.path}/{name}.sock"
        self.db = lab.path / f"{name}.db"
        self.log_path = lab.path / f"{name}.log"
        words = [BIN / "retile-coordinator", "--db", self.db, "--log-format",
                 "json", "--log-level", "info", "--backoff-ms", "10"]
        for address in listen or [self.socket]:
            words += ["--listen", address]
        more = dict(os.environ, **(env or {}))
        if fault:
            more["RETILE_FAULT"] = fault
        self.start = self.log_path.stat().st_size \
            if self.log_path.exists() else 0
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*map(str, words), *map(str, options)], stderr=log,
                stdout=log, env=more, stdin=subprocess.DEVNULL)
        lab.running.append(self)
        if wait_ready:
            wait(lambda: self.logged("serving") or self.process.poll(),
                 "the coordinator serves")
            if self.process.poll() is not None:
                raise AssertionError(self.log_path.read_text())

    def lines(self):
        with open(self.log_path, "rb") as log:
            log.seek(self.start)
            return [json.loads(line) for line in log.read().splitlines()
                    if line.startswith(b"{")]

    def logged(self, message):
        return [line for line in self.lines() if line["message"] == message]

    def ports(self):
        return [int(line["port"]) for line in self.logged("listening")]

    def api(self, **more):
        return Api(grpc.insecure_channel(
            self.socket, options=[("grpc.use_local_subchannel_pool", 1)]),
            **more)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(DEADLINE_S)
        assert code == 0, code

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)

    def wait_killed(self):
        code = self.process.wait(DEADLINE_S)
        assert code == -signal.SIGKILL, code


class Agent:
    """Plays one host: does what targets say at once, all of it right."""

    def __init__(self, api, host="h0", n_devices=4, store="0" * 31 + "1"):
        self.api, self.host, self.store = api, host, store
        self.n_devices = n_devices
        self.outbox = queue.Queue()
        self.lock = threading.RLock()
        self.jobs = {}       # name -> its status, as a dictionary
        self.targets = {}    # name -> the newest target
        self.session = 0
        self.end = None      # how the stream ended
        self.launches = True
        self.welcomed = threading.Event()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    # --- the stream

    def say(self, **fields):
        self.outbox.put(self.api.message("FromAgent", **fields))

    def _requests(self):
        while True:
            one = self.outbox.get()
            if one is None:
                return
            yield one

    def hello(self):
        return dict(host=self.host, store_id=self.store, incarnation="i1",
                    address="127.0.0.1", version="test",
                    devices=[dict(index=i, kind="cpu", label=f"slot {i}")
                             for i in range(self.n_devices)],
                    jobs=list(self.jobs.values()))

    def _run(self):
        self.say(hello=self.hello())
        try:
            self.call = self.api.open("Agents/Session", self._requests())
            for message in self.call:
                which = message.WhichOneof("what")
                if which == "welcome":
                    self.session = message.welcome.session
                    self.welcomed.set()
                elif which == "job":
                    self._take(message.job)
            self.end = "OK"
        except grpc.RpcError as error:
            self.end = f"{error.code().name}: {error.details()}"
        self.over.set()

    def close(self):
        self.outbox.put(None)
        self.over.wait(DEADLINE_S)

    # --- what is done

    def _take(self, target):
        with self.lock:
            if target.is_gone:
                self.jobs.pop(target.job, None)
                self.targets.pop(target.job, None)
                self.say(job=dict(job=target.job, revision=target.revision,
                                  is_gone=True))
                return
            self.targets[target.job] = target
            status = self.jobs.setdefault(target.job, dict(
                job=target.job, versions=[], has_launcher=True, highest=0,
                highest_generation=0))
            status["revision"] = target.revision
            status["versions"] = [
                v for v in status["versions"]
                if v["number"] in target.keep or v["number"] > target.highest]
            self._generation(target, status)
            self.say(job=status)
        if target.HasField("attempt"):
            threading.Thread(target=self._make, args=(target,),
                             daemon=True).start()
        if target.HasField("plan"):
            with self.lock:
                status["plan"] = dict(
                    number=target.plan.number, layout=LAYOUT, mesh="dp=2",
                    summary=dict(state_bytes=1000, n_ranks=2))
                self.say(job=status)

    def _generation(self, target, status):
        if not target.HasField("generation"):
            status.pop("generation", None)
            return
        wanted = target.generation
        shown = status.get("generation")
        if shown is None or shown["number"] != wanted.number:
            shown = status["generation"] = dict(
                number=wanted.number, is_prepared=True, master_port=12345,
                ranks=[], is_clear=True)
        status["highest_generation"] = wanted.number
        state = wanted.DESCRIPTOR.fields_by_name["state"].enum_type \
            .values_by_number[wanted.state].name
        if state == "GENERATION_READY" and not shown["ranks"] and self.launches:
            shown["is_clear"] = False
            shown["ranks"] = [dict(rank=p.rank, state="RANK_RUNNING", pid=100)
                              for p in wanted.placements]
        if state == "GENERATION_DRAINING":
            threading.Thread(target=self._drain, args=(target.job,),
                             daemon=True).start()

    def _make(self, target):
        """The attempt of a target: vote, and publish."""
        attempt = target.attempt
        version = dict(number=attempt.number, parent=attempt.parent,
                       kind=attempt.kind, layout=attempt.layout or LAYOUT,
                       mesh="dp=2", n_bytes=1000)
        self.vote(target.job, version)

    def vote(self, job, version, generation=0):
        try:
            answer = self.api("Agents/Vote", session=self.session, job=job,
                              attempt=version["number"], generation=generation,
                              version=version)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        with self.lock:
            status = self.jobs[job]
            if answer.decision == 1 and all(
                    v["number"] != version["number"]
                    for v in status["versions"]):
                status["versions"].append(version)
            self.say(job=status)
        return answer.decision

    def save(self, job, step):
        """What training ranks and the mount do; the version's number."""
        generation = self.jobs[job]["generation"]["number"]
        number = self.api("Agents/OpenSave", session=self.session, job=job,
                          generation=generation, step=step).attempt
        version = dict(number=number, kind="ATTEMPT_SAVE", step=step,
                       has_step=True, n_bytes=1000, layout=LAYOUT, mesh="dp=2")
        decision = self.vote(job, version, generation)
        assert decision == 1, decision
        return number

    def _drain(self, job):
        with self.lock:
            if self.jobs[job].get("is_draining"):
                return
        step = 1 + max([v.get("step", 0) for v in self.jobs[job]["versions"]],
                       default=0)
        try:
            self.save(job, step)
        except grpc.RpcError:
            pass  # it was asked twice
        self.exit_all(job)

    def exit_all(self, job, code=0):
        with self.lock:
            shown = self.jobs[job].get("generation")
            if shown is None:
                return
            for rank in shown["ranks"]:
                rank.update(state="RANK_EXITED", exit_code=code)
            shown["is_clear"] = True
            self.say(job=self.jobs[job])


def job_state(api, name):
    job = api("Jobs/Get", name=name).job
    kind = job.DESCRIPTOR.fields_by_name["state"].enum_type
    return kind.values_by_number[job.state].name


def wait_state(api, name, state):
    return wait(lambda: job_state(api, name) == state,
                f"{name} is {state}, not {job_state(api, name)}")


def certificates(folder, *names):
    """A CA, a server's certificate, and one per name (a URI): paths."""
    def run(*words):
        subprocess.run(["openssl", *map(str, words)], check=True,
                       capture_output=True)

    def make_ca(name):
        run("req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
            f"/CN={name}", "-keyout", folder / f"{name}.key", "-out",
            folder / f"{name}.pem")

    def sign(name, san, ca):
        (folder / "ext").write_text(f"subjectAltName={san}\n")
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key",
            "-out", folder / f"{name}.csr")
        run("x509", "-req", "-in", folder / f"{name}.csr", "-CA",
            folder / f"{ca}.pem", "-CAkey", folder / f"{ca}.key",
            "-CAcreateserial", "-days", "2", "-extfile", folder / "ext",
            "-out", folder / f"{name}.pem")

    make_ca("ca")
    make_ca("foreign")
    sign("server", "IP:127.0.0.1,DNS:localhost", "ca")
    for name, uri in names:
        sign(name, f"URI:{uri}", "ca")
    sign("stranger", "URI:retile://c/operator/x", "foreign")
