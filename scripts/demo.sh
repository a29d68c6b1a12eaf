#!/usr/bin/env bash
# The whole path on made-up tumours: cross-validate against baselines, train, predict held-out patients, one HTML report.
set -euo pipefail
bin=${1:-.venv/bin}
export METANICHE_ROOT=demo
rm -rf demo/runs demo/scored
"$bin/metaniche-evaluate" experiment=demo run_name=evaluation
"$bin/metaniche-train" experiment=demo model=seed_soil run_name=train report=false keep_held_out=true
"$bin/metaniche-predict" bundle=demo/runs/train/bundle input=demo/runs/train/held_out output=demo/scored
echo
echo "Open this file in a browser: $(pwd)/demo/runs/evaluation/report.html"
