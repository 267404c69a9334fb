#!/usr/bin/env bash
# Every option that a verb's --help knows stands in the man page, and every
# verb of the man page is one that `retile --help` lists.
set -euo pipefail

page=$RETILE_SOURCE/docs/man/retile.1.scd
n_bad=0
for verb in inspect plan convert mount verify fault; do
    line=$(grep -E "^\*retile\* \*$verb\*" "$page" || true)
    if [[ -z $line ]]; then
        echo "retile.1: no line for the verb $verb"
        n_bad=$((n_bad + 1))
        continue
    fi
    for option in $("$RETILE_BIN/retile" help "$verb" |
        grep -oE -- '^ +(-., )?--[a-z-]+' | grep -oE -- '--[a-z-]+'); do
        [[ $option == --help ]] && continue
        if ! grep -qE -- "$option( |\]|,|\$)" <<<"$line"; then
            echo "retile.1: $verb: $option is in --help, not in the page"
            n_bad=$((n_bad + 1))
        fi
    done
done
((n_bad == 0))
