# Sourced by mount_*.sh: a scratch folder with a checkpoint, mounts that are
# gone when the script ends however it ends, and a watchdog that aborts FUSE
# connections, since a reader of a mount that nobody serves cannot be killed.
#
#   $work   scratch        $src   the checkpoint (Hugging Face form)
#   $mnt    mountpoint     $spec  a layout of four ranks, YAML
#
# Needs RETILE_BIN and RETILE_PYTHON.  Exits 77 without /dev/fuse.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
fuse=${RETILE_BIN:?}/retile-fuse
retile=$RETILE_BIN/retile
python=${RETILE_PYTHON:?}
deadline_s=${RETILE_MOUNT_DEADLINE:-100}
n_failed=0

if [[ ! -c /dev/fuse ]]; then
    echo "skipped: no /dev/fuse"
    exit 77
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/retile-mount.XXXXXX")
chmod 755 "$work"
src=$work/src
mnt=$work/mnt
spec=$work/four.yaml
mkdir "$mnt"

# Device numbers of the mounts below $work, "0:53".
our_devices() {
    awk -v at="$work/" 'index($5, at) == 1 { print $3 }' /proc/self/mountinfo
}

# Free whoever waits for a mount of ours, then take the mounts away.
abort_mounts() {
    local device point
    for device in $(our_devices); do
        echo 1 2>/dev/null >"/sys/fs/fuse/connections/${device#*:}/abort" ||
            true
    done
    for point in $(awk -v at="$work/" 'index($5, at) == 1 { print $5 }' \
        /proc/self/mountinfo); do
        fusermount3 -u -z "$point" 2>/dev/null || umount -l "$point" || true
    done
}

if ((EUID == 0)) && ! mountpoint -q /sys/fs/fuse/connections; then
    mount -t fusectl none /sys/fs/fuse/connections 2>/dev/null || true
fi

# The watchdog ends when the script closes its end of the pipe.
exec {alive}> >(
    rc=0
    read -r -t "$deadline_s" _ || rc=$?
    if ((rc > 128)); then
        echo "watchdog: $deadline_s s are over, aborting mounts" >&2
        abort_mounts
        kill -TERM $$ 2>/dev/null || true
    fi
)

finish() {
    local rc=$?
    trap - EXIT
    exec {alive}>&-
    abort_mounts
    if ((rc == 0 && n_failed > 0)); then
        rc=1
    fi
    if ((rc == 0 || rc == 77)); then
        rm -rf "$work"
    else
        echo "kept: $work" >&2
    fi
    exit "$rc"
}
trap finish EXIT
trap 'exit 1' TERM INT

fail() {
    echo "FAILED: $*" >&2
    n_failed=$((n_failed + 1))
}

# is "what" EXPECTED GOT
is() {
    if [[ $2 == "$3" ]]; then
        echo "ok: $1"
    else
        fail "$1: expected \"$2\", got \"$3\""
    fi
}

# ok "what" COMMAND...: it succeeds.
ok() {
    local what=$1
    shift
    if "$@"; then
        echo "ok: $what"
    else
        fail "$what: exit $? from: $*"
    fi
}

# exits "what" CODE PATTERN COMMAND...: its exit code, and its one line.
exits() {
    local what=$1 want=$2 pattern=$3 rc=0 text
    shift 3
    text=$("$@" 2>&1 >/dev/null) || rc=$?
    if [[ $rc == "$want" && $text =~ $pattern && $text != *$'\n'* ]]; then
        echo "ok: $what"
    else
        fail "$what: expected exit $want and /$pattern/, got exit $rc: $text"
    fi
}

status() { # KEY
    "$python" -c '
import json, sys
print(json.load(open(sys.argv[1]))[sys.argv[2]])' "$mnt/.retile/status" "$1"
}

# How many events tell of a failure.
n_failures() {
    grep -cE '"level":"(error|warning)"' "$mnt/.retile/events" || true
}

is_mounted() {
    awk -v at="$mnt" '$5 == at { found = 1 } END { exit !found }' \
        /proc/self/mountinfo
}

# Wait until process $1 is gone, at most 10 s.
gone() {
    timeout 10 tail --pid="$1" -f /dev/null
}

# Mount $src (or FROM) with these options; $server is the mount's process (the
# holder: it ends last).
start() {
    "$fuse" "${from:-$src}" "$mnt" "$@"
    server=$(status holder)
}

stop() {
    fusermount3 -u "$mnt"
    gone "$server"
}

"$python" "$here/mount_check.py" make "$src" "$spec"
