#!/usr/bin/env python3
"""A GPT-2 with its Adam state, through every kind of layout and back.

    chain.py [small|full]        full: the 124 M parameters of GPT-2

TP4 PP1 DP2 -> TP2 PP2 -> FSDP2 over 7 -> ZeRO-1 over 3 -> Hugging Face -> TP4
PP1 DP2, each by `retile convert` and by copying out of a mount of the one
before: the two ways are byte-identical, and the last equals the first.  Each
file is opened by three readers (safetensors, numpy mapping it, torch), and its
tensors compared with slices that this script cuts by itself; numpy maps every
.npy file of every mount.
"""
import filecmp
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import load_file as torch_load_file

RETILE = os.path.join(os.environ["RETILE_BIN"], "retile")
SIZES = {
    # vocabulary, positions, width, layers, heads
    "small": (1003, 64, 96, 3, 12),
    "full": (50257, 1024, 768, 12, 12),
}


def run(*args):
    done = subprocess.run(args, capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, args))}\nexit {done.returncode}\n"
                 f"{done.stdout}{done.stderr}")
    return done.stdout


def make_model(vocab, positions, width, layers, heads):
    """Every tensor of the state, by name, with distinct random bits."""
    rng = np.random.default_rng(20260101)

    def tensor(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    model = {
        "transformer.wte.weight": tensor(vocab, width),
        "transformer.wpe.weight": tensor(positions, width),
        "transformer.ln_f.weight": tensor(width),
        "transformer.ln_f.bias": tensor(width),
    }
    for n in range(layers):
        at = f"transformer.h.{n}."
        for norm in ("ln_1", "ln_2"):
            model[at + norm + ".weight"] = tensor(width)
            model[at + norm + ".bias"] = tensor(width)
        for name, rows, cols in (("attn.c_attn", width, 3 * width),
                                 ("attn.c_proj", width, width),
                                 ("mlp.c_fc", width, 4 * width),
                                 ("mlp.c_proj", 4 * width, width)):
            model[at + name + ".weight"] = tensor(rows, cols)
            model[at + name + ".bias"] = tensor(cols)
    optim = {}
    for name, value in model.items():
        optim[f"optim.exp_avg.{name}"] = tensor(*value.shape)
        optim[f"optim.exp_avg_sq.{name}"] = tensor(*value.shape)
        optim[f"optim.step.{name}"] = np.array(1000.0 + len(optim), np.float32)
    return model, optim


def write_hf(directory, model, optim, sizes):
    vocab, positions, width, layers, heads = sizes
    directory.mkdir()
    save_file(model, directory / "model.safetensors", {"format": "pt"})
    save_file(optim, directory / "optim.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps({
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"],
        "vocab_size": vocab, "n_positions": positions, "n_embd": width,
        "n_layer": layers, "n_head": heads}))
    (directory / "retile.json").write_text('{"step": 1000, "samples": 512000}')


# What each layout means, cut here without Retile.

def chunk(length, n, i):
    size = math.ceil(length / n)
    return min(length, i * size), min(length, (i + 1) * size)


def param_of(name):
    return name.split(".", 2)[2] if name.startswith("optim.") else name


def cut_tp(param, tensor, tp, i):
    """The tensor-parallel shard of a GPT-2 parameter (Conv1D: [in, out])."""
    if param.endswith("c_attn.weight") or param.endswith("c_attn.bias"):
        parts = np.split(tensor, 3, axis=-1)
        return np.concatenate(
            [p[..., slice(*chunk(p.shape[-1], tp, i))] for p in parts], axis=-1)
    if param.endswith(("c_fc.weight", "c_fc.bias")):
        return tensor[..., slice(*chunk(tensor.shape[-1], tp, i))]
    if param.endswith(("c_proj.weight", "wte.weight", "lm_head.weight")):
        return tensor[slice(*chunk(tensor.shape[0], tp, i))]
    return tensor


def stage_of(param, layers, pp):
    if ".h." in param:
        layer = int(param.split(".h.")[1].split(".")[0])
        return layer // math.ceil(layers / pp)
    if "ln_f" in param or "lm_head" in param:
        return pp - 1
    return 0


def expect_tp(state, layers, tp, pp, dp):
    state = dict(state)
    state["lm_head.weight"] = state["transformer.wte.weight"]
    ranks = []
    for p in range(pp):
        for _ in range(dp):
            for t in range(tp):
                ranks.append({
                    name: value if value.ndim == 0
                    else cut_tp(param_of(name), value, tp, t)
                    for name, value in state.items()
                    if stage_of(param_of(name), layers, pp) == p})
    return ranks


def expect_fsdp(state, n):
    state = dict(state)
    state["lm_head.weight"] = state["transformer.wte.weight"]
    return [{name: value if value.ndim == 0
             else value[slice(*chunk(len(value), n, i))]
             for name, value in state.items()} for i in range(n)]


def expect_zero1(model, optim, n):
    whole = dict(model)
    whole["lm_head.weight"] = whole["transformer.wte.weight"]
    flats = {}
    for state in ("exp_avg", "exp_avg_sq"):
        flat = np.concatenate([optim[name].ravel() for name in sorted(
            k for k in optim if k.startswith(f"optim.{state}."))])
        flats[state] = np.pad(flat, (0, -len(flat) % n))
    ranks = []
    for i in range(n):
        rank = dict(whole)
        rank.update({k: v for k, v in optim.items() if ".step." in k})
        for state, flat in flats.items():
            size = len(flat) // n
            rank[("flat", state)] = flat[i * size:(i + 1) * size]
        ranks.append(rank)
    return ranks


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(
        a.view(np.uint8) if a.ndim else a, b.view(np.uint8) if b.ndim else b)


def read_file(path):
    """Name -> tensor by safetensors; numpy and torch read the same."""
    with safe_open(path, framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    mapped = np.memmap(path, mode="r")
    data = 8 + int.from_bytes(mapped[:8].tobytes(), "little")
    assert data % 4096 == 0, path
    header = json.loads(mapped[8:data].tobytes())
    header.pop("__metadata__")
    loaded = torch_load_file(path)
    assert tensors.keys() == header.keys() == loaded.keys(), path
    for name, value in tensors.items():
        begin, end = header[name]["data_offsets"]
        assert mapped[data + begin:data + end].tobytes() == value.tobytes()
        assert same(loaded[name].numpy(), value), (path, name)
    return tensors


def check_ranks(directory, expected):
    """Every rank's files hold exactly what is expected."""
    found_ranks = sorted((directory / "ranks").iterdir())
    assert len(found_ranks) == len(expected), directory
    for where, want in zip(found_ranks, expected):
        want = dict(want)
        for path in sorted(where.glob("*.safetensors")):
            for name, value in read_file(path).items():
                key = name
                if name not in want:  # a flat: optim.STATE.FLAT.0
                    key = ("flat", name.split(".")[1])
                assert same(value, np.array(want.pop(key), order="C")), (
                    path, name)
        assert not want, (where, list(want)[:3])


def check_hf(directory, model, optim):
    for stem, want in (("model", model), ("optim", optim)):
        found = read_file(directory / f"{stem}.safetensors")
        assert found.keys() == want.keys(), stem
        for name, value in want.items():
            assert same(found[name], value), name


def check_npy(directory, state):
    names = sorted(p.name for p in directory.iterdir())
    assert set(names) >= {f"{name}.npy" for name in state}, directory
    for name, value in state.items():
        mapped = np.load(directory / f"{name}.npy", mmap_mode="r")
        assert same(np.asarray(mapped), value), name


def same_trees(a, b):
    """Byte-identical, names and all."""
    names = [sorted(p.relative_to(root) for p in root.rglob("*"))
             for root in (a, b)]
    assert names[0] == names[1], (a, b, set(names[0]) ^ set(names[1]))
    files = [n for n in names[0] if (a / n).is_file()]
    same_, differ, errors = filecmp.cmpfiles(a, b, files, shallow=False)
    assert not differ and not errors, (differ, errors)
    assert len(same_) == len(files)


class Mount:
    def __init__(self, source, where):
        self.where = where
        where.mkdir()
        run(RETILE, "mount", source, where)

    def __enter__(self):
        return self.where

    def __exit__(self, *_):
        subprocess.run(["fusermount3", "-u", self.where], timeout=60)
        if os.path.ismount(self.where):
            subprocess.run(["umount", "-l", self.where], timeout=60)
        self.where.rmdir()


def step(top, n, source, spec, state, check):
    """One link: convert, and copy the same out of a mount of the source."""
    converted, copied = top / f"{n}.convert", top / f"{n}.mount"
    run(RETILE, "convert", source, converted, "--to", spec)
    with Mount(source, top / "mnt") as mnt:
        shown = mnt / "hf" if spec == "hf" else mnt / "as" / spec
        shutil.copytree(shown, copied)
        check_npy(mnt / "npy", state)
    same_trees(converted, copied)
    shutil.rmtree(copied)
    check(converted)
    print(f"{spec}: {sum(p.is_file() for p in converted.rglob('*'))} files, "
          "both ways equal, every tensor right", flush=True)
    return converted


def main():
    size = sys.argv[1] if len(sys.argv) > 1 else "small"
    sizes = SIZES[size]
    layers = sizes[3]
    model, optim = make_model(*sizes)
    state = {**model, **optim}
    parent = os.environ.get("RETILE_TMP")
    with tempfile.TemporaryDirectory(prefix="retile-chain-", dir=parent) as top:
        top = pathlib.Path(top)
        write_hf(top / "0", model, optim, sizes)
        links = [
            ("gpt2:tp=4,dp=2",
             lambda d: check_ranks(d, expect_tp(state, layers, 4, 1, 2))),
            ("gpt2:tp=2,pp=2",
             lambda d: check_ranks(d, expect_tp(state, layers, 2, 2, 1))),
            ("fsdp2:dp=7", lambda d: check_ranks(d, expect_fsdp(state, 7))),
            ("zero1:dp=3",
             lambda d: check_ranks(d, expect_zero1(model, optim, 3))),
            ("hf", lambda d: check_hf(d, model, optim)),
            ("gpt2:tp=4,dp=2", lambda d: same_trees(top / "1.convert", d)),
        ]
        at = top / "0"
        for n, (spec, check) in enumerate(links, 1):
            made = step(top, n, at, spec, state, check)
            if n > 2:
                shutil.rmtree(at)
            at = made
        first = top / "1.convert"
        run(RETILE, "verify", first, top / "0")
        print("the last equals the first, byte for byte")


if __name__ == "__main__":
    main()
