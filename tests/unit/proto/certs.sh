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

signed() { # CA NAME CN SAN
    key "$2"
    openssl req -new -key "$2.key" -subj "/CN=$3" |
        openssl x509 -req -CA "$1.pem" -CAkey "$1.key" -CAcreateserial \
            -days 2 -out "$2.pem" -extfile <(echo "subjectAltName=$4") \
            2>/dev/null
}

ca ca
ca foreign
signed ca server server IP:127.0.0.1,DNS:localhost,DNS:node0
signed ca renewed renewed IP:127.0.0.1
signed ca agent worker-7 \
    URI:spiffe://retile/agent/worker-7,DNS:worker-7.example
signed ca person alice URI:spiffe://retile/person/alice
signed foreign stranger worker-7 URI:spiffe://retile/agent/worker-7
