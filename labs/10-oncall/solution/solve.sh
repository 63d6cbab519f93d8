#!/bin/sh
# Does lab 10 in the folder named by WORK; `lab` has to be on PATH.
set -eu
solution=$(cd "$(dirname "$0")" && pwd)
LAB_PROJECT=$(cd "$solution/../../.." && pwd)
export LAB_PROJECT
alertmanager=http://127.0.0.1:$((9093 + ${LAB_PORT_OFFSET:-0}))

# Whose turn the next Christmas Eve is, and who neither has it nor stands behind.
year=$(date +%Y)
[ "$(date +%m%d)" -lt 1224 ] || year=$((year + 1))
turns=$(lab oncall who --file "$solution/oncall.yaml" --at "$year-12-24T12:00")
for other in red green blue; do
  case "$turns" in *"$other"*) ;; *) free=$other ;; esac
done
sed "/^overrides:/d" "$solution/oncall.yaml" > "$WORK/oncall.yaml"
cat >> "$WORK/oncall.yaml" <<OVERRIDES
overrides:
  - role: primary
    person: $free
    from: $year-12-24T08:00
    until: $year-12-25T08:00
    reason: Christmas Eve with the children
OVERRIDES
lab oncall check --file "$WORK/oncall.yaml"

curl -fsS "$alertmanager/api/v2/alerts" -H 'content-type: application/json' -d '[{
  "labels": {"alertname": "Exercise", "severity": "critical", "service": "flask-api", "team": "shop"},
  "annotations": {"summary": "An exercise: nobody has to do anything"}
}]'
tries=0
until at=$(lab inbox --json --channel pagerduty --alert Exercise | sed -n 's/.*"received_at": *"\([^"]*\)".*/\1/p' | tail -n 1) && [ -n "$at" ]; do
  tries=$((tries + 1)); [ "$tries" -lt 120 ] || { echo "nobody was paged" >&2; exit 1; }
  sleep 1
done
lab oncall who --json --at "$at" | python3 -c '
import json, sys
who = json.load(sys.stdin)
print("paged:", who["primary"]["handle"])
print("behind:", who["secondary"]["handle"])' > "$WORK/answers.yaml"
