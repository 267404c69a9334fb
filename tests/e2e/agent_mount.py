#!/usr/bin/env python3
"""retile-worker with retile-fuse: generations shown, saves decided, kills."""
import errno
import os
import shutil
import signal
import threading

from safetensors.numpy import load_file, save_file

from agent import generation, imported, versions
from agent_lib import ABORT, BIN, COMMIT, Case, V, run_all, wait_for

FUSE = BIN / "retile-fuse"


def prepared(coordinator, number):
    def is_prepared():
        status = coordinator.of("gpt").generation
        return status.number == number and status.is_prepared
    return is_prepared


def save(folder, step, add, n_ranks=2):
    """What ranks do: files, then the rename that commits."""
    tmp = folder / f"{step}.tmp"
    tmp.mkdir()
    for rank in range(n_ranks):
        place = tmp / "ranks" / f"{rank:03d}"
        place.mkdir(parents=True)
        old = load_file(folder.parent / "load" / "ranks" / f"{rank:03d}" /
                        "model.safetensors")
        save_file({name: value + add for name, value in old.items()},
                  place / "model.safetensors")
    (tmp / "retile.json").write_text('{"step": %d, "samples": 0}' % step)
    os.rename(tmp, folder / str(step))


def saves_are_decided():
    with Case(fuse=FUSE) as (coordinator, agent):
        agent.start()
        imported(coordinator, agent)
        coordinator.want("gpt", highest=2, keep=[1, 2],
                         generation=generation(1, "GENERATION_READY", load=1,
                                               next_step=1))
        wait_for(prepared(coordinator, 1))
        here = agent.mounts / "gpt" / "gen" / "1"
        ranks = sorted(os.listdir(here / "load" / "ranks"))
        assert ranks == ["000", "001"], ranks
        # Refused by the coordinator: nothing is made.
        coordinator.saves["gpt", 1, 10] = 2
        coordinator.decisions["gpt", 2] = ABORT
        try:
            save(here / "save", 10, 1)
            raise AssertionError("an aborted save was taken")
        except OSError as error:
            assert error.errno in (errno.ESTALE, errno.EROFS, errno.EIO,
                                   errno.ECANCELED, errno.EBUSY), error
        assert versions(coordinator) == [1]
        shutil.rmtree(here / "save" / "10.tmp")
        coordinator.saves["gpt", 1, 20] = 3
        coordinator.decisions["gpt", 3] = COMMIT
        save(here / "save", 20, 1)
        wait_for(lambda: versions(coordinator) == [1, 3])
        three = coordinator.of("gpt").versions[1]
        assert three.step == 20 and three.kind == V["ATTEMPT_SAVE"], three
        vote = coordinator.votes[-1]
        assert vote.generation == 1 and vote.version.number == 3, vote
        # The next generation loads it; the older one can save no more.
        coordinator.want("gpt", highest=3, keep=[1, 3],
                         generation=generation(2, "GENERATION_READY", load=3,
                                               next_step=21))
        wait_for(prepared(coordinator, 2))
        new = agent.mounts / "gpt" / "gen" / "2"
        value = load_file(new / "load" / "ranks" / "000" / "model.safetensors")
        assert value["w0"][0][0] == 1.0, value
        try:
            (here / "save" / "30.tmp").mkdir()
            raise AssertionError("a revoked generation saves")
        except OSError as error:
            assert error.errno == errno.EROFS, error
        coordinator.want("gpt", is_gone=True)
        wait_for(lambda: coordinator.of("gpt").is_gone)
        assert not agent.processes() and not os.listdir(agent.mounts)
        agent.stop()


def a_rename_survives_the_agent():
    with Case(fuse=FUSE) as (coordinator, agent):
        agent.start()
        imported(coordinator, agent)
        coordinator.want("gpt", highest=2, keep=[1, 2],
                         generation=generation(1, "GENERATION_READY", load=1,
                                               next_step=1))
        wait_for(prepared(coordinator, 1))
        here = agent.mounts / "gpt" / "gen" / "1"
        coordinator.saves["gpt", 1, 10] = 2
        saver = threading.Thread(target=save, args=(here / "save", 10, 1))
        saver.start()
        wait_for(lambda: any(v.attempt == 2 for v in coordinator.votes))
        mounts = agent.processes()
        agent.kill()
        agent.start()
        coordinator.decisions["gpt", 2] = COMMIT
        saver.join(30)
        assert not saver.is_alive()
        wait_for(lambda: versions(coordinator) == [1, 2])
        assert agent.processes() == mounts
        # The mount dies with its holder: another one shows the same.
        for pid in mounts:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: agent.processes() and not
                 set(agent.processes()) & set(mounts))
        wait_for(lambda: not coordinator.of("gpt").trouble)
        wait_for(lambda: os.path.exists(here / "load" / "ranks" / "000"))
        agent.stop()
        assert not agent.processes() and not os.listdir(agent.mounts)


if __name__ == "__main__":
    run_all([saves_are_decided, a_rename_survives_the_agent])
