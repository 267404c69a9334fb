#!/usr/bin/env bash
# The command line of retile-fuse: what it refuses, with which exit code.
source "$(dirname "$0")/mount_lib.sh"

exits "no arguments" 2 'usage' "$fuse"
exits "one argument" 2 'usage' "$fuse" "$src"
exits "three arguments" 2 'too many' "$fuse" "$src" "$mnt" x
exits "unknown option" 2 'unknown option -x' "$fuse" -x "$src" "$mnt"
exits "unknown -o" 2 'layuot; did you mean layout' \
    "$fuse" "$src" "$mnt" -o layuot=x
exits "a value that is none" 2 'takes no value' \
    "$fuse" "$src" "$mnt" -o allow_other=1
exits "a missing value" 2 'needs a value' "$fuse" "$src" "$mnt" -o threads
exits "threads" 2 'bad value' "$fuse" "$src" "$mnt" -o threads=1
exits "mask" 2 'bad value' "$fuse" "$src" "$mnt" -o mask=speed
exits "a layout without a file" 2 'NAME:FILE' "$fuse" "$src" "$mnt" -o layout=a
exits "a layout's file" 3 'layout a: .*nowhere' \
    "$fuse" "$src" "$mnt" -o layout=a:"$work/nowhere.yaml"
exits "a layout's name" 2 'layout' "$fuse" "$src" "$mnt" -o layout=a/b:"$spec"
exits "a layout twice" 2 'twice' \
    "$fuse" "$src" "$mnt" -o layout=a:"$spec" -o layout=a:"$spec"
echo 'mesh: {tp: 2}' >"$work/bad.yaml"
exits "a bad layout" 1 'bad.yaml' \
    "$fuse" "$src" "$mnt" -o layout=a:"$work/bad.yaml"
for value in replicas=maybe commit_wait=soon commit_wait=-1 save_expire=1h \
    digest=yes compact=1 verify=write uid=root gid=4294967295; do
    exits "$value" 2 'bad value' "$fuse" "$src" "$mnt" -o "$value"
done
exits "--layout of a directory" 2 'store' \
    "$fuse" "$src" "$mnt" --layout "$spec"
exits "--layout that is none" 2 'lama' \
    "$fuse" --store "$src" --job bert "$mnt" --layout lama:tp=2
exits "--layout with a fault in it" 1 'bad.yaml' \
    "$fuse" --store "$src" --job bert "$mnt" --layout "$work/bad.yaml"
exits "no source" 3 'none' "$fuse" "$work/none" "$mnt"
exits "no mountpoint" 3 'mountpoint' "$fuse" "$src" "$work/none"
exits "a file as mountpoint" 2 'no directory' "$fuse" "$src" "$spec"
mkdir "$src/.inside"
exits "a mountpoint inside the source" 2 'in each other' \
    "$fuse" "$src" "$src/.inside"
rmdir "$src/.inside"
exits "a source inside the mountpoint" 2 'in each other' \
    "$fuse" "$src" "$work"
exits "a source that is no checkpoint" 1 '.' "$fuse" "$here" "$mnt"
ok "nothing was mounted" eval '! is_mounted'
for option in --help --version "-o help"; do
    ok "$option" eval '"$fuse" $option >/dev/null'
done

mkdir "$work/a, b"
cp "$src"/* "$work/a, b"
from="$work/a, b" start -o layout="four:$spec,noatime" -o noexec
ok "a source with a comma and a space" ls "$mnt/as/four/ranks/000"
ok "options of the kernel" grep -q " $mnt .*noexec.*noatime" /proc/mounts
ok "read-only, no devices" grep -q " $mnt .*ro,nosuid,nodev" /proc/mounts
ok "type" grep -q " $mnt fuse.retile " /proc/mounts
stop

ln -s "$spec" "$work/a,b.yaml"
start -o layout="four:${work//,/\\,}/a\\,b.yaml"
ok "an escaped comma" ls "$mnt/as/four"
stop

cd "$work"
"$retile" mount src mnt -o layout=four:four.yaml -o layout=too:four.yaml
server=$(status holder)
ok "retile mount, relative paths" ls "$mnt/as/four/ranks/000"
ok "retile mount, -o twice" ls "$mnt/as/too/ranks/000"
exits "a mount over a mount" 2 'mounted there already' "$fuse" "$src" "$mnt"
stop
