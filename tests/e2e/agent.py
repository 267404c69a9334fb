#!/usr/bin/env python3
"""retile-worker against a coordinator and a mount that the test plays."""
import os
import signal
import subprocess
import sys
import time

import grpc

from agent_lib import (ABORT, COMMIT, Case, Launcher, M, V, retile, run_all,
                       wait_for)


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
        agent.stop()
        assert not agent.processes()
        assert not list(agent.mounts.iterdir())


if __name__ == "__main__":
    run_all([registers_and_renews, supervises_a_mount])
