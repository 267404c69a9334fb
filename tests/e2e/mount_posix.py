#!/usr/bin/env python3
"""POSIX in a save's directory: posix_check.py, fsx_model.py and fio, on a plain
folder as control and below a mounted STEP.tmp in each class of service.

    mount_posix.py [--user] [posix] [fsx] [fio]

RETILE_CASES operations of fsx (default 1500), RETILE_SEED as there.
"""
import os
import pathlib
import shutil
import subprocess
import sys

from mounted import Lab, become_user, check, classes

HERE = pathlib.Path(__file__).parent
FIO = """[global]
directory={folder}
size=4m
rw=randwrite
verify=crc32c
verify_fatal=1
do_verify=1
randrepeat=0
fallocate=none
group_reporting=1
[job]
{how}
"""
HOWS = {"psync": "ioengine=psync\nbsrange=1k-64k",
        "mmap": "ioengine=mmap\nbsrange=4k-64k\nfsync=64",
        "O_DIRECT": "ioengine=psync\nbsrange=4k-64k\ndirect=1"}


def script(name, *args, **env):
    found = subprocess.run([sys.executable, "-B", HERE / name, *args],
                           env={**os.environ, **env}, timeout=300,
                           capture_output=True, text=True)
    check(found.returncode == 0, f"{name} {' '.join(map(str, args))}: exit "
          f"{found.returncode}", found.stdout, found.stderr)
    print("   ", name, "; ".join(found.stdout.splitlines()))


def posix(folder, is_save):
    script("posix_check.py", folder, *(["--save"] if is_save else []))


def fsx(folder, is_save):
    n = os.environ.get("RETILE_CASES", "1500")
    script("fsx_model.py", folder, RETILE_CASES=n)


def fio(folder, is_save):
    if shutil.which("fio") is None:
        print("    (no fio)")
        return
    for name, how in HOWS.items():
        job = folder.parent / "job.fio"
        job.write_text(FIO.format(folder=folder, how=how))
        found = subprocess.run(["fio", "--output-format=terse", job],
                               capture_output=True, text=True, timeout=120,
                               cwd=folder)
        job.unlink()
        check(found.returncode == 0, f"fio, {name}: exit {found.returncode}",
              found.stdout, found.stderr)
        for left in folder.iterdir():
            left.unlink()
        print(f"    fio --verify=crc32c, {name}")


PARTS = [posix, fsx, fio]


def main():
    become_user()
    words = [a for a in sys.argv[1:] if not a.startswith("--")]
    parts = [p for p in PARTS if not words or p.__name__ in words]
    lab = Lab(400)
    control = lab.path / "control" / "folder"
    control.mkdir(parents=True)
    print("a plain folder")
    for part in parts:
        part(control, False)
    spec = lab.path / "spec.yaml"
    spec.write_text("mesh: {}\nrules: [{match: '*'}]\n")
    for name, options in classes():
        print(f"a save, {name}", flush=True)
        mount = lab.mount(*options, layout=spec)
        folder = mount.save() / "1.tmp" / "ranks" / "000"
        folder.mkdir(parents=True)
        for part in parts:
            part(folder, True)
        check(mount.events() == [], "events", mount.events())
        mount.unmount()
    lab.end_check()
    lab.done()


if __name__ == "__main__":
    main()
