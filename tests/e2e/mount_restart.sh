#!/usr/bin/env bash
# Servers that follow another one, in bad conditions: at once dead, stuck before
# they serve, started by who ignores its children; and what a server must not
# do with handles that another one opened.
source "$(dirname "$0")/mount_lib.sh"
export LC_ALL=C

store=$work/store
job=(--store "$store" --job bert)
three=$work/three
rank=ranks/002/model.safetensors
gathered=versions/1/as/fsdp2:dp=3/$rank

quietly() { "$@" >/dev/null 2>&1; }
pause() { read -r -t "$1" _ <> <(:) || true; }
start_store() {
    "$fuse" "${job[@]}" "$mnt" -o log="$work/log" "$@"
    server=$(status holder)
}
check() {
    "$python" "$here/holder_check.py" "$@"
}
serves() { # "what"
    ok "$1" timeout 20 cmp "$mnt/$gathered" "$three/$rank"
}

"$retile" convert "$src" "$three" --to fsdp2:dp=3 2>/dev/null >&2
ok "a store" quietly "$retile" store init "$store"
ok "import" quietly "$retile" import "$src" "${job[@]}"

start_store
if ! grep -q '"resend"' "$mnt/.retile/status"; then
    stop
    echo "skipped: the kernel sends no request again"
    exit 77
fi
stop

# Who started it has odd signals.
"$python" -c '
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, list(signal.Signals))
os.execv(sys.argv[1], sys.argv[1:])' "$fuse" "${job[@]}" "$mnt"
server=$(status holder)
kill -9 "$(status pid)"
serves "SIGCHLD was ignored: a server that died is noticed"
kill -TERM "$server"
ok "all signals were blocked: SIGTERM ends it" gone "$server"

# Handles of an earlier server.
# A read takes long enough for others to close what it needs.
RETILE_FAULT=mount.read=slow:20@1+ \
    start_store -o mask=passthrough,views=0,restarts=100,threads=8
for i in 1 2 3; do
    ok "a file is read while its other handles are closed" \
        check closing "$mnt/$gathered" "$three/$rank" 200 "$mnt/.retile/status"
    ok "a text is made anew by several threads" \
        check texts "$mnt/.retile/status" 20
    is "only those servers died that were killed" $((2 * i)) "$(status restarts)"
done
stop

start_store -o hang=1,restarts=100
ok "a server that dies as it gets the device" \
    quietly check next "$server" "$(status pid)"
serves "is followed by another one"
stuck=$(check stuck "$server" "$(status pid)")
begin=$SECONDS
serves "one that is stuck before it serves is replaced"
ok "but a slow one has time, $((SECONDS - begin)) s" \
    [ $((SECONDS - begin)) -ge 8 ]
ok "it is gone" eval '! kill -0 $stuck 2>/dev/null'
ok "the event says why" grep -q 'restarted.*does not come up' \
    "$mnt/.retile/events"
stop

# A mount that was stopped as a whole was not late with its answer.
RETILE_FAULT=mount.read=slow:16000 start_store -o hang=1,threads=4
cat "$mnt/$gathered" >"$work/got" &
reader=$!
pause 1
before=$(status pid)
kill -STOP "$before" "$server"
pause 11.5
kill -CONT "$server" "$before"
ok "a reader of a stopped mount" wait $reader
ok "has its bytes" cmp "$work/got" "$three/$rank"
is "from the same server" "$before" "$(status pid)"
stop

is "nothing is mounted at the end" "" "$(our_devices)"
