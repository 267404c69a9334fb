#!/usr/bin/env bash
# Functions that we do not call, and products inside malloc.
# banned.sh [ROOT]
set -euo pipefail

root=${1:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$root"

names='strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|atof|strtol|rand|srand'
names+='|sleep|usleep|nanosleep|system|alloca|gets'
product='\b(m|re)alloc\([^;]*[[:alnum:]_)] \* [[:alnum:]_(]'

folders=()
for folder in base ptc store proto cli fuse coordinator worker bench tests; do
    [[ -d $folder ]] && folders+=("$folder")
done
mapfile -d '' -t files < <(find "${folders[@]}" -name '*.[ch]' -print0 |
    sort -z)
if ((${#files[@]} == 0)); then
    echo "no file found below $root" >&2
    exit 1
fi

# Print FILE:LINE:CODE without strings and comments, which may name them.
code() {
    awk '
        FNR == 1 { in_comment = 0 }
        {
            line = $0
            if (in_comment) {
                if (!sub(/^.*\*\//, "", line)) next
                in_comment = 0
            }
            gsub(/"([^"\\]|\\.)*"/, "\"\"", line)
            gsub(/\/\*([^*]|\*+[^*\/])*\*+\//, "", line)
            sub(/\/\/.*/, "", line)
            if (sub(/\/\*.*/, "", line)) in_comment = 1
            print FILENAME ":" FNR ":" line
        }' "$@"
}

if code "${files[@]}" | grep -E ":.*(\b($names) *\(|$product)" >&2; then
    echo "banned calls (CONTRIBUTING.md, strings and numbers)" >&2
    exit 1
fi
echo "${#files[@]} files, no banned call"
