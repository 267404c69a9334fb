#!/usr/bin/env python3
"""The verbs of a cluster against one that `retile dev up` makes: a job that a
shell script plays is submitted, launched, rescaled, failed, watched, removed.

    cluster_cli.py
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

from bad_input_cases import kit

RETILE = os.path.join(os.environ["RETILE_BIN"], "retile")
FORMATS = pathlib.Path(os.environ["RETILE_SOURCE"]) / "docs" / "formats.md"
WAIT_S = 60
RANK = r"""
rank=$(printf %03d "$RANK")
mine=$RETILE_DIR/load/ranks/$rank
sync=$SYNC/$RETILE_GENERATION
mkdir -p "$sync"
step=$(sed -n 's/.*"step": *\([0-9]*\).*/\1/p' "$RETILE_DIR/load/retile.json" \
    2>/dev/null || true)
step=$((${step:-0} + 10))
echo "from $(ls "$mine" | tr '\n' ' ')to step $step"
while [ ! -s "$RETILE_DIR/request" ]; do sleep 0.05; done
save=$RETILE_DIR/save/$step.tmp
mkdir -p "$save/ranks/$rank" && cp "$mine"/* "$save/ranks/$rank/" || exit 9
touch "$sync/$RANK"
[ "$RANK" = 0 ] || exit 0
while [ "$(ls "$sync" | wc -l)" -lt "$WORLD_SIZE" ]; do sleep 0.02; done
echo "{\"step\": $step, \"samples\": $step}" >"$save/retile.json"
mv "$save" "${save%.tmp}" && echo "saved $step"
"""


def check(is_so, *what):
    if not is_so:
        raise AssertionError(" ".join(map(str, what)))


def until(condition, what):
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


def retile(*words, code=0):
    done = subprocess.run([RETILE, *words], timeout=120, capture_output=True,
                          text=True, check=False)
    check(done.returncode == code, words, "exit", done.returncode, done.stdout,
          done.stderr)
    return done


def documented():
    """"job rm" -> keys; "rescale: phases[]" -> keys."""
    text = FORMATS.read_text().split("## What `--json` prints of a cluster")[1]
    rows = {}
    for verbs, keys in re.findall(r"^\| (`.*?) \| `(.*?)`", text, re.MULTILINE):
        for verb in re.findall(r"`(.*?)`", verbs):
            rows[verb.replace(" JOB", "")] = keys.split()
    return rows


ROWS = documented()
SEEN = set()


def compare(verb, found):
    check(sorted(found) == sorted(ROWS[verb]), verb, sorted(found))
    SEEN.add(verb)


def retile_json(*words):
    found = json.loads(retile(*words, "--json").stdout)
    verb = next(v for v in (" ".join(words[:2]), words[0]) if v in ROWS)
    compare(verb, found)
    return found


def job():
    return retile_json("job", "show", "toy")["job"]


def wait_running(generation):
    def runs():
        found = job()["generation"]
        return found if found["number"] == generation and \
            found["state"] == "running" else None

    return until(runs, f"generation {generation} runs")


class Watch:
    """A `retile watch --json` and what it has shown."""

    def __init__(self, name, *words):
        self.path = pathlib.Path(name)
        with open(self.path, "wb") as out, open(f"{name}.err", "wb") as err:
            self.process = subprocess.Popen([RETILE, "watch", "--json", *words],
                                            stdout=out, stderr=err)

    def events(self):
        return [json.loads(line)
                for line in self.path.read_text().splitlines(True)
                if line.endswith("\n")]

    def revisions(self):
        return [event["revision"] for event in self.events()]

    def end(self):
        self.process.send_signal(signal.SIGINT)
        check(self.process.wait(WAIT_S) == 0, "watch", self.process.returncode)


def submit():
    retile("convert", "in", "two", "--to", "fsdp2:dp=2")
    retile("job", "submit", "toy", "--import", "two", "--wait")
    made = retile_json("job", "ls")["jobs"][0]
    check(made["name"] == "toy" and made["mesh"] == "dp=2" and
          made["version"] == 1 and made["generation"]["state"] == "ready", made)
    check("toy" in retile("job", "ls").stdout)
    check("import" in retile("job", "show", "toy").stdout)
    retile("version", "pin", "toy", "1", "--why", "the first")
    again = retile("job", "submit", "toy", "--layout", "hf", code=1)
    check("toy" in again.stderr, again.stderr)


def rescale(_dev):
    before = job()
    text = retile("rescale", "toy", "--to", "dp=4", "--dry-run").stdout
    check("ratio 1.00" in text and "0 B between hosts" in text, text)
    plan = retile_json("rescale", "toy", "--to", "dp=4", "--dry-run")
    check(plan["dry_run"] and plan["ratio"] == 1.0 and plan["mesh"] == "dp=4"
          and plan["plan"]["moved_bytes"] == 0 and plan["phases"] == [], plan)
    after = job()
    check(after["generation"] == before["generation"] and
          after["change"] is None, after)
    done = retile_json("rescale", "toy", "--to", "dp=4", "--wait")
    check(done["job"]["generation"]["number"] == 2 and
          done["job"]["mesh"] == "dp=4", done["job"])
    for phase in done["phases"]:
        compare("rescale: phases[]", phase)
    found = wait_running(2)
    check(len(found["placements"]) == 4 and found["first_step"] == 10, found)
    text = retile("rescale", "toy", "--to", "dp=2", "--wait").stdout
    check("generation 3, dp=2" in text and "took" in text, text)
    wait_running(3)
    text = retile("status").stdout
    check(re.search(r" up .* AA\.+$", text, re.MULTILINE) and
          re.search(r"^A toy ", text, re.MULTILINE), text)
    check("usage" not in retile("rescale", "toy", code=2).stderr)


def fail_and_recover(_dev):
    host = retile_json("device", "ls")["hosts"][0]["name"]
    used = job()["generation"]["placements"][0]["device"]
    failed = retile_json("device", "fail", f"{host}/{used}", "--reason",
                         "a test")["devices"]
    check(len(failed) == 1 and failed[0]["state"] == "failed" and
          failed[0]["reason"] == "a test", failed)
    found = wait_running(4)
    check(used not in [p["device"] for p in found["placements"]], found)
    check("!" in retile("status").stdout)
    well = retile_json("device", "recover", f"{host}/{used}")["devices"]
    check(well[0]["state"] == "ready", well)
    drained = retile_json("device", "drain", f"{host}/{used}")["devices"]
    check(drained[0]["state"] == "drained" and "-" in
          retile("status").stdout, drained)
    check(f"{host}/{used}" in retile("device", "recover", host).stdout)
    check(all(d["state"] == "ready"
              for d in retile_json("device", "ls")["hosts"][0]["devices"]))
    retile("device", "fail", f"{host}/99", code=3)
    retile("device", "fail", "nobody/0", code=3)


def versions(_dev):
    listed = retile_json("version", "ls", "toy")["versions"]
    numbers = [v["number"] for v in listed]
    newest = numbers[-1]
    check(retile_json("version", "show", "toy")["shown"]["number"] == newest)
    retile_json("version", "pin", "toy", str(newest), "--why", "kept")
    check("pinned: kept" in retile("version", "ls", "toy").stdout)
    retile("version", "release", "toy", str(newest), code=1)
    retile_json("version", "unpin", "toy", str(newest))
    check(not retile_json("version", "show", "toy",
                          str(newest))["shown"]["pinned"])
    generation = job()["generation"]["number"]
    retile_json("version", "rollback", "toy", "1")
    found = wait_running(generation + 1)
    check(found["load"] > newest, found)
    loaded = retile_json("version", "show", "toy",
                         str(found["load"]))["shown"]
    check(loaded["kind"] == "rollback" and loaded["parent"] == 1, loaded)
    retile_json("version", "release", "toy", str(newest))  # the second now
    retile("version", "show", "toy", "4711", code=3)


def watch_through_a_crash(dev):
    watch = Watch("watch.jsonl", "--from", "1")
    until(watch.events, "it shows something")
    pid = retile_json("dev", "status", *dev)["coordinator_pid"]
    os.kill(pid, signal.SIGKILL)
    until(lambda: "trying again" in
          pathlib.Path("watch.jsonl.err").read_text(), "it lost the connection")
    retile("dev", "status", *dev, code=3)
    check(retile_json("dev", "up", *dev)["coordinator_pid"] not in (0, pid))
    host = retile_json("status")["hosts"][0]["name"]
    until(lambda: retile_json("status")["hosts"][0]["state"] == "up", "up")
    retile("device", "drain", f"{host}/3")
    retile("device", "recover", f"{host}/3")
    last = retile_json("status")["revision"]
    until(lambda: watch.revisions()[-1] >= last, "it sees what came after")
    again = Watch("again.jsonl", "--from", "1")
    until(lambda: again.revisions()[-1:] >= [last], "all of it once more")
    for one in (watch, again):
        one.end()
    seen, fresh = watch.revisions(), again.revisions()
    check(seen == sorted(set(seen)), seen)
    n = min(len(seen), len(fresh))
    check(seen[:n] == fresh[:n], seen, fresh)
    only = Watch("only.jsonl", "toy", "--from", "1")
    until(only.events, "events of one job")
    only.end()
    check(all(event["job"] == "toy" for event in only.events()))


def refusals(_dev):
    none = retile("job", "ls", "--coordinator", "unix:/nowhere/x.sock", code=4)
    check("hint: --coordinator" in none.stderr, none.stderr)
    retile("job", "show", "nobody", code=3)
    retile("rescale", "nobody", "--to", "dp=2", code=3)
    retile("job", "ls", "--force", code=2)
    retile("job", "submit", "from-nothing", code=2)
    retile("job", "submit", "bad/name", "--layout", "hf", code=2)
    retile("watch", "--from", "18446744073709551615", code=2)
    running = retile("job", "rm", "toy", code=1).stderr
    check("force" in running, running)


def end(launch, dev):
    removed = retile_json("job", "rm", "toy", "--force", "--wait")
    check(removed["is"] == "removed", removed)
    check(launch.wait(WAIT_S) == 1, "launch", launch.returncode)
    check(retile_json("job", "ls")["jobs"] == [])
    retile_json("dev", "down", *dev)


def down_after_a_crash(top):
    """Everything of ours is killed at once; the mount is left to hang."""
    dev = ["--dir", os.path.join(top, "dev")]
    retile("dev", "up", *dev, "--slots", "2")
    retile("job", "submit", "toy", "--import", "two", "--wait")
    check(len(retile_json("dev", "status", *dev)["mounts"]) == 1)
    mounts = left(top)
    pids = [int(path.parts[2]) for path in
            pathlib.Path("/proc").glob("[0-9]*/cmdline")
            if path.exists() and path.read_bytes() in mounts]
    for number in signal.SIGSTOP, signal.SIGKILL:  # none sees another die
        for pid in pids:
            os.kill(pid, number)
    until(lambda: all(isinstance(one, str) for one in left(top)), "all died")
    # The mount, and root's agent's on the directory that it lies in.
    check(len(left(top)) == 1 + (os.geteuid() == 0), left(top))
    retile("dev", "down", *dev)
    retile("dev", "status", *dev, code=3)
    os.mkdir("mine")
    pathlib.Path("mine/file").touch()
    os.chmod("mine", 0o700)
    retile("dev", "down", "--dir", "mine", code=3)
    retile("dev", "up", "--dir", "mine", code=1)
    check(os.path.exists("mine/file"))


def left(top):
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if top.encode() in path.read_bytes():
                found.append(path.read_bytes())
        except OSError:
            pass
    return found + [line for line in
                    pathlib.Path("/proc/self/mountinfo").read_text()
                    .splitlines() if top in line]


def run(top):
    kit.good(pathlib.Path(top))
    dev = ["--dir", os.path.join(top, "dev"), "--slots", "6"]
    up = retile("dev", "up", *dev).stdout
    os.environ.update(re.findall(r"export (\w+)='(.*)'", up))
    os.environ["SYNC"] = top
    check(retile("dev", "up", *dev).stdout == up)
    dev = dev[:2]
    submit()
    with open("launch.out", "wb") as out:
        launch = subprocess.Popen([RETILE, "launch", "toy", "--", "sh", "-c",
                                   RANK], stdout=out, stderr=out)
    try:
        wait_running(1)
        for step in (rescale, fail_and_recover, versions, refusals,
                     watch_through_a_crash):
            step(dev)
            print("ok", step.__name__, flush=True)
        end(launch, dev)
    finally:
        if launch.poll() is None:
            launch.terminate()
            launch.wait(WAIT_S)
    text = pathlib.Path("launch.out").read_text()
    check("[0] saved 10\n" in text and "[0] saved 20\n" in text, text)
    check(SEEN | {"job submit", "device forget"} == set(ROWS),
          set(ROWS) - SEEN)
    check(not left(top), left(top))
    down_after_a_crash(top)
    check(not left(top), left(top))


def main():
    with tempfile.TemporaryDirectory() as top:
        os.chdir(top)
        try:
            run(top)
        except BaseException:
            for name in ("launch.out", "dev/agent.log", "dev/coordinator.log"):
                if os.path.exists(name):
                    print(f"--- {name}:\n",
                          pathlib.Path(name).read_text(errors="replace")[-3000:])
            raise
        finally:
            subprocess.run([RETILE, "dev", "down", "--dir",
                            os.path.join(top, "dev")], check=False,
                           capture_output=True, timeout=60)
            os.chdir("/")
    print("ok")


if __name__ == "__main__":
    sys.exit(main())
