// The sign in the page's head that says whether what is shown is live.

import { h, replace } from "./dom.js";
import { duration } from "./time.js";

let shown = { state: "connecting" };

// showConnection takes connecting, connected or disconnected; for the last, when the next try is and how to make it now.
export function showConnection(state, more = {}) {
  shown = { state, ...more };
  const sign = document.getElementById("connection");
  sign.dataset.state = state;
  sign.title = more.why ?? "";
  if (state === "connected") replace(sign, "Live");
  else if (state === "connecting") replace(sign, "Connecting");
  else replace(sign, "Disconnected", h("span", { class: "next", "aria-hidden": "true" }), h("button", { type: "button", class: "quiet", onclick: more.now }, "Try now"));
  tickConnection();
}

// tickConnection counts down to the next try.
export function tickConnection() {
  if (shown.state !== "disconnected") return;
  const next = document.querySelector("#connection .next");
  if (next) next.textContent = `again in ${duration(Math.max(1000, Math.ceil((shown.at - Date.now()) / 1000) * 1000))}`;
}
