"""Training states to measure with, and the stores that hold them."""
import json
import math
import random
import shutil
import subprocess
import sys
import time

from state.common import MIB, RETILE, is_huge, run

SIZES = {"F32": 4, "BF16": 2}
RELEASE_S = 20


def write_safetensors(path, entries):
    """entries: (name, dtype, shape) in any order; noise as data."""
    header, at = {}, 0
    rank = {"F32": 2, "BF16": 1}
    entries = sorted(entries, key=lambda e: (-rank[e[1]], e[0]))
    for name, dtype, shape in entries:
        n = math.prod(shape) * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape),
                        "data_offsets": [at, at + n]}
        at += n
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 4096)
    noise = random.Random(7).randbytes(16 * MIB + 1)
    with open(path, "wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        left = at
        while left > 0:
            n = min(left, len(noise))
            out.write(memoryview(noise)[:n])
            left -= n


def gpt_params(gib):
    """(params, heads, layers) of a GPT-2 whose training state, bf16 weights,
    fp32 master and two fp32 moments, has about gib GiB."""
    width, heads = 1536, 24
    per_layer = 12 * width * width * 14
    layers = max(2, round((gib * 1024 * MIB - 50304 * width * 14) / per_layer))
    layers += layers % 2
    params = [("transformer.wte.weight", (50304, width)),
              ("transformer.wpe.weight", (1024, width)),
              ("transformer.ln_f.weight", (width,)),
              ("transformer.ln_f.bias", (width,))]
    for n in range(layers):
        at = f"transformer.h.{n}."
        for norm in ("ln_1", "ln_2"):
            params += [(at + norm + ".weight", (width,)),
                       (at + norm + ".bias", (width,))]
        for name, rows, cols in (("attn.c_attn", width, 3 * width),
                                 ("attn.c_proj", width, width),
                                 ("mlp.c_fc", width, 4 * width),
                                 ("mlp.c_proj", 4 * width, width)):
            params += [(at + name + ".weight", (rows, cols)),
                       (at + name + ".bias", (cols,))]
    return params, heads, layers


def make_gpt(directory, gib):
    """A Hugging Face directory of about gib GiB."""
    params, heads, layers = gpt_params(gib)
    directory.mkdir(parents=True)
    write_safetensors(directory / "model.safetensors",
                      [(n, "BF16", s) for n, s in params])
    write_safetensors(directory / "optim.safetensors",
                      [(f"optim.{state}.{n}", "F32", s) for n, s in params
                       for state in ("master", "exp_avg", "exp_avg_sq")])
    (directory / "config.json").write_text(json.dumps(
        {"model_type": "gpt2", "n_embd": 1536, "n_head": heads,
         "n_layer": layers}))


def make_states(top, gib):
    """top/hf and top/tp4dp2; returns the latter."""
    make_gpt(top / "hf", gib)
    run(RETILE, "convert", top / "hf", top / "tp4dp2", "--to",
        "gpt2:tp=4,dp=2")
    return top / "tp4dp2"


def make_many(directory, n_tensors):
    """A directory of many small tensors, and specs of two layouts."""
    directory.mkdir()
    write_safetensors(directory / "model.safetensors",
                      [(f"t.{n}.weight", "F32", (16, 16))
                       for n in range(n_tensors)])
    specs = []
    for tp in (2, 4):
        spec = directory.parent / f"many-tp{tp}.yaml"
        spec.write_text(f"mesh: {{tp: {tp}}}\nrules:\n"
                        "  - {match: '*', dims: [tp, ~]}\n")
        specs.append(spec)
    return specs


class Store:
    """A store with one job, "bench"."""

    def __init__(self, root):
        self.root = root
        if is_huge():
            root.mkdir()
            run("mount", "-t", "tmpfs", "-o", "huge=within_size,mode=0700",
                "retile-bench", root)
        run(RETILE, "store", "init", root)

    def remove(self):
        if is_huge():
            run("umount", self.root)
        shutil.rmtree(self.root)

    def args(self, verb, *args):
        return [RETILE, verb, *args, "--store", self.root, "--job", "bench"]

    def job(self, verb, *args):
        return run(*self.args(verb, *args))

    def import_and_forget(self, directory):
        self.job("import", directory)
        shutil.rmtree(directory)

    def numbers(self):
        """Of the job's versions, ascending."""
        top = self.root / "jobs" / "bench" / "versions"
        return sorted(int(p.name) for p in top.glob("[0-9]*"))

    def keep_newest(self):
        """Release the other versions, and free what nobody names."""
        until = time.monotonic() + RELEASE_S
        for number in self.numbers()[:-1]:
            while not self.release(number):
                if time.monotonic() > until:
                    sys.exit(f"version {number} is in use for {RELEASE_S} s")
                time.sleep(0.05)
        run(RETILE, "store", "sweep", self.root)

    def release(self, number):
        """False: a mount has not closed it yet."""
        args = self.args("version", "release", number)
        done = subprocess.run([str(a) for a in args], capture_output=True,
                              text=True, check=False)
        if done.returncode != 0 and "in use" not in done.stderr:
            sys.exit(f"{args}: exit {done.returncode}\n{done.stderr}")
        return done.returncode == 0
