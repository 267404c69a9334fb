#!/usr/bin/env python3
"""The command line itself: words, limits of the system, completion."""
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile

from bad_input_cases import kit

RETILE = os.path.join(os.environ["RETILE_BIN"], "retile")
NOBODY = 65534


def check(is_so, *what):
    if not is_so:
        sys.exit("FAIL " + " ".join(map(str, what)))


def retile(*words, **more):
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run([RETILE, *words], timeout=120, **more)


def retile_json(*words):
    done = retile(*words, "--json")
    check(done.returncode == 0, words, done.stderr)
    return json.loads(done.stdout)


def test_plan_says_what_a_source_is_in():
    check(retile_json("plan", "in", "--to", "fsdp2:dp=2")["from"] == "hf")
    check(retile_json("plan", "in/model.safetensors", "--to", "hf")["from"]
          == "hf")
    check(retile("convert", "in", "two", "--to",
                 "fsdp2:dp=2").returncode == 0)
    check(retile_json("plan", "two", "--to", "hf")["from"] == "dp=2")
    text = retile("plan", "two", "--to", "hf", "--svg", "p.svg").stdout
    check(text.startswith(b"from      dp=2, 2 ranks\n"), text)
    check(b">dp=2 \xe2\x86\x92 hf</text>" in pathlib.Path("p.svg").read_bytes())


def test_plan_takes_the_fastest_link():
    done = retile("plan", "in", "--to", "hf", "--link", str(2**64 - 1))
    check(b"at 16.00 EiB/s" in done.stdout, done.stdout, done.stderr)


def test_plan_refuses_sums_that_overflow():
    table = {"retile_table": 1, "ties": {}, "objects": {}, "tensors": [
        {"name": "a", "group": "model", "dtype": "U8", "shape": [2**60]}]}
    pathlib.Path("t.json").write_text(json.dumps(table))
    pathlib.Path("all.yaml").write_text(
        "mesh: {dp: 8}\nrules:\n  - {match: '*'}\n")
    done = retile("plan", "--table", "t.json", "--from", "hf", "--to",
                  "all.yaml", "--hosts", "8")
    check(done.returncode == 1 and b"2^63" in done.stderr, done.stderr)


def test_json_shows_names_that_are_not_utf8():
    name = b"not\xff"
    check(retile_json("convert", "in", name, "--to", "hf")["dst"] == "not?")
    check(retile_json("inspect", name)["path"] == "not?")


def test_a_full_stdout_fails():
    for words in (["inspect", "in"], ["inspect", "in", "--json"],
                  ["verify", "in"], ["plan", "in", "--to", "hf"],
                  ["inspect", "in", "--table"], ["help"]):
        with open("/dev/full", "wb") as full:
            done = retile(*words, stdout=full)
        check(done.returncode == 1 and b"stdout" in done.stderr, words,
              done.returncode, done.stderr)


def test_only_files_count_against_the_limit_of_open_files():
    def limit():
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))

    done = retile("convert", "in", "many", "--to", "fsdp2:dp=30",
                  "--verify", preexec_fn=limit)
    check(done.returncode == 0, done.stderr)
    done = retile("convert", "in", "more", "--to", "fsdp2:dp=50",
                  preexec_fn=limit)
    check(done.returncode == 1 and b"50 files" in done.stderr, done.stderr)
    check(not os.path.lexists(".more.retile-tmp"), "a directory is left")


def test_a_umask_that_forbids_all_leaves_nothing():
    def forbid():
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        os.umask(0o777)

    os.mkdir("open")
    os.chmod("open", 0o777)
    os.chmod(".", 0o755)
    done = retile("convert", "in", "open/out", "--to", "hf", preexec_fn=forbid)
    check(done.returncode == 1, done.returncode, done.stderr)
    check(os.listdir("open") == [], os.listdir("open"), done.stderr)


def test_completion_completes():
    script = """eval "$("$0" completion)"
    complete_at() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _retile
                    echo "${COMPREPLY[*]}"; }
    complete_at retile ver; complete_at retile convert --th
    complete_at retile help pre; complete_at retile plan some-file
    complete_at retile store sc; complete_at retile version roll
    complete_at retile version ls --st; complete_at retile store s3 scr"""
    done = subprocess.run(["bash", "-euc", script, RETILE], check=True,
                          capture_output=True, text=True)
    check(done.stdout == "verify version\n--threads\npresets\n\n"
          "scrub\nrollback\n--store\n\n", done.stdout)


def test_completion_completes_in_fish():
    done = subprocess.run(
        ["fish", "--no-config", "-c", "retile completion fish | source; "
         "complete -C 'retile ver'; echo; complete -C 'retile convert --th'; "
         "echo; complete -C 'retile job su'; echo; "
         "complete -C 'retile completion z'"],
        check=True, capture_output=True, text=True,
        env={**os.environ, "HOME": os.getcwd(),
             "PATH": f"{os.path.dirname(RETILE)}:{os.environ['PATH']}"})
    found = [[line.split("\t")[0] for line in part.splitlines()]
             for part in done.stdout.split("\n\n")]
    check(found == [["verify", "version"], ["--threads"], ["submit"], ["zsh"]],
          found, done.stderr)


def test_completion_completes_in_zsh():
    script = """compdef() { : }; eval "$($0 completion zsh)"
    compadd() { while [[ $1 != -- ]]; do shift; done; shift; print -r -- $@ }
    _files() { print files }
    at() { words=("$@"); CURRENT=$#words; PREFIX=$words[-1]; _retile; print }
    at retile ver; at retile convert --th; at retile convert a
    at retile job su; at retile job show x; at retile completion z"""
    done = subprocess.run(["zsh", "-f", "-c", script, RETILE], check=True,
                          capture_output=True, text=True)
    found = [part.split() for part in done.stdout.split("\n\n")]
    check({"verify", "version"} <= set(found[0]), found)
    check("--threads" in found[1] and "files" not in found[1], found)
    check(found[2] == ["files"], found)
    check(found[3] == ["submit", "ls", "show", "rm"], found)
    check(found[4] == ["files"], found)
    check(found[5] == ["bash", "zsh", "fish"], found)


def main():
    tests = [(name, test) for name, test in globals().items()
             if name.startswith("test_")]
    for name, test in tests:
        with tempfile.TemporaryDirectory() as top:
            os.chdir(top)
            kit.good(pathlib.Path(top))
            test()
            os.chdir("/")
        print("ok", name)


if __name__ == "__main__":
    main()
