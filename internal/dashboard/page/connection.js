// The sign in the page's head that says whether what is shown is live.

import { h, replace } from "./dom.js";
import { duration } from "./time.js";

let shown = { state: "connecting" };

const lasting = { none: "", connecting: "Connecting", connected: "Live", stalled: "No database" };

// showConnection takes one of lasting, or disconnected; for that, when the next try is, how to make it now, and why: the
// problem, where the server answered with one.
export function showConnection(state, more = {}) {
  shown = { state, ...more };
  const sign = document.getElementById("connection");
  sign.dataset.state = state;
  sign.title = more.why?.detail ?? "";
  if (state in lasting) replace(sign, lasting[state]);
  else replace(sign, "Disconnected", more.why && h("span", { class: "why" }, more.why.title), h("span", { class: "next", "aria-hidden": "true" }), h("button", { type: "button", class: "quiet", onclick: more.now }, "Try now"));
  tickConnection();
}

// tickConnection counts down to the next try.
export function tickConnection() {
  if (shown.state !== "disconnected") return;
  const next = document.querySelector("#connection .next");
  if (next) next.textContent = `again in ${duration(Math.max(1000, Math.ceil((shown.at - Date.now()) / 1000) * 1000))}`;
}
