#!/bin/sh
# Does lab 8 in the folder named by WORK, which `lab labs start 8` has laid out. The two exporters that it starts go on in the background.
set -eu
solution=$(cd "$(dirname "$0")" && pwd)
cd "$WORK"
nobody=http://127.0.0.1:${OWN_PORT:-9872}

cp "$solution/exporter.py" .
python3 exporter.py --listen 127.0.0.1:0 --api "http://127.0.0.1:$((5000 + ${LAB_PORT_OFFSET:-0}))" > exporter.log 2>&1 &
python3 exporter.py --listen 127.0.0.1:0 --api "$nobody" > practice.log 2>&1 &

# Each says where it listens, in its first line.
tries=0
until grep -q http exporter.log && grep -q http practice.log; do
  tries=$((tries + 1)); [ "$tries" -lt 100 ] || { cat exporter.log practice.log >&2; exit 1; }
  sleep 0.1
done
cat > answers.yaml <<ANSWERS
exporter: $(sed -n 1p exporter.log)
practice: $(sed -n 1p practice.log)
practice_api: $nobody
ANSWERS
