#!/bin/sh
# Does lab 4 in the folder named by WORK, which `lab labs start 4` has laid out.
set -eu
solution=$(cd "$(dirname "$0")" && pwd)
cd "$WORK"
offset=${LAB_PORT_OFFSET:-0}
log=${LAB_DATA_DIR:-$solution/../../../.lab}/logs/app/stockwatch.log

# As it was, so that its lines are dead letters; then as it should be.
python3 app.py 3 >> "$log"
sed "s/127.0.0.1:5000/127.0.0.1:$((5000 + offset))/" "$solution/app.py" > app.py
python3 app.py 6 >> "$log"
cp "$solution/query.json" .
python3 - "http://127.0.0.1:$((9200 + offset))" > answers.yaml <<'PYTHON'
import json, sys, time, urllib.request

for _ in range(60):
    query = {"query": {"match_phrase": {"event.original": "product 9999 cannot be looked at"}}}
    url = f"{sys.argv[1]}/flask-logs-dead-letter*/_search"
    request = urllib.request.Request(url, json.dumps(query).encode(), {"content-type": "application/json"})
    hits = json.load(urllib.request.urlopen(request))["hits"]["hits"]
    if hits:
        break
    time.sleep(1)
print("broken_words: product 9999 cannot be looked at")
print("reason:", json.dumps(hits[0]["_source"]["error.message"]))
print("dead_letters_in:", hits[0]["_index"])
print("service: stockwatch")
PYTHON
