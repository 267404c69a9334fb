"""Reading files into touched buffers, by one process or several."""
import mmap
import multiprocessing
import os
import statistics
import time

from state.common import MIB, median_ratio

TURN_S = 120  # nobody waits longer for another's read


def read_files(paths, view, call_bytes, wrap_bytes=None):
    """Read files one after another into @view, @call_bytes a call; returns
    the bytes.  @wrap_bytes: begin again in the buffer after so many."""
    at, n_bytes = 0, 0
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        try:
            while True:
                if wrap_bytes is not None:
                    at %= wrap_bytes
                n = os.readv(fd, [view[at:at + call_bytes]])
                if n == 0:
                    break
                at += n
                n_bytes += n
        finally:
            os.close(fd)
    return n_bytes


def touched(n_bytes, is_huge=False):
    """Anonymous memory that begins on a page, touched."""
    buffer = mmap.mmap(-1, max(n_bytes, 1))
    if is_huge and hasattr(mmap, "MADV_HUGEPAGE"):
        buffer.madvise(mmap.MADV_HUGEPAGE)
    for at in range(0, len(buffer), 4096):
        buffer[at] = 1
    return buffer


def timed_read(paths, view, server=None, call_bytes=MIB):
    """One read of all; CPU seconds of this process and of the mount."""
    cpu0 = time.process_time() + (server.cpu() if server else 0)
    begin = time.perf_counter()
    n_bytes = read_files(paths, view, call_bytes, wrap_bytes=64 * MIB)
    wall = time.perf_counter() - begin
    cpu = time.process_time() + (server.cpu() if server else 0) - cpu0
    return {"wall": wall, "cpu": cpu, "bytes": n_bytes}


def compare_reads(title, shown, plain, server, runs):
    """shown and plain: lists of paths with equal bytes.

    Into a buffer from malloc, as numpy, torch and bytes objects have (a MiB
    is two requests, and the kernel copies to an odd address), and into one
    that begins on a page, which a plain read likes even better.
    """
    result = {"case": title}
    for prefix, buffer in (("", bytearray(65 * MIB)),
                           ("aligned_", touched(65 * MIB))):
        view = memoryview(buffer)
        for at in range(0, len(buffer), 4096):
            buffer[at] = 1
        pairs = []
        for n in range(runs + 1):
            a = timed_read(shown, view, server)
            b = timed_read(plain, view)
            assert a["bytes"] == b["bytes"], (a, b)
            if n > 0:
                pairs.append((a, b))
        result["bytes"] = pairs[0][0]["bytes"]
        for name, side in (("gb_per_s", 0), ("plain_gb_per_s", 1)):
            result[prefix + name] = statistics.median(
                pair[side]["bytes"] / pair[side]["wall"] / 1e9
                for pair in pairs)
        result[prefix + "rate_ratio"] = 1 / median_ratio(pairs, "wall")
        result[prefix + "cpu_ratio"] = median_ratio(pairs, "cpu")
    return result


def files_of(directory):
    return sorted(str(p) for p in directory.rglob("*.safetensors"))


def rank_files(top, n_processes):
    """The files of the tree's ranks, dealt to processes."""
    ranks = sorted(os.listdir(top / "ranks"))
    return [[path for rank in ranks[i::n_processes]
             for path in files_of(top / "ranks" / rank)]
            for i in range(n_processes)]


def reader(pipe, n_bytes, offset, is_huge):
    """A process that reads what it is told to, into memory it has touched."""
    buffer = touched(n_bytes + offset, is_huge)
    view = memoryview(buffer)[offset:]
    pipe.send("ready")
    while True:
        order = pipe.recv()
        if order is None:
            return
        paths, call_bytes = order
        cpu0 = time.process_time()
        n = read_files(paths, view, call_bytes)
        pipe.send((n, time.process_time() - cpu0))


class Readers:
    """Processes that each have a buffer of their own."""

    def __init__(self, sizes, offset=0, is_huge=False):
        self.pipes, self.processes = [], []
        context = multiprocessing.get_context("fork")
        for n_bytes in sizes:
            ours, theirs = context.Pipe()
            process = context.Process(target=reader, daemon=True, args=(
                theirs, n_bytes, offset, is_huge))
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)
        for pipe in self.pipes:
            self.answer(pipe)

    @staticmethod
    def answer(pipe):
        if not pipe.poll(TURN_S):
            raise SystemExit("a reader does not answer")
        return pipe.recv()

    def read(self, per_process, call_bytes, server=None):
        """All at once; wall from the order to the last answer."""
        server0 = server.cpu() if server else 0
        begin = time.perf_counter()
        for pipe, paths in zip(self.pipes, per_process):
            pipe.send((paths, call_bytes))
        answers = [self.answer(pipe) for pipe in self.pipes]
        wall = time.perf_counter() - begin
        cpu = sum(a[1] for a in answers) + (
            server.cpu() - server0 if server else 0)
        return {"wall": wall, "cpu": cpu, "bytes": sum(a[0] for a in answers)}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pipe in self.pipes:
            try:
                pipe.send(None)
            except OSError:
                pass  # it is gone already
        for process in self.processes:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
