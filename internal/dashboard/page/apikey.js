// The dialog for the API key.

import { key } from "./api.js";
import { openDialog } from "./dialog.js";
import { h, replace } from "./dom.js";
import { refresh } from "./router.js";

let opened = null;
let dismissed = false; // closed, though there was a refusal, and no other key used since

// keyRefused asks for a key after a refusal; what the page reads by itself does not ask again whoever has closed the dialog.
export function keyRefused(problem, byHand) {
  if (byHand || !dismissed) askForKey(problem);
}

// askForKey asks for a key; problem is what the server said to a request without a good one. One dialog is enough for all
// requests that were refused.
export function askForKey(problem) {
  if (opened) return;
  const input = h("input", { type: "password", name: "key", autocomplete: "off", spellcheck: "false", autofocus: true, placeholder: "tfk_…", "aria-describedby": "key-help" });
  const answer = h("div", { class: "answer" }, problem && h("div", { class: "notice", role: "alert", "data-status": "failed" }, h("p", null, problem.detail), problem.instance && h("p", { class: "facts" }, "Request ", h("code", null, problem.instance))));
  let used = false;
  const use = (value) => { used = true; key.set(value); opened.close(); refresh(); };
  const submit = (event) => {
    event.preventDefault();
    const value = input.value.trim();
    if (/^[\x21-\x7e]*$/.test(value)) return use(value);
    replace(answer, h("p", { class: "notice", role: "alert", "data-status": "failed" }, "This cannot be a key: keys are made of ASCII letters, digits and signs, with no blank, quote or accent among them."));
    input.setAttribute("aria-invalid", "true");
    input.focus();
  };
  const form = h("form", { class: "form", onsubmit: submit }, answer,
    h("label", null, h("span", null, "API key"), input),
    h("p", { class: "soft", id: "key-help" }, "It is kept in this tab until you close it, and sent to this server only."),
    h("div", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Use this key"),
      key.get() && h("button", { type: "button", onclick: () => use("") }, "Forget the key")));
  opened = openDialog("API key", form, { stays: true, onClose: () => { opened = null; dismissed = !used && (dismissed || problem !== undefined); } });
}
