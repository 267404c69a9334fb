"""A GPT that is cut along tensor, pipeline and data parallel axes: PyTorch
over gloo.  It knows nothing of Retile; train_gpt.py trains it.

A rank has the layers of its pipeline stage and of each the part of its place
along tp.  Where what is computed does not depend on tp all its ranks compute
the same; into a part that is cut they Enter, out of it they Leave, as in
Megatron-LM (arXiv 1909.08053).  Data parallel ranks have the same weights and
other samples.
"""
import datetime
import itertools
import zlib

import torch
import torch.distributed as dist
from torch import nn

N_TOKENS = 256  # a token is a byte
TIMEOUT = datetime.timedelta(minutes=5)


class Mesh:
    """Which rank we are, along each axis, and with whom we communicate.

    @text is "pp=2,dp=1,tp=2": ranks in this order, the last axis fastest."""

    def __init__(self, text, rank, n_ranks):
        self.text, self.rank = text, rank
        sizes = {axis: int(size) for axis, size in
                 (word.split("=") for word in text.split(","))}
        for axis in "pp", "dp", "tp":
            sizes.setdefault(axis, 1)
        self.sizes = sizes
        self.places = [dict(zip(sizes, place)) for place in
                       itertools.product(*map(range, sizes.values()))]
        if len(self.places) != n_ranks or len(sizes) != 3:
            raise ValueError(f"mesh {text} of pp, dp and tp on {n_ranks} ranks")
        self.at = self.places[rank]
        self.is_first = self.at["pp"] == 0
        self.is_last = self.at["pp"] == sizes["pp"] - 1
        self.is_alone = n_ranks == 1
        if not self.is_alone:
            dist.init_process_group("gloo", timeout=TIMEOUT)
        # Stages send to each other, which needs no group.
        self.groups = {axis: self.make_group(axis) for axis in ("dp", "tp")}

    def make_group(self, axis):
        """Ours along @axis.  All ranks make all groups, in one order."""
        found = None
        for place in self.places:
            if place[axis] == 0 and self.sizes[axis] > 1:
                ranks = [self.places.index({**place, axis: i})
                         for i in range(self.sizes[axis])]
                group = dist.new_group(ranks, timeout=TIMEOUT)
                found = group if self.rank in ranks else found
        return found

    def stage(self, i):
        """The rank that is where we are on stage @i."""
        return self.places.index({**self.at, "pp": i})

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

    def wait(self):
        if not self.is_alone:
            dist.barrier()


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


def learn(stage, mesh, samples, args):
    """Fill in gradients; the loss, on the last stage.  Micro-batches go
    through all stages forward, and then back (GPipe)."""
    shape = (args.micro, args.seq, args.hidden)
    sent, passes, loss = [], [], 0.0

    def send(x, pp):
        sent.append((x, dist.isend(x, mesh.stage(pp))))

    def receive(pp):
        x = torch.empty(shape, dtype=args.compute)
        dist.recv(x, mesh.stage(pp))
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
