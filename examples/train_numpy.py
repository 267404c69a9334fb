#!/usr/bin/env python3
"""Train a small network on several processes, with its state in a mount.

    retile mount --store S --job JOB --layout examples/train_numpy.yaml MOUNT
    train_numpy.py MOUNT --ranks N --steps S [--every E]

A rank has 1/N of the hidden units and their momentum (tensor parallel).  It
loads gen/G/load/ranks/R, where that is, and saves each step that E divides.  To
the last bit, losses are the same for any N: sums over units have one order.
"""
import argparse
import json
import mmap
import pathlib
from multiprocessing import Barrier, Process, connection

import numpy as np
from safetensors.numpy import load_file, save_file

IN, HIDDEN, OUT, BATCH, N_BLOCKS = 32, 256, 8, 64, 16


def fresh_state(rank):
    rng = np.random.default_rng(0)
    up, down = rng.normal(0, .2, (HIDDEN, IN)), rng.normal(0, .1, (OUT, HIDDEN))
    model = {"up": np.split(up, args.ranks)[rank], "bias": np.zeros(OUT),
             "down": np.split(down, args.ranks, axis=1)[rank].copy()}
    return model, {f"optim.momentum.{n}": 0 * v for n, v in model.items()}


def train_step(model, optim, step, mine):
    rng = np.random.default_rng([1, step])  # the data depend on the step alone
    x = rng.normal(size=(BATCH, IN))
    target = np.sin(x[:, :OUT] * x[:, OUT:2 * OUT]) + x[:, -OUT:]
    downs = [d.copy() for d in np.split(model["down"], len(mine), axis=1)]
    hiddens = [np.tanh(x @ up.T) for up in np.split(model["up"], len(mine))]
    for block, hidden, down in zip(mine, hiddens, downs):
        sums[block] = hidden @ down.T
    barrier.wait()
    error = sum(sums) + model["bias"] - target
    barrier.wait()
    dy = 2 * error / BATCH
    dhs = [dy @ down * (1 - h * h) for down, h in zip(downs, hiddens)]
    grads = {"up": np.concatenate([dh.T @ x for dh in dhs]), "bias": dy.sum(0),
             "down": np.concatenate([dy.T @ h for h in hiddens], axis=1)}
    for name in model:
        momentum = optim[f"optim.momentum.{name}"]
        momentum[...] = 0.9 * momentum + grads[name]
        model[name] -= 0.02 * momentum
    return float((error * error).mean())


def save(rank, step, **groups):
    tmp = generation / "save" / f"{step}.tmp"
    if rank == 0:
        tmp.mkdir()
        (tmp / "retile.json").write_text(
            json.dumps({"step": step, "samples": step * BATCH}))
    barrier.wait()
    (tmp / f"ranks/{rank:03d}").mkdir(parents=True)
    for name, tensors in groups.items():
        save_file(tensors, tmp / f"ranks/{rank:03d}/{name}.safetensors")
    barrier.wait()
    if rank == 0:
        tmp.rename(generation / "save" / str(step))  # the commit


def run(rank):
    load, step = generation / "load", 0
    model, optim = fresh_state(rank)
    if load.exists():
        step = json.loads((load / "retile.json").read_text())["step"]
        model, optim = (load_file(load / f"ranks/{rank:03d}/{name}.safetensors")
                        for name in ("model", "optim"))
    mine = np.array_split(range(N_BLOCKS), args.ranks)[rank]
    for step in range(step + 1, step + args.steps + 1):
        loss = train_step(model, optim, step, mine)
        if rank == 0:
            print(f"step {step} loss {loss!r}", flush=True)
        if step % args.every == 0:
            save(rank, step, model=model, optim=optim)


parser = argparse.ArgumentParser()
parser.add_argument("mount", type=pathlib.Path)
for option in "--ranks", "--steps", "--every":
    parser.add_argument(option, type=int, default=10)
args = parser.parse_args()
generation = (args.mount / "gen" / "current").resolve()
sums = np.ndarray((N_BLOCKS, BATCH, OUT), buffer=mmap.mmap(-1, 1 << 16))
barrier = Barrier(args.ranks)
ranks = [Process(target=run, args=[r], daemon=True) for r in range(args.ranks)]
for process in ranks:
    process.start()
while ((alive := [process.sentinel for process in ranks if process.is_alive()])
       and not any(process.exitcode for process in ranks)):
    connection.wait(alive)
if any(process.exitcode for process in ranks):
    raise SystemExit("train_numpy: a rank failed")  # takes the others with it
