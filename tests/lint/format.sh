#!/usr/bin/env bash
# Every C file is as clang-format leaves it.
# format.sh [ROOT]
set -euo pipefail

root=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$root"

if ! command -v clang-format >/dev/null; then
    echo "skipped: no clang-format"
    exit 77
fi
folders=()
for folder in base ptc store proto cli fuse coordinator worker bench tests \
    examples; do
    [[ -d $folder ]] && folders+=("$folder")
done
mapfile -d '' -t files < <(find "${folders[@]}" -name '*.[ch]' -print0)
if ((${#files[@]} == 0)); then
    echo "no file found below $root" >&2
    exit 1
fi
clang-format --dry-run -Werror "${files[@]}"
echo "${#files[@]} files are formatted"
