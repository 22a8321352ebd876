// The form of a new wait: one condition, a timeout, and what to show people.

import { h, replace } from "./dom.js";
import { body, jsonField, periodField, textField } from "./fields.js";

const kinds = { timer: "A timer", external_event: "An external event", callback: "A callback", manual: "A go-ahead by hand" };
const outcomes = { resume: "resume the flow", fail: "fail the flow", cancel: "cancel the flow" };

function conditionFields(kind) {
  if (kind === "timer") return [periodField("after", "Fires after")];
  if (kind === "external_event") return [textField("topic", "Topic", { required: true, max: 256 }), textField("correlation_id", "Correlation id", { required: true, max: 256 })];
  return [];
}

// waitField is the field "wait" of the command, made of others.
export function waitField() {
  const kind = h("select", { name: "kind" }, Object.entries(kinds).map(([value, words]) => h("option", { value }, words)));
  const condition = h("div", { class: "fields" });
  let fields = [];
  const choose = () => { fields = conditionFields(kind.value); replace(condition, fields.map((field) => field.element)); };
  kind.addEventListener("change", choose);
  choose();
  const timed = h("input", { type: "checkbox", name: "timed" });
  const after = periodField("after", "Timeout after", ["1", "days"]);
  const outcome = h("select", { name: "on_timeout" }, Object.entries(outcomes).map(([value, words]) => h("option", { value }, words)));
  const timeout = h("div", { class: "fields", hidden: true }, after.element, h("label", null, h("span", null, "and then"), outcome));
  timed.addEventListener("change", () => { timeout.hidden = !timed.checked; });
  const details = jsonField("details", "Details for people (a JSON object)", { object: true });
  return { name: "wait",
    element: h("div", { class: "fields" }, h("label", null, h("span", null, "What for"), kind), condition,
      h("label", { class: "check" }, timed, "With a timeout"), timeout, details.element),
    read: () => body([{ name: "kind", read: () => JSON.stringify(kind.value) }, ...fields,
      { name: "timeout", read: () => (timed.checked ? body([after, { name: "on_timeout", read: () => JSON.stringify(outcome.value) }]) : undefined) }, details]) };
}
