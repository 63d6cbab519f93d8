#!/bin/sh
# Does lab 5 in the folder named by WORK; `lab` has to be on PATH.
set -eu
LAB_PROJECT=$(cd "$(dirname "$0")/../../.." && pwd)
export LAB_PROJECT
cd "$WORK"
lab chaos start latency --service payments --delay 700ms --for 2m
python3 - "http://127.0.0.1:$((16686 + ${LAB_PORT_OFFSET:-0}))" > answers.yaml <<'PYTHON'
import collections, json, sys, time, urllib.parse, urllib.request

def ask(path, **parameters):
    url = f"{sys.argv[1]}{path}?{urllib.parse.urlencode(parameters)}"
    return json.load(urllib.request.urlopen(url))["data"] or []

def slow_order():
    """A trace with both ends: its spans arrive by service."""
    for trace in ask("/api/traces", service="flask-api", operation="POST /api/orders", minDuration="700ms", limit=20):
        services = {process["serviceName"] for process in trace["processes"].values()}
        ids = {span["spanID"] for span in trace["spans"]}
        whole = all(reference["spanID"] in ids for span in trace["spans"] for reference in span["references"])
        if whole and {"flask-api", "payments"} <= services:
            return trace

def eventually(find):
    for _ in range(90):
        if found := find():
            return found
        time.sleep(1)
    sys.exit("nothing slow was found")

def edges():
    now = int(time.time() * 1000)
    found = {(it["parent"], it["child"]) for it in ask("/api/dependencies", endTs=now, lookback=3600000)}
    return found if ("flask-api", "payments") in found else None

trace = eventually(slow_order)
below = collections.Counter()
for span in trace["spans"]:
    for reference in span["references"]:
        below[reference["spanID"]] += span["duration"]
own = collections.Counter()
for span in trace["spans"]:
    own[trace["processes"][span["processID"]]["serviceName"]] += max(0, span["duration"] - below[span["spanID"]])
culprit, longest = own.most_common(1)[0]
start = min(span["startTime"] for span in trace["spans"])
whole = max(span["startTime"] + span["duration"] for span in trace["spans"]) - start
print(f"trace_id: \"{trace['traceID']}\"")
print(f"culprit: {culprit}")
print(f"share_percent: {100 * longest / whole:.0f}")
print("calls: [" + ", ".join(f"{one} -> {other}" for one, other in sorted(eventually(edges)) if one != other) + "]")
PYTHON
lab chaos stop
