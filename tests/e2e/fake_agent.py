"""An agent for tests: service Local of proto/retile/v1/host.proto on a socket.

  agent = FakeAgent(lab)           it listens
  agent.order(generation=1, ...)   what every mount is told from now on
  agent.die(), agent.live()        the process of an agent ends, and comes back

It grants every save, with numbers that ascend, and commits every vote; a test
puts functions into agent.on_open and agent.on_vote that answer in its place: they
return what is to be answered, or raise Refusal.  What mounts said is in
agent.reports, opened, closed and votes.

Make the Lab first: gRPC has threads, which do not outlive a fork.
"""
import os
import queue
import threading
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from mounted import eventually

COMMIT, ABORT = 1, 2


class Refusal(Exception):
    def __init__(self, code, text="refused by the test"):
        super().__init__(text)
        self.code = code


def load_messages():
    """The message classes of the tree that was built, by name."""
    found = descriptor_pb2.FileDescriptorSet()
    path = os.path.join(os.environ["RETILE_BUILD"],
                        "proto/proto_descriptors.pb")
    with open(path, "rb") as file:
        found.ParseFromString(file.read())
    if hasattr(message_factory, "GetMessageClassesForFiles"):
        pool = descriptor_pool.DescriptorPool()
        for one in found.file:
            pool.Add(one)
        return message_factory.GetMessageClassesForFiles(
            [one.name for one in found.file], pool)
    return message_factory.GetMessages(found.file)


class FakeAgent:
    def __init__(self, lab, first_attempt=1):
        self.messages = load_messages()
        self.socket = lab.path / "agent.sock"
        self.target = f"unix:{self.socket}"
        self.lock = threading.Condition()
        self.streams = []
        self.now = None
        self.reports, self.opened, self.closed, self.votes = [], [], [], []
        self.attempts = {}
        self.next_attempt = first_attempt
        self.on_open = self.on_vote = None
        self.server = None
        self.live()

    def message(self, name, **fields):
        return self.messages[f"retile.v1.{name}"](**fields)

    def live(self):
        local = {
            "Mount": grpc.stream_stream_rpc_method_handler(
                self.mount, *self.codec("MountReport")),
            "OpenSave": self.unary(self.open_save, "OpenSaveRequest"),
            "CloseSave": self.unary(self.close_save, "CloseSaveRequest"),
            "Vote": self.unary(self.vote, "VoteRequest"),
        }
        self.server = grpc.server(futures.ThreadPoolExecutor(16))
        self.server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler("retile.v1.Local", local),))
        self.server.add_insecure_port(self.target)
        self.server.start()

    def die(self):
        with self.lock:
            for stream in self.streams:
                stream.put(None)
            self.streams = []
        self.server.stop(0).wait()
        self.server = None
        if self.socket.exists():
            self.socket.unlink()

    def codec(self, name):
        return (self.messages[f"retile.v1.{name}"].FromString,
                lambda message: message.SerializeToString())

    def unary(self, handler, name):
        def call(request, context):
            try:
                return handler(request)
            except Refusal as refusal:
                context.abort(refusal.code, str(refusal))
        return grpc.unary_unary_rpc_method_handler(call, *self.codec(name))

    def mount(self, reports, context):
        del context
        orders = queue.Queue()
        with self.lock:
            self.streams.append(orders)
            if self.now is not None:
                orders.put(self.now)

        def listen():
            try:
                for report in reports:
                    self.add(self.reports, report)
            except grpc.RpcError:
                pass
            orders.put(None)
        threading.Thread(target=listen, daemon=True).start()
        while (order := orders.get()) is not None:
            yield order

    def add(self, to, what):
        with self.lock:
            to.append(what)
            self.lock.notify_all()

    def order(self, shown=True, **fields):
        """Tell mounts; @shown: wait until one says that it is shown."""
        order = self.message("MountOrder", **fields)
        with self.lock:
            n = len(self.reports)
            self.now = order
            for stream in self.streams:
                stream.put(order)
        if shown:
            eventually(f"generation {order.generation} is shown", lambda: any(
                r.generation == order.generation and not r.trouble
                for r in self.reports[n:]), lambda: self.reports)

    def open_save(self, request):
        self.add(self.opened, request)
        if self.on_open is not None:
            number = self.on_open(request)
            if number is not None:
                return self.message("OpenSaveResponse", attempt=number)
        with self.lock:
            key = (request.generation, request.step)
            if key not in self.attempts:
                self.attempts[key] = self.next_attempt
                self.next_attempt += 1
            return self.message("OpenSaveResponse", attempt=self.attempts[key])

    def forget(self, attempt):
        """It is over: the step's next try has another number."""
        with self.lock:
            self.attempts = {k: v for k, v in self.attempts.items()
                             if v != attempt}

    def close_save(self, request):
        self.add(self.closed, request)
        self.forget(request.attempt)
        return self.message("CloseSaveResponse")

    def vote(self, request):
        self.add(self.votes, request)
        decision = COMMIT
        if self.on_vote is not None:
            decision = self.on_vote(request)
        if decision == ABORT:
            self.forget(request.attempt)
        return self.message("VoteResponse", decision=decision,
                            reason="the test says so"
                            if decision == ABORT else "")
