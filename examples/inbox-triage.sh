#!/usr/bin/env bash
# An agent triages an inbox: it drafts replies step by step, waits for a person's go-ahead, and finishes.
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
# field NAME: the value of a top-level text or number in the JSON on standard input.
field() { sed -n "s/.*\"$1\":\"\{0,1\}\([^\",}]*\).*/\1/p" | head -n 1; }

echo "== An agent takes on the inbox. The Idempotency-Key makes the request safe to repeat."
flow=$(call POST /flows '{
  "controller_id": "kate/inbox-triage",
  "goal": "Triage the inbox and draft replies",
  "owner_session_key": "agent:kate:session:abc",
  "requester_origin": "kate@example.com",
  "state": {"unread": 3, "budget_eur": 1.10},
  "labels": {"team": "support"}
}' -H "Idempotency-Key: triage-$$-$RANDOM")
echo "$flow"
id=$(sed 's/^{"id":"\([^"]*\)".*/\1/' <<<"$flow")

echo "== It starts, only if nobody else has touched the flow (revision 0)."
call POST "/flows/$id/start" '' -H 'If-Match: "0"'

echo "== Each message is a step; the state says how far it is."
for n in 1 2 3; do
  call PUT "/flows/$id/steps/draft-$n" "{\"task\": \"Draft a reply to message $n\", \"status\": \"running\"}"
  call PUT "/flows/$id/steps/draft-$n" "{\"task\": \"Draft a reply to message $n\", \"status\": \"succeeded\", \"result\": {\"words\": $((n * 40))}}"
  call POST "/flows/$id/state" "{\"patch\": {\"drafted\": $n}, \"current_step\": \"draft-replies\"}"
done

echo "== It waits for a person's go-ahead."
call POST "/flows/$id/wait" '{"wait": {"kind": "manual", "details": {"question": "Send the 3 drafted replies?"}}}'
call GET "/flows?status=waiting&owner_session_key=agent:kate:session:abc&view=summary"

echo "== Kate agrees, and the agent finishes."
call POST "/flows/$id/resume" '{"state_patch": {"approved_by": "kate"}}'
final=$(call POST "/flows/$id/finish" '{"final_state": {"sent": 3}}')
echo "$final"

echo "== The whole story:"
call GET "/flows/$id/steps"
call GET "/flows/$id/events"

[ "$(field status <<<"$final")" = finished ]
[ "$(field revision <<<"$final")" = 7 ]
echo "done: flow $id is finished at revision 7"
