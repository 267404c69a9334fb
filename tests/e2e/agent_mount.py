#!/usr/bin/env python3
"""retile-worker with retile-fuse: generations shown, saves decided, kills.

    agent_mount.py [--user] [CASE]...
"""
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading

from safetensors.numpy import load_file, save_file

from agent import generation, imported, ranks, trainer, versions
from agent_lib import (ABORT, BIN, COMMIT, Case, Launcher, V, run_all,
                       wait_for)
from mounted import become_user, fails

FUSE = BIN / "retile-fuse"
READ_ONLY = (errno.EROFS, errno.EACCES)  # root's, another user's


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


def n_mounts(path):
    """How often something is mounted there."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return [line.split()[4].replace("\\040", " ")
                for line in file].count(str(path))


def take_away(agent, pids):
    """The mount's processes die, and it goes, as its agent would do it."""
    point = agent.mounts / "gpt"
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not os.path.lexists(point / ".retile" / "status"))

    def is_bare():
        for words in ["umount", "-l"], ["fusermount3", "-u", "-z"]:
            if n_mounts(point) == 0:
                return True
            subprocess.run([*words, point], stderr=subprocess.DEVNULL,
                           check=False)
        return False
    wait_for(is_bare)


def a_bare_mountpoint_takes_nothing():
    """Who makes the directories of a save where no mount is must not believe
    that it has saved."""
    with Case(fuse=FUSE) as (coordinator, agent):
        agent.start()
        imported(coordinator, agent)
        coordinator.want("gpt", highest=2, keep=[1, 2],
                         generation=generation(1, "GENERATION_READY", load=1,
                                               next_step=1))
        wait_for(prepared(coordinator, 1))
        point = agent.mounts / "gpt"
        here = point / "gen" / "1"
        for is_restarted in (False, True):
            mounts = agent.processes()
            if is_restarted:
                agent.kill()  # the next one finds what it made
            else:
                os.kill(agent.process.pid, signal.SIGSTOP)
            take_away(agent, mounts)
            fails("a save where no mount is", READ_ONLY, os.makedirs,
                  here / "save" / "10.tmp" / "ranks" / "000")
            fails("a file beside it", READ_ONLY, (point / "x").write_text, "x")
            if is_restarted:
                agent.start()
            else:
                os.kill(agent.process.pid, signal.SIGCONT)
            wait_for((here / "load" / "ranks" / "000").exists)
            assert n_mounts(agent.mounts) == (os.geteuid() == 0)
            assert n_mounts(point) == 1
        coordinator.saves["gpt", 1, 10] = 2
        coordinator.decisions["gpt", 2] = COMMIT
        save(here / "save", 10, 1)
        wait_for(lambda: versions(coordinator) == [1, 2])
        agent.stop()
        assert n_mounts(agent.mounts) == 0 and not os.listdir(agent.mounts)


def it_takes_nothing_after_the_agent():
    """One that is stopped leaves no place for what its ranks save."""
    with Case(fuse=FUSE) as (coordinator, agent):
        agent.start()
        imported(coordinator, agent)
        coordinator.want("gpt", highest=1, keep=[1],
                         generation=generation(1, "GENERATION_READY", load=1))
        wait_for(prepared(coordinator, 1))
        launcher = Launcher(agent.local(), "gpt")
        wait_for(lambda: launcher.order().generation == 1)
        process = trainer(agent, 1)
        try:
            launcher.report(1, ranks(["RUNNING", "EXITED"], [process.pid, 0]))
            wait_for(lambda: len(coordinator.of("gpt").generation.ranks) == 2)
            agent.stop()
            here = agent.mounts / "gpt" / "gen" / "1"
            assert n_mounts(agent.mounts / "gpt") == 0
            fails("a save without an agent", READ_ONLY, os.makedirs,
                  here / "save" / "10.tmp" / "ranks" / "000")
            agent.start()
            wait_for((here / "load" / "ranks" / "000").exists)
        finally:
            process.kill()
            process.wait()
        launcher = Launcher(agent.local(), "gpt")
        wait_for(lambda: coordinator.of("gpt").generation.is_clear)
        agent.stop()
        assert n_mounts(agent.mounts) == 0 and not os.listdir(agent.mounts)


if __name__ == "__main__":
    become_user()
    sys.argv = [word for word in sys.argv if word != "--user"]
    run_all([saves_are_decided, a_rename_survives_the_agent,
             a_bare_mountpoint_takes_nothing,
             it_takes_nothing_after_the_agent])
