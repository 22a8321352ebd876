// A revision conflict: what has changed since the flow was shown, and what to do about it.

import { h } from "./dom.js";
import { diff, showDiff } from "./diff.js";
import { waitName } from "./wait.js";

// compared is a flow as one value: what a person would want to know has changed.
function compared(flow) {
  return new Map([
    ["status", flow.status], ["cancel_requested", flow.cancel_requested], ["current_step", flow.current_step], ["goal", flow.goal],
    ["wait", flow.wait ? waitName(flow.wait) : null], ["labels", flow.labels], ["state", flow.state],
  ]);
}

// conflictNotice shows the difference of two versions of a flow. applies says whether the command is still allowed;
// apply sends it again on the newer one.
export function conflictNotice(shown, current, { applies, apply, label }) {
  const changes = diff(compared(shown), compared(current));
  return h("div", { class: "notice conflict", role: "alert", "data-status": "waiting" },
    h("h3", { class: "notice-title" }, `The flow has changed: you saw revision ${shown.revision}, it is at ${current.revision}`),
    h("p", null, "Nothing was done yet. Meanwhile:"),
    changes.length > 0 ? showDiff(changes) : h("p", { class: "soft" }, "Nothing that differs now; the changes undid each other."),
    applies
      ? h("div", { class: "buttons" }, h("button", { type: "button", class: "primary", id: "apply-anyway", onclick: apply }, `${label} anyway, on revision ${current.revision}`))
      : h("p", null, h("strong", null, `A flow that is ${current.status} no longer allows this.`)));
}
