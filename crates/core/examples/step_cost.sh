#!/bin/sh
# Instructions that a committed entry costs a leader's core, by voters and by calls a step. Needs valgrind.
#   crates/core/examples/step_cost.sh [voters...]
set -eu
cd "$(dirname "$0")/../../.."
export CARGO_PROFILE_RELEASE_DEBUG=1
cargo build -q --release -p tinyraftplus-core --example step_cost
program=target/release/examples/step_cost
[ $# -gt 0 ] || set -- 3 5 7 9 15
printf 'voters      batch 1     batch 64  batch 1,000   (instructions an entry)\n'
for voters; do
    printf '%6s' "$voters"
    for batch in 1 64 1000; do
        entries=$((batch * 200))
        collected=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null \
            --collect-atstart=no --toggle-collect='*measured*' \
            "$program" "$voters" "$batch" "$entries" 2>&1 | sed -n 's/.*Collected : \([0-9]*\).*/\1/p')
        printf ' %12s' "$((collected / entries))"
    done
    echo
done
