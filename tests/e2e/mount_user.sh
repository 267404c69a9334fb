#!/usr/bin/env bash
# An ordinary user mounts through fusermount3; nobody else may look.
#
# Run by root it becomes "nobody" in a mount namespace of its own, whose
# /dev/fuse everybody may open, as on an ordinary desktop.
if [[ $EUID == 0 && ${1:-} != inside ]]; then
    exec unshare -m "$0" inside
fi
if ((EUID == 0)); then
    # Other tests' mounts were copied; here they would outlive their end.
    for point in $(awk '/ - fuse\.retile / { print $5 }' \
        /proc/self/mountinfo); do
        umount -l "$point" || true
    done
fi
source "$(dirname "$0")/mount_lib.sh"

user=()
if ((EUID == 0)); then
    if ! mknod -m 666 "$work/fuse" c 10 229 ||
        ! mount --bind "$work/fuse" /dev/fuse; then
        fail "cannot give others a /dev/fuse"
        exit 1
    fi
    user=(setpriv --reuid 65534 --regid 65534 --clear-groups)
    chown 65534:65534 "$mnt"
    chmod -R a+rX "$src"
fi
as_user() {
    "${user[@]}" "$@"
}

ok "mounts" as_user "$fuse" "$src" "$mnt" -o layout=four:"$spec"
server=$(as_user "$python" -c '
import json, sys
print(json.load(open(sys.argv[1]))["holder"])' "$mnt/.retile/status")
ok "maps agree" as_user "$python" "$here/mount_check.py" maps "$mnt" "$src"
is "it belongs to the user" "$(as_user id -u):$(as_user id -g) 500" \
    "$(as_user stat -c '%u:%g %a' "$mnt")"
if ((EUID == 0)); then
    text=$(LC_ALL=C ls "$mnt" 2>&1) || true
    is "not even root may look" "Permission denied" "${text##*: }"
fi
ok "unmounts" as_user fusermount3 -u "$mnt"
ok "the server ends" gone "$server"

as_user "$fuse" "$src" "$mnt"
server=$(as_user cat "$mnt/.retile/status" | awk '/"holder"/ { print $2 + 0 }')
kill -TERM "$server"
ok "SIGTERM ends it" gone "$server"
ok "and unmounts" eval '! is_mounted'

text=$(as_user "$fuse" "$src" "$mnt" -o allow_other 2>&1) && rc=0 || rc=$?
if grep -qs '^user_allow_other' /etc/fuse.conf; then
    as_user fusermount3 -u "$mnt"
else
    is "allow_other is root's" 1 "$rc"
    ok "and says so" grep -q allow_other <<<"$text"
fi

# A job of a store: nothing can be passed through, and servers follow servers.
mkdir "$work/own"
((EUID != 0)) || chown 65534:65534 "$work/own"
job=(--store "$work/own/store" --job bert)
quietly() { "$@" >/dev/null 2>&1; }
of_status() {
    as_user cat "$mnt/.retile/status" | awk -v key="\"$1\":" \
        '$1 == key { gsub(/[",]/, "", $2); print $2 }'
}
ok "a store" quietly as_user "$retile" store init "$work/own/store"
ok "import" quietly as_user "$retile" import "$src" "${job[@]}"
ok "mounts it" as_user "$fuse" "${job[@]}" "$mnt"
server=$(of_status holder)
is "its class" direct "$(of_status class)"
as_user cat "$mnt/current/hf/model.safetensors" >"$work/before"
kill -9 "$(of_status pid)"
as_user cat "$mnt/current/hf/model.safetensors" >"$work/after"
ok "another server has the same bytes" cmp "$work/before" "$work/after"
is "restarts" 1 "$(of_status restarts)"
ok "unmounts it" as_user fusermount3 -u "$mnt"
ok "the holder ends" gone "$server"
