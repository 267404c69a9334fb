#!/usr/bin/env bash
# clang-tidy over all our C files (or those given), as .clang-tidy says.
set -euo pipefail

cd "$(dirname "$0")/.."
build=build/clang
[[ -e $build/compile_commands.json ]] || cmake --preset clang >/dev/null
if (($# == 0)); then
    mapfile -t files < <(git ls-files -- base/*.c ptc/*.c store/*.c proto/*.c \
        'coordinator/*.c' worker/*.c cli/*.c fuse/*.c)
    set -- "${files[@]}"
fi
printf '%s\0' "$@" | xargs -0 -n 1 -P "$(nproc)" clang-tidy -p "$build" --quiet
