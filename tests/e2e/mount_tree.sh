#!/usr/bin/env bash
# The tree of a mounted directory, its attributes, and what it refuses.
source "$(dirname "$0")/mount_lib.sh"

start -o layout=four:"$spec"

is "names in the root" ".retile as hf layout.yaml npy ranks retile.json" \
    "$(ls -A "$mnt" | LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//')"
is "named layouts are listed" "four" "$(ls "$mnt/as")"
is "ranks of a layout" "000 001 002 003" "$(echo $(ls "$mnt/as/four/ranks"))"
is "a short form appears when asked for" "000 001 002" \
    "$(echo $(ls "$mnt/as/fsdp2:dp=3/ranks"))"
is "and is then listed" "four fsdp2:dp=3" "$(echo $(ls "$mnt/as"))"
is "a name that is no short form does not exist" "no" \
    "$([[ -e $mnt/as/nonsense ]] && echo yes || echo no)"
is "nor does one of no preset" "no" \
    "$([[ -e $mnt/as/none:tp=2 ]] && echo yes || echo no)"
ok "which is not looked for as a file" \
    grep -q 'as/none:tp=2.*neither a short form' "$mnt/.retile/events"
is "nor does one that is wrong" "no" \
    "$([[ -e $mnt/as/fsdp2:dq=3 ]] && echo yes || echo no)"
ok "and the reason is an event" grep -q 'as/fsdp2:dq=3.*"reason":"..*dq' \
    "$mnt/.retile/events"
is "a hidden name in as/ is no event" "no" \
    "$([[ -e $mnt/as/.hidden ]] || grep -q hidden "$mnt/.retile/events" &&
        echo yes || echo no)"
is "a missing file" "no" "$([[ -e $mnt/hf/none ]] && echo yes || echo no)"

for view in four fsdp2:dp=3; do
    to=$view
    [[ $view == four ]] && to=$spec
    "$retile" convert "$src" "$work/out-$view" --to "$to" 2>/dev/null >&2
    ok "as/$view is what convert writes" \
        diff -r "$work/out-$view" "$mnt/as/$view"
done
"$retile" convert "$src" "$work/out-hf" --to hf 2>/dev/null >&2
ok "hf/ is what convert writes" diff -r "$work/out-hf" "$mnt/hf"
ok "the job's object is as it was" cmp "$src/retile.json" "$mnt/retile.json"

is "owner and modes" "$(id -u):$(id -g) 500 $(id -u):$(id -g) 400" \
    "$(stat -c '%u:%g %a' "$mnt" "$mnt/layout.yaml" | tr '\n' ' ' |
        sed 's/ $//')"
is "times are the newest source file's" \
    "$(stat -c %Y "$src"/* | sort -n | tail -1)" \
    "$(stat -c %Y "$mnt/layout.yaml")"
is "a short file's reader needs no large buffer" 4096 \
    "$(stat -c %o "$mnt/layout.yaml")"
is "sizes of a listing and of a stat agree" \
    "$(stat -c %s "$mnt/as/four/ranks/002/model.safetensors")" \
    "$(ls -l "$mnt/as/four/ranks/002" | awk '/model/ { print $5 }')"
"$python" - "$mnt" <<'PY' || fail "extended attributes"
import errno, os, sys
mnt = sys.argv[1]
table = os.getxattr(mnt, "user.retile.table")
for path in ("", "/hf", "/hf/model.safetensors", "/as/four/ranks/000"):
    names = os.listxattr(mnt + path)
    assert "user.retile.table" in names, names
    assert os.getxattr(mnt + path, "user.retile.table") == table
own, four = (os.getxattr(mnt + path, "user.retile.layout")
             for path in ("/ranks", "/as/four"))
assert len(own) == len(four) == 32 and own != four
try:
    os.getxattr(mnt, "user.other")
    sys.exit("user.other exists")
except OSError as error:
    assert error.errno == errno.ENODATA, error
PY
is "the form" "hf" "$(status form)"
is "tensors" "13" "$(status tensors)"
is "open handles are counted back" "0" "$(status open_handles)"

for refused in "touch $mnt/new" "rm $mnt/layout.yaml" "mkdir $mnt/as/new" \
    "truncate -s 0 $mnt/layout.yaml" "mv $mnt/hf $mnt/fh" \
    "ln -s x $mnt/link" "chmod 777 $mnt/hf"; do
    text=$(LC_ALL=C $refused 2>&1) && fail "$refused"
    is "refused: ${refused%% *}" "Read-only file system" "${text##*: }"
done

stop
ok "unmounted" eval '! is_mounted'

# The other forms: ranks mounted again give back the original.
from=$work/out-four start
is "the form of ranks" "plain" "$(status form)"
ok "ranks/ of a plain directory are its own" \
    diff -r "$work/out-four/ranks" "$mnt/ranks"
ok "and its hf/ is the original's" diff -r "$work/out-hf" "$mnt/hf"
stop

# Pieces of more blobs than a read keeps in mind at once, and than it keeps
# apart: 1100 ranks, each with 4 bytes of every row.
"$python" "$here/mount_check.py" wide "$work/wide" "$work/wide.yaml"
"$retile" convert "$work/wide" "$work/many" --to "$work/wide.yaml" \
    2>/dev/null >&2
"$retile" convert "$work/many" "$work/wide-hf" --to hf 2>/dev/null >&2
from=$work/many start
ok "a read of more blobs than are kept in mind" \
    cmp "$work/wide-hf/model.safetensors" "$mnt/hf/model.safetensors"
stop
