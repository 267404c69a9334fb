"""The API's messages for Python, from the descriptors that the build made."""
import os
import pathlib

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def load():
    """Every message and enum of retile.v1, by name."""
    path = pathlib.Path(os.environ["RETILE_BUILD"]) / "proto"
    files = descriptor_pb2.FileDescriptorSet()
    files.ParseFromString((path / "proto_descriptors.pb").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    names = [file.name for file in files.file]
    return message_factory.MessageFactory(pool).GetMessages(names), pool


MESSAGES, POOL = load()


def message(name, **fields):
    return MESSAGES[f"retile.v1.{name}"](**fields)


def value(enum, name):
    return POOL.FindEnumTypeByName(f"retile.v1.{enum}").values_by_name[
        name].number


def name_of(enum, number):
    return POOL.FindEnumTypeByName(f"retile.v1.{enum}").values_by_number[
        number].name


def kind(name):
    return MESSAGES[f"retile.v1.{name}"]
