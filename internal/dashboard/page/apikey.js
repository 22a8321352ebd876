// The dialog for the API key.

import { key } from "./api.js";
import { openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { refresh } from "./router.js";

let opened = null;

// askForKey asks for a key; problem is what the server said to a request without a good one. One dialog is enough for all
// requests that were refused.
export function askForKey(problem) {
  if (opened) return;
  const input = h("input", { type: "password", name: "key", autocomplete: "off", spellcheck: "false", autofocus: true, placeholder: "tfk_…", "aria-describedby": "key-help" });
  const use = (value) => { key.set(value); opened.close(); refresh(); };
  const form = h("form", { class: "form", onsubmit: (event) => { event.preventDefault(); use(input.value.trim()); } },
    problem && h("div", { class: "notice", role: "alert", "data-status": "failed" }, h("p", null, problem.detail), problem.instance && h("p", { class: "facts" }, "Request ", h("code", null, problem.instance))),
    h("label", null, h("span", null, "API key"), input),
    h("p", { class: "soft", id: "key-help" }, "It is kept in this tab until you close it, and sent to this server only."),
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Use this key"),
      key.get() && h("button", { type: "button", onclick: () => use("") }, "Forget the key")));
  opened = openDialog("API key", form, { stays: true, onClose: () => { opened = null; } });
}
