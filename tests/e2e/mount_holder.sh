#!/usr/bin/env bash
# A mount whose server dies or hangs: readers see a pause, whatever they do.
# And when it cannot go on: an error, and nothing is left.
source "$(dirname "$0")/mount_lib.sh"
export LC_ALL=C

store=$work/store
number=1 # of the newest version
job=(--store "$store" --job bert)
four=$work/four
rank=ranks/002/model.safetensors

quietly() { "$@" >/dev/null 2>&1; }
pause() { read -r -t "$1" _ <> <(:) || true; }
start_store() {
    "$fuse" "${job[@]}" "$mnt" -o log="$work/log" "$@"
    server=$(status holder)
}
rescale() { # SPEC
    ok "rescale to $1" quietly "$retile" rescale "${job[@]}" --to "$1"
    number=$((number + 1))
}
restarts() { status restarts; }
# eventually "what" COMMAND...: it succeeds within 10 s.
eventually() {
    local what=$1 until=$((SECONDS + 10))
    shift
    until quietly "$@"; do
        if ((SECONDS >= until)); then
            fail "$what: not within 10 s: $*"
            return
        fi
        pause 0.02
    done
    echo "ok: $what"
}
kill_server() {
    kill -9 "$(status pid)"
}
# The store's readers: a file that is passed through, where that is possible,
# one that is gathered, one of a layout made for it, and a text.
readers() {
    rm -f "$work/ready" "$work/stop"
    "$python" "$here/holder_check.py" loop "$work/ready" "$work/stop" \
        "$mnt/versions/1/$rank=>$four/$rank" \
        "$mnt/versions/$number/$rank=>$work/three/$rank" \
        "$mnt/versions/1/as/fsdp2:dp=3/$rank=>$work/three/$rank" \
        "$mnt/versions/$number/hf/model.safetensors=>$work/hf/model.safetensors" \
        "$mnt/versions/$number/layout.yaml=>$work/three/layout.yaml" \
        >"$work/readers.txt" 2>&1 &
    readers=$!
    eventually "readers read" test -e "$work/ready"
}
readers_end() { # "what"
    touch "$work/stop"
    ok "$1" wait "$readers"
    cat "$work/readers.txt"
}
hold() { # FILE...
    coproc held_by { exec "$python" "$here/holder_check.py" hold "$@"; }
    held_in=${held_by[1]}
    held_out=${held_by[0]}
    held_pid=$held_by_PID
    read -r -t 20 answer <&"$held_out"
    is "files are held" ready "$answer"
}
ask() {
    echo >&"$held_in"
    answer=timeout
    read -r -t 20 answer <&"$held_out" || true
}
let_go() {
    exec {held_in}>&-
    wait "$held_pid" || true
}
# Nothing of a mount is left: no process, no mount.
is_over() { # "what"
    ok "$1: its processes are gone" gone "$server"
    ok "$1: it is not mounted" eval '! is_mounted'
    is "$1: nobody is left" "" "$(pgrep -f "retile-fuse.*$work" || true)"
}

"$retile" convert "$src" "$four" --to "$spec" 2>/dev/null >&2
"$retile" convert "$src" "$work/three" --to fsdp2:dp=3 2>/dev/null >&2
"$retile" convert "$src" "$work/hf" --to hf 2>/dev/null >&2
ok "a store" quietly "$retile" store init "$store"
ok "import" quietly "$retile" import "$four" "${job[@]}"

start_store
if ! grep -q '"resend"' "$mnt/.retile/status"; then
    stop
    echo "skipped: the kernel sends no request again"
    exit 77
fi
stop

# Killed at any time.
for options in threads=8 mask=passthrough cache=page; do
    rescale fsdp2:dp=3
    start_store -o "$options,restarts=100"
    readers
    for _ in $(seq 20); do
        pause 0.$((RANDOM % 2))$((RANDOM % 10))
        kill_server
    done
    readers_end "$options: readers of a server killed 20 times"
    is "$options: another one each time" 20 "$(restarts)"
    is "$options: nobody waits" "" \
        "$("$python" "$here/holder_check.py" waiting $$ "$server" \
            "$(status pid)")"
    is "$options: no child is a zombie" "" \
        "$(ps --ppid "$server" -o stat= | grep Z || true)"
    ok "$options: the event" grep -q 'server restarted.*signal 9' \
        "$mnt/.retile/events"
    rescale "$spec"
    eventually "$options: a version that is used no more is let go of" \
        "$retile" version release $((number - 1)) "${job[@]}"
    stop
    is_over "$options"
done

# Handles, and what they name, outlive their server in detail.
rescale fsdp2:dp=3
start_store -o restarts=100
exec {held}<"$mnt/versions/1/$rank"
exec {dir}<"$mnt/versions/$number/ranks/001"
exec {text}<"$mnt/.retile/status" {unread}<"$mnt/.retile/status"
head -c 10 <&"$text" >/dev/null
head -c 100000 <&"$held" >"$work/held"
kill_server
cat <&"$held" >>"$work/held"
ok "a handle goes on where it was" cmp "$work/held" "$four/$rank"
ok "a new one beside it" cmp "$mnt/versions/1/$rank" "$four/$rank"
ok "a directory's handle" cmp "/proc/self/fd/$dir/optim.safetensors" \
    "$work/three/ranks/001/optim.safetensors"
ok "a text that was not read yet is made anew" \
    grep -q '"restarts": 1,' /dev/fd/"$unread"
is "one that was read in part" "Stale file handle" \
    "$(cat <&"$text" 2>&1 >/dev/null | sed 's/.*: //')"
exec {text}<&- {unread}<&-
rescale "$spec"
exits "a version that is held is not released" 1 "bert@$((number - 1))" \
    "$retile" version release $((number - 1)) "${job[@]}"
kill_server
exits "nor after another restart" 1 "bert@$((number - 1))" \
    "$retile" version release $((number - 1)) "${job[@]}"
exec {dir}<&-
eventually "but when its handle is closed" \
    "$retile" version release $((number - 1)) "${job[@]}"
exec {held}<&-

# A server that is stopped, or that is to end while it is stopped.
kill -STOP "$(status pid)"
begin=$SECONDS
stop_pid=$(pgrep -P "$server" -o)
ok "a stopped server goes on" kill -CONT "$stop_pid"
ok "and answers" quietly ls "$mnt/versions"
stop
is_over "details"

rescale fsdp2:dp=3
start_store -o hang=2
before=$(status pid)
readers
kill -STOP "$before"
eventually "a server that hangs is replaced" \
    eval '[[ $(timeout 9 cat "$mnt/.retile/status" | grep -c "\"restarts\": 1,") == 1 ]]'
readers_end "its readers only wait"
ok "the event says that it hung" grep -q 'restarted.*hangs' \
    "$mnt/.retile/events"
ok "the stopped one is gone" eval '! kill -0 $before 2>/dev/null'
before=$(status pid)
kill -STOP "$before"
kill -TERM "$server"
kill -CONT "$before"
is_over "SIGTERM for a stopped server"

# A request that is never answered, though others are.
RETILE_FAULT=mount.read=hang@9 start_store -o hang=1,threads=2
gathered=versions/1/as/fsdp2:dp=3/$rank
for _ in 1 2 3 4 5; do
    ok "a thread that hangs" cmp "$mnt/$gathered" "$work/three/$rank"
done
is "and its server was replaced" 1 "$(restarts)"
stop
is_over "a thread that hangs"

# No way to go on.
start_store -o restarts=3
hold "$mnt/versions/1/as/fsdp2:dp=3/$rank"
for _ in 1 2 3; do
    kill_server
    ask
    is "a restart" ok "$answer"
done
kill_server
is_over "too many restarts"
ask
ok "its reader gets an error, $answer" test "$answer" = ENOTCONN
let_go
ok "the log says why" grep -q 'after 3 restarts' "$work/log"
ok "what it left goes with the next change" quietly "$retile" store sweep "$store"
ok "fsck" quietly "$retile" store fsck "$store"

start_store -o mask=resend
hold "$mnt/versions/1/as/fsdp2:dp=3/$rank"
kill_server
is_over "a kernel that sends nothing again"
ask
is "its reader gets" ENOTCONN "$answer"
let_go

"$fuse" "${job[@]}" "$mnt" -f -o restarts=0 2>"$work/foreground" &
server=$!
eventually "-f mounts" is_mounted
eventually "-f serves" test -e "$mnt/current"
kill -9 "$(status pid)"
rc=0
wait $server || rc=$?
is "-f: exit code of a mount that died" 1 "$rc"
is "-f: one line says why" 1 "$(grep -c 'retile-fuse: the server ended' \
    "$work/foreground")"
is_over "-f"

# The holder dies.
start_store
before=$(status pid)
hold "$mnt/versions/1/as/fsdp2:dp=3/$rank"
kill -9 "$server"
ok "its server ends" gone "$before"
is_over "no holder"
ask
is "a reader gets" ENOTCONN "$answer"
let_go

# A directory: what was shown must be what is shown.
cp -r "$four" "$work/copy"
from=$work/copy start
exec {held}<"$mnt/$rank"
kill_server
ok "a directory is served on" cmp /proc/self/fd/"$held" "$four/$rank"
exec {held}<&-
stop
is_over "a directory"
from=$work/copy start -o log="$work/log2",restarts=2
before=$(status pid)
kill -STOP "$server" # so that it does not look before we have written
kill -9 "$before"
touch -d 2001-01-01 "$work/copy/$rank"
kill -CONT "$server"
is_over "a directory that was changed while nobody served it"
ok "the log says so" grep -q 'has changed since it was mounted' "$work/log2"

is "nothing is mounted at the end" "" "$(our_devices)"
