"""One process of a training job, with torch: told on stdin what to do.

    dcp_rank.py RANK WORLD RENDEZVOUS PARAMS LAYOUT

PARAMS: JSON, [[name, shape], ..].  LAYOUT: "tp" cuts each matrix along the
dimension that the params name, "fsdp" everything along the first.  The state:
for each parameter bf16 weights and three fp32 tensors, as DTensors.

An order is a line, WHAT and a PATH; the answer a line of JSON: seconds between
two barriers, this process's CPU seconds meanwhile, and what went over the disk.
"""
import json
import os
import pathlib
import resource
import sys
import time
import zlib

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard

DTYPES = {"BF16": torch.bfloat16, "F32": torch.float32}


def cut_of(layout, shape, dim):
    """The dimension that is cut, or None."""
    if layout == "fsdp":
        return 0
    return dim if len(shape) > 1 else None


def noise(name, shape, dtype):
    """The same in every process and run."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randint(-(1 << 15), 1 << 15, shape, generator=generator,
                         dtype=torch.int32).to(dtype)


class State:
    """Name -> DTensor, in memory that was touched."""

    def __init__(self, params, layout, mesh):
        self.tensors = {}
        rank, world = mesh.get_local_rank(), mesh.size()
        for name, shape, dim in params:
            cut = cut_of(layout, shape, dim)
            for full, dtype in ((name, torch.bfloat16), *(
                    (f"optim.{part}.{name}", torch.float32)
                    for part in ("master", "exp_avg", "exp_avg_sq"))):
                whole = noise(full, shape, dtype)
                if cut is None:
                    local, place = whole, Replicate()
                else:
                    parts = torch.chunk(whole, world, cut)
                    local = parts[rank].clone(
                        memory_format=torch.contiguous_format)
                    place = Shard(cut)
                self.tensors[full] = DTensor.from_local(
                    local, mesh, [place], run_check=False, shape=whole.shape,
                    stride=whole.stride())

    def local(self):
        return {name: t.to_local() for name, t in self.tensors.items()}

    def sums(self):
        return {name: zlib.crc32(t.view(torch.uint8).numpy())
                for name, t in self.local().items()}

    def clear(self):
        for t in self.local().values():
            t.zero_()


def groups_of(local):
    """The two files of a rank."""
    groups = {"model": {}, "optim": {}}
    for name, t in local.items():
        group = "optim" if name.startswith("optim.") else "model"
        groups[group][name] = t
    return groups


def write_file(tensors, path):
    """A safetensors file, written straight out of the tensors."""
    header, at = {}, 0
    for name, t in tensors.items():
        header[name] = {
            "dtype": "BF16" if t.dtype == torch.bfloat16 else "F32",
            "shape": list(t.shape), "data_offsets": [at, at + t.nbytes]}
        at += t.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % 4096)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(fd, len(text).to_bytes(8, "little") + text)
        for t in tensors.values():
            left = memoryview(t.view(torch.uint8).flatten().numpy())
            while left:
                left = left[os.write(fd, left):]
    finally:
        os.close(fd)


def save_rank(state, rank, path, write):
    """As any training job writes: one safetensors file a group."""
    where = path / "ranks" / f"{rank:03}"
    where.parent.mkdir(exist_ok=True)
    where.mkdir()
    for group, tensors in groups_of(state.local()).items():
        write(tensors, where / f"{group}.safetensors")


def read_rank(state, rank, path):
    """Plain reads into the tensors that are there."""
    local = state.local()
    for file in sorted((path / "ranks" / f"{rank:03}").glob("*.safetensors")):
        fd = os.open(file, os.O_RDONLY)
        try:
            n_header = int.from_bytes(os.pread(fd, 8, 0), "little")
            header = json.loads(os.pread(fd, n_header, 8))
            header.pop("__metadata__", None)
            for name, entry in header.items():
                begin, end = entry["data_offsets"]
                to = memoryview(local.pop(name).view(torch.uint8).flatten()
                                .numpy())
                assert len(to) == end - begin, (name, len(to), begin, end)
                done = 0
                while done < len(to):
                    n = os.preadv(fd, [to[done:]], 8 + n_header + begin + done)
                    assert n > 0, f"{file} ends early"
                    done += n
        finally:
            os.close(fd)
    assert not local, f"not in the files: {list(local)[:3]}"


def carry_out(what, state, rank, path):
    if what == "dcp-save":
        dcp.save(state.tensors, checkpoint_id=path)
    elif what == "dcp-load":
        dcp.load(state.tensors, checkpoint_id=path)
    elif what in ("save", "write"):
        save_rank(state, rank, path, save_file if what == "save" else write_file)
        dist.barrier()
        if rank == 0 and path.suffix == ".tmp":
            os.rename(path, path.with_suffix(""))
    elif what == "read":
        read_rank(state, rank, path)
    else:
        sys.exit(f"no order {what}")


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def timed(what, state, rank, path):
    dist.barrier()
    begin, cpu0 = time.perf_counter(), cpu()
    carry_out(what, state, rank, path)
    used = cpu() - cpu0  # a barrier spins
    dist.barrier()
    return {"wall": time.perf_counter() - begin, "cpu": used}


def main():
    rank, world = int(sys.argv[1]), int(sys.argv[2])
    params = json.loads(sys.argv[4])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}",
                            rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", (world,))
    state = State(params, sys.argv[5], mesh)
    sums = state.sums()
    print(json.dumps({"bytes": sum(t.nbytes for t in state.local().values())}),
          flush=True)
    for line in sys.stdin:
        what, path = line.rstrip("\n").split(" ", 1)
        if what == "clear":
            state.clear()
            answer = {}
        elif what == "check":
            answer = {"is_same": state.sums() == sums}
        else:
            answer = timed(what, state, rank, pathlib.Path(path))
        print(json.dumps(answer), flush=True)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
