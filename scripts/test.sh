#!/usr/bin/env bash
# Install what is missing; build with GCC, Clang, ASan+UBSan, and for release,
# and run every test of each, but for Clang, whose programs are run by all that
# is not end to end: those tests find the same in GCC's.
#
#   scripts/test.sh [PRESET...]      default: dev clang asan release
#
# RETILE_SKIP_DEPS=1 leaves installed packages alone.
set -uo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root" || exit 1
(($# > 0)) || set -- dev clang asan release
jobs=$(($(nproc) + 1)) # many tests wait for a mount more than they compute
rows=()
failed=() # logs

# Run a step with its output in a log; show the log's end when it fails.
step() { # NAME COMMAND...
    local name=$1 log begin=$SECONDS result=ok
    shift
    log=build/logs/${name// /-}.log
    printf '%-16s ... ' "$name"
    if ! "$@" >"$log" 2>&1; then
        result=FAILED
        failed+=("$log")
    fi
    printf '%s, %d s\n' "$result" $((SECONDS - begin))
    [[ $result == ok ]] || tail -n 80 "$log"
    rows+=("$(printf '%-16s %-7s %5d s  %s' "$name" "$result" \
        $((SECONDS - begin)) "$(summary "$log")")")
    [[ $result == ok ]]
}

# ctest's own last count, if there is one.
summary() {
    local skipped
    skipped=$(grep -c '\*\*\*Skipped' "$1")
    grep -E '^[0-9]+% tests passed' "$1" |
        sed "s/\$/, $skipped skipped/" || true
}

# What ctest shows of tests that failed: from a test's line to the next one's.
failures() {
    awk '/^ *[0-9]+\/[0-9]+ Test +#/ {
             shown = /\*\*\*/ && !/\*\*\*Skipped/
         }
         /^[0-9]+% tests passed/ { exit }
         shown' "$1"
}

finish() {
    local log
    echo
    printf '%s\n' "${rows[@]}"
    echo
    if ((${#failed[@]} > 0)); then
        for log in "${failed[@]}"; do
            failures "$log" | tail -n 40
        done
        echo "${#failed[@]} steps failed; logs are in build/logs/"
        exit 1
    fi
    echo "all passed in $SECONDS s"
}
trap finish EXIT

mkdir -p build/logs
if [[ ${RETILE_SKIP_DEPS:-0} != 1 ]]; then
    step "dependencies" scripts/install-deps.sh build run test || exit 1
fi
step "python" scripts/venv.sh || exit 1
for preset in "$@"; do
    which=()
    [[ $preset != clang ]] || which=(--label-exclude e2e)
    step "$preset configure" cmake --preset "$preset" &&
        step "$preset build" cmake --build --preset "$preset" \
            --target all all_verify_interface_header_sets -j "$jobs" &&
        step "$preset test" ctest --preset "$preset" -j "$jobs" \
            ${which[@]+"${which[@]}"}
done
