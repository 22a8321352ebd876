// The form of a new wait: one condition, or several of which the first to happen ends it; a timeout, and what to show people.

import { h, replace } from "./dom.js";
import { body, jsonField, momentField, periodField, textField } from "./fields.js";

const kinds = { timer: "A timer", external_event: "An external event", callback: "A callback", manual: "A go-ahead by hand" };
const outcomes = { resume: "resume the flow", fail: "fail the flow", cancel: "cancel the flow" };
const schemes = { "": "Nobody: the address is enough", "standard-webhooks": "Standard Webhooks", github: "GitHub", stripe: "Stripe", slack: "Slack", "hmac-sha256": "HMAC-SHA256 of the body" };
const mostConditions = 16;

// choice is a select and the fields that belong to what is chosen, by fieldsOf(value). members are all of them, for body.
function choice(name, title, options, fieldsOf) {
  const select = h("select", { name }, Object.entries(options).map(([value, words]) => h("option", { value }, words)));
  const part = h("div", { class: "fields" });
  let fields = [];
  const choose = () => {
    fields = fieldsOf(select.value);
    replace(part, fields.map((field) => field.element));
    part.hidden = fields.length === 0;
  };
  select.addEventListener("change", choose);
  choose();
  return { select, elements: [h("label", null, h("span", null, title), select), part],
    members: () => [{ name, read: () => JSON.stringify(select.value) }, ...fields] };
}

function conditionFields(kind) {
  switch (kind) {
    case "timer": return [whenField("Fires")];
    case "external_event": return [textField("topic", "Topic", { required: true, max: 256 }), textField("correlation_id", "Correlation id", { required: true, max: 256 })];
    case "callback": return [verifyField()];
  }
  return [];
}

// whenField is the field "after" or "at", whichever was chosen.
function whenField(title, standard) {
  const when = choice("when", title, { after: "after a while", at: "at a time" }, (value) => [value === "at" ? momentField("at", `${title} at`) : periodField("after", `${title} after`, standard)]);
  return { get name() { return when.select.value; }, element: h("div", { class: "fields" }, when.elements), read: () => when.members()[1].read() };
}

function verifyField() {
  const scheme = choice("scheme", "Its body is signed by", schemes, (value) => [
    value !== "" && textField("secret", "Secret", { required: true, max: 1024, type: "password", help: "It is never shown again." }),
    value === "hmac-sha256" && textField("header", "Header with the signature", { max: 64, help: "X-Signature where this is empty." }),
  ].filter(Boolean));
  return { name: "verify", element: h("div", { class: "fields" }, scheme.elements), read: () => (scheme.select.value === "" ? undefined : body(scheme.members())) };
}

// Conditions are the rows of the form: one, or as many as any_of takes.
class Conditions {
  constructor() {
    this.rows = [];
    this.list = h("div", { class: "fields" });
    this.addButton = h("button", { type: "button", class: "quiet", onclick: () => this.add().choice.select.focus() }, "Or something else…");
    this.element = h("div", { class: "fields" }, this.list, h("div", null, this.addButton));
    this.add();
  }

  add() {
    const row = { choice: choice("kind", "What for", kinds, conditionFields) };
    row.removeButton = h("button", { type: "button", class: "quiet", onclick: () => this.remove(row) }, "Remove");
    row.element = h("div", { class: "condition fields", role: "group" }, row.removeButton, row.choice.elements);
    this.rows.push(row);
    this.list.append(row.element);
    this.number();
    return row;
  }

  remove(row) {
    this.rows.splice(this.rows.indexOf(row), 1);
    row.element.remove();
    this.number();
    this.addButton.focus();
  }

  // number tells the rows apart for those who do not see them.
  number() {
    this.rows.forEach((row, i) => {
      row.element.setAttribute("aria-label", `Condition ${i + 1}`);
      row.removeButton.setAttribute("aria-label", `Remove condition ${i + 1}`);
      row.removeButton.hidden = this.rows.length === 1;
    });
    this.addButton.hidden = this.rows.length === mostConditions;
  }

  members() {
    if (this.rows.length === 1) return this.rows[0].choice.members();
    return [{ name: "kind", read: () => `"any_of"` }, { name: "conditions", read: () => `[${this.rows.map((row) => body(row.choice.members())).join(",")}]` }];
  }
}

// waitField is the field "wait" of the command, made of others.
export function waitField() {
  const conditions = new Conditions();
  const timed = h("input", { type: "checkbox", name: "timed" });
  const when = whenField("Timeout", ["1", "days"]);
  const outcome = choice("on_timeout", "and then", outcomes, (value) => (value === "resume" ? [jsonField("state_patch", "Patch of the state then (JSON)")] : []));
  const timeout = h("div", { class: "fields timeout", hidden: true }, when.element, outcome.elements);
  timed.addEventListener("change", () => { timeout.hidden = !timed.checked; });
  const details = jsonField("details", "Details for people (a JSON object)", { object: true });
  return { name: "wait",
    element: h("div", { class: "fields" }, conditions.element, h("label", { class: "check" }, timed, "With a timeout"), timeout, details.element),
    read: () => body([...conditions.members(), { name: "timeout", read: () => (timed.checked ? body([when, ...outcome.members()]) : undefined) }, details]) };
}
