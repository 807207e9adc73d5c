#!/usr/bin/env bash
# The reports in docs/compare/: does memory help, where nothing is hidden and where something is,
# and which one helps most? A report's name, its steps, its memories, then flags of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
retain=${RETAIN:-.venv/bin/retain}
all="none lstm gru mingru lru attention"

report() {
    local name=$1 steps=$2 memories=$3
    shift 3
    # shellcheck disable=SC2086 (several words)
    "$retain" compare --memory $memories --seeds 5 --steps "$steps" --out "runs/compare/$name" "$@"
    mkdir -p docs/compare
    sed "s/compare.png/$name.png/" "runs/compare/$name/report.md" > "docs/compare/$name.md"
    cp "runs/compare/$name/compare.png" "docs/compare/$name.png"
}

report Pendulum-v1 100_000 "none lstm" --env Pendulum-v1
report PendulumNoVel-v1 100_000 "none lstm" --env PendulumNoVel-v1
report CartPoleNoVel-v1 100_000 "$all" --env CartPoleNoVel-v1
report RepeatPrevious-v0 300_000 "$all" --env RepeatPrevious-v0
report RepeatPrevious-v0-32 300_000 "$all" --env RepeatPrevious-v0 \
    --set 'env_kwargs={"k": 32, "length": 104}'
