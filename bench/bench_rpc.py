#!/usr/bin/env python3
"""Our RPC server beside Python's grpcio server, in turns, by the same client.

    bench_rpc.py BUILD [--ms 3000] [--rounds 3]      BUILD: build/release

Prints a table to stderr and JSON to stdout; of the rounds the best is taken.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys

import grpc

TICKS = os.sysconf("SC_CLK_TCK")


class Health(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: b"\x08\x01")


def serve_grpcio():
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Health(),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


def cpu_s(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text()
    fields = fields.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def run(bench, *arguments):
    done = subprocess.run([bench, *map(str, arguments)], text=True, check=True,
                          stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def measure(bench, command, threads, ms):
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        before = cpu_s(server.pid)
        row = run(bench, "call", f"127.0.0.1:{port}", threads, ms)
        # With what the client's 200 ms of warming cost it, some per cent.
        row["server_cpu_us"] = round(
            (cpu_s(server.pid) - before) * 1e6 / row["calls"], 1)
        return row
    finally:
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--ms", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    bench = pathlib.Path(options.build) / "bin" / "retile-bench-rpc"
    servers = {"retile": [bench, "serve"],
               "grpcio": [sys.executable, __file__, "--serve"]}
    rows = []
    print(f"{'server':8} {'threads':>7} {'p50 us':>7} {'p99 us':>7} "
          f"{'calls/s':>8} {'server us':>9} {'client us':>9}",
          file=sys.stderr)
    for threads in (1, 8):
        tries = {name: [] for name in servers}
        for _ in range(options.rounds):
            for name, command in servers.items():
                tries[name].append(
                    measure(bench, command, threads, options.ms))
        for name, found in tries.items():
            row = max(found, key=lambda one: one["calls_per_s"])
            rows.append({"server": name, "threads": threads, **row})
            print(f"{name:8} {threads:7} {row['p50_us']:7} {row['p99_us']:7} "
                  f"{row['calls_per_s']:8} {row['server_cpu_us']:9} "
                  f"{row['client_cpu_us']:9}", file=sys.stderr)
    watch = min((run(bench, "watch", 1000) for _ in range(options.rounds)),
                key=lambda one: one["all_told_ms"])
    print(f"1,000 watchers: {watch['all_told_ms']} ms until all are told, "
          f"{watch['send_ms']} ms of that in the call", file=sys.stderr)
    print(json.dumps({"version": 1, "calls": rows, "watch": watch}, indent=2))


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve_grpcio()
    else:
        main()
