#!/usr/bin/env python3
"""Bad input: every case is refused by one line, and nothing is written.

    bad_input.py [PART-OF-A-NAME]...     only the cases whose names have it
    bad_input.py --list

Each case makes its files in a directory of its own and runs one command there.
It passes when
  - the exit code is the expected one (1 failed, 2 usage, 3 not there or not so),
  - stderr is one line `retile: ...` (and perhaps one `hint: ...`) that has every
    needle: the file, and the field or the tensor,
  - the directory holds what it held before, nothing is mounted,
  - it took less than 10 seconds and 600 MiB.
"""
import os
import pathlib
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from bad_input_cases import (command_cases, directory_cases, safetensors_cases,
                             spec_cases)

BIN = pathlib.Path(os.environ["RETILE_BIN"])
MAX_SECONDS = 10
MAX_RSS_KIB = 600 << 10  # the largest file has 86 MiB
MAX_LINE = 600
CASES = (safetensors_cases.CASES + directory_cases.CASES + spec_cases.CASES
         + command_cases.CASES)


def listing(top):
    """All names, with sizes and times: what `nothing is written` is about."""
    found = []
    for where, names, more in os.walk(top):
        for name in names + more:
            stat = os.lstat(os.path.join(where, name))
            found.append((os.path.join(where, name), stat.st_mode,
                          stat.st_size, stat.st_mtime_ns))
    return sorted(found)


def run(argv, top, env):
    """Exit code (None: too slow), stdout, stderr, peak RSS in KiB, seconds."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(argv, cwd=top, env=env, stdout=out, stderr=err,
                                 stdin=subprocess.DEVNULL,
                                 start_new_session=True)
        pidfd = os.pidfd_open(child.pid)
        in_time = select.select([pidfd], [], [], MAX_SECONDS)[0]
        os.close(pidfd)
        if not in_time:
            os.killpg(child.pid, signal.SIGKILL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        return (child.returncode if in_time else None,
                out.read().decode("utf-8", "replace"),
                err.read().decode("utf-8", "replace"),
                usage.ru_maxrss, time.monotonic() - begin)


def complaints(case, code, stderr, rss_kib):
    """What is wrong with the way in which the program refused."""
    wanted = case.exit_code
    if code not in (wanted if isinstance(wanted, tuple) else (wanted,)):
        yield f"exit code {code}, not {wanted}"
    if "Sanitizer" in stderr or "runtime error:" in stderr:
        yield "a sanitizer's report"
        return
    lines = stderr.splitlines()
    told = [line for line in lines if line.startswith(("retile: ",
                                                       "retile-fuse: "))]
    others = [line for line in lines
              if line not in told and not line.startswith("hint: ")]
    if len(told) != 1 or others or len(lines) > 2:
        yield f"{len(told)} lines that tell, {len(others)} others"
        return
    line = told[0]
    if len(line) > MAX_LINE:
        yield f"a line of {len(line)} characters"
    if re.search(r"[\x00-\x1f\x7f]", line):
        yield "a control character in the line"
    for needle in case.needles:
        if needle not in line:
            yield f"the line lacks `{needle}`"
    if rss_kib > MAX_RSS_KIB:
        yield f"peak memory {rss_kib >> 10} MiB"


def has_mount(top):
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        return any(f" {top}/" in line for line in file)


def try_case(case, top):
    """The complaints, and the line that was printed."""
    case.make(top)
    before = listing(top)
    command = case.command
    words = command.split() if isinstance(command, str) else command
    env = {**os.environ, "LC_ALL": "C.UTF-8", **dict(case.env)}
    code, out, err, rss_kib, seconds = run([BIN / "retile", *words], top, env)
    bad = list(complaints(case, code, err, rss_kib))
    if code is None:
        bad.append(f"still running after {MAX_SECONDS} s")
    if out:
        bad.append("something on stdout")
    if has_mount(top):
        bad.append("mounted")
        subprocess.run(["fusermount3", "-u", "-z", top / "mnt"], check=False)
    elif listing(top) != before:
        bad.append("something was written")
    if bad:
        bad.append(f"$ retile {' '.join(words)}   ({seconds:.1f} s)")
        bad.extend("  " + line[:MAX_LINE] for line in err.splitlines()[:12])
    return bad


def main():
    if sys.argv[1:] == ["--list"]:
        print("\n".join(case.name for case in CASES))
        return 0
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names), "two cases of one name"
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    n_bad = n_skipped = n_good = 0
    can_mount = (BIN / "retile-fuse").exists()
    parent = os.environ.get("RETILE_TMP")
    for case in CASES:
        if sys.argv[1:] and not any(part in case.name for part in sys.argv[1:]):
            continue
        if "mount" in case.command and not can_mount:
            print(f"skip {case.name}: there is no retile-fuse")
            n_skipped += 1
            continue
        top = pathlib.Path(tempfile.mkdtemp(prefix="retile-bad-", dir=parent))
        try:
            bad = try_case(case, top)
        finally:
            shutil.rmtree(top, ignore_errors=True)
        if bad:
            n_bad += 1
            print(f"FAIL {case.name}", *bad, sep="\n    ", flush=True)
        else:
            n_good += 1
    print(f"{n_good} passed, {n_bad} failed, {n_skipped} skipped")
    return 1 if n_bad or not n_good else 0


if __name__ == "__main__":
    sys.exit(main())
