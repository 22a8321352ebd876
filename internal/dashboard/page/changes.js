// Replays a trail: what each event did to the flow's state, by the merge that the service does.

import { diff } from "./diff.js";

const ownCauses = ["callback", "external_event"]; // the service's own patches keep a state that is no object

// patchOf returns what an event lays onto the state: {patch, own}, or undefined.
function patchOf(event) {
  const payload = event.payload;
  switch (event.kind) {
    case "created": return { patch: payload.get("state") ?? new Map() };
    case "state_updated": return payload.has("patch") ? { patch: payload.get("patch") } : undefined;
    case "finished": return payload.has("final_state") ? { patch: payload.get("final_state") } : undefined;
    case "failed": return { patch: new Map([["failure", new Map([["reason", payload.get("reason")], ["at", event.at]])]]), own: true };
    case "resumed": return payload.has("state_patch") ? { patch: payload.get("state_patch"), own: ownCauses.includes(payload.get("cause")?.get("kind")) } : undefined;
  }
  return undefined;
}

// merge lays a patch onto a state: an object onto an object overwrites top-level keys, anything else replaces.
export function merge(state, patch, own) {
  if (own && !(state instanceof Map)) state = new Map([["value", state]]);
  return state instanceof Map && patch instanceof Map ? new Map([...state, ...patch]) : patch;
}

// replay takes events in their order and returns, by seq, the differences each made to the state. Where the events do
// not begin with the flow's creation, what is not yet known of the state is told as set.
export function replay(events) {
  const out = new Map();
  let known = new Map(), whole = false;
  for (const event of events) {
    const laid = patchOf(event);
    if (!laid) continue;
    if (event.kind === "created") {
      known = laid.patch;
      whole = true;
      out.set(event.seq, known instanceof Map ? diff(new Map(), known) : [{ path: [], change: "added", after: known }]);
    } else if (whole) {
      const after = merge(known, laid.patch, laid.own);
      out.set(event.seq, diff(known, after));
      known = after;
    } else {
      out.set(event.seq, partly(known, laid.patch));
      whole = !(laid.patch instanceof Map);
      known = whole ? laid.patch : merge(known, laid.patch);
    }
  }
  return out;
}

function partly(known, patch) {
  if (!(patch instanceof Map)) return [{ path: [], change: "set", after: patch }];
  return [...patch].flatMap(([key, value]) => (known.has(key) ? diff(known.get(key), value, [key]) : [{ path: [key], change: "set", after: value }]));
}
