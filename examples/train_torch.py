#!/usr/bin/env python3
"""Train with PyTorch, data parallel, with the state in a mount.

    retile mount --store S --job JOB --layout examples/train_torch.yaml MOUNT
    train_torch.py MOUNT --ranks N --steps S [--every E]

All ranks have the whole model, so rank 0 alone writes it.  Each has random
numbers of its own, rng.pt.  Each loads gen/G/load/ranks/R, where that is.
"""
import argparse
import json
import pathlib
import tempfile

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file


def optimizer_tensors(model, optimizer):
    """optim.STATE.PARAMETER: by this name Retile knows whose state it is."""
    return {f"optim.{state}.{name}": optimizer.state[parameter][state]
            for name, parameter in model.named_parameters()
            for state in optimizer.state[parameter]}


def save(generation, rank, step, model, optimizer):
    tmp = generation / "save" / f"{step}.tmp"
    here = tmp / "ranks" / f"{rank:03d}"
    tmp.mkdir(exist_ok=True)  # the first rank's begins the step
    here.mkdir(parents=True, exist_ok=True)
    torch.save(torch.get_rng_state(), here / "rng.pt")
    if rank == 0:
        save_file(model.state_dict(), here / "model.safetensors")
        save_file(optimizer_tensors(model, optimizer),
                  here / "optim.safetensors")
        (tmp / "retile.json").write_text(json.dumps({"step": step}))
    dist.barrier()  # all have closed their files
    if rank == 0:
        tmp.rename(tmp.with_suffix(""))  # the commit: all of it, or an OSError
    dist.barrier()


def load(generation, rank, model, optimizer):
    """The step that was loaded; 0: there is none."""
    here = generation / "load" / "ranks" / f"{rank:03d}"
    if not here.exists():
        return 0
    model.load_state_dict(load_file(here / "model.safetensors"))
    found = load_file(here / "optim.safetensors")
    for name, parameter in model.named_parameters():
        optimizer.state[parameter] = {
            state: found[f"optim.{state}.{name}"]
            for state in ("step", "exp_avg", "exp_avg_sq")}
    torch.set_rng_state(torch.load(here / "rng.pt"))
    return json.loads((generation / "load" / "retile.json").read_text())["step"]


def run(rank, args, rendezvous):
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}",
                            rank=rank, world_size=args.ranks)
    generation = (args.mount / "gen" / "current").resolve()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.Tanh(),
                                torch.nn.Linear(64, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    torch.manual_seed(rank)
    begin = load(generation, rank, model, optimizer)
    for step in range(begin + 1, begin + args.steps + 1):
        x = torch.randn(64, 16)
        loss = (model(x)[:, 0] - x[:, 0] * x[:, 1]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        for parameter in model.parameters():
            dist.all_reduce(parameter.grad)
            parameter.grad /= args.ranks
        optimizer.step()
        if rank == 0:
            print(f"step {step} loss {loss.item():.4f}", flush=True)
        if step % args.every == 0:
            save(generation, rank, step, model, optimizer)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("mount", type=pathlib.Path)
    for option in "--ranks", "--steps", "--every":
        parser.add_argument(option, type=int, default=10)
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as where:
        torch.multiprocessing.spawn(run, (parsed, f"{where}/rendezvous"),
                                    nprocs=parsed.ranks)
