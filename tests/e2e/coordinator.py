#!/usr/bin/env python3
"""retile-coordinator, driven by a client that is built from reflection alone and
by agents that are played.

    coordinator.py [CASE]...
"""
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc

import coordinator_lab as lab
from coordinator_lab import Agent, Coordinator, Lab, job_state, wait, wait_state
from reflected import Api


def same(found, wanted, what=""):
    if found != wanted:
        raise AssertionError(f"{what}: {found!r}, not {wanted!r}")


def starts(found, wanted):
    if not str(found).startswith(wanted):
        raise AssertionError(f"{found!r} does not begin with {wanted!r}")


def has(found, wanted):
    if wanted not in found:
        raise AssertionError(f"{wanted!r} is not in {found!r}")


def submit(api, name="gpt", **more):
    return api("Jobs/Submit", **{"request_id": "submit-" + name, "name": name,
                                 "layout": lab.LAYOUT, **more}).job


def running(api, name="gpt"):
    """A host, and a job that runs on it."""
    agent = Agent(api)
    assert agent.welcomed.wait(20), agent.end
    submit(api, name)
    wait_state(api, name, "JOB_RUNNING")
    return agent


def case_life_of_a_job(top):
    """Submitted, run, saved, rescaled, done; and all of it in the watch."""
    coordinator = Coordinator(top)
    api = coordinator.api()
    for service in ("Agents", "Devices", "Jobs", "Versions", "Watch"):
        has(api.services, "retile.v1." + service)
    has(api.services, "grpc.health.v1.Health")
    same(api("grpc.health.v1.Health/Check", service="retile.v1.Jobs").status, 1)
    same(api("Watch/Revision").newest, 0)
    agent = running(api)
    hosts = api("Devices/List").hosts
    same([(h.name, len(h.devices)) for h in hosts], [("h0", 4)])
    number = agent.save("gpt", 40)
    wait(lambda: api("Versions/List", job="gpt").versions, "a version")
    same(api("Jobs/Get", name="gpt").job.version, number)
    plan = api("Jobs/Rescale", request_id="r1", job="gpt", to="dp=2",
               dry_run=True)
    same(plan.n_ranks if hasattr(plan, "n_ranks") else plan.plan.n_ranks, 2)
    same(api.code("Jobs/Submit", request_id="other", name="gpt",
                  layout=lab.LAYOUT).split(":")[0], "ALREADY_EXISTS")
    same(api.code("Jobs/Get", name="none").split(":")[0], "NOT_FOUND")
    api("Versions/Pin", request_id="p1", job="gpt", version=number, why="paper")
    agent.exit_all("gpt")
    wait_state(api, "gpt", "JOB_DONE")

    newest = api("Watch/Revision").newest
    events = []
    for response in api("Watch/Watch", from_revision=1):
        events += response.events
        if events[-1].revision >= newest:
            break
    revisions = [e.revision for e in events]
    same(revisions, sorted(set(revisions)))
    has({e.job for e in events}, "gpt")
    # The same, resumed in the middle, of one job.
    middle = revisions[len(revisions) // 2]
    for response in api("Watch/Watch", from_revision=middle, job="gpt"):
        same([e.revision for e in response.events][0],
             [e.revision for e in events
              if e.revision >= middle and e.job == "gpt"][0])
        break
    api("Jobs/Remove", request_id="rm", name="gpt", force=True)
    wait(lambda: not api("Jobs/List").jobs, "it is removed")
    coordinator.stop()


def case_watch_is_live_and_resumable(top):
    coordinator = Coordinator(top, "--max-events", "20", "--max-watchers", "3")
    api = coordinator.api()
    seen, ready = [], threading.Event()
    call = api("Watch/Watch")

    def follow():
        ready.set()
        try:
            for response in call:
                seen.extend(response.events)
        except grpc.RpcError as error:
            seen.append(error.code().name)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    call.initial_metadata()  # it is established
    agent = Agent(api)
    agent.welcomed.wait(20)
    wait(lambda: any(e.host == "h0" for e in seen), "an event that is live")
    for i in range(40):
        submit(api, f"j{i}")
    newest = api("Watch/Revision")
    wait(lambda: seen[-1].revision >= newest.newest, "all events, live")
    revisions = [e.revision for e in seen]
    same(revisions, sorted(set(revisions)))
    assert newest.oldest > 1, newest

    def code(**fields):
        try:
            for _ in api("Watch/Watch", timeout=20, **fields):
                return "OK"
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
    same(code(from_revision=newest.oldest), "OK")
    starts(code(from_revision=newest.newest + 100), "OUT_OF_RANGE")
    coordinator.stop()
    thread.join(20)
    same(seen[-1], "UNAVAILABLE")
    # What is in memory no more is looked for on disk.
    coordinator = Coordinator(top, "--max-events", "20")
    api = coordinator.api()
    newest = api("Watch/Revision")
    starts(code(from_revision=1), "OUT_OF_RANGE")
    has(code(from_revision=1), "on they are")
    same(code(from_revision=newest.oldest), "OK")
    coordinator.stop()


def case_killed_at_a_commit(top):
    """Each call that changes something, killed before and behind its commit, and
    repeated: done once."""
    first = Coordinator(top, name="base")
    api = first.api()
    agent = running(api)
    agent.save("gpt", 10)
    number = agent.save("gpt", 20)
    agent.exit_all("gpt")
    wait_state(api, "gpt", "JOB_DONE")
    first.stop()
    device = dict(host="h0", index=1)
    calls = {
        "Jobs/Submit": dict(name="new", layout=lab.LAYOUT),
        "Jobs/Remove": dict(name="gpt", force=True),
        "Versions/Pin": dict(job="gpt", version=number, why="kept"),
        "Devices/Drain": dict(device, reason="dust"),
        "Devices/Fail": dict(device, reason="smoke"),
    }
    for path, fields in calls.items():
        for point in ("coordinator.commit", "coordinator.committed"):
            name = path.replace("/", "") + point[12:]
            shutil.copy(first.db, top.path / f"{name}.db")
            # The first commit is that of the start: a host is lost.
            dead = Coordinator(top, name=name, fault=point + "=crash@2")
            found = dead.api().code(path, request_id="once", **fields)
            starts(found, "UNAVAILABLE")
            dead.wait_killed()
            again = Coordinator(top, name=name)
            api = again.api()
            before = api("Watch/Revision").newest
            answer = api(path, request_id="once", **fields)
            after = api("Watch/Revision").newest
            # Behind the commit it was done: nothing happens any more.
            same(after > before, point == "coordinator.commit", name)
            same(api(path, request_id="once", **fields), answer, name)
            same(api("Watch/Revision").newest, after, name)
            other = dict(fields)
            other.update(name="more") if "name" in fields else \
                other.update(reason="other") if "reason" in fields else \
                other.update(why="other")
            found = api.code(path, request_id="once", **other)
            assert found != "OK", (name, found)
            again.stop()


def case_killed_with_agents(top):
    """Sessions come again, and what was running is."""
    coordinator = Coordinator(top)
    api = coordinator.api()
    agent = running(api)
    number = agent.save("gpt", 5)
    generation = api("Jobs/Get", name="gpt").job.generation.number
    coordinator.kill()
    agent.over.wait(20)
    coordinator = Coordinator(top)
    api = coordinator.api()
    again = AgentWith(api, agent.jobs)
    assert again.welcomed.wait(20), again.end
    wait_state(api, "gpt", "JOB_RUNNING")
    job = api("Jobs/Get", name="gpt").job
    same((job.generation.number, job.version), (generation, number))
    coordinator.stop()


class AgentWith(Agent):
    def __init__(self, api, jobs, **more):
        self._kept = jobs
        super().__init__(api, **more)

    def hello(self):
        self.jobs = self._kept
        return super().hello()


def case_much_to_say(top):
    """A host says all that it has at once, and that may be much."""
    coordinator = Coordinator(top)
    layout = lab.LAYOUT + "# " + "x" * 200000 + "\n"
    jobs = {f"j{i}": dict(job=f"j{i}", highest=4, versions=[
        dict(number=number, kind="ATTEMPT_SAVE", n_bytes=1000, layout=layout,
             mesh="dp=2") for number in range(1, 5)]) for i in range(10)}
    agent = AgentWith(coordinator.api(), jobs)
    assert agent.welcomed.wait(20), agent.end
    same(agent.over.wait(0.2), False)
    coordinator.stop()


def case_full_disk(top):
    """A commit that finds no space ends it; nobody was told of what is not there."""
    coordinator = Coordinator(top, fault="coordinator.commit=nospace@2")
    api = coordinator.api()
    submit(api, "first")
    starts(api.code("Jobs/Submit", request_id="x", name="second",
                    layout=lab.LAYOUT), "UNAVAILABLE")
    same(coordinator.process.wait(20), 1)
    has(coordinator.logged("the coordinator ends: it cannot go on")[0]["error"],
        "coordinator.commit")
    coordinator = Coordinator(top)
    same([j.name for j in coordinator.api()("Jobs/List").jobs], ["first"])
    coordinator.stop()
    if os.geteuid() != 0:
        print("skipped: a full file system, without root")
        return
    full_file_system(top)


def full_file_system(top):
    small = top.path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", small],
                   check=True)
    try:
        (small / "spare").write_bytes(bytes(128 << 10))
        coordinator = Coordinator(top, "--db", small / "db", name="small")
        api, done = coordinator.api(), []
        for i in range(2000):
            if api.code("Jobs/Submit", request_id=f"s{i}", name=f"j{i}",
                        layout=lab.LAYOUT) != "OK":
                break
            done.append(f"j{i}")
        same(coordinator.process.wait(20), 1)
        has(coordinator.logged("the coordinator ends: it cannot go on")[0]
            ["error"], "full")
        (small / "spare").unlink()
        coordinator = Coordinator(top, "--db", small / "db", name="small")
        found = [j.name for j in coordinator.api()("Jobs/List").jobs]
        same(set(done) - set(found), set(), "what was answered is there")
        assert len(found) <= len(done) + 1, (len(found), len(done))
        coordinator.stop()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def case_restored_from_a_snapshot(top):
    """An older copy of the database: no number is given twice."""
    coordinator = Coordinator(top)
    api = coordinator.api()
    agent = running(api)
    agent.save("gpt", 1)
    coordinator.stop()
    shutil.copy(coordinator.db, top.path / "old.db")
    coordinator = Coordinator(top)
    api = coordinator.api()
    agent = AgentWith(api, agent.jobs)
    agent.welcomed.wait(20)
    wait_state(api, "gpt", "JOB_RUNNING")
    lost = agent.save("gpt", 2)
    newest = api("Watch/Revision").newest
    agent.jobs["gpt"]["highest"] = lost
    coordinator.kill()
    agent.over.wait(20)
    for end in ("", "-wal", "-shm"):
        pathlib.Path(f"{coordinator.db}{end}").unlink(missing_ok=True)
    shutil.copy(top.path / "old.db", coordinator.db)
    coordinator = Coordinator(top)
    api = coordinator.api()
    agent = AgentWith(api, agent.jobs)
    agent.welcomed.wait(20)
    wait(lambda: job_state(api, "gpt") in ("JOB_RUNNING", "JOB_STARTING"),
         "it goes on")
    wait_state(api, "gpt", "JOB_RUNNING")
    number = agent.save("gpt", 3)
    assert number > lost, (number, lost)
    try:
        for _ in api("Watch/Watch", from_revision=newest + 1000, timeout=20):
            break
        raise AssertionError("a revision that has not been")
    except grpc.RpcError as error:
        same(error.code().name, "OUT_OF_RANGE")
    coordinator.stop()


def case_abuse(top):
    """A clear status for each, and the service goes on."""
    coordinator = Coordinator(top, "--max-jobs", "5")
    api = coordinator.api()

    def code(path, data):
        try:
            api.raw(path, data)
            return "OK"
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"

    for data in (b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", b"\x08\x01"):
        found = code("Jobs/Submit", data)
        assert found.split(":")[0] in ("INVALID_ARGUMENT", "INTERNAL"), found
    starts(code("Jobs/Submit", b"\x0a\x02\xff\xfe"), "INVALID_ARGUMENT")
    starts(code("Jobs/Submit", b"\x1a" + b"\x80\x80\x80\x04" +
                b"x" * (8 << 20)), "INVALID_ARGUMENT")
    starts(code("Jobs/Submit", b"\x1a" + b"\x80\x80\x80\x14" +
                b"x" * (40 << 20)), "RESOURCE_EXHAUSTED")
    has(api.code("Jobs/Get", name="../etc"), "GetJobRequest.name is '../etc'")
    has(api.code("Jobs/Submit", name="x"), "request_id is not set")
    has(api.code("Jobs/Submit", request_id="x", name="x",
                 layout="x" * 300000), "SubmitJobRequest.layout has 300000")
    try:
        coordinator.api().channel.unary_unary("/retile.v1.Jobs/None")(
            b"", timeout=20)
        raise AssertionError("a method that is not there")
    except grpc.RpcError as error:
        same(error.code().name, "UNIMPLEMENTED")

    # Sessions that do not begin with Hello, or name another's numbers.
    stream = api.open("Agents/Session",
                      iter([api.message("FromAgent", renew={"sequence": 1})]))
    try:
        list(stream)
        raise AssertionError("a session without Hello")
    except grpc.RpcError as error:
        same(error.code().name, "INVALID_ARGUMENT")
    starts(api.code("Agents/OpenSave", session=12345, job="gpt", generation=1,
                    step=1), "UNAUTHENTICATED")
    # A limit of ours.
    codes = [api.code("Jobs/Submit", request_id=f"q{i}", name=f"q{i}",
                      layout=lab.LAYOUT).split(":")[0] for i in range(7)]
    same(codes, ["OK"] * 5 + ["RESOURCE_EXHAUSTED"] * 2)
    # Clients that vanish.
    for _ in range(20):
        gone = coordinator.api()
        gone("Watch/Watch")
        gone.channel.close()
    same(len(api("Jobs/List").jobs), 5)
    coordinator.stop()


def drained(coordinator, hosts, reason):
    """Drain all of each host, at the same time."""
    apis = [coordinator.api() for _ in hosts]
    threads = [threading.Thread(target=api, args=("Devices/Drain",), kwargs=dict(
        request_id="d" + host, host=host, all=True, reason=reason))
        for api, host in zip(apis, hosts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def case_more_events_than_a_message_holds(top):
    """One commit, and more than a message may have in number and bytes."""
    coordinator = Coordinator(top, fault="coordinator.commit=slow:300@1+")
    api = coordinator.api()
    hosts = [f"big{i}" for i in range(8)]
    agents = [Agent(api, host=host, n_devices=1024, store=f"{i:032x}")
              for i, host in enumerate(hosts)]
    for agent in agents:
        assert agent.welcomed.wait(20), agent.end
    first = api("Watch/Revision").newest + 1
    live = api("Watch/Watch", from_revision=first)
    live.initial_metadata()
    drained(coordinator, hosts, "dust")
    newest = api("Watch/Revision").newest

    def seen(call):
        events = []
        for response in call:
            assert len(response.events) <= 4096, len(response.events)
            events += [e for e in response.events if e.device >= 0]
            if response.events[-1].revision >= newest:
                break
        return len(events)

    same(seen(live), 8 * 1024, "live")
    same(seen(api("Watch/Watch", from_revision=first)), 8 * 1024, "resumed")
    coordinator.stop()


def case_lists_come_in_pages(top):
    """More hosts and jobs than a message holds."""
    coordinator = Coordinator(top)
    api = coordinator.api()
    hosts = [f"h{i}" for i in range(6)]
    agents = [Agent(api, host=host, n_devices=1024, store=f"{i:032x}")
              for i, host in enumerate(hosts)]
    for agent in agents:
        assert agent.welcomed.wait(20), agent.end
    drained(coordinator, hosts, "x" * 1000)
    rules = "".join(f"  - {{match: 'w{i}', dims: [~], optional: true}}\n"
                    for i in range(4000))
    names = [f"j{i}" for i in range(8)]
    for name in names:
        submit(api, name, layout=lab.LAYOUT.replace("  - ", rules + "  - "))
    page = api("Jobs/List")
    assert page.has_more and page.ByteSize() < 2 << 20, page.ByteSize()
    assert api("Jobs/List", after=page.jobs[-1].name).jobs[0].name == \
        names[len(page.jobs)]

    def listed(*words):
        return json.loads(subprocess.run(
            [lab.BIN / "retile", *words, "--json", "--coordinator",
             coordinator.socket], check=True, stdout=subprocess.PIPE).stdout)

    found = listed("device", "ls")["hosts"]
    same([h["name"] for h in found], hosts)
    same({len(h["devices"]) for h in found}, {1024})
    same([j["name"] for j in listed("job", "ls")["jobs"]], names)
    found = listed("status")
    same((len(found["hosts"]), len(found["jobs"])), (6, 8))
    coordinator.stop()


def case_a_slow_watcher_is_ended(top):
    """Who does not read is ended, live or behind; who does is not held up."""
    coordinator = Coordinator(top, "--stall-ms", "1000")
    api = coordinator.api()
    slow = coordinator.api()("Watch/Watch", timeout=60)  # not read for long
    slow.initial_metadata()
    agent = running(api)
    quick, got = coordinator.api()("Watch/Watch"), []
    quick.initial_metadata()

    def follow():
        try:
            got.extend(quick)
        except grpc.RpcError as error:  # it stops in the end
            got.append(error)

    threading.Thread(target=follow, daemon=True).start()

    # What the client's own end takes in before it stops the server is some MiB.
    big = Agent(api, host="big", n_devices=64, store="0" * 31 + "2")
    assert big.welcomed.wait(20), big.end
    for i in range(600):
        fields = dict(request_id=f"q{i}", host="big", all=True)
        if i % 2:
            api("Devices/Recover", **fields)
        else:
            api("Devices/Drain", reason="x" * 1000, **fields)
    newest = api("Watch/Revision").newest

    def is_ended(call):
        try:
            for response in call:
                if response.events[-1].revision >= newest:
                    return False
        except grpc.RpcError as error:
            same(error.code().name, "RESOURCE_EXHAUSTED")
            has(error.details(), "too slowly")
        return True

    def stalls(pause_s):
        behind = coordinator.api()("Watch/Watch", timeout=60, from_revision=1)
        behind.initial_metadata()
        time.sleep(pause_s)
        return is_ended(behind)

    assert any(stalls(pause_s) for pause_s in (2, 8))
    assert is_ended(slow)
    assert not quick.done(), quick
    wait(lambda: got and got[-1].events[-1].revision >= newest,
         "the other sees all")
    same(job_state(api, "gpt"), "JOB_RUNNING")
    same(agent.end, None)
    coordinator.stop()


def case_stopped_for_longer_than_a_lease(top):
    """What it could not hear of is not lost: hosts that renew stay."""
    coordinator = Coordinator(top, "--lease-ms", "1500", "--renew-ms", "100")
    api = coordinator.api()
    agents = [Agent(api, host=f"h{i}", store=f"{i:032x}") for i in range(20)]
    for agent in agents:
        assert agent.welcomed.wait(20), agent.end
    is_over = threading.Event()

    def renew():
        number = 0
        while not is_over.wait(0.1):
            number += 1
            for agent in agents:
                agent.say(renew={"sequence": number})

    thread = threading.Thread(target=renew)
    thread.start()
    try:
        newest = api("Watch/Revision").newest
        coordinator.process.send_signal(signal.SIGSTOP)
        time.sleep(2.2)
        coordinator.process.send_signal(signal.SIGCONT)
        same(api.code("Jobs/List"), "OK")
        time.sleep(0.3)
        same(api("Watch/Revision").newest, newest, "no host was lost")
        # One that does not is.
        agents.pop(0)
        wait(lambda: api("Devices/List").hosts[0].state == 2, "one is lost")
        same([h.state for h in api("Devices/List").hosts], [2] + [1] * 19)
    finally:
        is_over.set()
        thread.join()
    coordinator.stop()


def case_descriptors_run_out(top):
    """More connections than descriptors: refused, and served again later."""
    coordinator = Coordinator(top, wait_ready=True)
    api = coordinator.api()
    resource.prlimit(coordinator.process.pid, resource.RLIMIT_NOFILE, (64, 64))
    path = coordinator.socket[len("unix:"):]
    held = []
    try:
        for _ in range(200):
            one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            one.settimeout(5)
            try:
                one.connect(path)
                held.append(one)
            except OSError:
                one.close()
        same(api.code("Jobs/List"), "OK")  # who is connected is served
        same(api.code("Watch/Revision"), "OK")
        submit(api)
    finally:
        for one in held:
            one.close()
    wait(lambda: coordinator.api().code("Jobs/List") == "OK", "new clients")
    coordinator.stop()


def case_roles(top):
    """Mutual TLS: who shows what certificate may call what."""
    lab.certificates(top.path, ("agent", "retile://c/agent/h0"),
                     ("operator", "retile://c/operator/ann"),
                     ("viewer", "retile://c/viewer/bob"),
                     ("elsewhere", "retile://other/operator/ann"),
                     ("nobody", "https://example.org"))
    files = ("--tls-cert", top.path / "server.pem", "--tls-key",
             top.path / "server.key", "--tls-ca", top.path / "ca.pem",
             "--cluster", "c")
    coordinator = Coordinator(top, *files, listen=["127.0.0.1:0"])
    port = coordinator.ports()[0]

    def channel(name):
        read = [(top.path / f).read_bytes() for f in
                ("ca.pem", f"{name}.key", f"{name}.pem")] if name else \
            [(top.path / "ca.pem").read_bytes(), None, None]
        return grpc.secure_channel(
            f"127.0.0.1:{port}", grpc.ssl_channel_credentials(*read),
            options=[("grpc.use_local_subchannel_pool", 1)])

    def codes(name):
        api = Api(channel(name))
        found = [api.code("Jobs/List"), api.code("Devices/List"),
                 api.code("Jobs/Remove", request_id="x", name="x"),
                 api.code("Agents/OpenSave", session=1, job="x", generation=1,
                          step=1)]
        return [one.split(":")[0] for one in found]

    denied = "PERMISSION_DENIED"
    same(codes("operator"), ["OK", "OK", "NOT_FOUND", denied])
    same(codes("viewer"), ["OK", "OK", denied, denied])
    same(codes("agent"), [denied, denied, denied, "UNAUTHENTICATED"])
    same(codes("elsewhere"), [denied] * 4)
    same(codes("nobody"), [denied] * 4)
    for name in ("stranger", None):
        try:
            Api(channel(name), timeout=1)
            raise AssertionError(f"{name} was served")
        except grpc.RpcError as error:
            assert error.code().name in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
    # An agent is its own host only.
    api = Api(channel("agent"))
    other = Agent(api, host="h1")
    other.over.wait(20)
    starts(other.end, denied)
    own = Agent(api, host="h0")
    assert own.welcomed.wait(20), own.end
    coordinator.stop()


def case_a_token(top):
    path = top.path / "token"
    path.write_text("secret\n")
    path.chmod(0o600)
    coordinator = Coordinator(top, "--token-file", path)

    def code(*metadata):
        api = coordinator.api(metadata=metadata)
        return api.code("Jobs/List").split(":")[0]

    same(code(), "UNAUTHENTICATED")
    same(code(("authorization", "Bearer secret")), "OK")
    found = code(("authorization", "Bearer secre"))
    assert found in ("PERMISSION_DENIED", "UNAUTHENTICATED"), found
    coordinator.stop()
    path.chmod(0o644)
    refused = Coordinator(top, "--token-file", path, name="open",
                          wait_ready=False)
    same(refused.process.wait(20), 1)
    has(refused.log_path.read_text(), "chmod 600")


def case_start_and_stop(top):
    """What is refused at start, settings, signals, the service manager."""
    ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ready.bind(str(top.path / "notify"))
    ready.settimeout(20)
    coordinator = Coordinator(
        top, env=dict(NOTIFY_SOCKET=str(top.path / "notify")))
    same(ready.recv(100), b"READY=1")

    def refused(code, text, *options, **more):
        one = Coordinator(top, *options, name="refused", wait_ready=False,
                          **more)
        same(one.process.wait(20), code)
        has(one.log_path.read_text(), text)
        one.log_path.unlink()

    refused(1, f"process {coordinator.process.pid}", "--db", coordinator.db)
    refused(1, "0.0.0.0", listen=["0.0.0.0:0"])
    refused(2, "did you mean", "--listne", "x")
    refused(2, "unix", listen=["unix:"])
    garbage = top.path / "garbage.db"
    garbage.write_text("no database " * 100)
    refused(1, str(garbage), "--db", garbage)
    # The example has every default.
    def settings(*options):
        found = subprocess.run([lab.BIN / "retile-coordinator", *options,
                                "--print-config"], check=True, text=True,
                               capture_output=True, env={}).stdout
        return [line.rsplit("  # ", 1)[0] for line in found.splitlines()]

    example = pathlib.Path(os.environ["RETILE_SOURCE"]) / \
        "deploy/coordinator.yaml"
    same(settings("--config", example), settings())
    same(len([line for line in example.read_text().splitlines()
              if ": " in line and line[0] != "#"]), len(settings()))
    with open("/dev/full", "wb") as full:
        same(subprocess.run([lab.BIN / "retile-coordinator", "--help"],
                            stdout=full, stderr=subprocess.DEVNULL,
                            check=False).returncode, 1)
    config = top.path / "c.yaml"
    config.write_text("log-level: info\n")
    again = Coordinator(top, "--config", config, name="again")
    # --log-level of the lab wins; SIGHUP is taken all the same.
    again.process.send_signal(signal.SIGHUP)
    wait(lambda: again.logged("the settings were read again"), "SIGHUP")
    config.write_text("log-levl: info\n")
    again.process.send_signal(signal.SIGHUP)
    wait(lambda: again.logged("the settings stay as they were"), "SIGHUP")
    same(again.api().code("Jobs/List"), "OK")
    again.stop()
    coordinator.stop()
    same(ready.recv(100), b"STOPPING=1")


def main():
    cases = {name[5:]: case for name, case in globals().items()
             if name.startswith("case_")}
    for name in sys.argv[1:] or cases:
        began = time.monotonic()
        with Lab() as top:
            cases[name](top)
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
