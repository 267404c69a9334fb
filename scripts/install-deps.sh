#!/usr/bin/env bash
# Install what Retile needs on Debian 12, as root.
#
#   scripts/install-deps.sh [build] [run] [test]     default: all three
#
#   build  compile the programs and man pages
#   run    convert, mount, scripts/venv.sh and the demo
#   test   all tests with GCC and Clang, sanitizers, linters
set -euo pipefail

build=(
    ca-certificates cmake gcc libc6-dev libfuse3-dev libgrpc-dev libjansson-dev
    libpcre2-dev libprotobuf-c-dev libsqlite3-dev libxxhash-dev libyaml-dev
    ninja-build pkg-config protobuf-c-compiler scdoc uthash-dev
)
run=(
    ca-certificates fuse3 python3 python3-numpy python3-torch python3-venv
)
test=(
    binutils clang clang-format fio fish libclang-rt-14-dev libcmocka-dev
    llvm-14 openssl procps python3-grpcio python3-protobuf
    python3-yaml rsync util-linux xz-utils zsh
)

packages=()
(($# > 0)) || set -- build run test
for group in "$@"; do
    case $group in
    build) packages+=("${build[@]}") ;;
    run) packages+=("${run[@]}") ;;
    test) packages+=("${test[@]}") ;;
    *)
        echo "install-deps: unknown group $group (build, run or test)" >&2
        exit 2
        ;;
    esac
done

missing=()
for package in $(printf '%s\n' "${packages[@]}" | sort -u); do
    state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null ||
        true)
    [[ $state == installed ]] || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
    echo "install-deps: nothing to install"
    exit 0
fi
if ((EUID != 0)); then
    echo "install-deps: run as root; missing: ${missing[*]}" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
echo "install-deps: ${missing[*]}"
apt-get update -qq
apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
