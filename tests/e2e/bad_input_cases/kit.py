"""How the cases make their files: by hand, with struct and json, so that any
rule of a format can be broken.  Nothing here needs a package."""
import json
import os
import struct
from dataclasses import dataclass
from typing import Callable

ELEM_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "BF16": 2, "F16": 2,
              "U8": 1, "I8": 1, "BOOL": 1}


@dataclass(frozen=True)
class Case:
    """One bad input.  @make fills the current directory's stand-in; @command
    is run there (words split at blanks); its one line must hold @needles."""
    name: str
    make: Callable
    command: str
    exit_code: int
    needles: tuple
    env: tuple = ()


def case(name, make, command, exit_code, *needles, env=()):
    return Case(name, make, command, exit_code, needles, tuple(env))


def n_elems(shape):
    n = 1
    for length in shape:
        n *= length
    return n


def n_bytes(dtype, shape):
    return n_elems(shape) * ELEM_BYTES[dtype]


def raw(header, data=b"", length=None):
    """A file's bytes; @length lies about the header's when it is given."""
    if isinstance(header, (dict, list)):
        header = json.dumps(header)
    if isinstance(header, str):
        header = header.encode()
    return struct.pack("<Q", len(header) if length is None else length) + (
        header + data)


def entry(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors(tensors, meta=None):
    """A good file.  @tensors: name -> (dtype, shape[, first byte])."""
    header = {} if meta is None else {"__metadata__": meta}
    data = b""
    for name, (dtype, shape, *first) in tensors.items():
        size = n_bytes(dtype, shape)
        header[name] = entry(dtype, shape, len(data), len(data) + size)
        start = first[0] if first else len(data)
        data += bytes((start + i) % 251 for i in range(size))
    return raw(header, data)


def write(top, name, content):
    path = top / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def files(**by_name):
    """A maker of these files; `__` in a keyword stands for a slash."""
    return tree({name.replace("__", "/"): content
                 for name, content in by_name.items()})


def tree(by_name):
    def make(top):
        for name, content in by_name.items():
            write(top, name, content() if callable(content) else content)
    return make


def both(*makers):
    def make(top):
        for maker in makers:
            maker(top)
    return make


def fifo(name):
    def make(top):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(top / name)
    return make


def link(name, target):
    def make(top):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).symlink_to(target)
    return make


def directory(name):
    def make(top):
        (top / name).mkdir(parents=True)
    return make


def nothing(_top):
    pass


# A small good state, for the cases in which something else is bad.
STATE = {
    "emb.weight": ("F32", [10, 4]),
    "layers.0.a.weight": ("F32", [8, 4]),
    "layers.1.a.weight": ("F32", [8, 4]),
    "norm.weight": ("F32", [4]),
    "scale": ("F32", []),
}
RULES = "rules:\n  - {match: '*'}\n"


def good(top):
    write(top, "in/model.safetensors", safetensors(STATE))


def with_spec(text):
    """The good state, and a spec beside it."""
    return both(good, files(**{"spec.yaml": text}))
