#!/bin/sh
# Does lab 9 in the folder named by WORK; `lab` has to be on PATH. Half of the payments fail for three minutes afterwards.
set -eu
solution=$(cd "$(dirname "$0")" && pwd)
LAB_PROJECT=$(cd "$solution/../../.." && pwd)
export LAB_PROJECT
cp "$solution/slo.yaml" "$WORK/slo.yaml"
lab slo render "$WORK/slo.yaml" --output "$WORK/rules.yml"
lab chaos start errors --service payments --probability 0.5 --for 3m
cat > "$WORK/answers.yaml" <<ANSWERS
minutes_of_outage_in_30_days: 216
burn_rate_when_2_percent_fail: 4
hours_until_nothing_is_left_at_14_4: 50
ANSWERS
