#!/usr/bin/env bash
# What deploy/ has: certificates that openssl accepts, and mount(8)'s helper,
# which hands on what retile-fuse understands.
set -euo pipefail

deploy=$RETILE_SOURCE/deploy
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

fail() {
    echo "deploy: $*" >&2
    exit 1
}

certs() {
    "$deploy/retile-certs" "$@"
}

dir=$tmp/certs
certs init "$dir" --cluster c1 >/dev/null
certs add "$dir" coordinator head --dns head.local --ip 10.0.0.1 >/dev/null
certs add "$dir" agent n1 >/dev/null
for who in coordinator-head agent-n1; do
    openssl verify -CAfile "$dir/ca.pem" "$dir/$who.pem" >/dev/null ||
        fail "$who: not accepted"
    [[ $(stat -c %a "$dir/$who-key.pem") == 600 ]] || fail "$who: its key is open"
done
names=$(openssl x509 -in "$dir/coordinator-head.pem" -noout -ext subjectAltName)
for name in URI:retile://c1/coordinator/head DNS:head.local 10.0.0.1; do
    [[ $names == *"$name"* ]] || fail "coordinator: $name is missing in $names"
done
[[ $(certs show "$dir") == *retile://c1/agent/n1* ]] || fail "show: no agent"

before=$(sha256sum "$dir"/*)
certs add "$dir" agent n1 2>/dev/null && fail "a certificate was replaced"
certs init "$dir" 2>/dev/null && fail "an authority was replaced"
rc=0
certs add "$dir" boss n1 2>/dev/null || rc=$?
((rc == 2)) || fail "a role that is none: exit code $rc"
certs add "$dir" agent ../n2 2>/dev/null && fail "a name with a slash"
[[ $(sha256sum "$dir"/*) == "$before" ]] || fail "a refusal changed files"

# What mount(8) calls.
mkdir "$tmp/bin"
printf '#!/bin/sh\necho "$@"\n' >"$tmp/bin/retile-fuse"
chmod +x "$tmp/bin/retile-fuse"
helper() {
    PATH=$tmp/bin:$PATH "$deploy/mount.fuse.retile" "$@"
}
expect() { # WANTED ARGS...
    local wanted=$1 got
    shift
    got=$(helper "$@")
    [[ $got == "$wanted" ]] || fail "mount $*: '$got', not '$wanted'"
}
expect "/src /mnt" /src /mnt -n -o rw,nofail,_netdev,x-systemd.automount
expect "--from bert:tp=2 -o cache=page,layout=a:/a.yaml /src /mnt" \
    /src /mnt -o from=bert:tp=2,cache=page -o layout=a:/a.yaml
expect "--store /store --job net --layout /l.yaml -o verify=read /mnt" \
    /store /mnt -o job=net,layout=/l.yaml,verify=read
helper /src 2>/dev/null && fail "a mount without a place"
helper /src /mnt --odd 2>/dev/null && fail "an unknown option"
echo "certificates and mount(8): fine"
