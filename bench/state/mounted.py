"""Reads of a mounted directory in another layout, against plain files."""
import shutil

from state.common import MIB, RETILE, run, warm
from state.mounts import Mount
from state.reads import compare_reads, files_of
from state.states import make_states, write_safetensors

PIECES = (512, 1024, 2048, 4096, 8192, 65536)


def one_case(top, source, spec, runs):
    plain = top / "plain"
    run(RETILE, "convert", source, plain, "--to", spec)
    with Mount(top / "mnt", source) as mount:
        shown = files_of(mount.where / "as" / spec)
        warm(source)
        warm(plain)
        result = compare_reads(f"mounted read of {spec}", shown,
                               files_of(plain), mount, runs)
    shutil.rmtree(plain)
    return result


def bench(top, args):
    dp2 = make_states(top, args.gib)
    return [one_case(top, dp2, "gpt2:tp=2,pp=2", args.runs),
            one_case(top, top / "hf", "gpt2:tp=4", args.runs)]


def by_piece(top, runs, piece, total):
    """One matrix cut in four along its columns: gathered, and scattered."""
    cols = piece  # f32: four pieces of `piece` bytes a row
    whole, ranks = top / "whole", top / "ranks"
    whole.mkdir()
    write_safetensors(whole / "model.safetensors",
                      [("matrix", "F32", (total // (cols * 4), cols))])
    spec = top / "columns.yaml"
    spec.write_text("mesh: {tp: 4}\nrules:\n"
                    "  - {match: matrix, dims: [~, tp]}\n")
    run(RETILE, "convert", whole, ranks, "--to", spec)
    # The same bytes as plain files: one converted to the other.
    with Mount(top / "mnt", ranks) as mount:
        warm(ranks)
        warm(whole)
        plain = top / "plain.safetensors"
        shutil.copyfile(mount.where / "hf" / "model.safetensors", plain)
        gather = compare_reads(
            f"gather {piece} B", [mount.where / "hf" / "model.safetensors"],
            [plain], mount, runs)
        plain.unlink()
    with Mount(top / "mnt", whole, options=[f"layout=cols:{spec}"]) as mount:
        warm(whole)
        scatter = compare_reads(
            f"scatter {piece} B", files_of(mount.where / "as" / "cols"),
            files_of(ranks), mount, runs)
    shutil.rmtree(whole)
    shutil.rmtree(ranks)
    return [gather, scatter]


def bench_pieces(top, args, total=512 * MIB):
    return [row for piece in PIECES
            for row in by_piece(top, args.runs, piece, total)]
