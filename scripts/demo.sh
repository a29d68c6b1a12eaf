#!/usr/bin/env bash
# The whole path on made-up tumours: cross-validate against baselines, train, predict held-out patients, one HTML report.
set -euo pipefail
bin=${1:-.venv/bin}
export METANICHE_ROOT=demo
"$bin/metaniche-evaluate" experiment=demo
"$bin/metaniche-train" experiment=demo report=false
"$bin/metaniche-predict" bundle=demo/runs/demo/train/bundle input=demo/runs/demo/train/held_out output=demo/scored
echo
echo "Open this file in a browser: $(pwd)/demo/runs/demo/evaluation/report.html"
