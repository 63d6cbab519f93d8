#!/bin/sh
# Does lab 2 in the folder named by WORK, which `lab labs start 2` has laid out. The Prometheus that it starts goes on in the background.
set -eu
solution=$(cd "$(dirname "$0")" && pwd)
cd "$WORK"
offset=${LAB_PORT_OFFSET:-0}
own=127.0.0.1:${OWN_PORT:-9091}

for port in 5100 5101 9100; do
  edit="${edit:-}s/127.0.0.1:$port/127.0.0.1:$((port + offset))/;"
done
sed "$edit" "$solution/prometheus.yml" > prometheus.yml
cp "$solution/rules.yml" .
./promtool check config prometheus.yml
./prometheus --config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address="$own" > prometheus.log 2>&1 &
echo "prometheus: http://$own" > answers.yaml
