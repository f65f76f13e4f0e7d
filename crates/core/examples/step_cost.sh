#!/bin/sh
# Instructions that a committed entry costs a leader's core, by voters, rule and calls a step. Needs valgrind.
#   crates/core/examples/step_cost.sh [voters...]
set -eu
cd "$(dirname "$0")/../../.."
export CARGO_PROFILE_RELEASE_DEBUG=1
cargo build -q --release -p tinyraftplus-core --example step_cost
program=${CARGO_TARGET_DIR:-target}/release/examples/step_cost

# instructions VOTERS BATCH [custom]: what the steps of the leader take for each entry.
instructions() {
    entries=$(($2 * 200))
    collected=$(valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no \
        --toggle-collect='*measured*' "$program" "$1" "$2" "$entries" ${3:-} 2>&1 |
        sed -n 's/.*Collected : \([0-9]*\).*/\1/p')
    echo $((collected / entries))
}

[ $# -gt 0 ] || set -- 3 5 7 9 15
echo '| voters | batch 1 | batch 64 | batch 1,000 | batch 1, custom rule | batch 64, custom rule |'
echo '| --- | --- | --- | --- | --- | --- |'
for voters; do
    echo "| $voters | $(instructions "$voters" 1) | $(instructions "$voters" 64) |" \
        "$(instructions "$voters" 1000) | $(instructions "$voters" 1 custom) |" \
        "$(instructions "$voters" 64 custom) |"
done
