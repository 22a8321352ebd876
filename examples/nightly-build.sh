#!/usr/bin/env bash
# A nightly build runs in a CI system of its own; a mirrored flow shows how it goes. Somebody stops it half-way: the flow
# is cancelled when the last job that was running has ended.
# Needs a running server (make run) and curl. BASE_URL says where it is.
set -euo pipefail
url=${BASE_URL:-http://127.0.0.1:8080}

# call METHOD PATH [BODY] [curl options]: prints the answer's body; a problem stops the script.
call() {
  local method=$1 path=$2 body=${3:-}
  shift $(($# < 3 ? $# : 3))
  curl -sS --fail-with-body -X "$method" "$url$path" ${body:+-H 'Content-Type: application/json' -d "$body"} "$@"
  echo
}

echo "== The build has begun: a mirrored flow is born running."
flow=$(call POST /flows '{
  "mode": "mirrored",
  "controller_id": "ci/nightly",
  "goal": "Nightly build of main",
  "owner_session_key": "ci:nightly",
  "labels": {"branch": "main"}
}')
echo "$flow"
id=$(sed 's/^{"id":"\([^"]*\)".*/\1/' <<<"$flow")

echo "== Its jobs report. A run id may hold slashes, percent-encoded."
call PUT "/flows/$id/steps/build%2Flinux" '{"task": "Build for Linux", "status": "running", "observed_at": "2026-04-23T01:00:00Z"}'
call PUT "/flows/$id/steps/build%2Fmacos" '{"task": "Build for macOS", "status": "running", "observed_at": "2026-04-23T01:00:00Z"}'
call PUT "/flows/$id/steps/build%2Flinux" '{"task": "Build for Linux", "status": "succeeded", "observed_at": "2026-04-23T01:12:00Z", "result": {"artifact": "app-1.2.3.tar.gz"}}'

echo "== A report that arrives late, and out of order, changes nothing."
call PUT "/flows/$id/steps/build%2Flinux" '{"task": "Build for Linux", "status": "running", "observed_at": "2026-04-23T01:05:00Z"}' -i

echo "== Somebody asks for a stop. One job still runs, so the flow drains."
call POST "/flows/$id/request-cancel" '{"reason": "A newer commit is in"}'
last=$(call PUT "/flows/$id/steps/build%2Fmacos" '{"task": "Build for macOS", "status": "cancelled", "observed_at": "2026-04-23T01:15:00Z"}')
echo "$last"
final=$(call GET "/flows/$id")
echo "$final"

echo "== The whole story:"
call GET "/flows/$id/steps"
call GET "/flows/$id/events"

grep -q '"status":"cancelled"' <<<"$final"
echo "done: flow $id was cancelled when its last job ended"
