#!/usr/bin/env bash
# The sweeps in results/sweep.md; the same command goes on where it was stopped.
set -euo pipefail
cd "$(dirname "$0")/.."
retain=${RETAIN:-.venv/bin/retain}
"$retain" sweep ppo --env PendulumNoVel-v1 --memory lstm --trials 20 --seeds 2 --steps 40_000 \
    --fresh-seeds 10 --jobs 1 --search num_steps=one_of:64:128:256:512 --out runs/sweep/pendulum
"$retain" sweep ppo --env CartPoleNoVel-v1 --memory lstm --trials 40 --seeds 2 --steps 12_000 \
    --fresh-seeds 10 --jobs 1 --out runs/sweep/pole_2_seeds
"$retain" sweep ppo --env CartPoleNoVel-v1 --memory lstm --trials 25 --seeds 4 --steps 12_000 \
    --fresh-seeds 10 --jobs 1 --out runs/sweep/pole_4_seeds
