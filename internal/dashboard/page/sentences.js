// What an audit event means, in words.

import { Num, write } from "./json.js";
import { waitName } from "./wait.js";

const short = (text, most = 120) => (text.length > most ? `${text.slice(0, most)}…` : text);

// text reads a member of a caller's payload: a Map, as json.js reads it.
const text = (value) => (value === undefined || value === null ? "" : value instanceof Num ? value.text : typeof value === "string" ? value : write(value));

const causes = { timer: "a timer", external_event: "an external event", callback: "a callback", manual: "hand", timeout: "its timeout" };

// describe says what happened, without the event's kind.
export function describe(event) {
  const payload = event.payload;
  const has = (name) => payload.get(name) !== undefined && payload.get(name) !== null;
  switch (event.kind) {
    case "created": return short(text(payload.get("goal")));
    case "waiting": return waitName(payload.get("wait"));
    case "resumed": return resumedBy(payload.get("cause"));
    case "failed": case "cancelled": case "cancel_requested": return has("reason") ? short(text(payload.get("reason"))) : "";
    case "step_observed": return `${text(payload.get("run_id"))} is ${text(payload.get("status"))}`;
    case "state_updated": return updated(payload, has);
  }
  return "";
}

function resumedBy(cause) {
  const by = `by ${causes[cause?.get("kind")] ?? "something"}`;
  return cause?.get("outcome") === "rejected" ? `${by}, rejected` : by;
}

function updated(payload, has) {
  const words = [];
  if (has("next_step")) words.push(`step ${text(payload.get("next_step"))}`);
  if (has("goal")) words.push("a new goal");
  const labels = payload.get("labels");
  if (labels) words.push(`labels ${[...labels].map(([key, value]) => (value === null ? `−${key}` : `${key}:${value}`)).join(", ")}`);
  const patch = payload.get("patch");
  if (patch instanceof Map) words.push(`state ${[...patch.keys()].join(", ")}`);
  else if (patch !== undefined) words.push("a new state");
  return short(words.join(" · "));
}
