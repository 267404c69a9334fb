#!/usr/bin/env python3
"""An agent of root's whose training processes are another user's: those train,
save and load, nobody else comes near, and root's processes are not theirs to end.

    agent_user.py [CASE]...
"""
import errno
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

from agent import generation, ranks
from agent_lib import BIN, Case, Launcher, M, run_all, wait_for
from cluster_lab import Cluster
from mounted import NOBODY, check, skip

OTHER = NOBODY - 1
STEPS = 150
USER = ["--user", str(NOBODY)]


def as_user(uid, *words, **more):
    return subprocess.Popen(["setpriv", "--reuid", str(uid), "--regid", str(uid),
                             "--clear-groups", *map(str, words)], **more)


def may(uid, what, *args):
    """0, or the errno with which @what fails for user @uid."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            what(*map(str, args))
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def connect(path):
    socket.socket(socket.AF_UNIX).connect(path)


def trains_as_its_user():
    cluster = Cluster(120, agent_options=USER)
    try:
        cluster.path.chmod(0o711)
        theirs = cluster.path / "theirs"
        theirs.mkdir()
        os.chown(theirs, NOBODY, NOBODY)
        cluster.trace_path = theirs / "trace"
        cluster.submit()
        launch = cluster.launch_toy(STEPS, every=5, prefix=[
            "setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY),
            "--clear-groups"])
        cluster.wait_step(12)
        generation_number = cluster.get().generation.number
        who_may_what(cluster, cluster.path / "agent", cluster.mount())
        cluster.change("Jobs/Rescale", job="toy", to="dp=1,tp=3")
        cluster.wait_generation(generation_number)
        # What trains is not disturbed by an agent that is followed by another.
        step = cluster.last_step()
        cluster.agent.restart(None)
        cluster.wait_step(step + 6)
        cluster.until("the agent is back", lambda: may(
            NOBODY, connect, cluster.path / "agent/agent.sock") == 0)
        cluster.wait_state("DONE")
        check(launch.wait(30) == 0, "launch", launch.returncode)
        loads = cluster.check_trace(STEPS)
        check(any(version != "0" for found in loads.values()
                  for version in found), "nothing was loaded", loads)
        cluster.check_saves()
        cluster.agent.stop()
        check(not (cluster.path / "agent/agent.sock").exists(), "a socket is left")
        cluster.agent.stop = lambda: None
        cluster.close()
    except BaseException:
        print(cluster.tell(), file=sys.stderr)
        raise


def who_may_what(cluster, run, mount):
    sock = run / "agent.sock"
    st = os.stat(sock)
    check((st.st_uid, st.st_mode & 0o777) == (NOBODY, 0o600), "socket", st)
    st = os.stat(mount)
    check((st.st_uid, st.st_gid, st.st_mode & 0o777) ==
          (NOBODY, NOBODY, 0o500), "mount", st)
    for uid, what, path, expected in (
            (NOBODY, connect, sock, 0), (OTHER, connect, sock, errno.EACCES),
            (NOBODY, os.listdir, mount, 0),
            (OTHER, os.listdir, mount, errno.EACCES),
            (OTHER, os.stat, mount / "current", errno.EACCES),
            (NOBODY, os.listdir, run / "jobs", errno.EACCES),
            (NOBODY, os.listdir, run / "own", errno.EACCES),
            (NOBODY, os.listdir, run, errno.EACCES),
            (NOBODY, os.listdir, run / "mnt", errno.EACCES),
            (NOBODY, os.mkdir, run / "mnt" / "x", errno.EROFS),
            (NOBODY, os.listdir, cluster.store, errno.EACCES)):
        found = may(uid, what, path)
        check(found == expected, f"{what.__name__}({path}) of {uid}",
              errno.errorcode.get(found, found))


def its_user_ends_no_other_process():
    """Whatever it says on the socket."""
    with Case(options=["--slots", "4", *USER]) as (coordinator, agent):
        ours = subprocess.Popen(["sleep", "600"], process_group=0)
        theirs = as_user(NOBODY, "sleep", "600", process_group=0)
        try:
            agent.start()
            report = M["MountReport"](job="other", pid=ours.pid, generation=1)
            call = agent.local().stream("Mount", iter([report]))
            wait_for(lambda: agent.local().unary("Status").jobs)
            (job,) = agent.local().unary("Status").jobs
            assert job.mount_pid == 0, job
            call.cancel()
            coordinator.want("gpt", layout="gpt2:tp=2",
                             generation=generation(1, "GENERATION_READY"))
            wait_for(lambda: coordinator.of("gpt").generation.is_prepared)
            launcher = Launcher(agent.local(), "gpt")
            wait_for(lambda: launcher.order().generation == 1)
            launcher.report(1, ranks(["RUNNING"] * 2, [ours.pid, theirs.pid]))
            wait_for(lambda: len(coordinator.of("gpt").generation.ranks) == 2)
            launcher.close()
            coordinator.want("gpt", layout="gpt2:tp=2", generation=generation(2))
            wait_for(lambda: coordinator.of("gpt").generation.number == 2)
            assert theirs.wait(10) == -9, theirs
            assert ours.poll() is None, ours
            agent.stop()
        finally:
            for process in ours, theirs:
                process.kill()
                process.wait()


def its_user_poses_as_no_mount():
    """What is called like a mount, and is not ours, is none."""
    place = pathlib.Path(tempfile.mkdtemp())
    with Case(options=["--slots", "4", *USER]) as (coordinator, agent):
        program = place / "fake-mount"
        program.write_text("import time\ntime.sleep(600)\n")
        place.chmod(0o755)
        poser = as_user(NOBODY, sys.executable, program, agent.mounts / "gpt")
        try:
            wait_for(lambda: str(program) in pathlib.Path(
                f"/proc/{poser.pid}/cmdline").read_text())
            agent.start()
            coordinator.want("gpt", layout="gpt2:tp=2", generation=generation(1))
            wait_for(lambda: coordinator.of("gpt").generation.is_prepared, 15)
            assert poser.poll() is None, poser
            agent.stop()
        finally:
            poser.kill()
            poser.wait()
            shutil.rmtree(place)


def says_what_is_wrong_with_a_user():
    words = [BIN / "retile-worker", "--store", "/nowhere/store", "--run",
             "/nowhere/run", "--slots", "1", "--user"]

    def refusal(uid, user):
        process = as_user(uid, *words, user, stderr=subprocess.PIPE, text=True)
        text = process.communicate(timeout=20)[1]
        assert process.returncode != 0, text
        return process.returncode, text
    for uid, user, why in ((0, "no-such-user", "is no user's name"),
                           (0, "4294967295", "is no user's number"),
                           (NOBODY, "root", "only an agent of root's")):
        status, text = refusal(uid, user)
        assert status == 2 and why in text and "user" in text, text
    # Its own user is as none: it fails for another reason.
    assert "/nowhere/run" in refusal(NOBODY, NOBODY)[1]
    # RUN must be ours alone.
    with Case(options=["--slots", "1", *USER]) as (_, agent):
        agent.run.mkdir()
        agent.run.chmod(0o777)
        agent.start(wait=False)
        assert agent.process.wait(20) == 1
        assert "mode 0700 or 0711, not 0777" in agent.log.read_text()
        # And without a user again it is closed.
        agent.run.chmod(0o711)
        agent.args = agent.args[:-2]
        agent.start()
        assert agent.run.stat().st_mode & 0o777 == 0o700
        assert agent.mounts.stat().st_mode & 0o777 == 0o700
        agent.stop()


if __name__ == "__main__":
    if os.geteuid() != 0:
        skip("only root's agent serves another user")
    run_all([trains_as_its_user, its_user_ends_no_other_process,
             its_user_poses_as_no_mount, says_what_is_wrong_with_a_user])
