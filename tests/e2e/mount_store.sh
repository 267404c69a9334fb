#!/usr/bin/env bash
# A job of a store, mounted: versions, `current`, and which of them are held.
source "$(dirname "$0")/mount_lib.sh"

store=$work/store
job=(--store "$store" --job bert)

quietly() { "$@" >/dev/null 2>&1; }
start_store() {
    "$retile" mount "${job[@]}" "$mnt" "$@"
    server=$(status holder)
}
release() { "$retile" version release "$1" "${job[@]}"; }
open_versions() {
    "$python" -c '
import json, sys
document = json.load(open(sys.argv[1]))
print(*(version["number"] for version in document["open"]))' \
        "$mnt/.retile/status"
}
# eventually "what" COMMAND...: it succeeds within 5 s (the kernel tells a
# server of a close, and the store of a publication, a moment later).
eventually() {
    local what=$1 until=$((SECONDS + 5))
    shift
    until quietly "$@"; do
        if ((SECONDS >= until)); then
            fail "$what: not within 5 s: $*"
            return
        fi
        read -r -t 0.02 <> <(:) || true
    done
    echo "ok: $what"
}
is_open() { [[ " $(open_versions) " == *" $1 "* ]]; }
is_not_open() { ! is_open "$1"; }

# What cannot be mounted.
exits "no store" 1 "no store" "$fuse" --store "$src" --job bert "$mnt"
ok "a store" quietly "$retile" store init "$store"
exits "a store without a job" 2 "go together" "$fuse" --store "$store" "$mnt"
exits "a store and a directory" 2 "usage" "$fuse" "${job[@]}" "$src" "$mnt"
exits "a store knows its tables" 2 "store knows" \
    "$fuse" "${job[@]}" --from hf "$mnt"

exits "a job that the store does not know" 3 "no job .*-o new" \
    "$fuse" "${job[@]}" "$mnt"
exits "new jobs are a store's" 2 "no jobs" "$fuse" "$src" "$mnt" -o new
exits "a directory has no digests" 2 "no digests" \
    "$fuse" "$src" "$mnt" -o verify=read

# A job without a version: its first one may be saved, or come otherwise.
start_store -o new
is "a job without versions has a generation" "1" "$(readlink "$mnt/gen/current")"
is "that loads nothing" "save" "$(echo $(ls "$mnt/gen/1"))"
is "nor is there a version" "" "$(ls "$mnt/versions")"
is "nor a link to the current one" ".retile gen versions" \
    "$(echo $(ls -A "$mnt"))"
is "which nobody remembers" "no" "$([[ -L $mnt/current ]] && echo yes || echo no)"

"$retile" convert "$src" "$work/four" --to "$spec" 2>/dev/null >&2
"$retile" convert "$src" "$work/three" --to fsdp2:dp=3 2>/dev/null >&2
"$retile" convert "$src" "$work/hf" --to hf 2>/dev/null >&2
ok "import" quietly "$retile" import "$work/four" "${job[@]}"
is "when it has a version, it has the link" "versions/1" "$(readlink "$mnt/current")"
eventually "and a generation that loads it" test -e "$mnt/gen/2/load/layout.yaml"
stop

start_store -o layout=four:"$spec"
is "names in the root" ".retile current gen versions" "$(echo $(ls -A "$mnt"))"
is "one version" "1" "$(echo $(ls "$mnt/versions"))"
is "current" "versions/1" "$(readlink "$mnt/current")"
is "names in a version" "as hf layout.yaml npy ranks retile.json" \
    "$(echo $(ls -A "$mnt/versions/1"))"
ok "ranks/ are as they were imported" \
    diff -r "$work/four/ranks" "$mnt/versions/1/ranks"
ok "through current, too" diff -r "$work/four/ranks" "$mnt/current/ranks"
ok "hf/ is what convert writes" diff -r "$work/hf" "$mnt/current/hf"
ok "as/ is what convert writes" \
    diff -r "$work/three" "$mnt/current/as/fsdp2:dp=3"
is "named layouts" "four fsdp2:dp=3" "$(echo $(ls "$mnt/current/as"))"
is "the form" "store" "$(status form)"
is "times are the version's making" "yes" \
    "$([[ $mnt/current/layout.yaml -nt $work/three/layout.yaml ]] &&
        echo yes)"
for none in 0 01 2 +1 -1 x 1x 99999999999 18446744073709551617; do
    is "no version $none" "no" \
        "$([[ -e $mnt/versions/$none ]] && echo yes || echo no)"
done
is "that is no event" "0" "$(n_failures)"
is "links are not made" "Read-only file system" \
    "$(LC_ALL=C ln -sfn versions/7 "$mnt/current" 2>&1 | sed 's/.*: //')"

# Another version under a reader's eyes.
"$python" "$here/mount_check.py" readers "$mnt/versions/1/ranks" \
    "$work/four/ranks" 3 >"$work/readers.txt" 2>&1 &
readers=$!
exec {held}<"$mnt/versions/1/ranks/002/model.safetensors"
head -c 100000 <&"$held" >"$work/held"
exec {dir}<"$mnt/current/ranks/003"
cached=$(cat "$mnt/current/layout.yaml")
ok "rescale" quietly "$retile" rescale "${job[@]}" --to fsdp2:dp=3
is "current flips at once" "versions/2" "$(readlink "$mnt/current")"
is "and shows the new layout" "000 001 002" "$(echo $(ls "$mnt/current/ranks"))"
ok "another text" test "$cached" != "$(cat "$mnt/current/layout.yaml")"
is "both are listed" "1 2" "$(echo $(ls "$mnt/versions"))"
ok "the new one is what convert writes" \
    diff -r "$work/three/ranks" "$mnt/current/ranks"
ok "the old one is as it was" \
    diff -r "$work/four/ranks" "$mnt/versions/1/ranks"
ok "its readers saw nothing else" wait "$readers"
cat <&"$held" >>"$work/held"
ok "nor did the old handle" \
    cmp "$work/held" "$work/four/ranks/002/model.safetensors"
ok "a directory's handle keeps its version" \
    cmp "/proc/self/fd/$dir/optim.safetensors" \
    "$work/four/ranks/003/optim.safetensors"

# Holding.
exits "a version in use is not released" 1 "bert@1" release 1
exec {held}<&-
exits "nor while a directory of it is open" 1 "bert@1" release 1
exec {dir}<&-
eventually "it is closed when nobody uses it" is_not_open 1
ok "and can be released" quietly release 1
is "then it is gone" "2" "$(echo $(ls "$mnt/versions"))"
ok "and cannot be named" test ! -e "$mnt/versions/1"
ok "its bytes are version 2's" \
    diff -r "$work/three/ranks" "$mnt/versions/2/ranks"
is "nothing failed" "0" "$(n_failures)"
ok "the current one stays open" is_open 2

# A mount that nobody looks at lets go of what is no longer current.
ok "rescale again" quietly "$retile" rescale "${job[@]}" --to "$spec"
eventually "the one before is released" release 2
is "current" "versions/3" "$(readlink "$mnt/current")"
ok "version 3 is the first one's layout" \
    diff -r "$work/four/ranks" "$mnt/current/ranks"

# A working directory in an old version: released once it is left.
(
    cd "$mnt/versions/3/ranks"
    quietly "$retile" rescale "${job[@]}" --to fsdp2:dp=3
    is "a working directory keeps its version" "000 001 002 003" "$(echo $(ls))"
    exits "a version that is worked in is not released" 1 "bert@3" release 3
)
eventually "but after that" release 3
ok "rescale back" quietly "$retile" rescale "${job[@]}" --to "$spec"

# Shared maps hold a version like handles do.
"$python" - "$mnt/versions/5/ranks/001/model.safetensors" \
    "$work/four/ranks/001/model.safetensors" "$work/mapped" "$work/go" <<'PY' &
import mmap, os, pathlib, sys
shown, want, mapped, go = sys.argv[1:]
with open(shown, "rb") as file:
    memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
pathlib.Path(mapped).touch()
with open(go) as fifo:  # opens once there is a writer
    fifo.read()
assert memory[:] == pathlib.Path(want).read_bytes()
PY
mapper=$!
mkfifo "$work/go"
eventually "a map" test -e "$work/mapped"
ok "a version as one file" quietly "$retile" rescale "${job[@]}" --to hf
exits "a mapped version is not released" 1 "bert@5" release 5
: >"$work/go"
ok "the map shows the old bytes" wait "$mapper"
eventually "and then it is released" release 5
ok "a layout that is one file" diff -r "$work/hf" "$mnt/current/hf"

# A mount whose holder is killed goes away by itself and leaves nothing behind.
exec {held}<"$mnt/current/hf/model.safetensors"
kill -9 "$server"
gone "$server"
exec {held}<&-
eventually "the mount is gone" eval '! is_mounted'
eventually "and what it took of the store" \
    eval '[[ -z $(ls "$store/staging") ]]'
ok "rescale" quietly "$retile" rescale "${job[@]}" --to "$spec"
ok "the store is consistent" quietly "$retile" store fsck "$store"
ok "nobody holds what it held" quietly release 6
ok "sweep" quietly "$retile" store sweep "$store"
ok "every byte" quietly "$retile" store scrub "$store"

start_store
ok "mounted again" diff -r "$work/four/ranks" "$mnt/current/ranks"
stop
ok "unmounted" eval '! is_mounted'
