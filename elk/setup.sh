#!/bin/sh
# Readies an Elasticsearch (8 or 9) for the logs: how long they are kept, what their fields are, and the first index behind each of
# the two names that every route writes to. Run it before the first shipper; a second run changes nothing.
#
#   ELASTICSEARCH_URL=http://127.0.0.1:9200 elk/setup.sh
#
# The lab does the same by itself (crates/stack/src/table.rs), without the lifecycle, which its slim distribution does not have: LIFECYCLE=none.
set -eu
url=${ELASTICSEARCH_URL:-http://127.0.0.1:9200}
cd "$(dirname "$0")"
lifecycle=${LIFECYCLE:-ilm}
case $lifecycle in
  ilm | none) ;;
  *)
    echo "LIFECYCLE=$lifecycle: neither ilm nor none" >&2
    exit 2
    ;;
esac
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT

put() {
  path=$1
  shift
  echo "PUT $path"
  # The answer of Elasticsearch is the reason when it refuses.
  curl --silent --show-error --fail-with-body --header 'content-type: application/json' --request PUT "$url$path" "$@" >"$answer" || {
    cat "$answer" >&2
    exit 1
  }
}

until curl --silent --fail --output /dev/null "$url/_cluster/health?wait_for_status=yellow&timeout=5s"; do
  echo "waiting for $url"
  sleep 2
done

if [ "$lifecycle" = ilm ]; then
  put /_ilm/policy/flask-logs --data-binary @lifecycle-policy.json
  for alias in flask-logs flask-logs-dead-letter; do
    put "/_component_template/$alias-lifecycle" \
      --data "{\"template\":{\"settings\":{\"index.lifecycle.name\":\"flask-logs\",\"index.lifecycle.rollover_alias\":\"$alias\"}}}"
  done
fi
put /_index_template/flask-logs --data-binary @index-template.json
put /_index_template/flask-logs-dead-letter --data-binary @dead-letter-template.json

# Once: an index that exists is refused, and must stay.
first() {
  if curl --silent --fail --output /dev/null "$url/_alias/$1"; then
    echo "$1 is there"
  else
    put "/$1-000001" --data-binary "@$2"
  fi
}
first flask-logs first-index.json
first flask-logs-dead-letter first-dead-letter-index.json
