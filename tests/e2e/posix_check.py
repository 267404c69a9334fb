#!/usr/bin/env python3
"""What a save's directory promises of POSIX, checked one by one.

    posix_check.py DIR [--save]      --save: DIR is below a STEP.tmp of a mount,
                                     where links and special files are refused

Each check is a function whose name is the claim; it gets an empty folder.
docs/testing.md says what is promised and what is not.
"""
import ctypes
import errno
import fcntl
import mmap
import os
import pathlib
import shutil
import stat
import sys
import threading
import time

IS_SAVE = "--save" in sys.argv
LIBC = ctypes.CDLL(None, use_errno=True)
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def fails(expected, do, *args, **named):
    """@do fails with this errno, or one of these."""
    numbers = expected if isinstance(expected, tuple) else (expected,)
    try:
        do(*args, **named)
    except OSError as e:
        assert e.errno in numbers, (
            f"{errno.errorcode[e.errno]}, not "
            f"{' or '.join(errno.errorcode[n] for n in numbers)}")
        return
    raise AssertionError(f"succeeded, not {errno.errorcode[numbers[0]]}")


def libc(name, *args):
    if getattr(LIBC, name)(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fallocate(fd, mode, at, n):
    libc("fallocate", ctypes.c_int(fd), ctypes.c_int(mode), ctypes.c_int64(at),
         ctypes.c_int64(n))


def renameat2(old, new, flags):
    libc("renameat2", ctypes.c_int(-100), os.fsencode(old), ctypes.c_int(-100),
         os.fsencode(new), ctypes.c_uint(flags))


def make(path, data=b"data"):
    path.write_bytes(data)
    return path


def opened(path, flags=os.O_RDWR | os.O_CREAT, mode=0o600):
    return os.open(path, flags, mode)


# Making and opening.

@check
def o_creat_o_excl_makes_a_file_once(d):
    fd = opened(d / "a", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    fails(errno.EEXIST, opened, d / "a", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.close(fd)


@check
def o_excl_has_one_winner_among_many(d):
    won = []

    def run():
        try:
            os.close(opened(d / "a", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            won.append(1)
        except FileExistsError:
            pass
    threads = [threading.Thread(target=run) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(won) == 1, won


@check
def missing_names_are_enoent(d):
    for do in (os.stat, os.unlink, os.rmdir, os.listdir):
        fails(errno.ENOENT, do, d / "none")
    fails(errno.ENOENT, os.open, d / "none", os.O_RDONLY)
    fails(errno.ENOENT, opened, d / "none" / "a")
    fails(errno.ENOENT, os.rename, d / "none", d / "b")


@check
def a_name_that_was_missing_can_be_made_at_once(d):
    assert not (d / "a").exists()
    make(d / "a")
    assert (d / "a").exists()
    (d / "a").unlink()
    assert not (d / "a").exists()


@check
def a_file_is_no_directory(d):
    make(d / "a")
    fails(errno.ENOTDIR, os.stat, d / "a" / "b")
    fails(errno.ENOTDIR, os.listdir, d / "a")
    fails(errno.ENOTDIR, os.rmdir, d / "a")
    fails(errno.ENOTDIR, os.open, d / "a", os.O_RDONLY | os.O_DIRECTORY)


@check
def a_directory_is_no_file(d):
    (d / "a").mkdir()
    fails(errno.EISDIR, os.open, d / "a", os.O_WRONLY)
    fails(errno.EISDIR, os.unlink, d / "a")
    fails(errno.EEXIST, os.mkdir, d / "a")
    fails(errno.EISDIR, os.truncate, d / "a", 0)


@check
def names_may_be_255_bytes(d):
    make(d / ("n" * 255))
    assert os.listdir(d) == ["n" * 255]
    fails(errno.ENAMETOOLONG, make, d / ("n" * 256))


@check
def names_are_bytes(d):
    names = ["ä", "a b", ".hidden", "-", "\t", "*", "\\", "a\nb", "x.tmp"]
    for name in names:
        make(d / name, name.encode())
    assert sorted(os.listdir(d)) == sorted(names)
    for name in names:
        assert (d / name).read_bytes() == name.encode()


@check
def o_trunc_empties(d):
    make(d / "a", b"x" * 10000)
    os.close(opened(d / "a", os.O_WRONLY | os.O_TRUNC))
    assert (d / "a").stat().st_size == 0


@check
def a_handle_does_what_it_was_opened_for(d):
    make(d / "a")
    fd = os.open(d / "a", os.O_RDONLY)
    fails(errno.EBADF, os.write, fd, b"x")
    fails((errno.EINVAL, errno.EBADF), os.ftruncate, fd, 0)
    os.close(fd)
    fd = os.open(d / "a", os.O_WRONLY)
    fails(errno.EBADF, os.read, fd, 1)
    os.close(fd)


@check
def o_path_and_fstat_agree(d):
    make(d / "a", b"12345")
    fd = os.open(d / "a", os.O_PATH)
    assert os.fstat(fd).st_size == 5
    assert os.fstat(fd).st_ino == (d / "a").stat().st_ino
    os.close(fd)


# Data.

@check
def writes_beyond_the_end_leave_zeros(d):
    fd = opened(d / "a")
    os.pwrite(fd, b"end", 100_000)
    assert os.pread(fd, 200_000, 0) == bytes(100_000) + b"end"
    os.close(fd)


@check
def every_handle_sees_a_write_at_once(d):
    a, b = opened(d / "a"), opened(d / "a")
    for i in range(50):
        os.pwrite(a, bytes([i]) * 5000, i * 3000)
        assert os.pread(b, 5000, i * 3000) == bytes([i]) * 5000
        assert os.fstat(b).st_size == i * 3000 + 5000
    os.close(a)
    os.close(b)


@check
def o_append_goes_to_the_end_always(d):
    a = opened(d / "a", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    b = opened(d / "a", os.O_WRONLY | os.O_APPEND)
    for i in range(20):
        os.write(a, b"a" * 10)
        os.lseek(b, 0, os.SEEK_SET)
        os.write(b, b"b" * 10)
    os.close(a)
    os.close(b)
    assert (d / "a").read_bytes() == (b"a" * 10 + b"b" * 10) * 20


@check
def appends_of_many_threads_do_not_mix(d):
    def run(n):
        fd = opened(d / "a", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for _ in range(50):
            os.write(fd, bytes([n]) * 100)
        os.close(fd)
    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    data = (d / "a").read_bytes()
    assert len(data) == 4 * 50 * 100, len(data)
    for at in range(0, len(data), 100):
        assert len(set(data[at:at + 100])) == 1, at


@check
def a_handle_of_a_child_shares_its_offset(d):
    fd = opened(d / "a")
    child = os.fork()
    if child == 0:
        os.write(fd, b"child")
        os._exit(0)
    os.waitpid(child, 0)
    os.write(fd, b"parent")
    os.close(fd)
    assert (d / "a").read_bytes() == b"childparent"


@check
def vectors_and_zero_lengths(d):
    fd = opened(d / "a")
    assert os.pwritev(fd, [b"ab", b"", b"cde"], 1) == 5
    first, second = bytearray(3), bytearray(9)
    assert os.preadv(fd, [first, second], 0) == 6
    assert bytes(first + second[:3]) == b"\0abcde"
    assert os.write(fd, b"") == 0 and os.fstat(fd).st_size == 6
    assert os.pread(fd, 10, 6) == b"" and os.pread(fd, 10, 10**9) == b""
    os.close(fd)


@check
def large_writes_are_whole(d):
    data = os.urandom(5_000_001)
    fd = opened(d / "a")
    assert os.pwrite(fd, data, 3) == len(data)
    assert os.pread(fd, len(data) + 3, 0) == b"\0\0\0" + data
    os.close(fd)


@check
def negative_offsets_are_einval(d):
    fd = opened(d / "a")
    fails(errno.EINVAL, os.lseek, fd, -1, os.SEEK_SET)
    fails(errno.EINVAL, os.pwrite, fd, b"x", -1)
    fails(errno.EINVAL, os.ftruncate, fd, -1)
    os.close(fd)


@check
def seek_end_knows_the_size(d):
    fd = opened(d / "a")
    os.write(fd, b"x" * 12345)
    assert os.lseek(fd, 0, os.SEEK_END) == 12345
    os.ftruncate(fd, 99)
    assert os.lseek(fd, 0, os.SEEK_END) == 99
    os.close(fd)


@check
def seek_data_finds_all_data(d):
    fd = opened(d / "a")
    os.pwrite(fd, b"x" * 4096, 1 << 20)
    try:
        at = os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as e:
        assert e.errno in (errno.EINVAL, errno.EOPNOTSUPP)
    else:
        assert at <= 1 << 20
        assert os.lseek(fd, 0, os.SEEK_HOLE) in (0, (1 << 20) + 4096)
    os.close(fd)


# Sizes.

@check
def truncate_cuts_and_extends_with_zeros(d):
    fd = opened(d / "a")
    os.write(fd, b"x" * 10_000)
    os.ftruncate(fd, 5_000)
    os.ftruncate(fd, 9_000)
    assert os.pread(fd, 20_000, 0) == b"x" * 5_000 + bytes(4_000)
    os.truncate(d / "a", 2)
    assert os.fstat(fd).st_size == 2
    os.close(fd)
    assert (d / "a").read_bytes() == b"xx"


@check
def a_write_after_a_truncate_by_another_handle_stays_at_its_offset(d):
    a, b = opened(d / "a"), opened(d / "a")
    os.write(a, b"x" * 100)
    os.ftruncate(b, 0)
    os.write(a, b"y")
    assert os.pread(b, 200, 0) == bytes(100) + b"y"
    os.close(a)
    os.close(b)


@check
def posix_fallocate_makes_room(d):
    fd = opened(d / "a")
    os.posix_fallocate(fd, 0, 1 << 20)
    assert os.fstat(fd).st_size == 1 << 20
    assert os.pread(fd, 4096, 4096) == bytes(4096)
    os.close(fd)


@check
def fallocate_may_keep_the_size(d):
    fd = opened(d / "a")
    os.write(fd, b"x" * 10)
    fallocate(fd, 1, 0, 1 << 20)
    assert os.fstat(fd).st_size == 10
    os.close(fd)


@check
def a_hole_can_be_punched(d):
    fd = opened(d / "a")
    os.write(fd, b"x" * 50_000)
    assert os.pread(fd, 10, 10_000) == b"x" * 10
    fallocate(fd, 3, 8_000, 20_000)
    assert (os.pread(fd, 60_000, 0) ==
            b"x" * 8_000 + bytes(20_000) + b"x" * 22_000)
    os.close(fd)


@check
def blocks_are_counted(d):
    make(d / "a", b"x" * 100_000)
    n = (d / "a").stat().st_blocks * 512
    assert 100_000 <= n < 400_000, n


# Maps.

@check
def a_shared_map_writes_the_file(d):
    fd = opened(d / "a")
    os.ftruncate(fd, 100_000)
    with mmap.mmap(fd, 100_000) as shared:
        shared[50_000:50_005] = b"hello"
        shared.flush()
        assert os.pread(fd, 5, 50_000) == b"hello"
        shared[70_000:70_003] = b"end"
    os.close(fd)
    assert (d / "a").read_bytes()[70_000:70_003] == b"end"


@check
def a_shared_map_sees_writes(d):
    fd = opened(d / "a")
    os.write(fd, b"x" * 10_000)
    with mmap.mmap(fd, 10_000) as shared:
        assert shared[5_000:5_001] == b"x"
        os.pwrite(fd, b"new", 5_000)
        assert shared[5_000:5_003] == b"new"
    os.close(fd)


@check
def a_map_outlives_its_handle_and_name(d):
    fd = opened(d / "a")
    os.write(fd, b"x" * 10_000)
    shared = mmap.mmap(fd, 10_000)
    os.close(fd)
    other = os.open(d / "a", os.O_RDONLY)
    os.unlink(d / "a")
    shared[9_000:9_003] = b"end"
    assert shared[0:3] == b"xxx"
    shared.flush()
    assert os.pread(other, 3, 9_000) == b"end"
    shared.close()
    os.close(other)


@check
def a_private_map_writes_nothing(d):
    make(d / "a", b"x" * 5000)
    fd = os.open(d / "a", os.O_RDONLY)
    with mmap.mmap(fd, 5000, mmap.MAP_PRIVATE,
                   mmap.PROT_READ | mmap.PROT_WRITE) as private:
        private[0:3] = b"new"
    assert os.pread(fd, 3, 0) == b"xxx"
    os.close(fd)


@check
def two_processes_share_a_map(d):
    fd = opened(d / "a")
    os.ftruncate(fd, 8192)
    with mmap.mmap(fd, 8192) as shared:
        child = os.fork()
        if child == 0:
            again = os.open(d / "a", os.O_RDWR)
            mmap.mmap(again, 8192)[4096:4101] = b"child"
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert shared[4096:4101] == b"child"
    os.close(fd)


# Removing and renaming.

@check
def an_unlinked_file_lives_while_open(d):
    fd = opened(d / "a")
    os.write(fd, b"before")
    os.unlink(d / "a")
    assert os.listdir(d) == []
    os.write(fd, b" after")
    assert os.pread(fd, 100, 0) == b"before after"
    os.ftruncate(fd, 3)
    assert os.fstat(fd).st_size == 3 and os.fstat(fd).st_nlink == 0
    make(d / "a", b"another")
    assert os.pread(fd, 100, 0) == b"bef"
    os.close(fd)
    assert (d / "a").read_bytes() == b"another"


@check
def rename_replaces_and_the_old_file_lives_while_open(d):
    make(d / "a", b"old")
    make(d / "b", b"new")
    fd = os.open(d / "a", os.O_RDWR)
    os.rename(d / "b", d / "a")
    assert (d / "a").read_bytes() == b"new" and os.listdir(d) == ["a"]
    assert os.pread(fd, 10, 0) == b"old"
    os.pwrite(fd, b"OLD", 0)
    assert (d / "a").read_bytes() == b"new"
    os.close(fd)


@check
def a_renamed_file_keeps_its_handles(d):
    fd = opened(d / "a")
    os.write(fd, b"one")
    os.rename(d / "a", d / "b")
    os.write(fd, b" two")
    assert (d / "b").read_bytes() == b"one two"
    os.close(fd)


@check
def a_reader_never_misses_a_name_that_is_replaced(d):
    make(d / "a", b"0")
    missed, end = [], threading.Event()

    def run():
        while not end.is_set():
            try:
                if len((d / "a").read_bytes()) != 1:
                    missed.append("empty")
            except OSError as e:
                missed.append(e)
    reader = threading.Thread(target=run)
    reader.start()
    for i in range(200):
        os.rename(make(d / "b", b"%d" % (i % 10)), d / "a")
    end.set()
    reader.join()
    assert not missed, missed[:3]


@check
def rename_noreplace_and_rename_to_itself(d):
    make(d / "a", b"a")
    make(d / "b", b"b")
    fails(errno.EEXIST, renameat2, d / "a", d / "b", RENAME_NOREPLACE)
    renameat2(d / "a", d / "c", RENAME_NOREPLACE)
    os.rename(d / "c", d / "c")
    assert sorted(os.listdir(d)) == ["b", "c"]
    try:
        renameat2(d / "b", d / "c", RENAME_EXCHANGE)
    except OSError as e:
        assert e.errno == errno.EINVAL and IS_SAVE
    else:
        assert (d / "b").read_bytes() == b"a"


@check
def rename_of_directories(d):
    (d / "a" / "x").mkdir(parents=True)
    make(d / "a" / "x" / "file", b"deep")
    fd = os.open(d / "a" / "x" / "file", os.O_RDWR)
    os.rename(d / "a", d / "b")
    assert (d / "b/x/file").read_bytes() == b"deep"
    os.pwrite(fd, b"DEEP", 0)
    assert (d / "b/x/file").read_bytes() == b"DEEP"
    os.close(fd)
    (d / "full").mkdir()
    make(d / "full" / "file")
    fails((errno.ENOTEMPTY, errno.EEXIST), os.rename, d / "b", d / "full")
    (d / "empty").mkdir()
    os.rename(d / "b", d / "empty")
    assert (d / "empty/x/file").exists() and not (d / "b").exists()
    fails(errno.EINVAL, os.rename, d / "empty", d / "empty" / "x" / "y")
    make(d / "file")
    fails(errno.ENOTDIR, os.rename, d / "empty", d / "file")
    fails(errno.EISDIR, os.rename, d / "file", d / "empty")


@check
def a_file_moves_between_directories(d):
    (d / "a").mkdir()
    (d / "b").mkdir()
    make(d / "a" / "x", b"moved")
    os.rename(d / "a" / "x", d / "b" / "y")
    assert os.listdir(d / "a") == [] and os.listdir(d / "b") == ["y"]
    assert (d / "b/y").read_bytes() == b"moved"


@check
def rmdir_wants_an_empty_directory(d):
    (d / "a" / "b").mkdir(parents=True)
    fails(errno.ENOTEMPTY, os.rmdir, d / "a")
    os.rmdir(d / "a" / "b")
    os.rmdir(d / "a")
    fails(errno.ENOENT, os.listdir, d / "a")


@check
def whole_trees_are_removed(d):
    for i in range(5):
        (d / "t" / str(i) / "deep").mkdir(parents=True)
        for j in range(20):
            make(d / "t" / str(i) / "deep" / str(j))
    shutil.rmtree(d / "t")
    assert os.listdir(d) == []


@check
def a_removed_directory_stays_usable_for_who_is_in_it(d):
    (d / "a").mkdir()
    fd = os.open(d / "a", os.O_RDONLY)
    os.rmdir(d / "a")
    assert os.listdir(fd) == []
    fails(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(fd)


# Directories.

@check
def a_directory_lists_what_is_in_it(d):
    names = {f"name-{i:04d}" for i in range(700)}
    for name in names:
        (d / name).touch()
    assert set(os.listdir(d)) == names
    for name in sorted(names)[::2]:
        (d / name).unlink()
    assert set(os.listdir(d)) == set(sorted(names)[1::2])
    kinds = {e.name: e.is_file() for e in os.scandir(d)}
    assert all(kinds.values()) and len(kinds) == 350


@check
def removing_while_listing_skips_nobody(d):
    for i in range(500):
        (d / str(i)).touch()
    with os.scandir(d) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(d) == []


@check
def openat_works_from_a_directory(d):
    fd = os.open(d, os.O_RDONLY | os.O_DIRECTORY)
    os.close(os.open("a", os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=fd))
    os.mkdir("sub", dir_fd=fd)
    os.rename("a", "sub/b", src_dir_fd=fd, dst_dir_fd=fd)
    assert os.listdir(fd) == ["sub"] and os.listdir(d / "sub") == ["b"]
    os.close(fd)


@check
def fsync_of_files_and_directories(d):
    fd = opened(d / "a")
    os.write(fd, b"x")
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    fd = os.open(d, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


@check
def nlink_counts_subdirectories_or_is_one(d):
    before = d.stat().st_nlink
    (d / "a").mkdir()
    assert d.stat().st_nlink in (before + 1, 1, before)
    assert make(d / "f").stat().st_nlink == 1


# Attributes.

@check
def modes_are_kept_and_umask_counts(d):
    old = os.umask(0o027)
    try:
        os.close(opened(d / "a", os.O_CREAT | os.O_WRONLY, 0o666))
        (d / "b").mkdir(0o777)
    finally:
        os.umask(old)
    assert stat.S_IMODE((d / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((d / "b").stat().st_mode) == 0o750
    os.chmod(d / "a", 0o600)
    assert stat.S_IMODE((d / "a").stat().st_mode) == 0o600


@check
def files_belong_to_who_made_them(d):
    found = make(d / "a").stat()
    assert (found.st_uid, found.st_gid) == (os.geteuid(), os.getegid())


@check
def times_move_with_writes_and_can_be_set(d):
    make(d / "a")
    os.utime(d / "a", ns=(1_000_000_001, 2_000_000_002))
    found = (d / "a").stat()
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_001,
                                                      2_000_000_002)
    fd = os.open(d / "a", os.O_WRONLY)
    os.write(fd, b"later")
    os.close(fd)
    assert abs((d / "a").stat().st_mtime - time.time()) < 10
    before = d.stat().st_mtime_ns
    time.sleep(0.02)
    make(d / "b")
    assert d.stat().st_mtime_ns > before


@check
def inode_numbers_are_stable_and_distinct(d):
    first = make(d / "a").stat().st_ino
    second = make(d / "b").stat().st_ino
    assert first != second
    os.rename(d / "a", d / "c")
    assert (d / "c").stat().st_ino == first
    assert {e.name: e.inode() for e in os.scandir(d)} == {"b": second,
                                                          "c": first}


@check
def statvfs_tells_room(d):
    found = os.statvfs(d)
    assert found.f_blocks > 0 and found.f_bsize > 0
    assert 0 < found.f_bavail <= found.f_blocks
    assert found.f_namemax >= 255


@check
def locks_exclude_each_other(d):
    a, b = opened(d / "a"), opened(d / "a")
    fcntl.flock(a, fcntl.LOCK_EX)
    fails(errno.EWOULDBLOCK, fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(a, fcntl.LOCK_UN)
    fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(a)
    os.close(b)


@check
def record_locks_exclude_other_processes(d):
    fd = opened(d / "a")
    fcntl.lockf(fd, fcntl.LOCK_EX)
    child = os.fork()
    if child == 0:
        again = opened(d / "a")
        try:
            fcntl.lockf(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    os.close(fd)


# What a save refuses, and a plain directory does not.

@check
def links_and_special_files_are_refused(d):
    make(d / "a")
    if not IS_SAVE:
        os.symlink("a", d / "link")
        os.link(d / "a", d / "hard")
        return
    refused = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
    fails(refused, os.symlink, "a", d / "link")
    fails(refused, os.link, d / "a", d / "hard")
    fails(refused, os.mkfifo, d / "fifo")
    assert os.listdir(d) == ["a"]


@check
def extended_attributes_and_other_owners_are_refused(d):
    make(d / "a")
    if IS_SAVE:
        fails(errno.ENOTSUP, os.setxattr, d / "a", "user.x", b"1")
        fails(errno.EPERM, os.chown, d / "a", os.geteuid() + 1, -1)


def main():
    folder = pathlib.Path([a for a in sys.argv[1:] if a != "--save"][0])
    only = [a for a in sys.argv[1:] if a != "--save"][1:]
    n_failed = 0
    for function in CHECKS:
        if only and not any(part in function.__name__ for part in only):
            continue
        place = folder / "check"
        place.mkdir(exist_ok=True)
        try:
            function(place)
            shutil.rmtree(place)
        except (AssertionError, OSError) as e:
            n_failed += 1
            line = e.__traceback__
            while line.tb_next and line.tb_next.tb_frame.f_code.co_filename == \
                    __file__ and line.tb_frame.f_code.co_name != \
                    function.__name__:
                line = line.tb_next
            print(f"FAILED line {line.tb_lineno}: "
                  f"{function.__name__.replace('_', ' ')}: {e!r}")
            shutil.rmtree(place, ignore_errors=True)
    print(f"{len(CHECKS)} promises, {n_failed} broken")
    sys.exit(n_failed > 0)


if __name__ == "__main__":
    main()
