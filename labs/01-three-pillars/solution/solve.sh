#!/bin/sh
# Does lab 1 in the folder named by WORK; `lab` has to be on PATH.
set -eu
LAB_PROJECT=$(cd "$(dirname "$0")/../../.." && pwd)
export LAB_PROJECT
cd "$WORK"
api=http://127.0.0.1:$((5000 + ${LAB_PORT_OFFSET:-0}))
jaeger=http://127.0.0.1:$((16686 + ${LAB_PORT_OFFSET:-0}))

order=$(curl -fsS "$api/api/orders" -H 'content-type: application/json' -d '{"items": [{"product_id": 1, "quantity": 2}]}')
id=$(echo "$order" | sed 's/^{"id":\([0-9]*\),.*/\1/')

# Lines arrive within seconds, and the trace after them.
tries=0
until trace=$(lab logs --json --since 5m -n 1000 'order placed' | sed -n "/\"order.id\":$id[.,]/s/.*\"trace.id\":\"\([0-9a-f]*\)\".*/\1/p") && [ -n "$trace" ]; do
  tries=$((tries + 1)); [ "$tries" -lt 60 ] || { echo "no line of order $id" >&2; exit 1; }
  sleep 1
done

cat > answers.yaml <<ANSWERS
trace_id: "$trace"
services: [flask-api, payments]
longest_span: $(python3 - "$jaeger/api/traces/$trace" <<'PYTHON'
import json, sys, time, urllib.request
for _ in range(60):
    try:
        spans = json.load(urllib.request.urlopen(sys.argv[1]))["data"][0]["spans"]
    except (urllib.error.HTTPError, LookupError, TypeError):
        spans = []
    below = [span for span in spans if span["references"]]
    # The first span has come, and it comes last.
    if len(below) < len(spans):
        print(max(below, key=lambda span: span["duration"])["operationName"])
        break
    time.sleep(1)
PYTHON
)
counted_by: 'flask_requests_total{method="POST", route="/api/orders", status="201"}'
how_many_requests_fail_per_second: metrics
what_went_wrong_in_this_one_request: logs
which_service_made_this_request_slow: traces
ANSWERS
