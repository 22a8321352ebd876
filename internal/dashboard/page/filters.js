// The filters of the list: a form that stands for the query in the address, and back.

import { h, later, replace } from "./dom.js";
import { icon, statuses } from "./status.js";

const modes = ["managed", "mirrored"];
const waitKinds = ["timer", "external_event", "callback", "manual", "any_of"];
const orders = { "-created_at": "Newest first", created_at: "Oldest first", "-updated_at": "Changed last", updated_at: "Changed first" };
const limits = ["25", "50", "100", "200", "500"];
const times = { created_after: "Created after", created_before: "Created before", updated_after: "Changed after", updated_before: "Changed before" };
const texts = { controller_id: "Controller", owner_session_key: "Owner" };

// names are all parameters of GET /flows that the address may carry.
export const names = ["q", "status", "label", "mode", "wait_kind", "cancel_requested", "order", "limit", ...Object.keys(texts), ...Object.keys(times)];

// clean keeps of an address's query what the list knows.
export function clean(query) {
  const out = new URLSearchParams();
  for (const name of names) for (const value of query.getAll(name)) if (value !== "") out.append(name, value);
  return out;
}

// toLocal and toTime turn a time of the API into what <input type=datetime-local> holds, and back.
function toLocal(iso) {
  const date = new Date(iso);
  return Number.isNaN(date.getTime()) ? "" : new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
const toTime = (local) => (local ? new Date(local).toISOString() : "");

// Filters draws the form. onChange gets the new query, cursor left out.
export class Filters {
  constructor(query, onChange) {
    this.query = query;
    this.onChange = onChange;
    this.inputs = {};
    this.typed = later(350, () => this.changed());
    this.labels = h("ul", { class: "chips" });
    this.count = h("span", { class: "count" });
    const hidden = names.filter((name) => !["q", "status", "order", "limit"].includes(name));
    this.more = h("details", { class: "more-filters", open: hidden.some((name) => query.has(name)) },
      h("summary", null, "More filters", this.count),
      h("div", { class: "fields" }, Object.entries(texts).map(([name, title]) => this.text(name, title)),
        this.select("mode", "Mode", { "": "Any", ...Object.fromEntries(modes.map((mode) => [mode, mode])) }),
        this.select("wait_kind", "Waits for", { "": "Anything", ...Object.fromEntries(waitKinds.map((kind) => [kind, kind.replace("_", " ")])) }),
        this.select("cancel_requested", "Cancel requested", { "": "Either", true: "Yes", false: "No" }),
        Object.entries(times).map(([name, title]) => this.time(name, title)),
        this.select("limit", "Flows a page", Object.fromEntries(limits.map((limit) => [limit, limit])), "50"), this.labelField()));
    this.element = h("form", { class: "filters", role: "search", "aria-label": "Filter flows", onsubmit: (event) => { event.preventDefault(); this.changed(); } },
      h("div", { class: "first" },
        h("label", { class: "search" }, h("span", { class: "unseen" }, "Goal contains"), this.input("q", { type: "search", id: "filter", placeholder: "Goal contains…", maxlength: 256, autocomplete: "off", spellcheck: "false" })),
        this.select("order", "Order", orders, "-created_at"),
        h("button", { type: "button", class: "quiet", onclick: () => this.clear() }, "Clear")),
      h("fieldset", { class: "statuses" }, h("legend", { class: "unseen" }, "Status"), statuses.map((status) => this.status(status))),
      this.more);
    this.show(query);
  }

  input(name, attributes) {
    const input = h("input", { type: "text", name, ...attributes, oninput: () => this.typed(), onchange: () => this.changed() });
    return (this.inputs[name] = input);
  }

  text(name, title) {
    return h("label", null, h("span", null, title), this.input(name, { maxlength: 256, autocomplete: "off", spellcheck: "false" }));
  }

  time(name, title) {
    const input = h("input", { type: "datetime-local", name, step: "1", onchange: () => this.changed() });
    this.inputs[name] = input;
    return h("label", null, h("span", null, title), input);
  }

  select(name, title, options, standard = "") {
    const select = h("select", { name, onchange: () => this.changed() }, Object.entries(options).map(([value, words]) => h("option", { value }, words)));
    select.standard = standard;
    this.inputs[name] = select;
    return h("label", null, h("span", { class: name === "order" ? "unseen" : null }, title), select);
  }

  status(status) {
    const box = h("input", { type: "checkbox", name: "status", value: status, onchange: () => this.changed() });
    (this.boxes ??= []).push(box);
    return h("label", { class: "chip", "data-status": status }, box, icon(status), status);
  }

  labelField() {
    const input = h("input", { type: "text", name: "label", placeholder: "key:value", pattern: "[^:]{1,63}:.*", maxlength: 319, autocomplete: "off", spellcheck: "false" });
    const add = () => {
      if (!input.value || !input.reportValidity()) return;
      this.query.append("label", input.value);
      input.value = "";
      this.changed();
    };
    input.addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); add(); } });
    return h("div", { class: "label-field" }, h("label", null, h("span", null, "Label"), input), h("button", { type: "button", onclick: add }, "Add label"), this.labels);
  }

  clear() {
    this.query = new URLSearchParams();
    this.show(this.query);
    this.changed();
  }

  // changed reads the form.
  changed() {
    this.typed.cancel();
    const out = new URLSearchParams();
    for (const box of this.boxes) if (box.checked) out.append("status", box.value);
    for (const label of this.query.getAll("label")) out.append("label", label);
    for (const [name, input] of Object.entries(this.inputs)) {
      const value = this.read(name, input);
      if (value) out.set(name, value);
    }
    this.onChange(out);
  }

  // read returns what a control stands for: left alone, what the address said, for no control shows all that may stand there.
  read(name, input) {
    if (input.value === input.shown) return input.stood;
    if (name in times) return toTime(input.value);
    return input.value === input.standard ? "" : input.value;
  }

  // show brings the form to a query; what the user is typing in stays as it is.
  show(query) {
    this.query = new URLSearchParams(query);
    for (const box of this.boxes) box.checked = query.getAll("status").includes(box.value);
    for (const [name, input] of Object.entries(this.inputs)) {
      if (input === document.activeElement && input.tagName === "INPUT") continue;
      const value = query.get(name) ?? input.standard ?? "";
      input.value = name in times ? toLocal(value) : value;
      input.stood = query.get(name);
      input.shown = input.value;
    }
    replace(this.labels, query.getAll("label").map((label) => h("li", { class: "tag" }, label,
      h("button", { type: "button", class: "quiet", "aria-label": `Remove label ${label}`, onclick: () => this.removeLabel(label) }, "×"))));
    const active = names.filter((name) => !["q", "status", "order"].includes(name) && query.has(name)).length;
    this.count.textContent = active ? `${active} set` : "";
  }

  removeLabel(label) {
    const kept = this.query.getAll("label").filter((one) => one !== label);
    this.query.delete("label");
    for (const one of kept) this.query.append("label", one);
    this.changed();
  }
}
