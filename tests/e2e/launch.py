#!/usr/bin/env python3
"""`retile launch` with an agent that this script plays: processes, output,
signals, ends.

    launch.py [NAME...]     only the tests whose name has NAME in it
"""
import concurrent.futures
import os
import pathlib
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time

import grpc

import retile_proto as proto

RETILE = os.path.join(os.environ["RETILE_BIN"], "retile")
WAIT_S = 60  # for anything at all; nothing here takes that long
RUNNING = proto.value("JobState", "JOB_RUNNING")
DONE = proto.value("JobState", "JOB_DONE")
FAILED = proto.value("JobState", "JOB_FAILED")
EXITED = proto.value("RankState", "RANK_EXITED")
RANK_RUNNING = proto.value("RankState", "RANK_RUNNING")


def check(is_so, *what):
    if not is_so:
        raise AssertionError(" ".join(map(str, what)))


def until(condition, what):
    """What @condition gives as soon as that is true."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"never: {what}")


class Agent:
    """Plays the agent of one job: orders go out, the newest report is kept."""

    def __init__(self, path="agent.sock"):
        self.path = path
        self.lock = threading.Condition()
        self.order = None     # given to each new call
        self.refusal = None   # (code, text) of each new call
        self.calls = []       # queues of orders, one per open call
        self.report = None
        self.n_calls = 0
        self.server = None
        self.start()

    def start(self):
        handler = grpc.stream_stream_rpc_method_handler(
            self.launch,
            request_deserializer=proto.kind("LaunchReport").FromString,
            response_serializer=lambda m: m.SerializeToString())
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers((
            grpc.method_handlers_generic_handler("retile.v1.Local",
                                                 {"Launch": handler}),))
        check(self.server.add_insecure_port(f"unix:{self.path}") != 0)
        self.server.start()

    def stop(self):
        with self.lock:
            for orders in self.calls:
                orders.put(None)
        self.server.stop(0).wait()
        self.server = None

    def launch(self, reports, context):
        orders = queue.Queue()
        with self.lock:
            self.n_calls += 1
            if self.refusal is not None:
                context.abort(*self.refusal)
            self.calls.append(orders)
            if self.order is not None:
                orders.put(self.order)
        threading.Thread(target=self.read, args=(reports, orders),
                         daemon=True).start()
        while (order := orders.get()) is not None:
            yield order

    def read(self, reports, orders):
        try:
            for report in reports:
                with self.lock:
                    self.report = report
        except grpc.RpcError:
            pass
        except Exception:  # pylint: disable=broad-except
            pass  # grpcio raises bare ones when a call is cut off
        orders.put(None)

    def tell(self, order):
        with self.lock:
            self.order = order
            for orders in self.calls:
                orders.put(order)

    def run(self, generation, n=2, kind="cpu", first=0):
        ranks = [proto.message("LaunchRank", rank=first + i, local_rank=i,
                               device=i, device_kind=kind,
                               coords=f"dp={first + i}")
                 for i in reversed(range(n))]
        self.tell(proto.message(
            "LaunchOrder", state=RUNNING, generation=generation,
            directory=f"/mnt/gen/{generation}", mesh=f"dp={first + n}",
            world_size=first + n, master_addr="127.0.0.1", master_port=29500,
            ranks=ranks))

    def revoke(self):
        self.tell(proto.message("LaunchOrder", state=RUNNING))

    def end(self, state=DONE, reason=""):
        self.tell(proto.message("LaunchOrder", state=state, reason=reason))

    def ranks(self, generation):
        """{rank: status} as reported; None before."""
        with self.lock:
            if self.report is None or self.report.generation != generation:
                return None
            return {r.rank: r for r in self.report.ranks}

    def wait_state(self, generation, state):
        def all_are():
            ranks = self.ranks(generation)
            return ranks if ranks and all(
                r.state == state for r in ranks.values()) else None

        return until(all_are, f"generation {generation} is in state {state}")

    def wait_running(self, generation):
        return self.wait_state(generation, RANK_RUNNING)

    def wait_ended(self, generation):
        return self.wait_state(generation, EXITED)


class Launch:
    """A running `retile launch`."""

    def __init__(self, agent, script, *options, stdout=None, args=()):
        words = args if script is None else ["sh", "-c", script]
        self.out = open("out", "wb") if stdout is None else stdout
        self.err = open("err", "wb")
        self.process = subprocess.Popen(
            [RETILE, "launch", "gpt", "--agent", f"unix:{agent.path}", *options,
             "--", *words],
            stdin=subprocess.DEVNULL, stdout=self.out, stderr=self.err)

    def wait(self, code):
        found = self.process.wait(WAIT_S)
        check(found == code, "exit", found, "not", code, self.errors())

    def launcher_pid(self):
        children = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return int(pathlib.Path(children).read_text().split()[0])

    def output(self):
        return pathlib.Path("out").read_bytes()

    def errors(self):
        return pathlib.Path("err").read_text(errors="replace")


def processes(mark):
    """Processes whose command line has @mark in it."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if mark.encode() in words and b"launch\0" not in words:
            found.append(int(path.parts[2]))
    return found


def wait_gone(mark):
    until(lambda: not processes(mark), f"{mark} is gone")


def test_each_rank_is_started_with_its_place(agent):
    job = Launch(agent, 'echo "$RANK $LOCAL_RANK $WORLD_SIZE '
                 '$LOCAL_WORLD_SIZE $MASTER_ADDR:$MASTER_PORT $RETILE_DIR '
                 '$RETILE_GENERATION $RETILE_MESH $RETILE_COORDS $RETILE_JOB '
                 '$RETILE_DEVICE $CUDA_VISIBLE_DEVICES"; pwd >&2')
    agent.run(3, n=2, kind="cuda", first=4)
    ranks = agent.wait_ended(3)
    check(all(r.exit_code == 0 and r.signal == 0 for r in ranks.values()))
    agent.end()
    job.wait(0)
    check(sorted(job.output().splitlines()) == [
        b"[%d] %d %d 6 2 127.0.0.1:29500 /mnt/gen/3 3 dp=6 dp=%d gpt %d %d" %
        (4 + i, 4 + i, i, 4 + i, i, i) for i in range(2)], job.output())
    check(f"[4] {os.getcwd()}\n" in job.errors(), job.errors())
    check(agent.report.pid == job.process.pid, agent.report.pid)


def test_ranks_are_started_in_order(agent):
    job = Launch(agent, "exec sleep 600")
    agent.run(1, n=6)
    ranks = agent.wait_running(1)
    pids = [ranks[i].pid for i in range(6)]
    check(pids == sorted(pids) or pids[0] > pids[-1], pids)  # or wrapped
    agent.end()
    job.wait(0)


def test_how_a_rank_ended_is_reported_at_once(agent):
    job = Launch(agent, 'case $RANK in 0) exec sleep 600;; 1) exit 7;; '
                 '2) kill -SEGV $$;; esac')
    agent.run(1, n=3)
    ranks = until(lambda: (r := agent.ranks(1)) and r[1].state == EXITED and
                  r[2].state == EXITED and r, "two have ended")
    check(ranks[0].state == RANK_RUNNING and ranks[1].exit_code == 7 and
          ranks[2].signal == signal.SIGSEGV, ranks)
    agent.revoke()
    agent.wait_ended(1)
    agent.end(FAILED, "too many restarts")
    job.wait(1)
    check("job gpt has failed: too many restarts" in job.errors(), job.errors())
    check("rank 1 exited with 7" in job.errors(), job.errors())


def test_a_command_that_is_not_there_is_told_at_once(agent):
    pathlib.Path("no-program").write_text("#!/bin/sh\n")
    for name in ("no-such-command", "./no-such-command", "./no-program", "/",
                 ""):
        job = Launch(agent, None, args=[name])
        job.wait(3)
        check(f"retile: launch: cannot run {name}: " in job.errors(),
              job.errors())
    check(agent.report is None, "it has called its agent")


def test_a_command_that_is_gone_later_is_127(agent):
    program = pathlib.Path("program")
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    job = Launch(agent, None, args=["./program"])
    until(lambda: agent.report is not None, "the launcher calls")
    program.unlink()
    agent.run(1, n=1)
    check(agent.wait_ended(1)[0].exit_code == 127)
    job.process.terminate()
    job.wait(128 + signal.SIGTERM)
    check("[0] retile: launch: cannot run ./program: No such file" in
          job.errors(), job.errors())


def test_a_revoked_generation_gets_term_and_two_seconds(agent):
    job = Launch(agent, 'trap "echo saved; exit 0" TERM; echo ready; '
                 'while :; do sleep 0.05; done')
    agent.run(1)
    until(lambda: job.output().count(b"ready") == 2, "the traps are set")
    agent.revoke()
    agent.wait_ended(1)
    agent.run(2)
    agent.wait_running(2)
    agent.end()
    job.wait(0)
    check(b"[0] saved\n" in job.output(), job.output())


def test_who_ignores_term_is_killed(agent):
    job = Launch(agent, 'trap "" TERM; echo $$; while :; do sleep 0.05; done')
    agent.run(1)
    agent.wait_running(1)
    until(lambda: job.output().count(b"\n") == 2, "the traps are set")
    agent.revoke()
    ranks = agent.wait_ended(1)
    check(all(r.signal == signal.SIGKILL for r in ranks.values()), ranks)
    agent.end()
    job.wait(0)


def test_another_generation_kills_without_grace(agent):
    job = Launch(agent, 'trap "echo asked" TERM; echo ready; '
                 'while :; do sleep 0.05; done')
    agent.run(1)
    until(lambda: job.output().count(b"ready") == 2, "the traps are set")
    agent.run(2)
    until(lambda: job.output().count(b"ready") == 4, "the next one runs")
    check(b"asked" not in job.output(), job.output())
    agent.end()
    job.wait(0)


def test_an_older_generation_is_never_started(agent):
    job = Launch(agent, "echo $RETILE_GENERATION; exec sleep 600")
    agent.run(5)
    until(lambda: job.output().count(b"5") == 2, "generation 5 speaks")
    agent.run(4)
    agent.wait_ended(5)
    agent.run(5)
    agent.run(6)
    until(lambda: job.output().count(b"6") == 2, "generation 6 speaks")
    agent.end()
    job.wait(0)
    check(sorted(set(job.output().split())) == [b"5", b"6", b"[0]", b"[1]"],
          job.output())


def test_grandchildren_end_with_their_rank(agent):
    mark = f"600.125{os.getpid()}"
    job = Launch(agent, f'sleep {mark} & setsid sleep {mark} & '
                 f'(setsid sleep {mark} &) ; sleep 0.2; exit 0')
    agent.run(1)
    agent.wait_ended(1)  # not before they are gone
    check(not processes(mark), processes(mark))
    agent.end()
    job.wait(0)


def killed_leaves_nothing(agent, which):
    mark = f"600.25{os.getpid()}" if which == "guard" else \
        f"600.5{os.getpid()}"
    job = Launch(agent, f'trap "" TERM; sleep {mark} & setsid sleep {mark} & '
                 f'(setsid sleep {mark} &) ; wait')
    agent.run(1)
    agent.wait_running(1)
    until(lambda: len(processes(mark)) >= 6, "grandchildren")
    pid = job.process.pid if which == "guard" else job.launcher_pid()
    os.kill(pid, signal.SIGKILL)
    job.wait(-signal.SIGKILL if which == "guard" else 1)
    wait_gone(mark)


def test_a_killed_guard_leaves_no_process(agent):
    killed_leaves_nothing(agent, "guard")


def test_a_killed_launcher_leaves_no_process(agent):
    killed_leaves_nothing(agent, "launcher")


def test_signals_end_it(agent):
    for signo in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        job = Launch(agent, 'trap "exit 9" TERM; echo ready; '
                     'while :; do sleep 0.05; done')
        generation = int(signo)
        agent.run(generation)
        until(lambda j=job: j.output().count(b"ready") == 2, "traps")
        job.process.send_signal(signo)
        job.wait(128 + signo)
        ranks = until(lambda g=generation: (r := agent.ranks(g)) and all(
            s.state == EXITED for s in r.values()) and r, "it reports")
        check(all(r.exit_code == 9 for r in ranks.values()), ranks)


def test_a_second_signal_does_not_wait(agent):
    job = Launch(agent, 'trap "echo asked" TERM; echo ready; '
                 'while :; do sleep 0.05; done')
    agent.run(1, n=1)
    until(lambda: b"ready" in job.output(), "trap")
    job.process.send_signal(signal.SIGTERM)
    until(lambda: b"asked" in job.output(), "asked")
    job.process.send_signal(signal.SIGTERM)
    job.wait(128 + signal.SIGTERM)


def test_it_outlives_its_agent(agent):
    job = Launch(agent, "echo started; exec sleep 600")
    agent.run(1)
    pids = {r.pid for r in agent.wait_running(1).values()}
    until(lambda: job.output().count(b"started") == 2, "both have started")
    agent.stop()
    until(lambda: "waiting for the agent" in job.errors(), "it says so")
    agent.report = None
    agent.start()
    check({r.pid for r in agent.wait_running(1).values()} == pids)
    agent.end()
    job.wait(0)
    check(job.output().count(b"started") == 2, job.output())


def test_an_agent_that_knows_nothing_yet_stops_nothing(agent):
    job = Launch(agent, "echo started; exec sleep 600")
    agent.run(1)
    until(lambda: job.output().count(b"started") == 2, "both have started")
    agent.stop()
    agent.report = None
    agent.order = proto.message("LaunchOrder")
    agent.start()
    agent.wait_running(1)
    agent.run(1)
    agent.run(2)
    until(lambda: job.output().count(b"started") == 4, "the next ones, too")
    agent.end()
    job.wait(0)
    check(job.output().count(b"started") == 4, job.output())


def test_without_an_agent_it_gives_up_when_told(agent):
    mark = f"600.75{os.getpid()}"
    agent.stop()
    job = Launch(agent, f"sleep {mark}", "--timeout", "1")
    job.wait(4)
    check("no agent for 1 s" in job.errors(), job.errors())
    agent.start()
    job = Launch(agent, f"sleep {mark}", "--timeout", "1")
    agent.run(1)
    agent.wait_running(1)
    agent.stop()
    job.wait(4)
    wait_gone(mark)


def test_another_launcher_takes_over(agent):
    mark = f"600.875{os.getpid()}"
    job = Launch(agent, f"sleep {mark}")
    agent.run(1)
    agent.wait_running(1)
    agent.refusal = (grpc.StatusCode.ABORTED, "another launcher has come")
    with agent.lock:
        for orders in agent.calls:
            orders.put(None)  # ends with OK; the next call is refused
    job.wait(1)
    check("another launcher has come" in job.errors(), job.errors())
    wait_gone(mark)


def test_a_launcher_that_was_stopped_starts_nothing_old(agent):
    mark = f"600.76{os.getpid()}"
    job = Launch(agent, f"exec sleep {mark}")
    until(lambda: agent.report is not None, "the launcher calls")
    launcher = job.launcher_pid()
    os.kill(launcher, signal.SIGSTOP)
    agent.run(1)
    time.sleep(4.5)  # longer than an agent waits, to the launcher's mind
    with agent.lock:  # what the next call is told
        agent.order = proto.message("LaunchOrder", state=RUNNING)
    calls = agent.n_calls
    os.kill(launcher, signal.SIGCONT)
    until(lambda: agent.n_calls > calls, "it calls again")
    check(not processes(mark), "an old generation was started")
    agent.run(2)
    agent.wait_running(2)
    check("was stopped for" in job.errors(), job.errors())
    check("generation 1:" not in job.errors(), job.errors())
    agent.end()
    job.wait(0)
    wait_gone(mark)


def test_many_generations_leave_nothing(agent):
    job = Launch(agent, "true")
    pid = None
    counts = []
    for generation in range(1, 101):
        agent.run(generation)
        agent.wait_ended(generation)
        pid = pid or job.launcher_pid()
        if generation in (10, 100):
            children = pathlib.Path(f"/proc/{pid}/task/{pid}/children")
            check(children.read_text() == "", "children are left")
            counts.append(len(os.listdir(f"/proc/{pid}/fd")))
    check(counts[1] <= counts[0], "descriptors:", counts)
    agent.end()
    job.wait(0)


def test_long_lines_stay_whole(agent):
    job = Launch(agent, 'i=0; while [ $i -lt 20 ]; do '
                 'head -c 102400 /dev/zero | tr "\\0" $RANK; echo; '
                 'i=$((i+1)); done')
    agent.run(1, n=4)
    agent.wait_ended(1)
    agent.end()
    job.wait(0)
    lines = job.output().splitlines()
    check(len(lines) == 80, len(lines))
    for line in lines:
        rank = line[1:2]
        check(line == b"[" + rank + b"] " + rank * 102400, line[:20], len(line))


def test_a_rank_that_floods_stops_no_other(agent):
    reader, writer = os.pipe()
    job = Launch(agent, 'if [ $RANK = 0 ]; then yes; else i=0; '
                 'while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done; fi',
                 stdout=writer)
    os.close(writer)
    seen, wrong = set(), set()

    def read():
        with os.fdopen(reader, "rb") as lines:
            for line in lines:
                if line.startswith(b"[1] line "):
                    seen.add(line)
                elif line not in (b"[0] y\n", b"[0] \n"):
                    wrong.add(line)

    thread = threading.Thread(target=read)
    thread.start()
    agent.run(1, n=2)
    until(lambda: len(seen) == 50, "the other one is heard")
    agent.revoke()
    agent.wait_ended(1)
    agent.end()
    job.wait(0)
    thread.join(WAIT_S)
    check(not wrong, wrong)


def test_nobody_reading_stops_no_order(agent):
    reader, writer = os.pipe()
    job = Launch(agent, 'trap "" PIPE; yes', stdout=writer)
    os.close(writer)
    agent.run(1, n=2)
    agent.wait_running(1)
    time.sleep(0.5)  # every buffer on the way is full
    agent.revoke()
    agent.wait_ended(1)
    agent.end()
    job.wait(0)
    os.close(reader)


def test_a_closed_stdout_ends_no_rank(agent):
    reader, writer = os.pipe()
    job = Launch(agent, 'i=0; while [ $i -lt 2000 ]; do echo $i; '
                 'i=$((i+1)); done', stdout=writer)
    os.close(writer)
    os.close(reader)
    agent.run(1)
    check(all(r.exit_code == 0 for r in agent.wait_ended(1).values()))
    agent.end()
    job.wait(0)
    check("bytes of output were not taken" in job.errors(), job.errors())


def test_bytes_and_unfinished_lines_pass(agent):
    job = Launch(agent, "printf 'a\\000\\377b\\n'; printf '50%%'; exec sleep 600")
    agent.run(1, n=1)
    until(lambda: job.output() == b"[0] a\0\xffb\n[0] 50%", "it is shown")
    agent.end()
    job.wait(0)
    check(job.output() == b"[0] a\0\xffb\n[0] 50%\n", job.output())


def test_nothing_is_inherited(agent):
    held = os.open("/dev/null", os.O_RDONLY)
    job = Launch(agent, 'ls -l /proc/self/fd | sed 1d | wc -l; '
                 'grep -E "Sig(Blk|Ign)" /proc/self/status; '
                 'ps -o pgid= -p $$ | tr -d " "; echo $$')
    agent.run(1, n=1)
    agent.wait_ended(1)
    agent.end()
    job.wait(0)
    os.close(held)
    lines = [line.split(b"] ")[1] for line in job.output().splitlines()]
    check(lines[0] == b"4", lines)  # 0, 1, 2, and ls's own
    check(all(line.endswith(b"0" * 16) for line in lines[1:3]), lines)
    check(lines[3] == lines[4], lines)


def main():
    wanted = sys.argv[1:]
    tests = [(name, test) for name, test in globals().items()
             if name.startswith("test_") and
             (not wanted or any(part in name for part in wanted))]
    for name, test in tests:
        with tempfile.TemporaryDirectory() as top:
            os.chdir(top)
            agent = Agent()
            started = []
            original = subprocess.Popen

            def popen(*args, _o=original, _s=started, **more):
                _s.append(_o(*args, **more))
                return _s[-1]

            subprocess.Popen = popen
            try:
                test(agent)
            except BaseException:
                print("FAIL", name, flush=True)
                for file in ("out", "err"):
                    if os.path.exists(file):
                        print(f"--- {file}:",
                              pathlib.Path(file).read_bytes()[-2000:])
                raise
            finally:
                subprocess.Popen = original
                for process in started:
                    if process.poll() is None:
                        process.terminate()
                        process.wait(WAIT_S)
                if agent.server is not None:
                    agent.stop()
                os.chdir("/")
        print("ok", name, flush=True)


if __name__ == "__main__":
    main()
