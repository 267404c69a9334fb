#!/usr/bin/env python3
"""The RPC layer and peers that do not keep to HTTP/2 or gRPC: frames by hand.

Whatever comes, a call ends with a status or its connection ends, the next client
is served, and the server stops with 0 (built with sanitizers it says more).

    rpc_hostile.py
"""
import os
import pathlib
import random
import re
import socket
import struct
import subprocess
import time

LAB = pathlib.Path(os.environ["RETILE_BUILD"]) / "tests" / "rpc_lab"
WAIT_S = 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST, SETTINGS, GOAWAY, WINDOW, MORE = 0, 1, 3, 4, 7, 8, 9
ENDS = 1
NOTE = b"\x08\x05"
SEED = int(os.environ.get("RETILE_SEED", time.time_ns() % 2**32))
DEAD = "dead"  # the connection, or it says nothing more
ANY = None     # gRPC core's affair


def frame(kind, flags, stream, payload=b""):
    return (struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
            + struct.pack(">I", stream) + payload)


def literal(*texts):
    """A header field as HPACK has it, without indexing."""
    out = b"\0"
    for text in texts:
        text = text if isinstance(text, bytes) else text.encode()
        n = len(text)
        out += bytes([min(n, 127)])
        if n >= 127:
            n -= 127
            while n > 127:
                out += bytes([n & 127 | 128])
                n >>= 7
            out += bytes([n])
        out += text
    return out


def headers(path="/lab.Lab/Echo", more=(), less=(), flags=4, stream=1):
    fields = {":method": "POST", ":scheme": "http", ":path": path,
              ":authority": "lab", "te": "trailers",
              "content-type": "application/grpc"}
    block = b"".join(literal(*field) for field in fields.items()
                     if field[0] not in less)
    return frame(HEADERS, flags, stream,
                 block + b"".join(literal(*field) for field in more))


def message(data=NOTE, flag=0, length=None):
    return (bytes([flag])
            + struct.pack(">I", len(data) if length is None else length) + data)


def data(payload, flags=ENDS, stream=1):
    return frame(DATA, flags, stream, payload)


def connect(port):
    return socket.create_connection(("127.0.0.1", port), WAIT_S)


def frames_of(sock):
    """What the server says, frame by frame, until it stops."""
    got = b""
    while True:
        while len(got) < 9 or len(got) < 9 + int.from_bytes(got[:3], "big"):
            try:
                more = sock.recv(65536)
            except OSError:
                return
            if not more:
                return
            got += more
        n = 9 + int.from_bytes(got[:3], "big")
        yield got[3], got[4], got[9:n]
        got = got[n:]


def status_of(port, sent, wait_s=WAIT_S):
    """The call's status, or DEAD."""
    with connect(port) as sock:
        sock.settimeout(wait_s)
        try:
            sock.sendall(PREFACE + frame(SETTINGS, 0, 0) + sent)
        except OSError:
            return DEAD
        for kind, _, payload in frames_of(sock):
            found = re.search(rb"grpc-status[\1\2](\d+)", payload)
            if kind == HEADERS and found:
                return int(found.group(1))
            if kind in (RST, GOAWAY):
                return DEAD
    return DEAD


def timeout(text):
    return headers(more=[("grpc-timeout", text)]) + data(message())


OK, UNKNOWN, INVALID, LATE, NO_METHOD = 0, 2, 3, 4, 12
CASES = [
    ("a good call", headers() + data(message()), OK),
    # Messages.
    ("no message", headers(flags=5), INVALID),
    ("half a message", headers() + data(message(length=50)), INVALID),
    ("half a length", headers() + data(b"\0\0\0"), INVALID),
    ("not a note", headers() + data(message(b"\x0a\xff\xff")), INVALID),
    ("field 0", headers() + data(message(b"\0\1")), INVALID),
    ("a long varint", headers() + data(message(b"\x08" + b"\xff" * 20)),
     INVALID),
    ("groups in groups", headers() + data(message(b"\x0b" * 2000)), INVALID),
    ("a field 1000 times", headers() + data(message(NOTE * 1000)), OK),
    ("two messages", headers() + data(message() + message()), OK),
    ("gzip", headers(more=[("grpc-encoding", "gzip")])
     + data(message(flag=1)), NO_METHOD),
    ("a huge length", headers()
     + data(message(length=2**32 - 1), flags=0), DEAD),
    # Headers.
    ("no such method", headers("/lab.Lab/Nope") + data(message()), NO_METHOD),
    ("no path", headers(less=[":path"]) + data(message()), UNKNOWN),
    ("an empty path", headers("") + data(message()), NO_METHOD),
    ("a path with NUL", headers(b"/lab.Lab/Echo\0") + data(message()),
     NO_METHOD),
    ("a path of bytes", headers(b"\xff\x1b[31m" * 99) + data(message()),
     NO_METHOD),
    ("no te", headers(less=["te"]) + data(message()), UNKNOWN),
    ("much metadata", headers(flags=0) + b"".join(
        frame(MORE, 4 * (i == 3), 1, literal(f"z{i}", "v" * 9000))
        for i in range(4)) + data(message()), ANY),
    ("a token with NUL",
     headers(more=[("authorization", b"Bearer a\0b")]) + data(message()), OK),
    ("no time", timeout("0n"), LATE),
    ("hardly any time", timeout("1n"), ANY),
    ("all the time", timeout("99999999H"), OK),
    ("more than that", timeout("9" * 21 + "H"), OK),
    ("less than nothing", timeout("-5S"), OK),
    ("words for a time", timeout("soon"), OK),
    # Frames.
    ("an even stream", headers(stream=2) + data(message(), stream=2), DEAD),
    ("data of nobody", data(message(), stream=5), DEAD),
    ("headers without end", headers(flags=0) + b"".join(
        frame(MORE, 0, 1, literal(f"z{i}", "v" * 15000)) for i in range(99)),
     DEAD),
    ("a window beyond all", 2 * frame(WINDOW, 0, 0, b"\x7f" + b"\xff" * 3)
     + headers() + data(message()), ANY),
]


def try_cases(port):
    for name, sent, wanted in CASES:
        wait_s = 1 if wanted in (DEAD, ANY) else WAIT_S
        got = status_of(port, sent, wait_s)
        assert wanted in (ANY, got), (name, got, wanted)
        assert status_of(port, CASES[0][1]) == OK, name


def try_resets(port):
    """Calls that are cancelled as soon as they are made."""
    with connect(port) as sock:
        sock.settimeout(1)
        calls = b"".join(
            headers("/lab.Lab/Chat", stream=i)
            + frame(RST, 0, i, struct.pack(">I", 8))
            for i in range(1, 4001, 2))
        try:
            sock.sendall(PREFACE + frame(SETTINGS, 0, 0) + calls)
        except OSError:
            pass
        assert status_of(port, CASES[0][1]) == OK


def try_mutants(port):
    print(f"RETILE_SEED={SEED}")
    rng = random.Random(SEED)
    paths = ["/lab.Lab/Chat", "/lab.Lab/Echo", "/lab.Lab/Sum",
             "/grpc.health.v1.Health/Watch"]
    for _ in range(200):
        sent = bytearray(frame(SETTINGS, 0, 0) + headers(rng.choice(paths))
                         + data(message() * rng.randrange(5),
                                flags=rng.randrange(2)))
        for _ in range(rng.randrange(1, 6)):
            sent[rng.randrange(len(sent))] = rng.randrange(256)
        with connect(port) as sock:
            try:
                sock.sendall(PREFACE + sent[:rng.randrange(len(sent) + 1)])
            except OSError:
                pass
    assert status_of(port, CASES[0][1]) == OK


def main():
    server = subprocess.Popen([LAB, "serve"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        try_cases(port)
        try_resets(port)
        try_mutants(port)
        server.terminate()
        assert server.wait(WAIT_S) == 0
    finally:
        server.kill()
        server.wait()
    print(f"{len(CASES)} cases, resets, mutants: served on")


if __name__ == "__main__":
    main()
