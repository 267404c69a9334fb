#!/usr/bin/env bash
# Run a script beside this one with RETILE_PYTHON, which has what it imports.
# with_python.sh [--fuse] SCRIPT [ARGUMENT...]
# Exits 77 where it is missing; with --fuse also where /dev/fuse is.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${RETILE_PYTHON:?}

if [[ ! -x $python ]]; then
    echo "skipped: no $python (scripts/venv.sh makes it)"
    exit 77
fi
if [[ $1 == --fuse ]]; then
    shift
    if [[ ! -c /dev/fuse ]]; then
        echo "skipped: no /dev/fuse"
        exit 77
    fi
fi
exec "$python" -B "$here/$1" "${@:2}"
