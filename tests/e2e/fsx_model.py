#!/usr/bin/env python3
"""Random operations on files of a folder, against a model in memory.

    fsx_model.py DIR        RETILE_CASES operations (3000), RETILE_SEED

Files have a few names and many handles; each operation is done to the file and
to a bytearray, and what is read must be what the bytearray has: through any
handle or map, by any name, also of files that were unlinked or replaced while
open.  At the end every file is read again by a handle of its own.  The seed is
printed; with it the same operations are done.
"""
import ctypes
import errno
import mmap
import os
import random
import sys

MAX_BYTES = 300_000
N_NAMES = 5
N_HANDLES = 8
LIBC = ctypes.CDLL(None, use_errno=True)
LAST = []  # what was done, for the story of a failure


def fallocate(fd, mode, offset, length):
    if LIBC.fallocate(ctypes.c_int(fd), ctypes.c_int(mode),
                      ctypes.c_int64(offset), ctypes.c_int64(length)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Handle:
    def __init__(self, fd, data, flags):
        self.fd, self.data, self.flags = fd, data, flags
        self.writable = flags & os.O_ACCMODE != os.O_RDONLY
        self.readable = flags & os.O_ACCMODE != os.O_WRONLY
        self.maps = []  # long-lived shared maps: (map, length)


class Model:
    def __init__(self, folder, rng):
        self.folder, self.rng = folder, rng
        self.names = {}  # name -> bytearray
        self.handles = []
        self.can_punch = True

    def path(self, name):
        return os.path.join(self.folder, name)

    def note(self, *what):
        LAST.append(" ".join(map(str, what)))
        del LAST[:-60]

    def some_name(self):
        return f"f{self.rng.randrange(N_NAMES)}"

    def some(self, condition):
        fit = [h for h in self.handles if condition(h)]
        return self.rng.choice(fit) if fit else None

    def place(self, data, beyond=20_000):
        """An offset, often at a page, often about the end, and a length."""
        rng, n = self.rng, len(data)
        at = rng.choice([rng.randrange(n + 1), rng.randrange(n // 4096 + 1) * 4096,
                         max(0, n - rng.randrange(5000)), n,
                         n + rng.randrange(beyond)])
        length = rng.choice([1, 3, 511, 4096, rng.randrange(1, 70_000)])
        return at, max(1, min(length, MAX_BYTES - at))

    @staticmethod
    def put(data, at, new):
        if len(data) < at:
            data.extend(bytes(at - len(data)))
        data[at:at + len(new)] = new

    # The operations.

    def op_open(self):
        if len(self.handles) >= N_HANDLES:
            return self.op_close()
        rng, name = self.rng, self.some_name()
        flags = rng.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR])
        if flags != os.O_RDONLY:
            flags |= rng.choice([0, 0, os.O_APPEND, os.O_TRUNC])
        flags |= rng.choice([0, os.O_CREAT, os.O_CREAT,
                             os.O_CREAT | os.O_EXCL])
        self.note("open", name, oct(flags))
        expected = 0
        if name in self.names and flags & os.O_EXCL:
            expected = errno.EEXIST
        if name not in self.names and not flags & os.O_CREAT:
            expected = errno.ENOENT
        try:
            fd = os.open(self.path(name), flags, 0o600)
        except OSError as e:
            assert e.errno == expected, f"open {name}: {e}"
            return
        assert expected == 0, f"open {name}: no {errno.errorcode[expected]}"
        data = self.names.setdefault(name, bytearray())
        if flags & os.O_TRUNC:
            self.cut_maps(data, 0)
            data.clear()
        self.handles.append(Handle(fd, data, flags))

    def op_close(self):
        if not self.handles:
            return
        handle = self.handles.pop(self.rng.randrange(len(self.handles)))
        self.note("close", handle.fd)
        for shared, _ in handle.maps:
            shared.close()
        os.close(handle.fd)

    def op_write(self):
        handle = self.some(lambda h: h.writable)
        if handle is None:
            return self.op_open()
        at, n = self.place(handle.data)
        new = self.rng.randbytes(n)
        if handle.flags & os.O_APPEND:
            at = len(handle.data)
            if at + n > MAX_BYTES:
                return
            self.note("append", handle.fd, at, n)
            done = os.write(handle.fd, new)
        else:
            self.note("pwrite", handle.fd, at, n)
            done = os.pwrite(handle.fd, new, at)
        assert done == n, f"short write: {done} of {n}"
        self.put(handle.data, at, new)

    def op_read(self):
        handle = self.some(lambda h: h.readable)
        if handle is None:
            return self.op_open()
        at, n = self.place(handle.data)
        self.note("pread", handle.fd, at, n)
        self.same(os.pread(handle.fd, n, at), handle.data[at:at + n], at)

    def same(self, got, want, at):
        if got == bytes(want):
            return
        i = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b),
                 min(len(got), len(want)))
        raise AssertionError(
            f"{len(got)} bytes instead of {len(want)} at {at}, they differ "
            f"from {at + i} on: {got[i:i + 16].hex()}, not "
            f"{bytes(want[i:i + 16]).hex()}")

    def cut_maps(self, data, n):
        """A map past the new end would raise SIGBUS: close it first."""
        for handle in self.handles:
            if handle.data is data:
                for item in [m for m in handle.maps if m[1] > n]:
                    item[0].close()
                    handle.maps.remove(item)

    def op_truncate(self):
        rng = self.rng
        by_name = rng.random() < 0.4 and self.names
        handle = None if by_name else self.some(lambda h: h.writable)
        if by_name:
            name = rng.choice(sorted(self.names))
            data = self.names[name]
        elif handle is not None:
            data = handle.data
        else:
            return
        n = rng.choice([0, rng.randrange(len(data) + 1), len(data),
                        rng.randrange(MAX_BYTES)])
        self.cut_maps(data, n)
        if by_name:
            self.note("truncate", name, n)
            os.truncate(self.path(name), n)
        else:
            self.note("ftruncate", handle.fd, n)
            os.ftruncate(handle.fd, n)
        if n < len(data):
            del data[n:]
        else:
            data.extend(bytes(n - len(data)))

    def op_map(self):
        """Map, read or write all of it or a part; perhaps keep the map."""
        rng = self.rng
        handle = self.some(lambda h: h.readable and len(h.data) > 0)
        if handle is None:
            return
        may_write = handle.writable and not handle.flags & os.O_APPEND
        n = len(handle.data)
        kind = rng.choice(["shared", "shared", "private"])
        self.note("mmap", handle.fd, n, kind)
        prot = mmap.PROT_READ | (mmap.PROT_WRITE if may_write else 0)
        mapped = mmap.mmap(handle.fd, n, mmap.MAP_SHARED if kind == "shared"
                           else mmap.MAP_PRIVATE, prot)
        self.use_map(mapped, handle.data, n, may_write and kind == "shared")
        if kind == "shared" and rng.random() < 0.3 and len(handle.maps) < 2:
            handle.maps.append((mapped, n))
        else:
            mapped.close()

    def use_map(self, mapped, data, n, may_write):
        rng = self.rng
        at = rng.randrange(n)
        length = rng.randrange(1, min(n - at, 30_000) + 1)
        if may_write and rng.random() < 0.6:
            new = rng.randbytes(length)
            self.note("  stores", at, length)
            mapped[at:at + length] = new
            data[at:at + length] = new
            if rng.random() < 0.3:
                self.note("  msync")
                mapped.flush()
        else:
            self.note("  loads", at, length)
            self.same(mapped[at:at + length], data[at:at + length], at)

    def op_kept_map(self):
        handle = self.some(lambda h: h.maps)
        if handle is None:
            return self.op_map()
        mapped, n = self.rng.choice(handle.maps)
        self.note("kept map of", handle.fd)
        self.use_map(mapped, handle.data, n,
                     handle.writable and not handle.flags & os.O_APPEND)

    def op_punch(self):
        handle = self.some(lambda h: h.writable and len(h.data) > 0)
        if handle is None or not self.can_punch:
            return
        at, n = self.place(handle.data, 1)
        self.note("punch", handle.fd, at, n)
        try:
            fallocate(handle.fd, 3, at, n)
        except OSError as e:
            assert e.errno == errno.EOPNOTSUPP, f"punch: {e}"
            self.can_punch = False
            return
        end = min(at + n, len(handle.data))
        if at < end:
            handle.data[at:end] = bytes(end - at)

    def op_reserve(self):
        handle = self.some(lambda h: h.writable)
        if handle is None:
            return
        at, n = self.place(handle.data)
        keeps = self.rng.random() < 0.5
        self.note("fallocate", handle.fd, at, n, "keep size" * keeps)
        try:
            fallocate(handle.fd, 1 if keeps else 0, at, n)
        except OSError as e:
            assert e.errno == errno.EOPNOTSUPP, f"fallocate: {e}"
            return
        if not keeps and at + n > len(handle.data):
            handle.data.extend(bytes(at + n - len(handle.data)))

    def op_rename(self):
        if not self.names:
            return
        old, new = self.rng.choice(sorted(self.names)), self.some_name()
        self.note("rename", old, new)
        os.rename(self.path(old), self.path(new))
        if old != new:
            self.names[new] = self.names.pop(old)

    def op_unlink(self):
        if not self.names:
            return
        name = self.rng.choice(sorted(self.names))
        self.note("unlink", name)
        os.unlink(self.path(name))
        del self.names[name]

    def op_sync(self):
        handle = self.some(lambda h: True)
        if handle is not None:
            self.note("fsync", handle.fd)
            self.rng.choice([os.fsync, os.fdatasync])(handle.fd)

    def op_look(self):
        handle = self.some(lambda h: True)
        if handle is not None:
            self.note("fstat", handle.fd)
            n = os.fstat(handle.fd).st_size
            assert n == len(handle.data), f"size {n}, not {len(handle.data)}"
        self.note("listdir")
        assert sorted(os.listdir(self.folder)) == sorted(self.names), "names"
        for name, data in self.names.items():
            self.note("stat", name)
            n = os.stat(self.path(name)).st_size
            assert n == len(data), f"{name}: size {n}, not {len(data)}"

    def op_copy_within(self):
        source = self.some(lambda h: h.readable and len(h.data) > 0)
        target = self.some(lambda h: h.writable and
                           not h.flags & os.O_APPEND)
        if source is None or target is None or source.data is target.data:
            return
        at, n = self.place(source.data, 1)
        to, _ = self.place(target.data)
        n = min(n, MAX_BYTES - to)
        if n <= 0:
            return
        self.note("copy_file_range", source.fd, at, target.fd, to, n)
        done = os.copy_file_range(source.fd, target.fd, n, at, to)
        want = source.data[at:at + n]
        assert 0 <= done <= len(want) and (done > 0 or not want), done
        if done > 0:
            self.put(target.data, to, want[:done])

    def check_all(self):
        for handle in self.handles:
            if handle.readable:
                self.note("final pread", handle.fd)
                self.same(os.pread(handle.fd, MAX_BYTES * 2, 0), handle.data, 0)
            for shared, _ in handle.maps:
                shared.close()
            os.close(handle.fd)
        self.handles.clear()
        assert sorted(os.listdir(self.folder)) == sorted(self.names), "names"
        for name, data in self.names.items():
            self.note("final read", name)
            with open(self.path(name), "rb") as file:
                self.same(file.read(), data, 0)
            os.unlink(self.path(name))


OPS = {"open": 10, "close": 5, "write": 20, "read": 20, "truncate": 6, "map": 10,
       "kept_map": 10, "punch": 4, "reserve": 3, "rename": 4, "unlink": 2,
       "sync": 3, "look": 6, "copy_within": 3}


def main():
    folder = sys.argv[1]
    seed = int(os.environ.get("RETILE_SEED") or random.randrange(1 << 32))
    n = int(os.environ.get("RETILE_CASES") or 3000)
    print(f"RETILE_SEED={seed}", flush=True)
    rng = random.Random(seed)
    model = Model(folder, rng)
    names, weights = list(OPS), list(OPS.values())
    try:
        for _ in range(n):
            getattr(model, "op_" + rng.choices(names, weights)[0])()
        model.check_all()
    except (AssertionError, OSError) as e:
        print("\n".join(LAST), file=sys.stderr)
        sys.exit(f"FAILED (RETILE_SEED={seed}): {e!r}")
    print(f"{n} operations agree with the model")


if __name__ == "__main__":
    main()
