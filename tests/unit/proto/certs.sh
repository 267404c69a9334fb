#!/usr/bin/env bash
# Certificates for test_rpc_tls: two CAs, and what the first has signed.
# certs.sh DIR
set -euo pipefail
cd "$1"

key() { # NAME
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 \
        -out "$1.key" 2>/dev/null
}

ca() { # NAME
    key "$1"
    openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 2 \
        -out "$1.pem" 2>/dev/null
}

signed() { # CA NAME SUBJECT SAN [DAYS]
    key "$2"
    openssl req -new -key "$2.key" -subj "/$3" |
        openssl x509 -req -CA "$1.pem" -CAkey "$1.key" -CAcreateserial \
            -days "${5:-2}" -out "$2.pem" \
            -extfile <(echo "${4:+subjectAltName=$4}") 2>/dev/null
}

agent=spiffe://retile/agent/worker-7
ca ca
ca foreign
signed ca server CN=server \
    'IP:127.0.0.1,DNS:localhost,DNS:node0,DNS:*.pool.example'
signed ca renewed CN=renewed IP:127.0.0.1
signed ca agent CN=worker-7 "URI:$agent,DNS:worker-7.example"
signed ca person CN=alice URI:spiffe://retile/person/alice
signed foreign stranger CN=worker-7 "URI:$agent"
# Odd ones: no name at all, the name as CN alone, behind others, as another kind
# of name, with a NUL and more behind it, and one that is good no longer.
signed ca nameless '' ''
signed ca common "CN=spiffe:\\/\\/retile\\/agent\\/worker-7" ''
signed ca many CN=many "$(printf 'DNS:%d.example,' {1..15})URI:$agent"
signed ca tail CN=tail "$(printf 'DNS:%d.example,' {1..16})URI:$agent"
signed ca wild CN=wild 'URI:spiffe://retile/agent/*,DNS:*'
nul=$(printf '%s\0.example' "$agent" | od -An -v -tx1 | tr -d ' \n')
n=$((${#nul} / 2))
signed ca nul CN=nul "DER:$(printf '30%02x86%02x' $((n + 2)) $n)$nul"
signed ca expired CN=worker-7 "URI:$agent" -1
