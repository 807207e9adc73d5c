#!/usr/bin/env bash
# The reports in docs/compare/: does memory help, where nothing is hidden and where something is?
set -euo pipefail
cd "$(dirname "$0")/.."
retain=${RETAIN:-.venv/bin/retain}
for task in Pendulum-v1:100_000 PendulumNoVel-v1:100_000 CartPoleNoVel-v1:100_000 RepeatPrevious-v0:600_000; do
    env=${task%%:*}
    "$retain" compare --env "$env" --memory none lstm --seeds 5 --steps "${task##*:}" --out "runs/compare/$env"
    mkdir -p docs/compare
    sed "s/compare.png/$env.png/" "runs/compare/$env/report.md" > "docs/compare/$env.md"
    cp "runs/compare/$env/compare.png" "docs/compare/$env.png"
done
