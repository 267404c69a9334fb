#!/usr/bin/env bash
# A training run that changes while it runs: install, build, start a cluster on
# this machine, train a GPT on it, and change its devices and its parallelism.
#
#   scripts/demo.sh          on a fresh Debian 12, as root
#
# demo_job.py does the run and tells it live.  At the end stand the loss beside
# that of an uninterrupted run and what each change took.  What it makes is in
# build/demo/.  scripts/tour.sh shows what works without a cluster.
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=scripts/demo_lib.sh
. scripts/demo_lib.sh
n_steps=3
top=/dev/shm/retile-demo.$$

end() {
    if [[ -e $top/dev/retile-dev ]]; then
        "$retile" dev down --dir "$top/dev" >/dev/null
    fi
    rm -rf "$top"
}

step "install what it needs" scripts/install-deps.sh build run
step "build" build
step "fetch safetensors and a trained BERT (PyPI)" link_inputs
clear_old
mkdir "$top"
trap end EXIT
trap 'exit 130' INT TERM

"$python" -B scripts/demo_job.py --retile "$retile" --dir "$top/dev" --out "$demo"
