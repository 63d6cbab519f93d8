#!/bin/sh
# Does lab 6 in the folder named by WORK, which `lab labs start 6` has laid out; `lab` has to be on PATH. Half of the shop's requests fail for half a
# minute. The Prometheus that it starts goes on in the background.
set -eu
solution=$(cd "$(dirname "$0")" && pwd)
LAB_PROJECT=$(cd "$solution/../../.." && pwd)
export LAB_PROJECT
cd "$WORK"
own=127.0.0.1:${OWN_PORT:-9092}
alertmanager=http://127.0.0.1:$((9093 + ${LAB_PORT_OFFSET:-0}))
alert=ShopAnswersErrors

cp "$solution/rules.yml" "$solution/rules_test.yml" .
./promtool check rules rules.yml
./promtool test rules rules_test.yml
./prometheus --config.file=prometheus.yml --storage.tsdb.path=data --web.listen-address="$own" > prometheus.log 2>&1 &
echo "prometheus: http://$own" > answers.yaml

told() {
  tries=0
  until lab inbox --channel pagerduty --alert "$alert" --status "$1" --json | grep -q '"received_at"'; do
    tries=$((tries + 1)); [ "$tries" -lt 180 ] || { echo "nobody was told that $alert is $1" >&2; exit 1; }
    sleep 1
  done
}
lab chaos start errors --probability 0.5 --for 30s
told firing
told resolved

python3 - "$alertmanager/api/v2/silences" "$alert" <<'PYTHON'
import datetime, json, sys, urllib.request

now = datetime.datetime.now(datetime.timezone.utc)
silence = {
    "matchers": [{"name": "alertname", "value": sys.argv[2], "isRegex": False}],
    "startsAt": now.isoformat(),
    "endsAt": (now + datetime.timedelta(hours=1)).isoformat(),
    "createdBy": "a learner",
    "comment": "A load test until the top of the hour: errors are meant",
}
request = urllib.request.Request(sys.argv[1], json.dumps(silence).encode(), {"content-type": "application/json"})
print(urllib.request.urlopen(request).read().decode())
PYTHON
