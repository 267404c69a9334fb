#!/usr/bin/env bash
# Files of a store's version that are whole blobs are read by the kernel itself,
# where it can; everywhere else the same bytes come by the other ways.
source "$(dirname "$0")/mount_lib.sh"

store=$work/store
job=(--store "$store" --job bert)
four=$work/four
file=versions/1/ranks/002/model.safetensors

quietly() { "$@" >/dev/null 2>&1; }
start_store() {
    "$retile" mount "${job[@]}" "$mnt" "$@"
    server=$(status holder)
}
# How many reads the server was asked for, but for those of the status.
reads_of() { # COMMAND...
    local before mine
    before=$(status reads)
    mine=$(($(status reads) - before))
    before=$(status reads)
    "$@" >/dev/null
    echo $(($(status reads) - before - mine))
}
unasked() { # COMMAND...
    (($(reads_of "$@") == 0))
}
maps() {
    "$python" - "$mnt/$file" "$four/ranks/002/model.safetensors" <<'PY'
import mmap, pathlib, sys
for flags in mmap.MAP_SHARED, mmap.MAP_PRIVATE:
    with open(sys.argv[1], "rb") as file:
        memory = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ)
        assert memory[:] == pathlib.Path(sys.argv[2]).read_bytes()
PY
}
same() {
    ok "$1: bytes" diff -r "$four/ranks" "$mnt/versions/1/ranks"
    ok "$1: objects" cmp "$four/retile.json" "$mnt/versions/1/retile.json"
    ok "$1: maps" maps
    ok "$1: a strided layout" diff -r "$work/three/ranks" \
        "$mnt/versions/1/as/fsdp2:dp=3/ranks"
    ok "$1: a rescaled version" diff -r "$work/three/ranks" \
        "$mnt/versions/2/ranks"
    is "$1: nothing failed" 0 "$(n_failures)"
}

"$retile" convert "$src" "$four" --to "$spec" 2>/dev/null >&2
"$retile" convert "$src" "$work/three" --to fsdp2:dp=3 2>/dev/null >&2
ok "a store" quietly "$retile" store init "$store"
ok "import" quietly "$retile" import "$four" "${job[@]}"
ok "rescale" quietly "$retile" rescale "${job[@]}" --to fsdp2:dp=3

# Compaction would make whole files of those that are gathered.
start_store -o compact=off
class=$(status class)
if ((EUID == 0)) && [[ $class != passthrough+* ]]; then
    stop
    echo "skipped: the kernel passes no files through ($class)"
    exit 77
fi
same "passed through"
if ((EUID == 0)); then
    ok "the features say so" grep -q '"passthrough"' "$mnt/.retile/status"
    ok "whole files are not asked for" unasked cat "$mnt/$file"
    ok "nor are objects" unasked cat "$mnt/versions/1/retile.json"
    ok "gathered ones are" eval \
        '! unasked cat "$mnt/versions/2/ranks/002/model.safetensors"'
    exec {one}<"$mnt/$file"
    exec {two}<"$mnt/$file"
    exec {one}<&-
    ok "of several handles the last one reads" \
        cmp "/proc/self/fd/$two" "$four/ranks/002/model.safetensors"
    exec {two}<&-
    for _ in 1 2 3 4 5 6 7 8; do
        cat "$mnt/$file" >/dev/null &
        other=$!
        cat "$mnt/$file" >/dev/null
        wait $other
    done
    ok "opened again and again" \
        cmp "$mnt/$file" "$four/ranks/002/model.safetensors"
fi
text=$(LC_ALL=C dd if=/dev/null of="$mnt/$file" conv=notrunc 2>&1) || true
ok "cannot be written" grep -q 'Read-only\|denied' <<<"$text"
stop

start_store -o mask=passthrough
is "masked: class" direct "$(status class)"
same "masked"
ok "masked: the server is asked" eval '! unasked cat "$mnt/$file"'
stop

start_store -o mask=passthrough+allow_mmap
is "an old kernel: class" page "$(status class)"
same "an old kernel"
stop

start_store -o cache=page
is "the page cache was asked for: class" page "$(status class)"
same "the page cache"
stop

start_store -o mask=allow_mmap
if ((EUID == 0)); then
    is "passthrough without shared maps of other files" passthrough+page \
        "$(status class)"
fi
same "without shared maps"
stop

# A directory's files may change, so they are never passed through.
from=$four start
is "a directory: class" direct "$(status class)"
stop
