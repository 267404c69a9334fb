"""What the tests of retile-worker share: a coordinator that says what a test
tells it to, a mount that is only a directory, an agent to start and kill.

The messages come from the FileDescriptorSet that the build made.
"""
import concurrent.futures
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

os.environ.pop("http_proxy", None)
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

BIN = pathlib.Path(os.environ["RETILE_BIN"])
BUILD = pathlib.Path(os.environ["RETILE_BUILD"])
HERE = pathlib.Path(__file__).resolve().parent


def messages():
    """Message classes by name, and the method table of a service."""
    files = descriptor_pb2.FileDescriptorSet.FromString(
        (BUILD / "proto" / "proto_descriptors.pb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    found = {}
    for file in files.file:
        if file.package == "retile.v1":
            for kind in file.message_type:
                found[kind.name] = factory.GetPrototype(
                    pool.FindMessageTypeByName("retile.v1." + kind.name))
    values = {}
    for file in files.file:
        if file.package == "retile.v1":
            for kind in file.enum_type:
                for value in kind.value:
                    values[value.name] = value.number
    return found, values


M, V = messages()
COMMIT, ABORT = V["DECISION_COMMIT"], V["DECISION_ABORT"]


def wait_for(what, seconds=60):
    """Call what() until it is true; its value."""
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what.__name__}")
        time.sleep(0.01)


class Coordinator:
    """Serves Agents; remembers everything that it was told."""

    def __init__(self, port=0):
        self.lock = threading.Lock()
        self.targets = {}
        self.status = {}     # the newest of each job, on the newest session
        self.history = []
        self.hellos = []
        self.renewals = 0
        self.used_bytes = None  # as it was renewed
        self.sessions = 0
        self.votes = []
        self.decisions = {}  # (job, attempt) -> decision; waits for it
        self.saves = {}      # (job, generation, step) -> attempt, or a code
        self.queue = None
        self.devices = []
        pool = concurrent.futures.ThreadPoolExecutor(32)
        self.server = grpc.server(pool, options=[("grpc.so_reuseport", 0)])
        handlers = {
            "Session": grpc.stream_stream_rpc_method_handler(
                self.session, M["FromAgent"].FromString,
                M["ToAgent"].SerializeToString),
            "OpenSave": grpc.unary_unary_rpc_method_handler(
                self.open_save, M["OpenSaveRequest"].FromString,
                M["OpenSaveResponse"].SerializeToString),
            "CloseSave": grpc.unary_unary_rpc_method_handler(
                self.close_save, M["CloseSaveRequest"].FromString,
                M["CloseSaveResponse"].SerializeToString),
            "Vote": grpc.unary_unary_rpc_method_handler(
                self.vote, M["VoteRequest"].FromString,
                M["VoteResponse"].SerializeToString),
        }
        self.server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler("retile.v1.Agents",
                                                 handlers),))
        self.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        assert self.port, "no port"
        self.server.start()

    def stop(self):
        self.server.stop(0).wait()

    def want(self, job, **fields):
        """Set the job's target, and send it."""
        with self.lock:
            old = self.targets.get(job)
            target = M["JobTarget"](job=job, state=V["JOB_WAITING"], **fields)
            target.revision = old.revision + 1 if old else 1
            self.targets[job] = target
            if self.queue:
                self.queue.put(M["ToAgent"](job=target))
            return target

    def session(self, requests, context):
        first = next(requests)
        assert first.WhichOneof("what") == "hello", first
        mine = queue.Queue()
        with self.lock:
            self.sessions += 1
            number = self.sessions
            self.hellos.append(first.hello)
            self.status = {s.job: s for s in first.hello.jobs}
            if self.queue:
                self.queue.put(None)
            self.queue = mine
            mine.put(M["ToAgent"](welcome=M["Welcome"](
                session=number, lease_ms=3000, renew_ms=200)))
            for target in self.targets.values():
                mine.put(M["ToAgent"](job=target))

        def read():
            try:
                for message in requests:
                    self.hear(message, mine)
            except grpc.RpcError:
                pass
            mine.put(None)

        threading.Thread(target=read, daemon=True).start()
        while (message := mine.get()) is not None:
            yield message

    def hear(self, message, mine):
        what = message.WhichOneof("what")
        with self.lock:
            if mine is not self.queue:
                return
            if what == "renew":
                self.renewals += 1
                self.used_bytes = message.renew.store_used_bytes
                mine.put(M["ToAgent"](renewed=M["Renewed"](
                    sequence=message.renew.sequence)))
            elif what == "job":
                self.status[message.job.job] = message.job
                self.history.append(message.job)
            elif what == "device":
                self.devices.append(message.device)

    def open_save(self, request, context):
        with self.lock:
            self.check(request, context)
            answer = self.saves.get((request.job, request.generation,
                                     request.step))
        if not isinstance(answer, int):
            context.abort(answer or grpc.StatusCode.FAILED_PRECONDITION,
                          "the generation is over")
        return M["OpenSaveResponse"](attempt=answer)

    def close_save(self, request, context):
        with self.lock:
            self.check(request, context)
        return M["CloseSaveResponse"]()

    def check(self, request, context):
        if request.session != self.sessions:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no session")

    def vote(self, request, context):
        with self.lock:
            self.check(request, context)
            self.votes.append(request)
        key = (request.job, request.attempt)
        end = time.monotonic() + 30
        while context.is_active() and time.monotonic() < end:
            decision = self.decisions.get(key)
            if decision:
                return M["VoteResponse"](decision=decision)
            time.sleep(0.005)
        context.abort(grpc.StatusCode.UNAVAILABLE, "not decided")

    def of(self, job):
        return self.status.get(job) or M["JobStatus"]()


class Local:
    """Calls on an agent's socket."""

    KINDS = {"Mount": ("MountReport", "MountOrder"),
             "Launch": ("LaunchReport", "LaunchOrder"),
             "OpenSave": ("OpenSaveRequest", "OpenSaveResponse"),
             "CloseSave": ("CloseSaveRequest", "CloseSaveResponse"),
             "Vote": ("VoteRequest", "VoteResponse"),
             "Status": ("HostStatusRequest", "HostStatusResponse")}

    def __init__(self, socket):
        self.channel = grpc.insecure_channel(
            socket, options=[("grpc.enable_http_proxy", 0),
                             ("grpc.max_reconnect_backoff_ms", 200)])

    def unary(self, method, timeout=10, **fields):
        request, response = self.KINDS[method]
        return self.channel.unary_unary(
            f"/retile.v1.Local/{method}", M[request].SerializeToString,
            M[response].FromString)(M[request](**fields), timeout=timeout)

    def stream(self, method, requests):
        request, response = self.KINDS[method]
        return self.channel.stream_stream(
            f"/retile.v1.Local/{method}", M[request].SerializeToString,
            M[response].FromString)(requests, wait_for_ready=True)


class Launcher:
    """`retile launch` by hand: says what it is told to."""

    def __init__(self, local, job, pid=None):
        self.job = job
        self.pid = pid or os.getpid()
        self.said = queue.Queue()
        self.orders = []
        self.error = None
        self.report()
        self.call = local.stream("Launch", iter(self.said.get, None))
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for order in self.call:
                self.orders.append(order)
        except grpc.RpcError as error:
            self.error = error.code()

    def report(self, generation=0, ranks=()):
        self.said.put(M["LaunchReport"](
            job=self.job, pid=self.pid, generation=generation,
            ranks=[M["RankStatus"](**rank) for rank in ranks]))

    def order(self):
        return self.orders[-1] if self.orders else M["LaunchOrder"]()

    def close(self):
        self.said.put(None)
        self.call.cancel()


def fake_mount(where):
    """A program of our python, wherever that is."""
    path = where / "fake-mount"
    path.write_text(f"#!{sys.executable}\nimport sys\n"
                    f"sys.dont_write_bytecode = True\n"
                    f"sys.path.insert(0, {str(HERE)!r})\nimport fake_mount\n")
    path.chmod(0o700)
    return path


class Agent:
    """A retile-worker in a directory of its own."""

    def __init__(self, where, coordinator, fuse=None, options=("--slots", "4")):
        self.where = pathlib.Path(where)
        fuse = fuse or fake_mount(self.where)
        self.store = self.where / "store"
        self.run = self.where / "run"
        self.socket = f"unix:{self.run}/agent.sock"
        self.mounts = self.run / "mnt"
        self.args = [BIN / "retile-worker", "--coordinator",
                     f"127.0.0.1:{coordinator.port}", "--store", self.store,
                     "--budget", "0", "--run", self.run, "--host", "host0",
                     "--fuse", str(fuse), *options]
        self.process = None
        self.log = self.where / "agent.log"
        self.coordinator = coordinator

    def start(self, fault=None, wait=True):
        env = dict(os.environ, RETILE_LOG="info")
        env.pop("RETILE_FAULT", None)
        if fault:
            env["RETILE_FAULT"] = fault
        n = self.coordinator.sessions
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(self.args, stdout=log, stderr=log,
                                            env=env)
        if wait:
            def has_session():
                assert self.process.poll() is None, self.log.read_text()
                return self.coordinator.sessions > n
            wait_for(has_session)
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def died(self, seconds=20):
        """Waits until a fault point killed it."""
        assert self.process.wait(seconds) == -signal.SIGKILL

    def stop(self):
        self.process.terminate()
        status = self.process.wait(20)
        assert status == 0, f"status {status}\n{self.log.read_text()}"

    def local(self):
        return Local(self.socket)

    def processes(self):
        """Pids with our directory in their command line, but the agent's."""
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                try:
                    line = pathlib.Path(f"/proc/{name}/cmdline").read_bytes()
                except OSError:
                    continue
                if str(self.run).encode() in line and not (
                        self.process and int(name) == self.process.pid):
                    found.append(int(name))
        return sorted(found)

    def end(self):
        """Whatever state a test left it in: nothing stays."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for path in [*self.mounts.glob("*"), self.mounts]:
            subprocess.run(["umount", "-l", path], stderr=subprocess.DEVNULL,
                           check=False)


class Case:
    """A coordinator, an agent, a directory; all gone at the end."""

    def __init__(self, **options):
        self.options = options

    def __enter__(self):
        self.where = tempfile.mkdtemp(prefix="retile agent-")
        self.coordinator = Coordinator()
        self.agent = Agent(self.where, self.coordinator, **self.options)
        return self.coordinator, self.agent

    def __exit__(self, kind, value, trace):
        if kind is not None:
            print(self.agent.log.read_text() if self.agent.log.exists() else "",
                  file=sys.stderr)
        self.agent.end()
        self.coordinator.stop()
        shutil.rmtree(self.where, ignore_errors=True)


def retile(*args):
    return subprocess.run([BIN / "retile", *map(str, args)], check=True,
                          capture_output=True, text=True).stdout


def run_all(cases):
    """Each function, by name; those named on the command line."""
    names = sys.argv[1:]
    for case in cases:
        if names and case.__name__ not in names:
            continue
        begin = time.monotonic()
        case()
        print(f"{case.__name__}: {time.monotonic() - begin:.1f} s", flush=True)
