"""A gRPC client that knows nothing of Retile's API: it asks the server's
reflection service what there is, and makes calls from that.

    api = Api(grpc.insecure_channel("unix:/tmp/c.sock"))
    api("Jobs/Submit", request_id="1", name="gpt", layout="...").job.state

Messages are given and shown as keyword arguments; enums by name or number.
"""
import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format
from google.protobuf import message_factory

F = descriptor_pb2.FieldDescriptorProto


def reflection_classes():
    """grpc.reflection.v1alpha, as far as it is asked: written down here."""
    file = descriptor_pb2.FileDescriptorProto(
        name="reflected.proto", package="grpc.reflection.v1alpha",
        syntax="proto3")

    def message(name, *fields):
        made = file.message_type.add(name=name)
        for number, field, kind, label, other in fields:
            made.field.add(
                name=field, number=number, type=kind, label=label,
                type_name=other and ".grpc.reflection.v1alpha." + other)

    one, many = F.LABEL_OPTIONAL, F.LABEL_REPEATED
    message("ServerReflectionRequest",
            (1, "host", F.TYPE_STRING, one, None),
            (3, "file_by_filename", F.TYPE_STRING, one, None),
            (4, "file_containing_symbol", F.TYPE_STRING, one, None),
            (7, "list_services", F.TYPE_STRING, one, None))
    message("FileDescriptorResponse",
            (1, "file_descriptor_proto", F.TYPE_BYTES, many, None))
    message("ServiceResponse", (1, "name", F.TYPE_STRING, one, None))
    message("ListServiceResponse",
            (1, "service", F.TYPE_MESSAGE, many, "ServiceResponse"))
    message("ServerReflectionResponse",
            (4, "file_descriptor_response", F.TYPE_MESSAGE, one,
             "FileDescriptorResponse"),
            (6, "list_services_response", F.TYPE_MESSAGE, one,
             "ListServiceResponse"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    return [factory.GetPrototype(pool.FindMessageTypeByName(
        "grpc.reflection.v1alpha.ServerReflection" + end))
        for end in ("Request", "Response")]


class Api:
    def __init__(self, channel, timeout=20, metadata=(), package="retile.v1"):
        self.channel, self.timeout = channel, timeout
        self.metadata, self.package = metadata, package
        self.pool = descriptor_pool.DescriptorPool()
        self.factory = message_factory.MessageFactory(self.pool)
        self.services = []
        self._learn()

    def _learn(self):
        request, response = reflection_classes()
        ask = self.channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString)

        def answer(**what):
            return list(ask(iter([request(**what)]), timeout=self.timeout,
                            wait_for_ready=True))[0]

        listed = answer(list_services="*").list_services_response
        self.services = sorted(s.name for s in listed.service)
        files = {}

        def learn(**what):
            found = answer(**what).file_descriptor_response
            for data in found.file_descriptor_proto:
                file = descriptor_pb2.FileDescriptorProto.FromString(data)
                if file.name not in files:
                    files[file.name] = file
                    for dependency in file.dependency:
                        if dependency not in files:
                            learn(file_by_filename=dependency)
                    self.pool.Add(file)

        for name in self.services:
            learn(file_containing_symbol=name)

    def method(self, path):
        service, name = path.split("/")
        if "." not in service:
            service = self.package + "." + service
        found = self.pool.FindServiceByName(service).FindMethodByName(name)
        return service, found

    def message(self, kind, **fields):
        """@kind: "FromAgent", or a whole name."""
        if "." not in kind:
            kind = self.package + "." + kind
        made = self.factory.GetPrototype(self.pool.FindMessageTypeByName(kind))
        return json_format.ParseDict(fields, made())

    def _callable(self, path):
        service, method = self.method(path)
        proto = descriptor_pb2.MethodDescriptorProto()
        method.CopyToProto(proto)
        kind = ("stream" if proto.client_streaming else "unary") + "_" + \
            ("stream" if proto.server_streaming else "unary")
        answer = self.factory.GetPrototype(method.output_type)
        return method, getattr(self.channel, kind)(
            f"/{service}/{method.name}",
            request_serializer=lambda m: m if isinstance(m, bytes)
            else m.SerializeToString(),
            response_deserializer=answer.FromString)

    def __call__(self, path, timeout=None, **fields):
        """A unary call, or a stream of answers (an iterator)."""
        method, call = self._callable(path)
        proto = descriptor_pb2.MethodDescriptorProto()
        method.CopyToProto(proto)
        request = self.message(method.input_type.full_name, **fields)
        if not proto.server_streaming:
            timeout = timeout or self.timeout
        return call(request, timeout=timeout, metadata=self.metadata,
                    wait_for_ready=False)

    def raw(self, path, data, timeout=None):
        """A unary call with bytes in place of a message."""
        return self._callable(path)[1](data, timeout=timeout or self.timeout,
                                       metadata=self.metadata)

    def open(self, path, requests, timeout=None):
        """A call with a stream of requests (an iterator of messages)."""
        return self._callable(path)[1](requests, timeout=timeout,
                                       metadata=self.metadata)

    def code(self, path, **fields):
        """How the call ends: "OK", "NOT_FOUND: text"."""
        try:
            self(path, **fields)
            return "OK"
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
