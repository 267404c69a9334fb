#!/usr/bin/env bash
# Fuzz every target, one after another on all processors.
#   scripts/fuzz.sh [SECONDS [TARGET...]]     default: 600 each, all targets
# New inputs go to build/fuzz/corpus/TARGET, crashes to build/fuzz/crashes.
set -euo pipefail

cd "$(dirname "$0")/.."
seconds=${1:-600}
shift || true
cmake --preset fuzz >/dev/null
cmake --build --preset fuzz
(($# > 0)) || mapfile -t targets < <(cd build/fuzz/tests && ls -d fuzz_*)
(($# > 0)) && targets=("$@")

mkdir -p build/fuzz/crashes
n_bad=0
for target in "${targets[@]}"; do
    corpus=build/fuzz/corpus/$target
    mkdir -p "$corpus"
    seeds=tests/fuzz/corpus/${target#fuzz_}
    log=build/fuzz/$target.log
    printf '%-24s ' "$target"
    if build/fuzz/tests/"$target" -max_total_time="$seconds" -timeout=10 \
        -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix=build/fuzz/crashes/"$target"- \
        "$corpus" "$seeds" >"$log" 2>&1; then
        awk '/stat::number_of_executed_units/ { print "no finding,", $2, "runs" }' "$log"
    else
        echo "FINDING, see $log"
        n_bad=$((n_bad + 1))
    fi
done
((n_bad == 0))
