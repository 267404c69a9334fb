#!/usr/bin/env bash
# Many readers at random offsets get the bytes that convert writes, with direct
# I/O and through the page cache, on newer and older kernels' paths.
source "$(dirname "$0")/mount_lib.sh"

"$retile" convert "$src" "$work/four" --to "$spec" 2>/dev/null >&2
layout=layout=four:$spec

check() { # NAME CLASS OPTIONS
    start -o "$layout${3:+,$3}"
    [[ $2 == any ]] || is "$1: class" "$2" "$(status class)"
    ok "$1: random reads" \
        "$python" "$here/mount_check.py" readers "$mnt/as/four" "$work/four" 4
    ok "$1: shared maps" "$python" "$here/mount_check.py" maps "$mnt" "$src"
    ok "$1: sequential" cmp "$work/four/ranks/003/model.safetensors" \
        "$mnt/as/four/ranks/003/model.safetensors"
    is "$1: failed reads" 0 "$(status failed_reads)"
    stop
}

check "as the kernel offers" any ""
check "no maps of direct I/O" page mask=allow_mmap
check "a kernel before INIT_EXT" page mask=init_ext+parallel_dirops
check "small requests" any mask=max_pages+async_read+readdirplus
check "page cache asked for" page cache=page,threads=8
check "no view is kept" any views=0,threads=2
