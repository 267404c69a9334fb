"""Specs as YAML files, and short forms."""
import json

from .kit import (both, case, directory, fifo, files, good, link, nothing,
                  raw, safetensors, tree, with_spec)

COMMAND = "convert in out --to spec.yaml"
ALL = "  - {match: '*'}\n"


def bad(name, text, *needles, make=None, exit_code=1):
    """A spec that is refused for the good state.  The error names the file."""
    return case("spec-" + name, make or with_spec(text), COMMAND, exit_code,
                *needles)


def rule(name, text, *needles, mesh="{tp: 2, dp: 2}", before="", rest=ALL):
    """A rule for the layers' tensors [8, 4] that is refused."""
    return bad("rule-" + name,
               f"mesh: {mesh}\n{before}rules:\n"
               f"  - {{match: 'layers.*', {text}}}\n{rest}", *needles)


def bomb(levels=30):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, levels):
        items = ", ".join([f"*a{n - 1}"] * 10)
        lines.append(f"a{n}: &a{n} [{items}]")
    return "\n".join(lines) + "\n"


def sub_byte(top):
    files(**{"spec.yaml": "mesh: {tp: 2}\nrules:\n"
             "  - {match: '*', dims: [~, tp]}\n"})(top)
    tree({"in/model.safetensors": raw({"blk.w": {
        "dtype": "F4", "shape": [2, 2], "data_offsets": [0, 2]}},
        b"\1\2")})(top)


def mixed(top):
    tree({"in/model.safetensors": safetensors(
        {"a.w": ("F32", [4]), "b.w": ("BF16", [4])}),
        "spec.yaml": "mesh: {dp: 2}\nflats: {all: {over: [dp]}}\n"
                     "rules: [{match: '*', flat: all}]\n"})(top)


def optim_orphan(top):
    good(top)
    tree({"in/optim.safetensors": safetensors(
        {"optim.m.ghost.weight": ("F32", [4])}),
        "spec.yaml": "mesh: {}\n" + "rules:\n" + ALL})(top)


def rank_objects(on_change=""):
    """tp=2 with an object per rank, to be spread over four."""
    layout = "mesh: {tp: 2}\nrules: [{match: cut, dims: [tp]}]\n"
    made = {"in/layout.yaml": layout, "spec.yaml":
            layout.replace("tp: 2", "tp: 4") + on_change}
    for n in (0, 1):
        made[f"in/ranks/00{n}/model.safetensors"] = safetensors(
            {"cut": ("F32", [4])})
        made[f"in/ranks/00{n}/rng.json"] = "{}"
    return tree(made)


STAGES = "stages: {axis: dp, layer: 'layers\\.(\\d+)\\.'}\n"

TEXT_CASES = [
    bad("missing", "", "spec.yaml", make=good, exit_code=3),
    bad("empty", "", "spec.yaml"),
    bad("no-mapping", "- mesh\n- rules\n", "spec.yaml"),
    bad("plain-text", "hello\n", "spec.yaml"),
    bad("not-yaml", "mesh: {tp: 2\nrules: [\n", "spec.yaml"),
    bad("tab", "mesh:\n\ttp: 2\n", "spec.yaml"),
    bad("not-utf8", b"mesh: {t\xff: 2}\nrules: []\n", "spec.yaml"),
    bad("nul", b"mesh: {tp: 2}\n\0rules: []\n", "spec.yaml"),
    bad("utf16", "mesh: {tp: 2}\n".encode("utf-16"), "spec.yaml"),
    bad("two-documents", "mesh: {tp: 2}\n" + "rules:\n" + ALL + "---\nx: 1\n",
        "spec.yaml"),
    bad("alias-bomb", bomb(), "spec.yaml:1"),
    bad("alias", "mesh: &m {tp: 2}\nmeshes: {b: *m}\nrules:\n" + ALL,
        "spec.yaml:1"),
    bad("merge-key", "mesh: {tp: 2}\nrules:\n  - {<<: {match: '*'}}\n",
        "spec.yaml:3", "<<"),
    bad("tag", "mesh: !!map {tp: 2}\nrules:\n" + ALL, "spec.yaml:1"),
    bad("tag-python", "mesh: !!python/object:os.system {tp: 2}\nrules:\n"
        + ALL, "spec.yaml:1"),
    bad("nested-deep", "mesh: " + "[" * 5000 + "]" * 5000 + "\n",
        "spec.yaml"),
    bad("nested-by-blocks", "mesh:\n" + "".join(
        " " * (n + 1) + "a:\n" for n in range(700)), "spec.yaml"),
    bad("too-big", "mesh: {tp: 2}\n" + "#" * (1 << 21), "spec.yaml"),
    bad("many-rules", "mesh: {}\nrules:\n" + "  - {match: a}\n" * 20000,
        "spec.yaml"),
    bad("fifo", "", "spec.yaml", "regular",
        make=both(good, fifo("spec.yaml"))),
    bad("directory", "", "spec.yaml", make=both(good, directory("spec.yaml"))),
    bad("link-loop", "", "spec.yaml",
        make=both(good, link("spec.yaml", "spec.yaml"))),
    # Keys and their values.
    bad("unknown-key", "mesh: {tp: 2}\nruls:\n" + ALL, "spec.yaml:2", "ruls",
        "rules"),
    bad("unknown-rule-key",
        "mesh: {tp: 2}\nrules:\n  - {match: '*', dim: [tp]}\n",
        "spec.yaml:3", "dim", "dims"),
    bad("key-twice", "mesh: {tp: 2}\nmesh: {tp: 4}\nrules:\n" + ALL,
        "spec.yaml:2", "mesh"),
    bad("rule-key-twice",
        "mesh: {tp: 2}\nrules:\n  - {match: '*', match: a}\n", "spec.yaml:3",
        "match"),
    bad("axis-twice", "mesh: {tp: 2, tp: 2}\nrules:\n" + ALL, "spec.yaml:1",
        "tp"),
    bad("no-mesh", "rules:\n" + ALL, "spec.yaml", "mesh"),
    bad("no-rules", "mesh: {tp: 2}\n", "spec.yaml", "rules"),
    bad("rules-mapping", "mesh: {tp: 2}\nrules: {match: '*'}\n",
        "spec.yaml:2", "rules"),
    bad("rule-no-match", "mesh: {tp: 2}\nrules:\n  - {dims: [tp]}\n",
        "spec.yaml:3", "match"),
    bad("match-empty", "mesh: {}\nrules:\n  - {match: ''}\n" + ALL,
        "spec.yaml:3", "match"),
    bad("optional-not-bool",
        "mesh: {}\nrules:\n  - {match: '*', optional: perhaps}\n",
        "spec.yaml:3", "optional"),
    # Meshes.
    bad("mesh-size-zero", "mesh: {tp: 0}\nrules:\n" + ALL, "spec.yaml:1",
        "tp"),
    bad("mesh-size-negative", "mesh: {tp: -2}\nrules:\n" + ALL,
        "spec.yaml:1", "tp"),
    bad("mesh-size-text", "mesh: {tp: two}\nrules:\n" + ALL, "spec.yaml:1",
        "tp"),
    bad("mesh-size-overflows", "mesh: {tp: 99999999999999999999}\nrules:\n"
        + ALL, "spec.yaml:1", "tp"),
    bad("mesh-too-many-ranks",
        "mesh: {a: 65536, b: 65536, c: 65536, d: 65536}\nrules:\n" + ALL,
        "spec.yaml:1", "mesh"),
    bad("mesh-nine-axes", "mesh: {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, "
        "h: 1, i: 1}\nrules:\n" + ALL, "spec.yaml:1", "mesh"),
    bad("mesh-axis-name", "mesh: {'t p': 2}\nrules:\n" + ALL, "spec.yaml:1",
        "t p"),
    bad("meshes-do-not-fit",
        "mesh: {tp: 4}\nmeshes: {moe: {ep: 3}}\nrules:\n" + ALL,
        "spec.yaml:2", "moe"),
    bad("meshes-wrap-around",
        "mesh: {tp: 4}\nmeshes: {moe: {a: 1048576, b: 1048576, c: 1048576, "
        "d: 16}}\nrules:\n" + ALL, "spec.yaml:2", "meshes"),
    rule("unknown-mesh", "mesh: moe", "spec.yaml:3", "moe"),
    # Cutting.
    rule("unknown-axis", "dims: [pp]", "spec.yaml:3", "pp"),
    rule("axis-twice", "dims: [tp, tp]", "spec.yaml:3", "tp"),
    rule("axis-twice-in-dim", "dims: [[tp, tp]]", "spec.yaml:3", "tp"),
    rule("axis-of-stage-too", "dims: [dp], stage: first", "dp",
         before=STAGES),
    rule("too-many-dims", "dims: [tp, ~, dp]", "layers.0.a.weight"),
    rule("nine-dims", "dims: [~, ~, ~, ~, ~, ~, ~, ~, tp]", "spec.yaml:3",
         "dims"),
    rule("dims-number", "dims: [2]", "spec.yaml:3", "dims"),
    rule("unit-zero", "dims: [tp], unit: {0: 0}", "spec.yaml:3", "unit"),
    rule("unit-does-not-divide", "dims: [tp], unit: {0: 3}",
         "layers.0.a.weight", "3"),
    rule("units-do-not-fit", "dims: [[tp]], unit: {0: 4}",
         "layers.0.a.weight", mesh="{tp: 3}"),
    rule("unit-of-uncut-dim", "dims: [tp], unit: {1: 2}", "spec.yaml:3",
         "unit"),
    rule("unit-dim-negative", "dims: [tp], unit: {-1: 2}", "spec.yaml:3",
         "unit"),
    rule("segments-do-not-add", "dims: [tp], segments: {0: [4, 5]}",
         "layers.0.a.weight", "segments"),
    rule("segments-overflow",
         "dims: [tp], segments: {0: [18446744073709551615, 9]}",
         "spec.yaml:3", "segments"),
    rule("segments-wrap-around",
         "dims: [tp], segments: {0: [9223372036854775807, "
         "9223372036854775807, 10]}", "spec.yaml"),
    rule("segments-empty", "dims: [tp], segments: {0: []}", "spec.yaml:3",
         "segments"),
    rule("cuts-descending", "dims: [tp], cuts: {0: [6, 2]}", "spec.yaml:3",
         "cuts", mesh="{tp: 3}"),
    rule("cuts-too-many", "dims: [tp], cuts: {0: [2, 4]}", "spec.yaml:3",
         "cuts"),
    rule("cuts-past-end", "dims: [tp], cuts: {0: [9]}", "layers.0.a.weight",
         "cut point 9"),
    rule("cuts-and-unit", "dims: [tp], cuts: {0: [4]}, unit: {0: 2}",
         "spec.yaml:3", "cuts"),
    # Stages and experts.
    rule("stage-without-stages", "stage: layer", "spec.yaml:3", "stage"),
    rule("stage-unknown-word", "stage: middle", "spec.yaml:4", "stage",
         before=STAGES),
    rule("stage-out-of-range", "stage: 2", "stage", before=STAGES),
    rule("stage-negative", "stage: -1", "spec.yaml:4", "stage",
         before=STAGES),
    rule("stage-no-number-in-name", "stage: all", "emb.weight", "stages",
         before=STAGES, rest="  - {match: '*', stage: layer}\n"),
    rule("stages-axis-unknown", "stage: layer", "pp",
         before="stages: {axis: pp, layer: '(\\d+)'}\n"),
    rule("stages-no-group", "stage: layer", "spec.yaml:2", "layer",
         before="stages: {axis: dp, layer: '\\d+'}\n"),
    rule("stages-bad-expression", "stage: layer", "spec.yaml:2", "layer",
         before="stages: {axis: dp, layer: '('}\n"),
    rule("stages-explosive-expression", "stage: layer", "layers.0.a.weight",
         before="stages: {axis: dp, layer: '(\\d+)(?:(?:[a-z.]*)*)*!'}\n"),
    rule("stages-counts-do-not-add", "stage: layer", "counts",
         before=STAGES.replace("}\n", ", counts: [1, 2]}\n")),
    rule("stages-counts-too-few", "stage: layer", "counts",
         before=STAGES.replace("}\n", ", counts: [2]}\n")),
    rule("stages-unknown-key", "stage: layer", "spec.yaml:2", "layers",
         before="stages: {axis: dp, layers: '(\\d+)'}\n"),
    rule("expert-without-experts", "expert: true", "spec.yaml:3", "expert"),
    # Flats, ties, objects.
    rule("flat-unknown", "flat: all", "spec.yaml:3", "all"),
    rule("flat-over-cut-axis", "dims: [dp], flat: all", "dp",
         before="flats: {all: {over: [dp]}}\n"),
    rule("flat-over-unknown-axis", "flat: all", "pp",
         before="flats: {all: {over: [pp]}}\n"),
    rule("flat-over-nothing", "flat: all", "spec.yaml:2", "over",
         before="flats: {all: {over: []}}\n"),
    rule("flat-align-zero", "flat: all", "spec.yaml:2", "align",
         before="flats: {all: {over: [dp], align: 0}}\n"),
    bad("flat-mixed-dtypes", "", "all", make=mixed),
    bad("tie-to-nothing", "mesh: {}\nrules:\n"
        "  - {match: head.weight, tie: ghost.weight}\n" + ALL,
        "head.weight", "ghost.weight"),
    bad("tie-by-glob", "mesh: {}\nrules:\n"
        "  - {match: 'head.*', tie: emb.weight}\n" + ALL, "spec.yaml:3",
        "tie"),
    bad("tie-circle", "mesh: {}\nrules:\n"
        "  - {match: a.weight, tie: b.weight}\n"
        "  - {match: b.weight, tie: a.weight}\n" + ALL, ".weight"),
    bad("tie-to-itself", "mesh: {}\nrules:\n"
        "  - {match: emb.weight, tie: emb.weight}\n" + ALL, "spec.yaml:3",
        "tie"),
    bad("tie-bytes-differ", "mesh: {}\nrules:\n"
        "  - {match: layers.0.a.weight, tie: layers.1.a.weight}\n" + ALL,
        "layers.0.a.weight"),
    bad("tie-shapes-differ", "mesh: {}\nrules:\n"
        "  - {match: norm.weight, tie: emb.weight}\n" + ALL, "norm.weight"),
    bad("object-on-change", "mesh: {}\nrules:\n" + ALL
        + "objects: {'*': {on_change: keep}}\n", "spec.yaml:4",
        "on_change"),
    bad("object-varies-unknown-axis", "mesh: {tp: 2}\nrules:\n" + ALL
        + "objects: {'*': {varies: [pp]}}\n", "spec.yaml:4", "pp"),
    bad("object-refused", "", "rng.json", make=rank_objects()),
    bad("object-refused-by-name", "", "rng.json", make=rank_objects(
        "objects: {'rng.*': {varies: [tp], on_change: refuse}}\n")),
    # What the table is like.
    bad("tensor-unmatched", "mesh: {}\nrules:\n  - {match: 'layers.*'}\n",
        "emb.weight"),
    bad("rule-unmatched", "mesh: {}\nrules:\n  - {match: 'h.*'}\n" + ALL,
        "spec.yaml", "line 3", "h.*"),
    bad("optim-of-nothing", "", "optim.m.ghost.weight", make=optim_orphan),
    bad("cut-inside-byte", "", "blk.w", make=sub_byte),
]


# Short forms, for a Hugging Face BERT of width 8.

def bert(config=None):
    layer = "bert.encoder.layer.0.attention.self."
    tensors = {
        "bert.embeddings.word_embeddings.weight": ("F32", [10, 8]),
        layer + "query.weight": ("F32", [8, 8]),
        layer + "query.bias": ("F32", [8]),
    }
    made = {"in/model.safetensors": safetensors(tensors)}
    if config is not None:
        made["in/config.json"] = (json.dumps(config)
                                  if isinstance(config, dict) else config)
    return tree(made)


def short(name, spec, *needles, config=None, exit_code=2):
    return case("short-" + name, bert(config), f"convert in out --to {spec}",
                exit_code, *needles)


GOOD = {"model_type": "bert", "num_attention_heads": 4, "hidden_size": 8}


def changed(**fields):
    return {**GOOD, **fields}


SHORT_CASES = [
    short("unknown-preset", "brt:tp=2", "brt", "bert", exit_code=2),
    short("unknown-option", "bert:tq=2", "tq"),
    short("option-without-value", "bert:tp", "tp"),
    short("option-empty", "bert:tp=", "tp"),
    short("option-twice", "bert:tp=2,tp=4", "tp", config=GOOD),
    short("zero", "bert:tp=0", "tp", config=GOOD),
    short("negative", "bert:tp=-1", "tp", config=GOOD),
    short("word", "bert:tp=two", "tp", config=GOOD),
    short("fraction", "bert:tp=1.5", "tp", config=GOOD),
    short("huge", "bert:tp=99999999999", "tp", config=GOOD),
    short("too-many-ranks", "bert:tp=1024,dp=1048576", "1048576",
          config=GOOD),
    short("comma-only", "bert:,", "bert", config=GOOD),
    short("hf-with-options", "hf:tp=2", "hf"),
    short("heads-missing", "bert:tp=2", "heads"),
    short("heads-zero", "bert:tp=2,heads=0", "heads"),
    short("heads-do-not-fit-shape", "bert:tp=2,heads=3", "heads",
          exit_code=(1, 2)),
    short("mesh-does-not-fit-heads", "bert:tp=6", "tp=6", "heads=4",
          config=GOOD),
    short("config-not-json", "bert:tp=2", "config.json", config="{",
          exit_code=1),
    short("config-array", "bert:tp=2", "config.json", config="[]",
          exit_code=1),
    short("config-of-other-model", "bert:tp=2", "config.json", "llama",
          config=changed(model_type="llama"), exit_code=1),
    short("config-heads-text", "bert:tp=2", "config.json",
          "num_attention_heads", config=changed(num_attention_heads="4"),
          exit_code=1),
    short("config-heads-negative", "bert:tp=2", "config.json",
          "num_attention_heads", config=changed(num_attention_heads=-4),
          exit_code=1),
    short("config-heads-huge", "bert:tp=2", "config.json",
          config='{"model_type":"bert","num_attention_heads":1%s}' % ("0" * 30),
          exit_code=1),
    short("config-deep", "bert:tp=2", "config.json",
          config='{"a":' + "[" * 100000 + "]" * 100000 + "}", exit_code=1),
    short("config-too-big", "bert:tp=2", "config.json",
          config=lambda: b" " * (80 << 20), exit_code=1),
    case("short-config-fifo", both(bert(), fifo("in/config.json")),
         "convert in out --to bert:tp=2", 1, "config.json"),
    case("short-no-such-file", nothing, "convert in out --to bert:tp=2", 3,
         "in"),
]

CASES = TEXT_CASES + SHORT_CASES
