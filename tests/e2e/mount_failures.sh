#!/usr/bin/env bash
# Sources that change, servers that die, signals: readers get an error soon,
# and nothing is left.
source "$(dirname "$0")/mount_lib.sh"
export LC_ALL=C

file=as/four/ranks/000/model.safetensors
layout=layout=four:$spec

# A fresh copy of the source, mounted; $reader_in and $reader_out talk to a
# process that holds $file open.
fresh() {
    rm -rf "$work/copy"
    cp -r "$src" "$work/copy"
    from=$work/copy start -o "$layout,log=$work/log" "$@"
}

hold() {
    coproc holder { exec "$python" "$here/mount_check.py" hold "$mnt/$file"; }
    reader_in=${holder[1]}
    reader_out=${holder[0]}
    reader_pid=$holder_PID
    read -r -t 20 ready <&"$reader_out"
    is "a reader holds the file" ready "$ready"
}

ask() {
    echo >&"$reader_in"
    answer=timeout
    read -r -t 20 answer <&"$reader_out" || true
}

release() {
    exec {reader_in}>&-
    wait "$reader_pid" || true
}

for class in auto page; do
    fresh -o cache=$class
    hold
    ask
    is "$class: it reads" ok "$answer"
    # New pages are needed after that in either class.
    truncate -s 5000 "$work/copy/model.safetensors"
    text=$(cat "$mnt/as/four/ranks/001/model.safetensors" 2>&1 >/dev/null) ||
        true
    is "$class: a truncated source is EIO" "Input/output error" "${text##*: }"
    if [[ $(status class) == direct ]]; then
        ask
        is "$class: for who has it open, too" EIO "$answer"
    fi
    ok "$class: other files are fine" cmp "$src/retile.json" "$mnt/retile.json"
    ok "$class: the event names the file" \
        grep -q 'as/four/ranks/001/model.safetensors' "$mnt/.retile/events"
    ok "$class: so does the log" grep -q 'ranks/001/model.safetensors' \
        "$work/log"
    ok "$class: failed reads are counted" [ "$(status failed_reads)" -gt 0 ]
    release
    stop
done

fresh
rm "$work/copy/model.safetensors"
ok "an unlinked source is still read" eval 'cat "$mnt/$file" >/dev/null'
stop

for signal in TERM INT HUP; do
    fresh
    kill -"$signal" "$server"
    ok "SIG$signal ends the server" gone "$server"
    ok "SIG$signal unmounts" eval '! is_mounted'
done

fresh
hold
kill -TERM "$server"
ok "SIGTERM ends a server with open files" gone "$server"
ok "and unmounts" eval '! is_mounted'
ask
is "their reader gets" ENOTCONN "$answer"
release

"$fuse" "$src" "$mnt" -f &
foreground=$!
for _ in $(seq 100); do
    is_mounted && break
    read -r -t 0.1 _ <> <(:) || true
done
ok "-f mounts" ls "$mnt/hf"
kill -INT $foreground
rc=0
wait $foreground || rc=$?
is "-f ends with exit code" 0 "$rc"

fresh
hold
worker=$(status pid)
kill -STOP "$worker" # or it would unmount, if it has the time
kill -KILL "$server" "$worker"
ok "kill -9 of both processes" gone "$server"
ok "which ends them" gone "$worker"
ask
is "the reader gets" ENOTCONN "$answer"
text=$(ls "$mnt" 2>&1) || true
is "a new one gets" "Transport endpoint is not connected" "${text##*: }"
exits "a mount over the dead one is refused" 2 'fusermount3 -u' \
    "$fuse" "$src" "$mnt"
release
ok "unmount works" fusermount3 -u "$mnt"
ok "and leaves nothing" eval '! is_mounted'

# Reading the status to learn the process takes an open and a few reads.
RETILE_FAULT=mount.read=error@6,mount.open=nospace@4 fresh
text=$(cat "$mnt/$file" "$mnt/$file" 2>&1 >/dev/null) || true
is "a failed read is EIO" "Input/output error" "${text##*: }"
text=$(cat "$mnt/$file" 2>&1 >/dev/null) || true
is "a failed open" "No space left on device" "${text##*: }"
ok "the next one works" eval 'cat "$mnt/$file" >/dev/null'
is "both are events" "open read" "$(sed -n \
    's/.*"event":"\([a-z]*\) failed".*/\1/p' "$mnt/.retile/events" | sort |
    tr '\n' ' ' | sed 's/ $//')"
stop
RETILE_FAULT=mount.read=crash@9 "$fuse" "$src" "$mnt"
cat "$mnt"/hf/*.safetensors "$mnt"/npy/* >"$work/read"
ok "a crash while reading is no error" \
    cmp "$work/read" <(cat "$mnt"/hf/*.safetensors "$mnt"/npy/*)
is "another server answered" 1 "$(status restarts)"
server=$(status holder)
stop
RETILE_FAULT=mount.read=crash@9 start -o restarts=0,log="$work/log"
text=$(cat "$mnt"/hf/*.safetensors "$mnt"/npy/* 2>&1 >/dev/null) || true
ok "where none may follow it is an error" \
    grep -q 'not connected\|abort' <<<"$text"
ok "and the holder ends" gone "$server"
ok "having unmounted" eval '! is_mounted'
ok "and said why" grep -q 'restarts' "$work/log"

is "nothing is mounted at the end" "" "$(our_devices)"
