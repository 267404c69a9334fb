#!/usr/bin/env python3
"""The RPC layer and Python's grpcio understand each other, both ways.

A client that knows nothing but reflection calls all kinds of methods of our
server; our client calls a server of grpcio with the same messages.

    rpc_python.py
"""
import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import threading

try:
    import grpc
    from google.protobuf import descriptor_pb2, descriptor_pool
    from google.protobuf import message_factory
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

LAB = pathlib.Path(os.environ["RETILE_BUILD"]) / "tests" / "rpc_lab"
WAIT_S = 20


def message_class(pool, name):
    descriptor = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


class Varint:
    """The few messages of reflection and health, by hand: nothing but the wire
    is known before the descriptors have come."""

    @staticmethod
    def field(number, data):
        length = len(data)
        head = bytes([number << 3 | 2])
        while length > 127:
            head += bytes([length & 127 | 128])
            length >>= 7
        return head + bytes([length]) + data

    @staticmethod
    def fields(data):
        at, found = 0, {}
        while at < len(data):
            key, at = Varint.read(data, at)
            if key & 7 == 2:
                length, at = Varint.read(data, at)
                value, at = data[at:at + length], at + length
            else:
                value, at = Varint.read(data, at)
            found.setdefault(key >> 3, []).append(value)
        return found

    @staticmethod
    def read(data, at):
        value, shift = 0, 0
        while True:
            value |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if data[at - 1] < 128:
                return value, at


class Reflected:
    """A pool of descriptors that a server's reflection has told."""

    def __init__(self, channel, version):
        self.call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo")
        self.pool = descriptor_pool.DescriptorPool()
        self.known = set()

    def ask(self, number, text):
        request = Varint.field(number, text.encode())
        answers = list(self.call(iter([request]), timeout=WAIT_S))
        assert len(answers) == 1, answers
        return Varint.fields(answers[0])

    def services(self):
        names = Varint.fields(self.ask(7, "")[6][0])[1]
        return [Varint.fields(name)[1][0].decode() for name in names]

    def load(self, answer):
        for data in Varint.fields(answer[4][0])[1]:
            file = descriptor_pb2.FileDescriptorProto.FromString(data)
            if file.name in self.known:
                continue
            self.known.add(file.name)
            for name in file.dependency:
                self.load(self.ask(3, name))
            self.pool.Add(file)

    def method(self, channel, service, name):
        """A callable for a method, from descriptors alone."""
        method = self.pool.FindServiceByName(service).methods_by_name[name]
        proto = descriptor_pb2.ServiceDescriptorProto()
        self.pool.FindServiceByName(service).CopyToProto(proto)
        row = next(m for m in proto.method if m.name == name)
        make = getattr(channel, "_".join(
            "stream" if is_stream else "unary" for is_stream in (
                row.client_streaming, row.server_streaming)))
        request = message_class(self.pool, method.input_type.full_name)
        answer = message_class(self.pool, method.output_type.full_name)
        return request, make(f"/{service}/{name}",
                             request_serializer=request.SerializeToString,
                             response_deserializer=answer.FromString)


def code_of(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details()
    return grpc.StatusCode.OK, ""


def check_client(channel, version):
    lab = Reflected(channel, version)
    services = lab.services()
    assert "lab.Lab" in services, services
    assert "grpc.health.v1.Health" in services, services
    for service in services:
        lab.load(lab.ask(4, service))
    assert Varint.fields(lab.ask(4, "lab.Nothing")[7][0])[1] == [5]
    assert 4 in lab.ask(4, "lab.Note")
    assert 4 in lab.ask(4, "lab.Lab.Echo")
    note, echo = lab.method(channel, "lab.Lab", "Echo")
    text = "Grüße"
    assert echo(note(number=3, text=text), timeout=WAIT_S).text == text
    code, details = code_of(lambda: echo(note(number=-3), timeout=WAIT_S))
    assert (code, details) == (grpc.StatusCode.NOT_FOUND, "no note -3")
    request, count = lab.method(channel, "lab.Lab", "Count")
    numbers = [n.number for n in count(request(n=500, body_bytes=1000),
                                       timeout=WAIT_S)]
    assert sum(numbers) == 125250, len(numbers)
    _, add = lab.method(channel, "lab.Lab", "Sum")
    total = add((note(number=i) for i in range(101)), timeout=WAIT_S)
    assert total.number == 5050
    _, chat = lab.method(channel, "lab.Lab", "Chat")
    back = [n.number for n in chat((note(number=i) for i in range(50)),
                                   timeout=WAIT_S)]
    assert back == list(range(50)), back
    _, hold = lab.method(channel, "lab.Lab", "Hold")
    held = hold(note(), timeout=WAIT_S)
    held.initial_metadata()
    held.cancel()
    assert code_of(lambda: list(held))[0] == grpc.StatusCode.CANCELLED
    code, _ = code_of(lambda: list(hold(note(), timeout=0.2)))
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    _, unused = lab.method(channel, "lab.Lab", "Unused")
    code, _ = code_of(lambda: unused(note(), timeout=WAIT_S))
    assert code == grpc.StatusCode.UNIMPLEMENTED
    request, check = lab.method(channel, "grpc.health.v1.Health", "Check")
    assert check(request(), timeout=WAIT_S).status == 1
    raw = channel.unary_unary("/lab.Lab/Echo")
    code, details = code_of(lambda: raw(b"\x0a\xff\xff", timeout=WAIT_S))
    assert code == grpc.StatusCode.INVALID_ARGUMENT, (code, details)
    return lab


def peak_kib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status).group(1))


def try_compressed(channel, pid):
    """What is small on the wire and large when decompressed is refused before
    anybody decompresses it."""
    raw = channel.unary_unary("/lab.Lab/Echo")
    before = peak_kib(pid)
    body = Varint.field(2, bytes(100 << 20))
    for method in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        code, details = code_of(lambda: raw(body, timeout=WAIT_S,
                                            compression=method))
        assert code == grpc.StatusCode.UNIMPLEMENTED, (code, details)
    assert peak_kib(pid) - before < 50 << 10, (peak_kib(pid), before)


def try_our_server():
    """Return the pool, for the server that follows."""
    server = subprocess.Popen([LAB, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            for version in ("v1", "v1alpha"):
                lab = check_client(channel, version)
            try_compressed(channel, server.pid)
        server.terminate()
        assert server.wait(WAIT_S) == 0
    finally:
        server.kill()
        server.wait()
    return lab


class Handlers(grpc.GenericRpcHandler):
    """The lab's service, in Python."""

    def __init__(self, pool, ended):
        self.note = message_class(pool, "lab.Note")
        self.count_request = message_class(pool, "lab.CountRequest")
        self.ended = ended

    def echo(self, note, context):
        if note.number == 1000000:
            self.ended.wait(WAIT_S)
        if note.number < 0:
            context.abort(grpc.StatusCode.NOT_FOUND,
                          f"keine Notiz „{note.number}“")
        return note

    def count(self, request, context):
        for i in range(request.n, 0, -1):
            yield self.note(number=i, body=bytes(request.body_bytes))

    def sum(self, notes, context):
        return self.note(number=sum(note.number for note in notes))

    def chat(self, notes, context):
        yield from notes

    def service(self, details):
        kinds = {
            "/lab.Lab/Echo": (grpc.unary_unary_rpc_method_handler, self.echo),
            "/lab.Lab/Count": (grpc.unary_stream_rpc_method_handler,
                               self.count),
            "/lab.Lab/Sum": (grpc.stream_unary_rpc_method_handler, self.sum),
            "/lab.Lab/Chat": (grpc.stream_stream_rpc_method_handler,
                              self.chat),
        }
        if details.method not in kinds:
            return None
        handler, function = kinds[details.method]
        request = (self.count_request if details.method.endswith("Count")
                   else self.note)
        return handler(function, request.FromString,
                       self.note.SerializeToString)


def try_our_client(pool):
    ended = threading.Event()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Handlers(pool, ended),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        done = subprocess.run([LAB, "call", f"127.0.0.1:{port}"],
                              timeout=3 * WAIT_S)
        assert done.returncode == 0, done
    finally:
        ended.set()
        server.stop(0).wait()


def main():
    lab = try_our_server()
    print("a grpcio client, from reflection alone: good")
    try_our_client(lab.pool)
    print("a grpcio server: good")


if __name__ == "__main__":
    main()
