#!/usr/bin/env bash
# What Retile does without a daemon, on a real model: install, build, then
# reshard a trained BERT.
#
#   scripts/tour.sh          on a fresh Debian 12, as root
#
# Converts it to four tensor-parallel ranks, mounts those, and reads through
# the mount, with the safetensors package, the rank files of another layout and
# the Hugging Face view; every tensor is compared with the original's.  Draws
# the plan.  Then it trains a small network with its state in a mount, on four
# processes, rescales that, and goes on with two.  What it makes is in build/demo/.
set -euo pipefail

cd "$(dirname "$0")/.."
# shellcheck source=scripts/demo_lib.sh
. scripts/demo_lib.sh
n_steps=11
store=/dev/shm/retile-demo.$$

train() { # RANKS
    OMP_NUM_THREADS=1 "$python" examples/train_numpy.py "$mnt" --ranks "$1" \
        --steps 200
}
mount_job() {
    "$retile" store init "$store" &&
        "$retile" mount --store "$store" --job net \
            --layout examples/train_numpy.yaml "$mnt"
}
rescale_and_train() {
    sed 's/tp: 4/tp: 2/' examples/train_numpy.yaml >"$demo/two.yaml" &&
        "$retile" rescale --store "$store" --job net --to "$demo/two.yaml" &&
        train 2
}

trap 'unmount; rm -rf "$store"' EXIT

step "install what it needs" scripts/install-deps.sh build run
step "build" build
clear_old
mkdir -p "$mnt"
step "fetch a trained BERT (PyPI)" link_inputs
step "convert it to bert:tp=4, verified" \
    "$retile" convert "$demo/model/" "$demo/tp4" --to bert:tp=4 --verify
step "mount the four ranks" "$retile" mount "$demo/tp4" "$mnt"
step "read tp=2,pp=2 and hf/ through the mount" \
    "$python" examples/compare_bert.py "$demo/model/model.safetensors" "$mnt" \
    bert:tp=2,pp=2
step "draw the plan tp=4 -> tp=2,pp=2" \
    "$retile" plan "$demo/tp4" --to bert:tp=2,pp=2 --hosts 2 \
    --svg "$demo/plan.svg"
step "unmount" unmount
step "mount a job that has no version yet" mount_job
step "train it on four processes, 20 saves" train 4
step "rescale it to two, and train on" rescale_and_train
unmount

echo
printf '%s\n' "${rows[@]}"
echo
cat "$demo/step-6.log"
echo
sed -n '1,8p' "$demo/step-7.log"
echo
echo "the loss on four processes, and then on two:"
sed -n '1p;$p' "$demo/step-10.log"
grep ^step "$demo/step-11.log" | sed -n '1p;$p'
echo
echo "the plan as a picture: $demo/plan.svg"
echo "the ranks: $demo/tp4; try: $retile inspect $demo/tp4"
echo "what README shows under \"Using it\" can be typed now"
