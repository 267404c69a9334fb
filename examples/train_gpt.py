#!/usr/bin/env python3
"""Train a small GPT on bytes of text, tensor, pipeline and data parallel.

    train_gpt.py --steps 100                         alone, nothing is saved
    retile launch JOB -- train_gpt.py --steps 2000   one process per device

Of Retile it knows the environment of its processes and three names in
RETILE_DIR; where there is no Retile, any launcher that sets these will do:

    RANK WORLD_SIZE MASTER_ADDR MASTER_PORT    as torch.distributed wants them
    RETILE_MESH       pp=1,dp=2,tp=2: ranks in this order, the last axis fastest
    RETILE_DIR/load   what to begin with, if it exists: ranks/RRR/*.safetensors
    RETILE_DIR/save   where to save: STEP.tmp/ranks/RRR/..., renamed to STEP
    RETILE_DIR/request   empty, or a wish: {"stop_after": STEP or null}

How the state lies on the ranks is train_gpt.yaml; the code that cuts it is
column(), row() and Stage below.  A run may go on under any other mesh: the
first weights depend on their names alone, step s learns from the same samples
whatever the mesh, and so its loss is that of a run on one process, but for the
order in which sums are made.  Weights and Adam's state are float32; between two
steps all is computed in float64 (--compute), so that the order matters little:
losses then differ by less than 1e-7, with float32 by less than 1e-2.
"""
import time

BEGAN = time.monotonic()  # importing torch is most of a start

import argparse
import itertools
import json
import os
import pathlib
import random
import sys
import zlib

os.environ.setdefault("OMP_NUM_THREADS", "1")  # a rank is one processor's

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn

IMPORTED = time.monotonic()
TEXT = "/usr/share/common-licenses"  # on every Debian: some 260 kB of English
N_TOKENS = 256                       # a token is a byte


class Mesh:
    """Which rank we are, along each axis, and with whom we communicate."""

    def __init__(self):
        self.rank = int(os.environ.get("RANK", 0))
        n_ranks = int(os.environ.get("WORLD_SIZE", 1))
        self.text = os.environ.get("RETILE_MESH", f"dp={n_ranks}")
        sizes = {axis: int(size) for axis, size in
                 (word.split("=") for word in self.text.split(","))}
        for axis in "pp", "dp", "tp":
            sizes.setdefault(axis, 1)
        self.sizes = sizes
        # The coordinates of each rank; our own are RETILE_COORDS as well.
        self.places = [dict(zip(sizes, place)) for place in
                       itertools.product(*map(range, sizes.values()))]
        if len(self.places) != n_ranks or len(sizes) != 3:
            sys.exit(f"train_gpt: mesh {self.text} on {n_ranks} ranks")
        self.at = self.places[self.rank]
        self.is_first = self.at["pp"] == 0
        self.is_last = self.at["pp"] == sizes["pp"] - 1
        self.tells = self.is_last and self.at["dp"] == self.at["tp"] == 0
        self.is_alone = n_ranks == 1
        if not self.is_alone:
            dist.init_process_group("gloo")
        self.groups = {axis: self.make_group(axis) for axis in sizes}

    def rank_at(self, **other):
        return self.places.index({**self.at, **other})

    def make_group(self, axis):
        """Our group along @axis.  All ranks make all groups, in one order."""
        found = None
        for place in self.places:
            if place[axis] != 0 or self.sizes[axis] == 1 or axis == "pp":
                continue  # stages send to each other, without a group
            ranks = [self.places.index({**place, axis: i})
                     for i in range(self.sizes[axis])]
            group = dist.new_group(ranks)
            found = group if self.rank in ranks else found
        return found

    def reduce(self, x, axis, op=dist.ReduceOp.SUM):
        if self.groups[axis] is not None:
            x = x.clone(memory_format=torch.contiguous_format)
            dist.all_reduce(x, op, self.groups[axis])
        return x

    def tell(self, number):
        """What rank 0 says, on every rank."""
        said = torch.tensor([int(number)])
        if not self.is_alone:
            dist.broadcast(said, 0)
        return said.item()


# The model.  A rank has a stage's layers, and of each the tp-th part.

class Enter(torch.autograd.Function):
    """Into a part that is cut along tp: all use x, so their gradients add."""

    @staticmethod
    def forward(ctx, x, mesh):
        ctx.mesh = mesh
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return ctx.mesh.reduce(grad, "tp"), None


class Leave(torch.autograd.Function):
    """Out of it: the sum of what each has, of which all go on with a copy."""

    @staticmethod
    def forward(ctx, x, mesh):
        return mesh.reduce(x, "tp")

    @staticmethod
    def backward(ctx, grad):
        return grad, None


def cut_along(module, dim):
    module.weight.cut = dim  # for Stage.first_weights
    return module


def column(mesh, n_in, n_out):
    """Rows of the weight, columns of what comes out, are cut: dims [tp, ~]."""
    return cut_along(nn.Linear(n_in, n_out // mesh.sizes["tp"], bias=False), 0)


def row(mesh, n_in, n_out):
    """What goes in is cut: dims [~, tp]."""
    return cut_along(nn.Linear(n_in // mesh.sizes["tp"], n_out, bias=False), 1)


class Attention(nn.Module):
    def __init__(self, mesh, args):
        super().__init__()
        self.mesh, self.head = mesh, args.hidden // args.heads
        for name in "q_proj", "k_proj", "v_proj":
            setattr(self, name, column(mesh, args.hidden, args.hidden))
        self.o_proj = row(mesh, args.hidden, args.hidden)

    def forward(self, x):
        x = Enter.apply(x, self.mesh)
        q, k, v = (proj(x).unflatten(-1, (-1, self.head)).transpose(1, 2)
                   for proj in (self.q_proj, self.k_proj, self.v_proj))
        scores = q @ k.transpose(-2, -1) * self.head ** -0.5
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        y = scores.masked_fill(later, float("-inf")).softmax(-1) @ v
        return Leave.apply(self.o_proj(y.transpose(1, 2).flatten(2)), self.mesh)


class Mlp(nn.Module):
    def __init__(self, mesh, args):
        super().__init__()
        self.mesh = mesh
        self.up_proj = column(mesh, args.hidden, 4 * args.hidden)
        self.down_proj = row(mesh, 4 * args.hidden, args.hidden)

    def forward(self, x):
        x = nn.functional.gelu(self.up_proj(Enter.apply(x, self.mesh)))
        return Leave.apply(self.down_proj(x), self.mesh)


class Block(nn.Module):
    def __init__(self, mesh, args):
        super().__init__()
        self.attn_layernorm = nn.LayerNorm(args.hidden)
        self.attn = Attention(mesh, args)
        self.mlp_layernorm = nn.LayerNorm(args.hidden)
        self.mlp = Mlp(mesh, args)

    def forward(self, x):
        x = x + self.attn(self.attn_layernorm(x))
        return x + self.mlp(self.mlp_layernorm(x))


class Stage(nn.Module):
    """Our part of the model; its parameters have the names of the whole's."""

    def __init__(self, mesh, args):
        super().__init__()
        self.mesh, tp = mesh, mesh.sizes["tp"]
        self.model = nn.Module()
        if mesh.is_first:
            self.model.embed_tokens = cut_along(
                nn.Embedding(N_TOKENS // tp, args.hidden), 0)
            self.model.embed_positions = nn.Embedding(args.seq, args.hidden)
        n_each = -(-args.layers // mesh.sizes["pp"])
        self.model.layers = nn.ModuleDict({
            str(i): Block(mesh, args) for i in range(args.layers)
            if i // n_each == mesh.at["pp"]})
        if mesh.is_last:
            self.model.norm = nn.LayerNorm(args.hidden)
            self.lm_head = column(mesh, args.hidden, N_TOKENS)
        self.first_weights(args.seed)

    @torch.no_grad()
    def first_weights(self, seed):
        """Each weight's own random numbers, whole, and of those our part."""
        for name, weight in self.named_parameters():
            if weight.ndim == 1:
                continue  # of a LayerNorm: ones and zeros
            shape, dim = list(weight.shape), getattr(weight, "cut", None)
            random_numbers = torch.Generator()
            random_numbers.manual_seed(zlib.crc32(f"{seed} {name}".encode()))
            if dim is not None:
                shape[dim] *= self.mesh.sizes["tp"]
            whole = torch.randn(shape, generator=random_numbers) * 0.02
            weight.copy_(whole if dim is None else whole.chunk(
                self.mesh.sizes["tp"], dim)[self.mesh.at["tp"]])

    def local(self, tokens):
        """Where tokens are among ours, and which of them are ours."""
        n_ours = N_TOKENS // self.mesh.sizes["tp"]
        index = tokens - n_ours * self.mesh.at["tp"]
        return index.clamp(0, n_ours - 1), (index >= 0) & (index < n_ours)

    def forward(self, x, targets):
        """Tokens or activations in; activations or the sum of losses out."""
        if self.mesh.is_first:
            index, is_ours = self.local(x)
            x = self.model.embed_tokens(index) * is_ours.unsqueeze(-1)
            x = (Leave.apply(x, self.mesh)
                 + self.model.embed_positions.weight[:x.shape[1]])
        for block in self.model.layers.values():
            x = block(x)
        if not self.mesh.is_last:
            return x
        # Cross entropy over tokens that are cut along tp.
        logits = self.lm_head(Enter.apply(self.model.norm(x), self.mesh))
        top = self.mesh.reduce(logits.detach().amax(-1), "tp", dist.ReduceOp.MAX)
        logits = logits - top.unsqueeze(-1)
        index, is_ours = self.local(targets)
        right = logits.gather(-1, index.unsqueeze(-1)).squeeze(-1) * is_ours
        both = Leave.apply(torch.stack([logits.exp().sum(-1), right]), self.mesh)
        return (both[0].log() - both[1]).sum()


# Training.

def samples_of(step, mesh, text, args):
    """Our share of the step's samples: a function of seed, step and place in
    the global batch alone."""
    n_ours = args.batch // mesh.sizes["dp"]
    begin = (step - 1) * args.batch + n_ours * mesh.at["dp"]
    starts = [random.Random(f"{args.seed} {sample}").randrange(
        len(text) - args.seq) for sample in range(begin, begin + n_ours)]
    return torch.stack([text[i:i + args.seq + 1] for i in starts]).long()


def learn(stage, mesh, samples, args):
    """Fill in gradients; the loss, on the last stage.  Micro-batches go
    through all stages forward, and then back (GPipe)."""
    shape = (args.micro, args.seq, args.hidden)
    sent, passes, loss = [], [], 0.0

    def send(x, pp):
        sent.append((x, dist.isend(x, mesh.rank_at(pp=pp))))

    def receive(pp):
        x = torch.empty(shape, dtype=args.compute)
        dist.recv(x, mesh.rank_at(pp=pp))
        return x

    for batch in samples.split(args.micro):
        x = batch[:, :-1]
        if not mesh.is_first:
            x = receive(mesh.at["pp"] - 1).requires_grad_()
        y = stage(x, batch[:, 1:])
        if mesh.is_last:
            y = y / (args.batch * args.seq)  # the mean, of the global batch
            loss += y.item()
        else:
            send(y.detach(), mesh.at["pp"] + 1)
        passes.append((x, y))
    for x, y in passes:
        y.backward(None if mesh.is_last else receive(mesh.at["pp"] + 1))
        if not mesh.is_first:
            send(x.grad, mesh.at["pp"] - 1)
    for _, work in sent:
        work.wait()

    # Samples are shared out over dp: add up gradients, and the loss, at once.
    weights = list(stage.parameters())
    ours = [w.grad.flatten() for w in weights]
    ours.append(torch.tensor([loss], dtype=args.compute))
    total = mesh.reduce(torch.cat(ours), "dp").split([x.numel() for x in ours])
    for weight, grad in zip(weights, total):
        weight.grad = grad.view_as(weight)
    return total[-1].item()


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


# Saving and loading.

def save(where, mesh, step, optimizer, args):
    """All of it, for good, or nothing: then rank 0 has said why, and all end."""
    tmp = where / "save" / f"{step}.tmp"
    here = tmp / "ranks" / f"{mesh.rank:03d}"
    here.mkdir(parents=True, exist_ok=True)  # the first rank's begins the save
    save_file({name: weight.detach() for name, weight in
               optimizer.weights.items()}, here / "model.safetensors")
    save_file(optimizer.tensors(), here / "optim.safetensors")
    torch.save(torch.get_rng_state(), here / "rng.pt")  # as for dropout
    if mesh.rank == 0:
        (tmp / "retile.json").write_text(json.dumps(
            {"step": step, "samples": step * args.batch}))
    if not mesh.is_alone:
        dist.barrier()  # all have closed their files
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
    if where is None or not (where / "load").exists():
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


def parse(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default, text in (
            ("steps", 100, "the step after which it is done"),
            ("save-every", 0, "save after so many steps; 0: only at the end"),
            ("layers", 4, ""), ("hidden", 64, ""), ("heads", 4, ""),
            ("seq", 32, "tokens of a sample"),
            ("batch", 8, "samples of a step, of all ranks together"),
            ("micro", 2, "samples that go through the stages at once"),
            ("seed", 1, "of the first weights and of the order of samples")):
        parser.add_argument(f"--{name}", type=int, default=default,
                            help=f"{text} ({default})", metavar="N")
    parser.add_argument("--rate", type=float, default=0.003, metavar="X",
                        help="Adam's, reached after 20 steps (0.003)")
    parser.add_argument("--compute", default="float64",
                        choices=("float64", "float32"))
    parser.add_argument("--text", type=pathlib.Path, default=TEXT,
                        metavar="FILE", help=f"or folder, to learn ({TEXT})")
    parser.add_argument("--json-lines", type=pathlib.Path, metavar="FILE",
                        help="append a JSON object for each line of output")
    return parser.parse_args(argv)


def check_sizes(mesh, args):
    for what, n, by in (("heads", args.heads, mesh.sizes["tp"]),
                        ("hidden", args.hidden, args.heads),
                        ("tokens", N_TOKENS, mesh.sizes["tp"]),
                        ("batch", args.batch, mesh.sizes["dp"] * args.micro)):
        if n % by != 0:
            sys.exit(f"train_gpt: {what}: {n} is no multiple of {by}")


def main():
    args = parse()
    args.compute = getattr(torch, args.compute)
    torch.set_num_threads(1)
    mesh = Mesh()
    check_sizes(mesh, args)
    joined = time.monotonic()
    where = os.environ.get("RETILE_DIR")
    where = pathlib.Path(where) if where else None
    generation = int(os.environ.get("RETILE_GENERATION", 0))

    def tell(**facts):
        """A line of words and numbers; the rank that has the loss prints."""
        if not mesh.tells:
            return
        print(" ".join(f"{name} {value:.9f}" if name == "loss" else
                       f"{name} {value}" for name, value in facts.items()),
              flush=True)
        if args.json_lines is not None:
            more = {"generation": generation, "mesh": mesh.text,
                    "time": time.time()}
            with args.json_lines.open("a") as file:
                file.write(json.dumps({**facts, **more}) + "\n")

    def ms_since(begin):
        return round(1000 * (time.monotonic() - begin))

    text = read_text(pathlib.Path(args.text))
    torch.manual_seed(args.seed + mesh.rank)
    stage = Stage(mesh, args)
    optimizer = Optimizer(stage, args)
    loading = time.monotonic()
    begin = load(where, mesh, optimizer, args)
    tell(begin=begin, import_ms=round(1000 * (IMPORTED - BEGAN)),
         join_ms=round(1000 * (joined - IMPORTED)), load_ms=ms_since(loading))
    for step in range(begin + 1, args.steps + 1):
        now = time.monotonic()
        loss = learn(stage, mesh, samples_of(step, mesh, text, args), args)
        optimizer.step(step)
        tell(step=step, loss=loss, ms=ms_since(now))
        stops = should_stop(where, mesh, step) or step == args.steps
        if where is not None and (stops or (
                args.save_every and step % args.save_every == 0)):
            now = time.monotonic()
            save(where, mesh, step, optimizer, args)
            tell(saved=step, ms=ms_since(now))
        if stops:
            break


if __name__ == "__main__":
    main()
