#!/usr/bin/env python3
"""retile-worker against a coordinator and a mount that the test plays."""
import os
import pathlib
import signal
import subprocess
import tempfile
import time

import grpc
import numpy
from safetensors.numpy import save_file

from agent_lib import (ABORT, BIN, BUILD, COMMIT, Case, Coordinator, Launcher, M, V,
                       retile, run_all, wait_for)


def generation(number, state="GENERATION_PREPARING", n_ranks=2, **fields):
    return M["TargetGeneration"](
        number=number, state=V[state], mesh=f"dp=1,tp={n_ranks}",
        world_size=n_ranks, master_addr="127.0.0.1",
        placements=[M["Placement"](rank=i, host="host0", device=i)
                    for i in range(n_ranks)], **fields)


def registers_and_renews():
    with Case() as (coordinator, agent):
        agent.start()
        hello = coordinator.hellos[0]
        assert hello.host == "host0" and len(hello.store_id) == 32, hello
        assert [d.label for d in hello.devices] == [
            f"slot {i}" for i in range(4)], hello
        assert hello.memory_bytes > 0 and hello.n_numa_nodes > 0, hello
        wait_for(lambda: coordinator.renewals >= 3)
        said = agent.local().unary("Status")
        assert said.host == "host0" and said.is_connected, said
        agent.stop()
        assert not agent.processes()


def settings(*options):
    """What --print-config shows, without where it is from."""
    shown = subprocess.run([BIN / "retile-worker", *options, "--print-config"],
                           check=True, text=True, capture_output=True,
                           env={}).stdout
    return [line.rsplit("  # ", 1)[0] for line in shown.splitlines()]


def the_example_has_every_default():
    deploy = pathlib.Path(os.environ["RETILE_SOURCE"]) / "deploy"
    example = deploy / "worker.yaml"
    assert settings("--config", example) == settings()
    said = [line.split(":")[0] for line in example.read_text().splitlines()
            if line and line[0] != "#"]
    assert sorted(said) == sorted(line.split(":")[0] for line in settings())
    # Each unit makes the directory that its program's default names.
    for unit, key in (("worker", "run"), ("coordinator", "listen")):
        shown = subprocess.run(
            [BIN / f"retile-{unit}", "--print-config"], check=True, text=True,
            capture_output=True, env={}).stdout
        (made,) = [line.split("=")[1] for line in
                   (deploy / f"retile-{unit}.service").read_text().splitlines()
                   if line.startswith("RuntimeDirectory=")]
        (line,) = [line for line in shown.splitlines()
                   if line.startswith(f"{key}: ")]
        assert f"/run/{made}" in line, (made, line)
    # What is printed is a file that says the same.
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as again:
        options = ("--store", '/a "b" #c', "--slots", "3")
        again.write("\n".join(settings(*options)))
        again.flush()
        assert settings("--config", again.name) == settings(*options)
        assert 'store: "/a \\"b\\" #c"' in settings(*options)


def supervises_a_mount():
    with Case() as (coordinator, agent):
        agent.start()
        coordinator.want("gpt", layout="gpt2:tp=2", generation=generation(1))

        def prepared():
            return coordinator.of("gpt").generation.is_prepared
        wait_for(prepared)
        status = coordinator.of("gpt").generation
        assert status.number == 1 and status.is_clear, status
        assert 0 < status.master_port < 65536, status
        (mount,) = agent.processes()
        os.kill(mount, signal.SIGKILL)
        wait_for(lambda: agent.processes() not in ([], [mount]))
        wait_for(lambda: agent.local().unary("Status").jobs[0].mount_pid
                 in agent.processes())
        assert coordinator.of("gpt").generation.is_prepared
        wait_for(lambda: not coordinator.of("gpt").trouble)

        def orphan_calls():
            """The server of a holder that was killed: a child of init."""
            report = M["MountReport"](job="gpt", pid=1, generation=1)
            orphans.append(agent.local().stream("Mount", iter([report])))
            return agent.processes() not in ([], [mount])
        (mount,), orphans = agent.processes(), []
        os.kill(mount, signal.SIGKILL)
        wait_for(orphan_calls)
        wait_for(lambda: agent.local().unary("Status").jobs[0].mount_pid
                 in agent.processes())
        coordinator.want("gpt", layout="gpt2:tp=2", generation=generation(2))
        wait_for(lambda: coordinator.of("gpt").generation.number == 2
                 and prepared())
        agent.stop()
        assert not agent.processes()
        assert not list(agent.mounts.iterdir())


def tells_of_devices_that_break():
    library = BUILD / "tests" / "unit" / "worker" / "libcudart_standin.so"
    with Case(options=["--cudart", str(library), "--device-check", "1"]) as (
            coordinator, agent):
        mode = agent.where / "mode"
        os.environ["STANDIN_CUDART"] = str(mode)

        def set_mode(text):
            mode.with_suffix(".new").write_text(text)
            mode.with_suffix(".new").rename(mode)

        set_mode("good")
        agent.start()
        devices = coordinator.hellos[0].devices
        assert [(d.index, d.kind) for d in devices] == [(0, "cuda"),
                                                        (1, "cuda")], devices
        set_mode("third")  # the third call fails: of the first device
        wait_for(lambda: len(coordinator.devices) >= 2)
        assert all(d.is_failed and "46" in d.reason
                   for d in coordinator.devices[:2]), coordinator.devices
        set_mode("good")
        wait_for(lambda: len(coordinator.devices) >= 4)
        assert not any(d.is_failed for d in coordinator.devices[2:])
        set_mode("crash")
        wait_for(lambda: len(coordinator.devices) >= 6)
        assert all(d.is_failed for d in coordinator.devices[4:])
        agent.stop()
        del os.environ["STANDIN_CUDART"]


SPEC = "mesh: {dp: 1, tp: %d}\nrules:\n- {match: '*', dims: [tp]}\n"


def checkpoint(agent, n_ranks=2):
    """A directory of that many ranks; its path."""
    path = agent.where / "checkpoint"
    source = agent.where / "whole"
    source.mkdir()
    save_file({f"w{i}": numpy.arange(64, dtype="f4").reshape(8, 8) + i
               for i in range(4)}, source / "model.safetensors")
    spec = agent.where / "spec.yaml"
    spec.write_text(SPEC % n_ranks)
    retile("convert", source, path, "--to", spec)
    (path / "note.json").write_text("{}")
    return path


def versions(coordinator, job="gpt"):
    return [v.number for v in coordinator.of(job).versions]


def attempt(number, kind, **fields):
    return M["TargetAttempt"](number=number, kind=V["ATTEMPT_" + kind],
                              **fields)


def imported(coordinator, agent, **fields):
    """Version 1 of `gpt`."""
    path = checkpoint(agent)
    coordinator.decisions["gpt", 1] = COMMIT
    coordinator.want("gpt", highest=1, keep=[1], attempt=attempt(
        1, "IMPORT", import_dir=str(path)), **fields)
    wait_for(lambda: versions(coordinator) == [1])


def makes_versions():
    with Case() as (coordinator, agent):
        agent.start()
        imported(coordinator, agent)
        (vote,) = coordinator.votes
        assert vote.version.number == 1 and vote.version.n_bytes == 4 * 256 + 2
        assert vote.version.mesh == "dp=1,tp=2", vote
        wait_for(lambda: coordinator.used_bytes)  # counted once it is idle
        one = coordinator.of("gpt").versions[0]
        assert one == vote.version, (one, vote.version)
        # A rescale, a rollback; another job's version, with no byte copied.
        coordinator.decisions.update({("gpt", 2): COMMIT, ("gpt", 3): COMMIT,
                                      ("new", 1): COMMIT})
        coordinator.want("gpt", highest=2, keep=[1, 2], attempt=attempt(
            2, "RESCALE", parent=1, layout="tp=4"))
        wait_for(lambda: versions(coordinator) == [1, 2])
        two = coordinator.of("gpt").versions[1]
        assert two.mesh == "dp=1,tp=4" and two.parent == 1, two
        coordinator.want("gpt", highest=3, keep=[1, 2, 3], attempt=attempt(
            3, "ROLLBACK", parent=1))
        wait_for(lambda: versions(coordinator) == [1, 2, 3])
        assert coordinator.of("gpt").versions[2].mesh == "dp=1,tp=2"
        used = blobs(agent)
        coordinator.want("new", highest=1, keep=[1], attempt=attempt(
            1, "COPY", from_job="gpt", parent=2))
        wait_for(lambda: versions(coordinator, "new") == [1])
        assert coordinator.of("new").versions[0].mesh == "dp=1,tp=4"
        assert blobs(agent) == used
        # Pins and releases; a version above `highest` stays.
        coordinator.want("gpt", highest=2, keep=[2], pins=[])
        wait_for(lambda: versions(coordinator) == [2, 3])
        coordinator.want("gpt", highest=3, keep=[3], pins=[M["TargetPin"](
            version=2, why="good loss")])
        wait_for(lambda: coordinator.of("gpt").versions[0].pinned
                 == "good loss")
        coordinator.want("gpt", highest=3, keep=[3])
        wait_for(lambda: versions(coordinator) == [3])
        # Both gone: nothing is left.
        coordinator.want("gpt", is_gone=True)
        coordinator.want("new", is_gone=True)
        for job in "gpt", "new":
            wait_for(lambda: coordinator.of(job).is_gone)
        assert not os.listdir(agent.store / "jobs")
        assert blobs(agent) == set()
        assert not os.listdir(agent.mounts)
        assert not os.listdir(agent.run / "jobs")
        wait_for(lambda: coordinator.used_bytes == 0)
        # The same name again is another job.
        coordinator.decisions["gpt", 1] = COMMIT
        coordinator.want("gpt", highest=1, keep=[1], attempt=attempt(
            1, "IMPORT", import_dir=str(agent.where / "checkpoint")))
        wait_for(lambda: versions(coordinator) == [1])
        agent.stop()


def blobs(agent):
    return {path.name for path in (agent.store / "blobs").rglob("*")
            if path.is_file()}


def refuses_what_cannot_be_made():
    with Case() as (coordinator, agent):
        agent.start()
        coordinator.want("gpt", highest=1, attempt=attempt(
            1, "IMPORT", import_dir="/nowhere"))
        wait_for(lambda: coordinator.of("gpt").attempt.is_failed)
        failed = coordinator.of("gpt").attempt
        assert failed.number == 1 and "/nowhere" in failed.reason, failed
        # Another number: aborted by the coordinator.
        path = checkpoint(agent)
        coordinator.decisions["gpt", 2] = ABORT
        coordinator.want("gpt", highest=2, attempt=attempt(
            2, "IMPORT", import_dir=str(path)))
        wait_for(lambda: coordinator.votes)
        wait_for(lambda: not os.listdir(agent.store / "staging"))
        assert versions(coordinator) == []
        coordinator.decisions["gpt", 3] = COMMIT
        coordinator.want("gpt", highest=3, keep=[3], attempt=attempt(
            3, "IMPORT", import_dir=str(path)))
        wait_for(lambda: versions(coordinator) == [3])
        agent.stop()


def gives_up_damaged_votes():
    """What was committed and cannot be published: the coordinator is told."""
    with Case() as (coordinator, agent):
        agent.start()
        imported(coordinator, agent)
        coordinator.want("gpt", highest=2, keep=[1, 2], attempt=attempt(
            2, "RESCALE", parent=1, layout="tp=4"))
        wait_for(lambda: coordinator.votes[-1].attempt == 2)
        # Damaged while it waits for the answer; and then while nobody runs.
        manifest = agent.store / "staging/vote.gpt.2/version/manifest"
        manifest.unlink()
        coordinator.decisions["gpt", 2] = COMMIT
        wait_for(lambda: not coordinator.votes[-1].HasField("version"))
        agent.kill()
        coordinator.decisions["gpt", 2] = ABORT
        n_votes = len(coordinator.votes)
        agent.start()
        wait_for(lambda: not os.listdir(agent.store / "staging"))
        assert [(v.attempt, v.HasField("version"))
                for v in coordinator.votes[n_votes:]] == [(2, False)]
        wait_for(lambda: versions(coordinator) == [1])
        agent.stop()


def plans():
    with Case() as (coordinator, agent):
        agent.start()
        imported(coordinator, agent)

        def plan(number, to):
            coordinator.want("gpt", highest=1, keep=[1], plan=M["TargetPlan"](
                number=number, to=to))
            wait_for(lambda: coordinator.of("gpt").plan.number == number)
            return coordinator.of("gpt").plan

        said = plan(1, "tp=4")
        assert not said.is_failed and said.mesh == "dp=1,tp=4", said
        assert said.summary.n_ranks == 4 and said.summary.moved_bytes == 0
        assert said.summary.state_bytes == 4 * 256 + 2, said
        assert 0 < said.summary.peak_bytes < 1 << 20, said
        assert 0 < said.summary.predicted_s < 10, said
        said = plan(2, said.layout)
        assert said.mesh == "dp=1,tp=4", said
        for number, (to, why) in enumerate([("pp=2", "pp"), ("tp=0", "tp=0"),
                                            ("tp", "layout"), ("mesh: [", "layout"),
                                            ("nothing:tp=2", "nothing")], 3):
            said = plan(number, to)
            assert said.is_failed and why in said.reason, said
        assert versions(coordinator) == [1]
        agent.stop()


def ranks(states, pids=(0, 0), **fields):
    return [dict(rank=i, state=V["RANK_" + state], pid=pid, **fields)
            for i, (state, pid) in enumerate(zip(states, pids))]


def trainer(agent, number):
    """A process of a rank, in a group of its own."""
    env = dict(os.environ,
               RETILE_DIR=str(agent.mounts / "gpt" / "gen" / str(number)))
    return subprocess.Popen(["sleep", "600"], env=env, process_group=0)


def runs_generations():
    with Case() as (coordinator, agent):
        agent.start()
        imported(coordinator, agent)

        def want(number, state, **fields):
            coordinator.want("gpt", highest=1, keep=[1], generation=generation(
                number, state, load=1, **fields))

        want(1, "GENERATION_PREPARING")
        wait_for(lambda: coordinator.of("gpt").generation.is_prepared)
        launcher = Launcher(agent.local(), "gpt")
        wait_for(lambda: coordinator.of("gpt").has_launcher)
        wait_for(lambda: launcher.orders)
        assert launcher.order().generation == 0
        port = coordinator.of("gpt").generation.master_port
        want(1, "GENERATION_READY", master_port=port)
        wait_for(lambda: launcher.order().generation == 1)
        order = launcher.order()
        assert order.directory == str(agent.mounts / "gpt/gen/1"), order
        assert order.load == 1, order
        assert order.master_port == port and order.world_size == 2, order
        assert [(r.rank, r.local_rank, r.device, r.coords)
                for r in order.ranks] == [(0, 0, 0, "dp=0,tp=0"),
                                          (1, 1, 1, "dp=0,tp=1")], order
        processes = [trainer(agent, 1) for _ in range(2)]
        pids = [p.pid for p in processes]
        launcher.report(1, ranks(["RUNNING"] * 2, pids))
        wait_for(lambda: len(coordinator.of("gpt").generation.ranks) == 2)
        assert not coordinator.of("gpt").generation.is_clear
        # A launcher that does nothing: after five seconds the agent kills them.
        begin = time.monotonic()
        want(2, "GENERATION_PREPARING")
        wait_for(lambda: launcher.order().generation == 0)
        for process in processes:
            assert process.wait(15) == -signal.SIGKILL
        assert time.monotonic() - begin > 4

        def is_next():
            return coordinator.of("gpt").generation.number == 2
        wait_for(is_next)
        wait_for(lambda: coordinator.of("gpt").generation.is_prepared)
        clear = [s.generation for s in coordinator.history
                 if s.generation.number == 1 and s.generation.is_clear][-1]
        assert [r.state for r in clear.ranks] == [V["RANK_EXITED"]] * 2, clear
        # It ran: a launcher that comes later does not start it again.
        want(2, "GENERATION_READY")
        wait_for(lambda: launcher.order().generation == 2)
        launcher.report(2, ranks(["EXITED"] * 2, exit_code=3))
        wait_for(lambda: [r.exit_code for r in coordinator.of(
            "gpt").generation.ranks] == [3, 3])
        wait_for(lambda: coordinator.of("gpt").generation.is_clear)
        second = Launcher(agent.local(), "gpt")
        wait_for(lambda: launcher.error == grpc.StatusCode.ABORTED)
        wait_for(lambda: second.orders)
        assert second.order().generation == 0
        # The job is over: its launcher is told, its mount stays.
        coordinator.want("gpt", highest=1, keep=[1])
        target = coordinator.targets["gpt"]
        target.state = V["JOB_DONE"]
        target.revision += 1
        coordinator.queue.put(M["ToAgent"](job=target))
        wait_for(lambda: second.order().state == V["JOB_DONE"])
        second.close()
        wait_for(lambda: not coordinator.of("gpt").has_launcher)
        agent.stop()


def forwards_saves():
    with Case() as (coordinator, agent):
        agent.start()
        local = agent.local()
        wait_for(lambda: local.unary("Status").is_connected)
        coordinator.saves["gpt", 1, 10] = 7
        assert local.unary("OpenSave", job="gpt", generation=1,
                           step=10).attempt == 7
        local.unary("CloseSave", job="gpt", attempt=7, reason="removed")
        coordinator.decisions["gpt", 7] = ABORT
        assert local.unary("Vote", job="gpt", attempt=7, generation=1,
                           version=M["Version"](number=7)).decision == ABORT
        for code, why in ((grpc.StatusCode.FAILED_PRECONDITION,
                           lambda: None),
                          (grpc.StatusCode.UNAVAILABLE, coordinator.stop)):
            why()
            try:
                local.unary("OpenSave", job="gpt", generation=1, step=11)
                raise AssertionError("it was answered")
            except grpc.RpcError as error:
                assert error.code() == code, error
        wait_for(lambda: not local.unary("Status").is_connected)
        agent.stop()


def goes_on_without_a_coordinator():
    with Case() as (coordinator, agent):
        agent.start()
        imported(coordinator, agent)
        coordinator.want("gpt", highest=1, keep=[1],
                         generation=generation(1, load=1))
        wait_for(lambda: coordinator.of("gpt").generation.is_prepared)
        mounts = agent.processes()
        coordinator.stop()
        wait_for(lambda: not agent.local().unary("Status").is_connected)
        again = Coordinator(coordinator.port)
        try:
            wait_for(lambda: again.hellos)
            (status,) = again.hellos[0].jobs
            assert [v.number for v in status.versions] == [1], status
            assert status.generation.is_prepared, status
            assert status.highest == 1 and status.highest_generation == 1
            assert agent.processes() == mounts
            agent.stop()
        finally:
            again.stop()


def is_followed_after_a_kill():
    with Case() as (coordinator, agent):
        agent.start()
        imported(coordinator, agent)
        coordinator.want("gpt", highest=1, keep=[1],
                         generation=generation(1, "GENERATION_READY", load=1))
        wait_for(lambda: coordinator.of("gpt").generation.is_prepared)
        launcher = Launcher(agent.local(), "gpt")
        wait_for(lambda: launcher.order().generation == 1)
        process = trainer(agent, 1)
        launcher.report(1, ranks(["RUNNING", "EXITED"], [process.pid, 0]))
        wait_for(lambda: len(coordinator.of("gpt").generation.ranks) == 2)
        mounts = agent.processes()
        agent.kill()
        assert process.poll() is None
        agent.start()
        hello = coordinator.hellos[-1]
        (status,) = hello.jobs
        assert status.generation.is_prepared, status
        assert status.generation.ranks[0].state == V["RANK_RUNNING"], status
        assert hello.incarnation != coordinator.hellos[0].incarnation
        # Its launcher calls again, and is told to go on.
        launcher = Launcher(agent.local(), "gpt")
        launcher.report(1, ranks(["RUNNING", "EXITED"], [process.pid, 0]))
        wait_for(lambda: launcher.order().generation == 1)
        assert agent.processes() == mounts
        # It ends while nobody is there to tell: the next agent finds out.
        launcher.close()
        agent.kill()
        process.kill()
        process.wait()
        agent.start()
        launcher = Launcher(agent.local(), "gpt")
        wait_for(lambda: coordinator.of("gpt").generation.is_clear)
        assert [r.state for r in coordinator.of("gpt").generation.ranks] == [
            V["RANK_EXITED"]] * 2
        assert launcher.order().generation == 0
        assert agent.processes() == mounts
        coordinator.want("gpt", is_gone=True)
        wait_for(lambda: coordinator.of("gpt").is_gone)
        assert not agent.processes()
        agent.stop()


def killed_at(point):
    """The agent dies there, is started again, and what was wanted is so."""
    with Case() as (coordinator, agent):
        agent.start(f"{point}=crash")
        path = checkpoint(agent)
        coordinator.decisions["gpt", 1] = COMMIT
        fields = dict(highest=1, keep=[1],
                      generation=generation(1, "GENERATION_READY", load=1))
        coordinator.want("gpt", highest=1, keep=[1], attempt=attempt(
            1, "IMPORT", import_dir=str(path)))
        if point in ("agent.prepared", "agent.started", "agent.removed"):
            wait_for(lambda: versions(coordinator) == [1])
            coordinator.want("gpt", **fields)
        launcher = None
        if point == "agent.started":
            launcher = Launcher(agent.local(), "gpt")
        if point == "agent.removed":
            wait_for(lambda: coordinator.of("gpt").generation.is_prepared)
            coordinator.want("gpt", is_gone=True)
        agent.died()
        agent.start()
        if launcher:
            launcher = Launcher(agent.local(), "gpt")
        if point == "agent.removed":
            wait_for(lambda: not agent.processes()
                     and not os.listdir(agent.store / "jobs"))
        else:
            wait_for(lambda: versions(coordinator) == [1])
            coordinator.want("gpt", **fields)
            wait_for(lambda: coordinator.of("gpt").generation.is_prepared)
            assert len(agent.processes()) == 1, agent.processes()
        if launcher:  # written down, so it counts as begun, and has ended
            wait_for(lambda: coordinator.of("gpt").generation.is_clear
                     and len(coordinator.of("gpt").generation.ranks) == 2)
        assert not os.listdir(agent.store / "staging")
        retile("store", "fsck", agent.store)
        agent.stop()
        assert not agent.processes()
        assert not os.listdir(agent.mounts)


def survives_each_fault_point():
    points = [line.split()[0] for line in retile("fault", "ls").splitlines()
              if line.startswith("agent.")]
    assert len(points) >= 7, points
    for point in points:
        killed_at(point)


if __name__ == "__main__":
    run_all([registers_and_renews, the_example_has_every_default, supervises_a_mount,
             tells_of_devices_that_break, makes_versions,
             refuses_what_cannot_be_made, gives_up_damaged_votes, plans, runs_generations,
             forwards_saves, goes_on_without_a_coordinator,
             is_followed_after_a_kill, survives_each_fault_point])
