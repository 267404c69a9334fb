#!/usr/bin/env bash
# Every verb that `retile --help` lists has a line in the man page, with every
# option that its --help knows (those of a connection stand in a section of their
# own, to which such a line refers); every option of a mount stands in retile-fuse's
# man page and in docs/mount.md, and these have no others.  Options of the
# coordinator are those of its page.
set -euo pipefail

page=$RETILE_SOURCE/docs/man/retile.1.scd
connection=$(sed -n '/^# CONNECTION/,/^# ENV/p' "$page" | grep '^\*--')
n_bad=0
for verb in $("$RETILE_BIN/retile" --help | awk '/^  [a-z]+  / { print $1 }'); do
    [[ $verb == help || $verb == completion ]] && continue
    line=$(grep -E "^\*retile\* \*$verb\*" "$page" || true)
    if [[ -z $line ]]; then
        echo "retile.1: no line for the verb $verb"
        n_bad=$((n_bad + 1))
        continue
    fi
    for option in $("$RETILE_BIN/retile" help "$verb" |
        grep -oE -- '^ +(-., )?--[a-z-]+' | grep -oE -- '--[a-z-]+'); do
        [[ $option == --help ]] && continue
        [[ $line == *_CONNECTION_* ]] &&
            grep -qF -- "$option*" <<<"$connection" && continue
        if ! grep -qE -- "$option( |\]|,|\$)" <<<"$line"; then
            echo "retile.1: $verb: $option is in --help, not in the page"
            n_bad=$((n_bad + 1))
        fi
    done
done

# -o help's names, without those that mount(8) has.
if [[ -x $RETILE_BIN/retile-fuse ]]; then
    known=$("$RETILE_BIN/retile-fuse" -o help |
        sed -nE 's/^  ([a-z_]+).*/\1/p' | sed '/^noexec$/d' | sort)
    fuse_page=$(sed -n '/^# MOUNT OPTIONS/,/^# FILES/p' \
        "$RETILE_SOURCE/docs/man/retile-fuse.1.scd" |
        sed -E '/^\*[a-z]/!d; /noexec/d; s/, /\n/g' |
        sed -nE 's/^\*([a-z_]+).*/\1/p' | sort)
    document=$(sed -n '/^## Options/,$p' "$RETILE_SOURCE/docs/mount.md" |
        sed -nE 's/^\| `([a-z_]+).*/\1/p' | sed '/^noexec$/d' | sort)
    if ! diff <(echo "$known") <(echo "$fuse_page"); then
        echo "retile-fuse.1: its options are not those of -o help (<)"
        n_bad=$((n_bad + 1))
    fi
    if ! diff <(echo "$known") <(echo "$document"); then
        echo "docs/mount.md: its options are not those of -o help (<)"
        n_bad=$((n_bad + 1))
    fi
fi

# The agent's options, each a paragraph or one of several at its head.
known=$("$RETILE_BIN/retile-worker" --help |
    sed -nE 's/^ +(-., )?(--[a-z-]+).*/\2/p' | sort -u)
worker_page=$(sed -n '/^# OPTIONS/,/^# FILES/p' \
    "$RETILE_SOURCE/docs/man/retile-worker.1.scd" |
    grep '^\*--' | grep -oE -- '\*--[a-z-]+' | tr -d '*' | sort -u)
if ! diff <(echo "$known") <(echo "$worker_page"); then
    echo "retile-worker.1: its options are not those of --help (<)"
    n_bad=$((n_bad + 1))
fi

# Of a daemon, --help's options and the page's.
if [[ -x $RETILE_BIN/retile-coordinator ]]; then
    known=$("$RETILE_BIN/retile-coordinator" --help |
        grep -oE -- '^ +(-., )?--[a-z-]+' | grep -oE -- '--[a-z-]+' |
        sed '/^--help$/d' | sort -u)
    documented=$(sed -n '/^# OPTIONS/,/^# EXIT/p' \
        "$RETILE_SOURCE/docs/man/retile-coordinator.1.scd" | grep -E '^\*-' |
        grep -oE -- '--[a-z-]+' | sort -u)
    if ! diff <(echo "$known") <(echo "$documented"); then
        echo "retile-coordinator.1: its options are not those of --help (<)"
        n_bad=$((n_bad + 1))
    fi
fi
((n_bad == 0))
