"""Tables, options, destinations, and what is not there."""
import json

from .kit import (both, case, directory, files, good, link, nothing,
                  safetensors, tree)

TENSOR = {"name": "emb.weight", "group": "model", "dtype": "F32",
          "shape": [10, 4]}


def table(*tensors, **more):
    return json.dumps({"retile_table": 1, "tensors": list(tensors),
                       "ties": {}, "objects": {}, **more})


def bad_table(name, text, *needles, exit_code=1):
    return case("table-" + name, tree({"t.json": text}),
                "plan --table t.json --from fsdp2:dp=2 --to fsdp2:dp=4",
                exit_code, "t.json", *needles)


def changed(**fields):
    return table({k: v for k, v in {**TENSOR, **fields}.items()
                  if v is not None})


TABLE_CASES = [
    case("table-missing", nothing,
         "plan --table t.json --from fsdp2:dp=2 --to fsdp2:dp=4", 3, "t.json"),
    bad_table("empty", ""),
    bad_table("not-json", "tensors: []"),
    bad_table("array", "[]"),
    bad_table("no-version", '{"tensors":[]}', "retile_table"),
    bad_table("version-2", table(TENSOR, retile_table=2), "retile_table"),
    bad_table("unknown-key", table(TENSOR, tie={}), "tie"),
    bad_table("key-twice", '{"retile_table":1,"retile_table":1,"tensors":[]}',
              "retile_table"),
    bad_table("tensor-twice", table(TENSOR, TENSOR), "emb.weight"),
    bad_table("tensor-unknown-key", changed(strides=[4, 1]), "strides"),
    bad_table("tensor-no-dtype", changed(dtype=None), "dtype"),
    bad_table("dtype-unknown", changed(dtype="F33"), "F33"),
    bad_table("shape-negative", changed(shape=[-1]), "shape"),
    bad_table("shape-overflows", changed(shape=[2**62, 2**62]), "emb.weight"),
    bad_table("name-slash", changed(name="emb/weight"), "emb/weight"),
    bad_table("name-nul", changed(name="emb\0weight"), "NUL"),
    bad_table("group-dots", changed(group=".."), "group"),
    bad_table("group-hidden", changed(group=".model"), ".model"),
    bad_table("tie-to-nothing", table(TENSOR, ties={"head": "ghost"}),
              "head", "ghost"),
    bad_table("tie-circle", table(TENSOR, ties={"a": "b", "b": "a"}), "a"),
    bad_table("tie-to-itself", table(TENSOR, ties={"a": "a"}), "a"),
    bad_table("object-kind", table(TENSOR, objects={"rng.pt": "host"}),
              "rng.pt"),
    bad_table("object-slash", table(TENSOR, objects={"../rng.pt": "job"}),
              "../rng.pt"),
    bad_table("deep", '{"retile_table":1,"tensors":' + "[" * 100000
              + "]" * 100000 + "}"),
    case("table-contradicts-files", both(good, tree({"t.json": changed()})),
         "convert in out --to hf --table t.json", 1, "layers.0.a.weight"),
    case("table-contradicts-shape",
         both(tree({"t.json": changed(shape=[10, 5])}),
              tree({"in/layout.yaml": "mesh: {}\nrules:\n  - {match: '*'}\n"}),
              tree({"in/ranks/000/model.safetensors": safetensors(
                  {"emb.weight": ("F32", [10, 4])})})),
         "inspect in --with-table t.json", 1, "emb.weight"),
]


def usage(name, command, *needles, make=good, exit_code=2):
    return case("use-" + name, make, command, exit_code, *needles)


USAGE_CASES = [
    usage("unknown-verb", "covert in out", "covert"),
    usage("completion-of-another-shell", "completion tcsh", "tcsh", "bash"),
    usage("unknown-option", "convert in out --too hf", "too"),
    usage("option-without-value", "convert in out --to", "to"),
    usage("no-to", "convert in out", "--to"),
    usage("no-destination", "convert in --to hf"),
    usage("three-paths", "convert in out more --to hf"),
    usage("threads-zero", "convert in out --to hf --threads 0", "--threads"),
    usage("threads-word", "convert in out --to hf --threads all",
          "--threads", "all"),
    usage("threads-many", "convert in out --to hf --threads 100000",
          "--threads"),
    usage("threads-negative", "convert in out --to hf --threads=-1",
          "--threads"),
    usage("memory-small", "convert in out --to hf --memory 1", "--memory"),
    usage("memory-word", "convert in out --to hf --memory lots",
          "--memory", "lots"),
    usage("memory-overflows",
          "convert in out --to hf --memory 99999999999999999999T",
          "--memory"),
    usage("hosts-zero", "plan in --to fsdp2:dp=2 --hosts 0", "--hosts"),
    usage("hosts-word", "plan in --to fsdp2:dp=2 --hosts two", "--hosts"),
    usage("hosts-huge", "plan in --to fsdp2:dp=2 --hosts 99999999999",
          "--hosts"),
    usage("link-word", "plan in --to fsdp2:dp=2 --link fast", "--link"),
    usage("link-zero", "plan in --to fsdp2:dp=2 --link 0", "--link"),
    usage("plan-source-and-table",
          "plan in --table t.json --to fsdp2:dp=2", "--table"),
    usage("plan-nothing", "plan --to fsdp2:dp=2", "SRC"),
    usage("plan-table-without-from", "plan --table t.json --to fsdp2:dp=2",
          "--from", make=tree({"t.json": table(TENSOR)})),
    case("use-fault-unknown-point", good, "inspect in", 2, "io.nowhere",
         env=[("RETILE_FAULT", "io.nowhere=crash")]),
    case("use-fault-unknown-action", good, "inspect in", 2, "explode",
         env=[("RETILE_FAULT", "io.read=explode")]),
    usage("mount-no-mountpoint", "mount in", "MOUNTPOINT"),
    usage("mount-mountpoint-missing", "mount in mnt", "mnt",
          exit_code=(1, 3)),
    usage("mount-mountpoint-file", "mount in mnt", "mnt",
          make=both(good, files(mnt="x"))),
    usage("mount-unknown-option", "mount in mnt -o colour=red", "colour",
          make=both(good, directory("mnt"))),
    usage("mount-bad-layout-option", "mount in mnt -o layout=mine",
          "layout", make=both(good, directory("mnt")), exit_code=(1, 2)),
    usage("mount-missing-layout-file",
          "mount in mnt -o layout=mine:nowhere.yaml", "nowhere.yaml",
          make=both(good, directory("mnt")), exit_code=(1, 3)),
    # Destinations.
    usage("dst-directory", "convert in out --to hf", "out", "exists",
          make=both(good, directory("out")), exit_code=1),
    usage("dst-file", "convert in out --to hf", "out", "exists",
          make=both(good, files(out="x")), exit_code=1),
    usage("dst-dangling-link", "convert in out --to hf", "out", "exists",
          make=both(good, link("out", "nowhere")), exit_code=1),
    usage("dst-is-source", "convert in in --to hf", "in", "exists",
          exit_code=1),
    usage("dst-parent-missing", "convert in no/out --to hf", "no",
          exit_code=3),
    usage("dst-parent-file", "convert in no/out --to hf", "no",
          make=both(good, files(no="x")), exit_code=1),
    usage("dst-dot", "convert in . --to hf", "."),
    usage("dst-root", "convert in / --to hf", "/"),
    usage("dst-empty", ["convert", "in", "", "--to", "hf"], "DST"),
    usage("dst-name-too-long", "convert in " + "n" * 250 + " --to hf", "nnn",
          exit_code=1),
    usage("tmp-is-file", "convert in out --to hf", ".out.retile-tmp",
          make=both(good, tree({".out.retile-tmp": "x"})), exit_code=1),
    usage("tmp-is-link", "convert in out --to hf", ".out.retile-tmp",
          make=both(good, directory("other"),
                    link(".out.retile-tmp", "other")), exit_code=1),
    # Sources.
    usage("src-missing", "convert nowhere out --to hf", "nowhere",
          make=nothing, exit_code=3),
    usage("src-empty-name", ["inspect", ""], exit_code=(1, 2, 3)),
    usage("src-is-text", "inspect notes.txt", "notes.txt",
          make=files(**{"notes.txt": "hello"}), exit_code=1),
    usage("verify-second-missing", "verify in nowhere", "nowhere",
          exit_code=3),
]

CASES = TABLE_CASES + USAGE_CASES
