#!/bin/sh
# Gives a Kibana (8.11 or newer, or 9) the data view, the saved searches and the dashboard of the logs. A second run puts those of the file back.
#
#   KIBANA_URL=http://127.0.0.1:5601 elk/kibana/import.sh
set -eu
url=${KIBANA_URL:-http://127.0.0.1:5601}
cd "$(dirname "$0")"
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

# 503 until Kibana has found its Elasticsearch and is ready.
until curl --silent --fail --output /dev/null "$url/api/status"; do
  echo "waiting for $url"
  sleep 2
done

echo "POST /api/saved_objects/_import"
# Kibana's answer is the reason when it refuses; what it cannot import it names in an answer that is no HTTP error.
curl --silent --show-error --fail-with-body --header 'kbn-xsrf: true' \
  --form file=@flask-logs.ndjson "$url/api/saved_objects/_import?overwrite=true" >"$answer" &&
  grep -q '"success": *true' "$answer" || {
  cat "$answer" >&2
  exit 1
}
