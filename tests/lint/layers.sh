#!/usr/bin/env bash
# Includes only point down: the table below is the picture in ARCHITECTURE.md.
# layers.sh [ROOT]
set -euo pipefail

root=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$root"

# Folder -> the folders whose headers it may include.
declare -A may=(
    [base]="base"
    [ptc]="ptc base"
    [store]="store ptc base"
    [proto]="proto store ptc base"
    [cli]="cli proto store ptc base"
    [coordinator]="coordinator proto store ptc base"
    [worker]="worker proto store ptc base"
    [fuse]="fuse proto store ptc base"
    [bench]="bench proto store ptc base"
    [tests]="tests fuse worker coordinator cli proto store ptc base"
)
# ptc and coordinator/core are pure: no I/O, clock or threads.
impure='pthread|threads|unistd|fcntl|time|signal|poll|dirent|stdatomic|sys/.*'
# What the core may include besides: no driver, store, files or logs.
core_may='(coordinator/core|ptc)/.*|proto/(rpc|check)\.h'
core_may="($core_may|base/(arena|auto|err|hash|num|str)\.h)"
n_bad=0

bad() {
    printf '%s\n' "$*" >&2
    n_bad=$((n_bad + 1))
}

check_line() { # FILE LINE_NUMBER INCLUDE
    local file=$1 line=$2 include=$3 folder=${1%%/*}
    local name=${include:1:${#include}-2}

    if [[ $include == \"* ]]; then
        if [[ $name != */* ]]; then
            bad "$file:$line: $include: write the path from the root"
        elif [[ " ${may[$folder]} " != *" ${name%%/*} "* ]]; then
            bad "$file:$line: $folder/ must not include $include"
        elif [[ $file == coordinator/core/* && ! $name =~ ^$core_may$ ]]; then
            bad "$file:$line: coordinator/core/ must not include $include"
        fi
        return
    fi
    if [[ $file =~ ^(ptc|coordinator/core)/ && $name =~ ^($impure)\.h$ ]]; then
        bad "$file:$line: ptc/ and coordinator/core/ are pure and must not include $include"
    fi
    if [[ $name == grpc/* && $file != proto/rpc*.c && $file != proto/rpc_impl.h ]]; then
        bad "$file:$line: only proto/rpc*.c may include $include"
    fi
    if [[ $name == linux/fuse.h && $file != fuse/fuse_compat.* ]]; then
        bad "$file:$line: only fuse/fuse_compat.* may include $include"
    fi
    if [[ $name =~ ^(fuse3/)?(fuse|fuse_lowlevel)\.h$ &&
        $file != fuse/* && $file != tests/unit/fuse/* ]]; then
        bad "$file:$line: only fuse/ and its tests may include $include"
    fi
}

folders=()
for folder in "${!may[@]}"; do
    [[ -d $folder ]] && folders+=("$folder")
done
n_lines=0
while IFS=: read -r file line text; do
    n_lines=$((n_lines + 1))
    [[ $text =~ include[[:space:]]*([\"\<][^\"\>]*[\"\>]) ]] &&
        check_line "$file" "$line" "${BASH_REMATCH[1]}"
done < <(grep -rnE --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include' \
    "${folders[@]}" || true)

if ((n_lines == 0)); then
    bad "no include found below $root"
fi
echo "$n_lines includes, $n_bad bad"
((n_bad == 0))
