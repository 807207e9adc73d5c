#!/usr/bin/env bash
# From `git clone` to the first agent, as docs/quickstart.md has it: adds a line to results/first_agent.csv.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
began=$(date +%s)
git clone --quiet "$root" "$folder/retain"
cd "$folder/retain"
make demo | tee "$folder/said"
took=$(($(date +%s) - began))
training=$(sed -n 's/^trained .* in \([0-9]*\) s$/\1/p' "$folder/said")
value=$(sed -n 's/^mean return of .* episodes: \([0-9.]*\) .*$/\1/p' "$folder/said")
table=$root/benchmarks/results/first_agent.csv
[ -e "$table" ] || echo "date,cores,seconds,of which training,return" > "$table"
echo "$(date +%F),$(nproc),$took,$training,$value" | tee -a "$table"
