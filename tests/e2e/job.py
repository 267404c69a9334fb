#!/usr/bin/env python3
"""The life of a whole job, by a client that is built from reflection alone:
coordinator, agent, mount, launcher, ranks.

    job.py [CASE]...
"""
import os
import pathlib
import sys
import time

import grpc

import toy_rank
from cluster_lab import LAYOUT, Cluster
from mounted import check, eventually
from train_gpt import SCRIPT, SPEC, TOLERANCE, lines_of, losses, start


def fail_one(cluster, name):
    used = cluster.get(name).generation.placements[-1]
    cluster.change("Devices/Fail", host=used.host, index=used.device,
                   reason="a test")
    return used.device


def case_gpt(cluster):
    """The demo's run, smaller: the losses are those of a run alone."""
    alone = start("dp=1", "--steps", "32")
    cluster.submit("gpt", layout=SPEC.read_text())
    out = cluster.path / "gpt.out"
    launch = cluster.launch("gpt", sys.executable, "-B", SCRIPT, "--steps", "32",
                            "--save-every", "6", output=out)

    def told():
        found = [line.split("] ", 1)[1] for line in out.read_text().splitlines()
                 if line.startswith("[")]
        return losses(found)
    want = losses(lines_of(alone))

    def wait_step(step):
        cluster.until(f"step {step}", lambda: step in told(), 100)
    wait_step(4)
    cluster.change("Jobs/Rescale", job="gpt", to="tp=1,pp=2,dp=1")
    generation = cluster.wait_generation(1, "gpt")
    wait_step(13)
    device = fail_one(cluster, "gpt")
    generation = cluster.wait_generation(generation, "gpt")
    check(device not in [p.device for p in
                         cluster.get("gpt").generation.placements],
          "a device that failed is used")
    cluster.change("Devices/Recover", host="h", index=device)
    wait_step(20)
    cluster.change("Jobs/Rescale", job="gpt", to="tp=2,pp=2,dp=1")
    cluster.wait_generation(generation, "gpt")
    cluster.wait_state("DONE", "gpt", 100)
    check(launch.wait(30) == 0, "launch", launch.returncode)
    found = told()
    check(sorted(found) == list(range(1, 33)), "steps", sorted(found))
    worst = max(abs(float(found[s]) - float(want[s])) for s in found)
    check(worst <= TOLERANCE, f"losses differ by {worst}", found, want)
    print(f"gpt: 32 steps, losses within {worst:.1e} of a run's alone")


def case_toy(cluster):
    """Rescales and failures at once, calls that are made twice."""
    cluster.submit()
    first = cluster.get()
    again = cluster.api("Jobs/Submit", request_id=f"test-{cluster.n_ids}",
                        name="toy", layout=LAYOUT)
    check(again.job.submitted_ns == first.submitted_ns, "submitted twice")
    launch = cluster.launch_toy(120)
    generation = cluster.wait_generation(0)
    for at, to in ((15, "tp=4"), (40, "tp=1,dp=2"), (80, "tp=3,dp=1")):
        cluster.wait_step(at)
        plan = cluster.change("Jobs/Rescale", job="toy", to=to).plan
        check(plan.moved_bytes == plan.bound_bytes == 0, plan)
        twice = cluster.api.code("Jobs/Rescale", request_id=f"test-"
                                 f"{cluster.n_ids}", job="toy", to=to)
        check(twice == "OK", twice)
        generation = cluster.wait_generation(generation)
        if at == 40:
            cluster.wait_step(65)
            device = fail_one(cluster, "toy")
            generation = cluster.wait_generation(generation)
            cluster.change("Devices/Recover", host="h", index=device)
    cluster.wait_state("DONE")
    check(launch.wait(30) == 0, "launch", launch.returncode)
    loads = cluster.check_trace(120)
    check(len(loads) == 5, "generations", loads)
    print("toy: 120 steps in 5 generations, each of one version")


def case_hang(cluster):
    """Ranks that hang are stopped at the deadline; what is left of their
    generation can write nothing and complete nothing."""
    hang = cluster.path / "hang"
    cluster.submit()
    launch = cluster.launch_toy(60, "--hang", hang)
    cluster.wait_step(15)
    hang.touch()
    at = -1
    while at != cluster.last_step():  # it hangs
        at = cluster.last_step()
        time.sleep(0.3)
    job = cluster.get()
    old = cluster.mount() / "gen" / str(job.generation.number) / "save"
    saved = job.version
    last = [v.step for v in job.versions][-1]
    # As a rank that the launcher does not know: it has all of a step but the
    # commit, and a file open.
    tmp = old / "59.tmp"
    held = []
    for rank in range(2):
        here = tmp / f"ranks/{rank:03d}"
        here.mkdir(parents=True)
        part = toy_rank.part_of(toy_rank.start(), rank, 2)
        (here / "optim.safetensors").write_bytes(
            toy_rank.encode("optim.m.w", part))
        file = open(here / "model.safetensors", "wb", buffering=0)
        file.write(toy_rank.encode("w", part))
        held.append(file)
    (tmp / "retile.json").write_text('{"step": 59, "samples": 236}')
    cluster.change("Jobs/Rescale", job="toy", to="tp=4", deadline_s=2)
    eventually("it is revoked", lambda: refused(
        lambda: (old / "60.tmp").mkdir()), cluster.tell, 30)
    hang.unlink()
    for what, do in (
            ("the commit", lambda: tmp.rename(old / "59")),
            ("a file", lambda: (tmp / "ranks/000/more").write_bytes(b"x")),
            ("a step", lambda: (old / "58.tmp").mkdir()),
            ("a request", lambda: (old.parent / "request").write_text("x")),
            ("what is loaded", lambda: (cluster.mount() / f"versions/{saved}"
                                        "/ranks/000/model.safetensors")
             .write_bytes(b"x"))):
        check(refused(do), f"a leftover wrote {what}")
    for file in held:  # a passed through file is written still, in vain
        try:
            file.write(b"leftover")
        except OSError:
            pass
        file.close()
    cluster.wait_state("DONE")
    check(launch.wait(30) == 0, "launch", launch.returncode)
    cluster.check_trace(60)
    check([w[3] for w in cluster.trace() if w[0] == "step"
           and w[1] == "2"][0] == str(last + 1), "did not go on after", last)
    check([v.step for v in cluster.get().versions][-1] == 60, "versions",
          cluster.get().versions)
    told = [e.text for e in cluster.events() if "lost" in e.text]
    check(f"steps after {last} are lost" in told, "lost steps are told", told)
    print(f"hang: stopped at the deadline, went on after step {last}")


def refused(do):
    try:
        do()
    except OSError:
        return True
    return False


CASES = [case_gpt, case_toy, case_hang]


def main():
    wanted = sys.argv[1:]
    for case in CASES:
        if wanted and case.__name__[5:] not in wanted:
            continue
        begin = time.monotonic()
        cluster = Cluster(200)
        try:
            case(cluster)
            cluster.close()
        except BaseException:
            print(cluster.tell(), file=sys.stderr)
            raise
        print(f"ok {case.__name__[5:]} {time.monotonic() - begin:.1f} s",
              flush=True)


if __name__ == "__main__":
    main()
