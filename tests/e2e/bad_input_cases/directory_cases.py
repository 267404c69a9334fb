"""Directories: Hugging Face's, DCP's sharded safetensors, the plain form."""
import json
import shutil

from .kit import (both, case, directory, fifo, good, link, nothing,
                  safetensors, tree, write)

# Hugging Face: two shards and an index.

SHARDS = {
    "in/model-00001-of-00002.safetensors": {"a.weight": ("F32", [4, 2])},
    "in/model-00002-of-00002.safetensors": {"b.weight": ("F32", [4, 2])},
}
INDEX = "in/model.safetensors.index.json"


def weight_map():
    return {name: path.removeprefix("in/")
            for path, tensors in SHARDS.items() for name in tensors}


def hf(index=None, without=(), **weights):
    """A good sharded model whose weight_map is changed by @weights (None: left
    out) or whose index is the text @index; without some files."""
    def make(top):
        for path, tensors in SHARDS.items():
            if path not in without:
                write(top, path, safetensors(tensors))
        entries = {**weight_map(), **{
            key.replace("_", "."): value for key, value in weights.items()}}
        entries = {k: v for k, v in entries.items() if v is not None}
        text = json.dumps({"metadata": {"total_size": 64},
                           "weight_map": entries})
        write(top, INDEX, text if index is None else index)
    return make


def bad_hf(name, make, *needles, command="inspect in", exit_code=1):
    return case("hf-" + name, make, command, exit_code, *needles)


INDEX_NAME = "model.safetensors.index.json"
SHARD_1 = "model-00001-of-00002.safetensors"
SHARD_2 = "model-00002-of-00002.safetensors"

HF_CASES = [
    bad_hf("index-empty", hf(index=""), INDEX_NAME),
    bad_hf("index-not-json", hf(index="{'weight_map': 1}"), INDEX_NAME),
    bad_hf("index-array", hf(index="[]"), INDEX_NAME),
    bad_hf("index-not-utf8", hf(index=b'{"weight_map":{"a\xff":"x"}}'),
           INDEX_NAME),
    bad_hf("index-nested-deep",
           hf(index='{"metadata":' + "[" * 100000 + "]" * 100000 + "}"),
           INDEX_NAME),
    bad_hf("index-no-weight-map", hf(index='{"metadata":{}}'), INDEX_NAME,
           "weight_map"),
    bad_hf("index-unknown-key",
           hf(index='{"weight_map":{},"weights":{}}'), INDEX_NAME, "weights"),
    bad_hf("index-tensor-twice",
           hf(index='{"weight_map":{"a.weight":"%s","a.weight":"%s"}}'
              % (SHARD_1, SHARD_2)), INDEX_NAME, "a.weight"),
    bad_hf("index-file-number", hf(a_weight=1), INDEX_NAME, "a.weight"),
    bad_hf("index-file-elsewhere", hf(a_weight="../x.safetensors"),
           INDEX_NAME, "a.weight", "../x.safetensors"),
    bad_hf("index-file-absolute", hf(a_weight="/etc/passwd"), INDEX_NAME,
           "a.weight"),
    bad_hf("index-file-other-kind", hf(a_weight="model.bin"), INDEX_NAME,
           "a.weight", "model.bin"),
    bad_hf("index-name-slash", hf(index='{"weight_map":{"a/b":"x"}}'),
           INDEX_NAME, "a/b"),
    bad_hf("index-fifo",
           both(hf(), lambda top: (top / INDEX).unlink(), fifo(INDEX)),
           INDEX_NAME, "regular"),
    bad_hf("shard-missing", hf(without=["in/" + SHARD_2]), SHARD_2),
    bad_hf("tensor-in-other-shard", hf(a_weight=SHARD_2), "a.weight",
           SHARD_2),
    bad_hf("file-not-in-index", hf(b_weight=None), SHARD_2, "index"),
    bad_hf("tensor-only-in-index", hf(c_weight=SHARD_1), "c.weight", SHARD_1),
    bad_hf("tensor-in-two-shards",
           both(hf(), tree({"in/" + SHARD_2: safetensors(
               {"a.weight": ("F32", [4, 2]), "b.weight": ("F32", [4, 2])})})),
           "a.weight", SHARD_2),
    bad_hf("tensor-in-two-groups",
           both(good, tree({"in/optim.safetensors": safetensors(
               {"norm.weight": ("F32", [4])})})), "norm.weight"),
    bad_hf("shard-bad-header",
           both(hf(), tree({"in/" + SHARD_1: b"\xff" * 32})), SHARD_1),
    bad_hf("group-truncated",
           both(good, tree({"in/optim.safetensors": safetensors(
               {"optim.m.norm.weight": ("F32", [4])})[:-2]})),
           "optim.safetensors", "truncated"),
    bad_hf("file-and-index",
           both(hf(), tree({"in/model.safetensors": safetensors(
               {"c.weight": ("F32", [2])})})), "model.safetensors"),
    bad_hf("object-fifo", both(good, fifo("in/rng.pt")), "rng.pt"),
    bad_hf("object-link-loop", both(good, link("in/rng.pt", "rng.pt")),
           "rng.pt"),
    bad_hf("directory-empty", directory("in"), "in"),
    bad_hf("directory-link-loop", link("in", "in"), "in"),
    bad_hf("no-such-directory", nothing, "nowhere", command="inspect nowhere",
           exit_code=3),
    bad_hf("convert", hf(without=["in/" + SHARD_2]), SHARD_2,
           command="convert in out --to hf"),
    bad_hf("plan", hf(c_weight=SHARD_1), "c.weight",
           command="plan in --to fsdp2:dp=2"),
    bad_hf("verify", hf(a_weight=SHARD_2), "a.weight", command="verify in"),
    bad_hf("mount", both(hf(index="{"), directory("mnt")), INDEX_NAME,
           command="mount in mnt"),
]

# Ties.
TIED = ("mesh: {}\nrules:\n  - {match: head, tie: emb}\n"
        "  - {match: '*'}\n")


def heads(*firsts):
    """emb, head and tail (as far as given), by their first bytes."""
    return safetensors({name: ("F32", [4], first) for name, first
                        in zip(("emb", "head", "tail"), firsts)})


# DCP's sharded safetensors: [4, 2] in two halves.


def shard(rows, offsets, dtype="F32", info=None, name="blk.w", first=0):
    if info is None:
        info = json.dumps({name: {"saved_offsets": offsets}})
    return safetensors({"blk.w": (dtype, [rows, 2], first)},
                       {"format": "pt", "DCP_VERSION": "1.0",
                        "DCP_SHARDING_INFO": info})


def dcp(first, second):
    return tree({"in/shard-00000-model-00001-of-00001.safetensors": first,
                 "in/shard-00001-model-00001-of-00001.safetensors": second})


def bad_dcp(name, second, *needles, first=None, command="inspect in",
            exit_code=1):
    return case("dcp-" + name, dcp(first or shard(2, [0, 0]), second),
                command, exit_code, *needles)


SECOND = "shard-00001-model"
DCP_CASES = [
    bad_dcp("hole", shard(2, [3, 0]), "blk.w"),
    bad_dcp("overlap", shard(2, [1, 0]), "blk.w"),
    bad_dcp("copies-differ", shard(2, [0, 0], first=9), "blk.w",
            command="verify in", exit_code=3),
    bad_dcp("first-missing", shard(2, [4, 0]), "blk.w",
            first=shard(2, [2, 0])),
    bad_dcp("columns-hole", shard(2, [2, 1]), "blk.w"),
    bad_dcp("one-offset", shard(2, [2]), SECOND, "blk.w"),
    bad_dcp("three-offsets", shard(2, [2, 0, 0]), SECOND, "blk.w"),
    bad_dcp("negative", shard(2, [-2, 0]), SECOND, "blk.w"),
    bad_dcp("offset-overflows", shard(2, [2**63 - 1, 0]), "blk.w"),
    bad_dcp("offset-past-u64", shard(2, [2**64, 0]), SECOND,
            "DCP_SHARDING_INFO"),
    bad_dcp("dtypes-disagree", shard(2, [2, 0], dtype="I32"), "blk.w"),
    bad_dcp("info-not-json", shard(2, [2, 0], info="{blk"), SECOND,
            "DCP_SHARDING_INFO"),
    bad_dcp("info-array", shard(2, [2, 0], info="[]"), SECOND,
            "DCP_SHARDING_INFO"),
    bad_dcp("info-unknown-key",
            shard(2, [2, 0], info='{"blk.w":{"saved_offsets":[2,0],"n":1}}'),
            SECOND, "blk.w"),
    bad_dcp("info-tensor-twice",
            shard(2, [2, 0], info='{"blk.w":{"saved_offsets":[2,0]},'
                                  '"blk.w":{"saved_offsets":[0,0]}}'),
            SECOND, "blk.w"),
    bad_dcp("info-lacks-tensor", shard(2, [2, 0], info="{}"), SECOND, "blk.w"),
    bad_dcp("info-of-other-tensor", shard(2, [2, 0], name="blk.v"), SECOND,
            "blk."),
    bad_dcp("file-without-info", safetensors({"blk.v": ("F32", [2])}), SECOND),
    bad_dcp("convert", shard(2, [3, 0]), "blk.w",
            command="convert in out --to hf"),
]

# The plain form: tp=4 cuts `cut`, all have `norm`.

LAYOUT = ("mesh: {tp: 4}\nrules:\n  - {match: cut, dims: [tp]}\n"
          "  - {match: norm}\n")


def coords(offset=None, shape=8, **more):
    """A rank's `retile` metadata for a piece of `cut`."""
    return {"format": "pt", "retile": json.dumps({
        "version": 1, "ties": {},
        "tensors": {"cut": {"shape": [shape], "offset": [offset]},
                    "norm": {"shape": [3], "offset": [0]}}, **more})}


def rank_file(n, cut=("F32", [2]), norm=("F32", [3], 7), meta=None, **more):
    tensors = {"cut": (*cut, n * 8), "norm": norm, **more}
    return safetensors({k: v for k, v in tensors.items() if v[0]}, meta)


def path(n):
    return f"in/ranks/{n:03d}/model.safetensors"


def plain(layout=LAYOUT, **changed):
    """A good plain directory; r2=... replaces rank 2's file (None: left
    out)."""
    def make(top):
        if layout is not None:
            write(top, "in/layout.yaml", layout)
        for n in range(4):
            content = changed.get(f"r{n}", rank_file(n))
            if content is not None:
                write(top, path(n), content)
    return make


def bad_plain(name, make, *needles, command="inspect in", exit_code=1):
    return case("ranks-" + name, make, command, exit_code, *needles)


def with_coords(offset, **more):
    """Good metadata on all ranks but 2."""
    made = {f"r{n}": rank_file(n, meta=coords(2 * n)) for n in (0, 1, 3)}
    return plain(r2=rank_file(2, meta=coords(offset, **more)), **made)


def meta_text(text):
    return plain(r2=rank_file(2, meta={"retile": text}))


FLAT = ("mesh: {dp: 2}\nflats: {all: {over: [dp]}}\n"
        "rules: [{match: '*', flat: all}]\n")

PLAIN_CASES = [
    bad_plain("rank-missing", plain(r3=None), "3"),
    bad_plain("rank-0-missing", plain(r0=None), "0"),
    bad_plain("rank-extra", both(plain(), tree({path(4): rank_file(4)})),
              "ranks/004"),
    bad_plain("rank-name-letter",
              both(plain(), directory("in/ranks/0001x")), "0001x"),
    bad_plain("rank-twice", both(plain(), tree(
        {"in/ranks/3/model.safetensors": rank_file(3)})), "ranks/"),
    bad_plain("rank-number-huge",
              both(plain(), directory("in/ranks/99999999999999999999")),
              "99999999999999999999"),
    bad_plain("rank-is-file", both(plain(r3=None), tree({"in/ranks/003": "x"})),
              "003"),
    bad_plain("rank-link-loop",
              both(plain(r3=None), link("in/ranks/003", "003")), "003"),
    bad_plain("ranks-is-file", tree({"in/layout.yaml": LAYOUT,
                                     "in/ranks": "x"}), "ranks"),
    bad_plain("ranks-is-link-loop",
              both(tree({"in/layout.yaml": LAYOUT}),
                   link("in/ranks", "ranks")), "ranks"),
    bad_plain("ranks-empty", both(tree({"in/layout.yaml": LAYOUT}),
                                  directory("in/ranks")), "ranks"),
    bad_plain("file-fifo", both(plain(r2=None), fifo(path(2))), path(2)[3:],
              "regular"),
    bad_plain("file-link-loop",
              both(plain(r2=None), link(path(2), "model.safetensors")),
              path(2)[3:]),
    bad_plain("file-dangling-link",
              both(plain(r2=None), link(path(2), "nowhere")), path(2)[3:],
              "link"),
    bad_plain("file-is-directory", both(plain(r2=None), directory(path(2))),
              "cut", "part 2", exit_code=2),
    bad_plain("file-truncated", plain(r2=rank_file(2)[:-1]), path(2)[3:]),
    bad_plain("object-fifo",
              both(plain(), fifo("in/ranks/001/rng.pt")), "rng.pt"),
    bad_plain("tensor-missing-on-rank", plain(r2=rank_file(2, norm=(None,))),
              "norm", "2"),
    bad_plain("tensor-extra-on-rank",
              plain(r2=rank_file(2, extra=("U8", [1]))), "extra"),
    bad_plain("tensor-of-other-group",
              both(plain(r2=rank_file(2, norm=(None,))),
                   tree({"in/ranks/002/optim.safetensors": safetensors(
                       {"norm": ("F32", [3], 7)})})), "norm"),
    bad_plain("dtype-disagrees", plain(r2=rank_file(2, cut=("I32", [2]))),
              "cut", "I32"),
    bad_plain("replica-shape-disagrees",
              plain(r2=rank_file(2, norm=("F32", [4]))), "norm"),
    bad_plain("shard-too-long", plain(r2=rank_file(2, cut=("F32", [3]))),
              "cut"),
    bad_plain("shard-too-short", plain(r1=rank_file(1, cut=("F32", [1]))),
              "cut"),
    bad_plain("shard-has-other-dims",
              plain(r2=rank_file(2, cut=("F32", [2, 1]))), "cut"),
    bad_plain("offset-contradicts", with_coords(6), path(2)[3:], "cut"),
    bad_plain("shape-contradicts", with_coords(4, shape=9), path(2)[3:],
              "cut"),
    bad_plain("offset-past-shape", with_coords(2**62), path(2)[3:], "cut"),
    bad_plain("meta-not-json", meta_text("cut: 1"), path(2)[3:], "retile"),
    bad_plain("meta-array", meta_text("[]"), path(2)[3:], "retile"),
    bad_plain("meta-version-2", with_coords(4, version=2), path(2)[3:],
              "version"),
    bad_plain("meta-unknown-key", with_coords(4, axis="tp"), path(2)[3:],
              "axis"),
    bad_plain("meta-key-twice",
              meta_text('{"version":1,"version":1,"tensors":{}}'),
              path(2)[3:], "version"),
    bad_plain("meta-deep",
              meta_text('{"version":1,"tensors":' + "[" * 50000 + "]" * 50000
                        + "}"), path(2)[3:], "retile"),
    bad_plain("meta-of-unknown-tensor",
              with_coords(4, tensors={"ghost": {"shape": [8], "offset": [0]}}),
              path(2)[3:]),
    bad_plain("meta-tie-unknown", with_coords(4, ties={"head": "ghost"}),
              "head"),
    bad_plain("flat-without-coordinates",
              tree({"in/layout.yaml": FLAT, **{path(n): safetensors(
                  {"all.0": ("F32", [4])}) for n in (0, 1)}}), "all.0",
              exit_code=2),
    bad_plain("layout-missing", plain(layout=None), "layout.yaml",
              exit_code=2),
    bad_plain("layout-and-from", plain(), "layout.yaml",
              command="inspect in --from fsdp2:dp=4", exit_code=2),
    bad_plain("layout-and-from-convert", plain(), "layout.yaml",
              command="convert in out --to hf --from fsdp2:dp=4",
              exit_code=2),
    bad_plain("layout-fifo", both(plain(layout=None), fifo("in/layout.yaml")),
              "layout.yaml", "regular"),
    bad_plain("layout-directory",
              both(plain(layout=None), directory("in/layout.yaml")),
              "layout.yaml"),
    bad_plain("layout-too-big", plain(layout=LAYOUT + "#" * (1 << 21)),
              "layout.yaml"),
    bad_plain("layout-of-fewer-ranks", plain(LAYOUT.replace("4", "2")),
              "ranks/002"),
    bad_plain("layout-of-more-ranks", plain(LAYOUT.replace("4", "8")), "4"),
    bad_plain("layout-unknown-key", plain("mash: {tp: 4}\n" + LAYOUT),
              "layout.yaml:1", "mash"),
    bad_plain("layout-does-not-match-tensor",
              plain(LAYOUT.replace("norm", "scale")), "norm"),
    bad_plain("from-of-fewer-ranks", plain(layout=None), "ranks/002",
              command="inspect in --from fsdp2:dp=2"),
    bad_plain("convert", plain(r3=None), "3",
              command="convert in out --to hf"),
    bad_plain("plan", plain(r2=rank_file(2, norm=(None,))), "norm",
              command="plan in --to hf"),
    bad_plain("mount", both(with_coords(6), directory("mnt")), path(2)[3:],
              "cut", command="mount in mnt"),
    # Complete, but not consistent: the condition is false.
    bad_plain("verify-replicas-differ",
              plain(r2=rank_file(2, norm=("F32", [3], 8))), "norm",
              command="verify in", exit_code=3),
    bad_plain("verify-two-differ",
              both(plain(), lambda top: shutil.copytree(top / "in",
                                                        top / "b"),
                   tree({path(1).replace("in/", "b/"): rank_file(5)})), "cut",
              command="verify in b", exit_code=3),
    *(bad_plain(f"verify-other-{what}",
                tree({"in/model.safetensors":
                      safetensors({"emb": ("F32", [2, 4])}), there:
                      safetensors({"emb": (dtype, shape)})}),
                "emb", *needles, command="verify in b", exit_code=3)
      for what, there, dtype, shape, needles in [
          ("dtype", "b/model.safetensors", "I32", [2, 4], ["F32", "I32"]),
          ("shape", "b/model.safetensors", "F32", [4, 2], ["0:2", "0:4"]),
          ("group", "b/weights.safetensors", "F32", [2, 4],
           ["model", "weights"])]),
    # `in` knows head as a tie of emb; in `b` it has bytes of its own.
    bad_plain("verify-tie-differs",
              tree({"in/layout.yaml": TIED, "in/ranks/000/model.safetensors":
                    heads(0, 0), "b/model.safetensors": heads(0, 9)}),
              "tie", command="verify in b", exit_code=3),
    bad_plain("verify-tie-differs-the-other-way",
              tree({"b/layout.yaml": TIED, "b/ranks/000/model.safetensors":
                    heads(0, 0), "in/model.safetensors": heads(0, 9)}),
              "head", command="verify in b", exit_code=3),
    bad_plain("verify-tied-to-another",
              tree({"in/layout.yaml": TIED, "in/ranks/000/model.safetensors":
                    heads(0, 0, 9), "b/layout.yaml":
                    TIED.replace("tie: emb", "tie: tail"),
                    "b/ranks/000/model.safetensors": heads(0, 9, 9)}),
              "emb", command="verify in b", exit_code=3),
]

CASES = HF_CASES + DCP_CASES + PLAIN_CASES
