// Shortcuts, and the dialog that lists them. They can be switched off: single keys are in the way of some who speak to
// their computer.

import { dialogIsOpen, openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { address, go, link, refresh } from "./router.js";
import { inThisBrowser } from "./storage.js";
import { nextTheme } from "./theme.js";

const stored = "taskflow.shortcuts";
const enabled = () => inThisBrowser.get(stored) !== "off";

const shortcuts = [
  ["/", "Filter the flows", toFilter],
  ["j", "Next flow or entry", () => step(1)],
  ["k", "Flow or entry before", () => step(-1)],
  ["n", "Next page", () => document.getElementById("next")?.click()],
  ["p", "Page before", () => document.getElementById("back")?.click()],
  ["o", "Overview", () => go(link("/"))],
  ["f", "Flows", () => go(link("/flows"))],
  ["r", "Read afresh", () => refresh()],
  ["t", "Theme: system, light, dark", nextTheme],
  ["?", "This help", showHelp],
];

function toFilter() {
  if (address().path !== "/flows") go(link("/flows"));
  const filter = document.getElementById("filter");
  filter?.focus();
  filter?.select();
}

// step moves the focus among the entries of the view: flows, waits, changes.
function step(by) {
  const entries = [...document.querySelectorAll(".flows th a, .ticker a, .timeline summary")].filter((entry) => entry.checkVisibility());
  const at = entries.indexOf(document.activeElement);
  const next = at < 0 ? (by > 0 ? 0 : entries.length - 1) : at + by;
  entries[Math.max(0, Math.min(entries.length - 1, next))]?.focus();
}

export function showHelp() {
  const box = h("input", { type: "checkbox", checked: enabled(), onchange: () => inThisBrowser.set(stored, box.checked ? "on" : "off") });
  openDialog("Keyboard", h("div", { class: "form" },
    h("dl", { class: "shortcuts" }, shortcuts.map(([key, words]) => h("div", null, h("dt", null, h("kbd", null, key)), h("dd", null, words))),
      h("div", null, h("dt", null, h("kbd", null, "Enter")), h("dd", null, "Open what has the focus")), h("div", null, h("dt", null, h("kbd", null, "Esc")), h("dd", null, "Close a dialog"))),
    h("label", { class: "check" }, box, "Single-key shortcuts")));
}

export function startKeys() {
  document.getElementById("help-button").addEventListener("click", showHelp);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input:not([type=checkbox]), textarea, select, [contenteditable]");
    if (event.key === "Escape" && typing && !dialogIsOpen()) return typing.blur();
    if (typing || dialogIsOpen() || event.ctrlKey || event.metaKey || event.altKey || !enabled()) return;
    const found = shortcuts.find(([key]) => key === event.key);
    if (!found) return;
    event.preventDefault();
    found[2]();
  });
}
