#!/usr/bin/env python3
"""Train a small GPT on bytes of text, tensor, pipeline and data parallel, with
its state in Retile.

    train_gpt.py --steps 100                         alone, nothing is saved
    retile launch JOB -- train_gpt.py --steps 2000   one process per device

Of Retile it knows the environment of its processes and three names; where
there is no Retile, any launcher that sets these will do:

    RANK WORLD_SIZE MASTER_ADDR MASTER_PORT    as torch.distributed wants them
    RETILE_MESH          "pp=1,dp=2,tp=2": ranks in this order, tp fastest
    RETILE_LOAD          0, or not there: there may be nothing to begin with
    RETILE_DIR/load      what to begin with, if it exists: ranks/RRR/...
    RETILE_DIR/save      where to save: STEP.tmp/ranks/RRR/..., renamed to STEP
    RETILE_DIR/request   empty, or a wish: {"stop_after": STEP or null}

The model and how it is cut is gpt.py; train_gpt.yaml tells Retile the same.

A run may go on under any other mesh.  The first weights depend on their names
alone, step s learns from the same samples whatever the mesh, and its loss is
that of a run on one process but for the order in which sums are made: under
one mesh to the last bit, under two of them within 1e-7.  For that, all is
computed in float64 between two steps, while weights and Adam's state are
float32: their rounding swallows what the order of a sum changes, but for a rare
tie.  Seen in 1500 steps: 9e-16.  With --compute float32 nothing swallows it,
and it grows as training is chaotic: 2e-5 after 50 steps, 0.05 after 100.
"""
import time

BEGAN = time.monotonic()  # importing torch is most of a start

import argparse
import json
import os
import pathlib
import random
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a rank is one processor's

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import gpt

IMPORTED = time.monotonic()
TEXT = "/usr/share/common-licenses"  # on every Debian: some 260 kB of English


def samples_of(step, mesh, text, args):
    """Our share of the step's samples: a function of seed, step and place in
    the global batch alone."""
    n_ours = args.batch // mesh.sizes["dp"]
    begin = (step - 1) * args.batch + n_ours * mesh.at["dp"]
    starts = [random.Random(f"{args.seed} {sample}").randrange(
        len(text) - args.seq) for sample in range(begin, begin + n_ours)]
    return torch.stack([text[i:i + args.seq + 1] for i in starts]).long()


class Optimizer:
    """Adam over float32 weights, from which the stage's are copied."""

    def __init__(self, stage, args):
        self.stage, self.rate = stage, args.rate
        self.weights = {name: nn.Parameter(weight.detach().clone())
                        for name, weight in stage.named_parameters()}
        self.adam = torch.optim.Adam(self.weights.values(), betas=(0.9, 0.95))
        stage.to(args.compute)

    @torch.no_grad()
    def step(self, step):
        self.adam.param_groups[0]["lr"] = self.rate * min(1, step / 20)
        for name, weight in self.stage.named_parameters():
            self.weights[name].grad = weight.grad.float()
        self.adam.step()
        self.spread()

    @torch.no_grad()
    def spread(self):
        for name, weight in self.stage.named_parameters():
            weight.copy_(self.weights[name])
            weight.grad = None

    def tensors(self):
        """optim.STATE.WEIGHT: so Retile knows whose state it is."""
        return {f"optim.{state}.{name}": self.adam.state[weight][state]
                for name, weight in self.weights.items()
                for state in self.adam.state[weight]}


def save(where, mesh, step, optimizer, args):
    """All of it, for good, or nothing: then rank 0 has said why, and all end."""
    tmp = where / "save" / f"{step}.tmp"
    here = tmp / "ranks" / f"{mesh.rank:03d}"
    tmp.mkdir(exist_ok=True)  # the first one begins the save; save/ itself is
    here.mkdir(parents=True, exist_ok=True)  # there, or there is no mount
    save_file({name: weight.detach() for name, weight in
               optimizer.weights.items()}, here / "model.safetensors")
    save_file(optimizer.tensors(), here / "optim.safetensors")
    torch.save(torch.get_rng_state(), here / "rng.pt")  # as for dropout
    if mesh.rank == 0:
        (tmp / "retile.json").write_text(json.dumps(
            {"step": step, "samples": step * args.batch}))
    mesh.wait()  # all have closed their files
    is_saved = True
    if mesh.rank == 0:
        try:
            tmp.rename(tmp.with_suffix(""))  # the commit
        except OSError as error:
            print(f"train_gpt: cannot save step {step}: {error}",
                  file=sys.stderr)
            is_saved = False
    if not mesh.tell(is_saved):
        sys.exit(1)


def load(where, mesh, optimizer, args):
    """The step that was loaded; 0: there is none.  Copies: what the files map
    would else be held for as long as we train."""
    if where is None:
        return 0
    if not (where / "load").exists():
        if os.environ.get("RETILE_LOAD", "0") != "0":
            sys.exit("train_gpt: what to begin with is gone: the mount died")
        return 0
    here = where / "load" / "ranks" / f"{mesh.rank:03d}"
    model = load_file(here / "model.safetensors")
    optim = load_file(here / "optim.safetensors")
    with torch.no_grad():
        for name, weight in optimizer.weights.items():
            weight.copy_(model[name])
            optimizer.adam.state[weight] = {
                state: optim[f"optim.{state}.{name}"].clone()
                for state in ("step", "exp_avg", "exp_avg_sq")}
    optimizer.spread()
    torch.set_rng_state(torch.load(here / "rng.pt"))
    at = json.loads((where / "load" / "retile.json").read_text())
    if at["samples"] != at["step"] * args.batch:
        sys.exit(f"train_gpt: saved with another --batch: {at}")
    return at["step"]


def should_stop(where, mesh, step):
    """Whether somebody asked us to stop, after this step or an earlier one."""
    wish = b""
    if mesh.rank == 0 and where is not None:
        try:
            wish = (where / "request").read_bytes().strip()
        except FileNotFoundError:
            pass  # a mount without a coordinator
    after = json.loads(wish).get("stop_after") if wish else step + 1
    return mesh.tell(after is None or after <= step)


def read_text(path):
    files = [path] if path.is_file() else sorted(
        {file.resolve() for file in path.iterdir() if file.is_file()})
    return torch.tensor(list(b"\n".join(f.read_bytes() for f in files)),
                        dtype=torch.uint8)


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default, text in (
            ("steps", 100, "the step after which it is done"),
            ("save-every", 0, "save after so many steps; 0: only at the end"),
            ("layers", 4, "of the model; ceil(layers / pp) on a stage"),
            ("hidden", 32, "numbers that stand for a token"),
            ("heads", 4, "of each layer; tp divides it"),
            ("seq", 32, "tokens of a sample"),
            ("batch", 8, "samples of a step, of all ranks together"),
            ("micro", 2, "samples that go through the stages at once"),
            ("seed", 1, "of the first weights and of the order of samples")):
        parser.add_argument(f"--{name}", type=int, default=default,
                            help=f"{text} ({default})", metavar="N")
    parser.add_argument("--rate", type=float, default=0.01, metavar="X",
                        help="Adam's, reached after 20 steps (0.01)")
    parser.add_argument("--compute", default="float64",
                        choices=("float64", "float32"))
    parser.add_argument("--text", type=pathlib.Path, default=TEXT,
                        metavar="PATH", help=f"a file or folder to learn ({TEXT})")
    parser.add_argument("--json-lines", type=pathlib.Path, metavar="FILE",
                        help="append a JSON object for each line of output")
    args = parser.parse_args()
    args.compute = getattr(torch, args.compute)
    return args


def place(args):
    """Our place among the ranks, which must divide what they share."""
    n_ranks = int(os.environ.get("WORLD_SIZE", 1))
    mesh = gpt.Mesh(os.environ.get("RETILE_MESH", f"dp={n_ranks}"),
                    int(os.environ.get("RANK", 0)), n_ranks)
    tp, dp = mesh.sizes["tp"], mesh.sizes["dp"]
    for what, n, by in (("heads", args.heads, tp), ("tokens", gpt.N_TOKENS, tp),
                        ("hidden", args.hidden, args.heads),
                        ("batch", args.batch, dp * args.micro)):
        if n % by != 0:
            sys.exit(f"train_gpt: {what}: {n} is no multiple of {by}")
    return mesh


class Teller:
    """Lines of words and numbers, from the one rank that has the loss."""

    def __init__(self, mesh, path):
        self.is_mute = not (mesh.is_last and mesh.at["dp"] == mesh.at["tp"] == 0)
        self.path, self.more = path, {
            "generation": int(os.environ.get("RETILE_GENERATION", 0)),
            "mesh": mesh.text}

    def __call__(self, **facts):
        if self.is_mute:
            return
        print(*(f"{name} {value:.9f}" if name == "loss" else f"{name} {value}"
                for name, value in facts.items()), flush=True)
        if self.path is not None:
            line = json.dumps({**facts, **self.more, "time": time.time()})
            with self.path.open("a") as file:
                file.write(line + "\n")


def ms(begin, end=None):
    return round(1000 * ((end or time.monotonic()) - begin))


def main():
    args = parse()
    torch.set_num_threads(1)
    mesh = place(args)
    tell = Teller(mesh, args.json_lines)
    joined = time.monotonic()
    where = os.environ.get("RETILE_DIR")
    where = pathlib.Path(where) if where else None

    text = read_text(pathlib.Path(args.text))
    torch.manual_seed(args.seed + mesh.rank)
    stage = gpt.Stage(mesh, args)
    optimizer = Optimizer(stage, args)
    built = time.monotonic()
    begin = load(where, mesh, optimizer, args)
    tell(begin=begin, import_ms=ms(BEGAN, IMPORTED), join_ms=ms(IMPORTED, joined),
         build_ms=ms(joined, built), load_ms=ms(built))

    for step in range(begin + 1, args.steps + 1):
        now = time.monotonic()
        samples = samples_of(step, mesh, text, args)
        loss = gpt.learn(stage, mesh, samples, args)
        optimizer.step(step)
        tell(step=step, loss=loss, ms=ms(now))
        stops = should_stop(where, mesh, step) or step == args.steps
        is_due = args.save_every and step % args.save_every == 0
        if where is not None and (stops or is_due):
            now = time.monotonic()
            save(where, mesh, step, optimizer, args)
            tell(saved=step, ms=ms(now))
        if stops:
            break


if __name__ == "__main__":
    main()
    # All is saved.  Threads of torch 1.13 can abort a process that takes its
    # objects down at its end: it ends without, since an exit must say 0.
    sys.stdout.flush()
    os._exit(0)
