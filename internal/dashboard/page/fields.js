// The fields of the forms that commands are sent from. Each is {element, read}; read returns the text of a JSON value,
// undefined where the field is left empty, and throws Invalid where it cannot be sent.

import { h } from "./dom.js";
import { parse, write } from "./json.js";

// Invalid names the field that has to be put right first.
export class Invalid extends Error {
  constructor(message, input) { super(message); this.input = input; }
}

let counter = 0;

function labelled(title, input, help) {
  const id = `help-${++counter}`;
  if (help) input.setAttribute("aria-describedby", id);
  return h("label", null, h("span", null, title), input, help && h("span", { class: "soft", id }, help));
}

export function textField(name, title, { required = false, max = 4096, value = "", help, long = false, type } = {}) {
  const input = h(long ? "textarea" : "input", { name, type, required, maxlength: max, rows: long ? 3 : undefined, autocomplete: "off" });
  input.value = value;
  const shown = input.value; // a control changes line breaks
  return { name, element: labelled(title, input, help), read: () => {
    if (input.value === shown && shown !== "") return undefined;
    if (input.value !== "") return JSON.stringify(input.value);
    if (required) throw new Invalid(`${title}: say something.`, input);
    return undefined;
  } };
}

// jsonField takes any JSON; what is typed is sent as it is, digit for digit.
export function jsonField(name, title, { value = "", help, object = false } = {}) {
  const input = h("textarea", { name, rows: 5, class: "code", spellcheck: "false", autocomplete: "off" });
  input.value = value;
  return { name, element: labelled(title, input, help), read: () => {
    const text = input.value.trim();
    if (text === "") return undefined;
    readJSON(title, input, text, object);
    return text;
  } };
}

function readJSON(title, input, text, object) {
  try {
    const value = parse(text);
    if (object && !(value instanceof Map)) throw new SyntaxError("An object is expected");
    return value;
  } catch (error) {
    throw new Invalid(`${title}: ${error.message}.`, input);
  }
}

const units = { seconds: (n) => `PT${n}S`, minutes: (n) => `PT${n}M`, hours: (n) => `PT${n}H`, days: (n) => `P${n}D` };

// periodField is how long from now.
export function periodField(name, title, standard = ["15", "minutes"]) {
  const amount = h("input", { type: "number", name: `${name}-amount`, min: 0, max: 100000, step: 1, value: standard[0], "aria-label": `${title}: how many` });
  const unit = h("select", { name: `${name}-unit`, "aria-label": `${title}: of what` }, Object.keys(units).map((word) => h("option", { value: word }, word)));
  unit.value = standard[1];
  return { name, element: h("div", { class: "field", role: "group", "aria-label": title }, h("span", null, title), h("span", { class: "together" }, amount, unit)), read: () => {
    if (!/^\d+$/.test(amount.value)) throw new Invalid(`${title}: a whole number is needed.`, amount);
    return JSON.stringify(units[unit.value](amount.value));
  } };
}

// momentField is a time by the clock of whoever fills it in.
export function momentField(name, title) {
  const input = h("input", { type: "datetime-local", name, step: 1 });
  return { name, element: labelled(title, input, "By your own clock."), read: () => {
    if (input.value === "") throw new Invalid(`${title}: a date and a time are needed.`, input);
    return JSON.stringify(new Date(input.value).toISOString());
  } };
}

// labelsField edits a map of labels; what is taken out is sent as null, and what stays as it was not at all.
export function labelsField(labels) {
  const lines = [...labels].every(isLine);
  const input = h("textarea", { name: "labels", rows: 3, spellcheck: "false", autocomplete: "off" });
  input.value = lines ? [...labels].map(([key, value]) => `${key}:${value}`).join("\n") : write(labels, "  ");
  const shown = input.value;
  return { name: "labels", element: labelled("Labels", input, lines ? "One key:value a line." : "A JSON object: not all of them can be lines of key:value."), read: () => {
    if (input.value === shown) return undefined;
    const typed = lines ? labelsOfLines(input) : labelsOfJSON(input);
    const gone = [...labels.keys()].filter((key) => !typed.has(key)).map((key) => [key, null]);
    const out = new Map([...gone, ...[...typed].filter(([key, value]) => labels.get(key) !== value)]);
    return out.size ? write(out) : undefined;
  } };
}

// isLine says whether a label, written as a line of key:value, can be read back from it.
const isLine = ([key, value]) => !key.includes(":") && [key, value].every((part) => part === part.trim() && !/[\r\n]/.test(part));

function labelsOfLines(input) {
  const out = new Map();
  for (const line of input.value.split("\n").filter((text) => text.trim() !== "")) {
    const colon = line.indexOf(":"), key = line.slice(0, colon).trim();
    if (colon < 1) throw new Invalid(`Labels: “${line}” is not key:value.`, input);
    if (out.has(key)) throw new Invalid(`Labels: “${key}” is there twice.`, input);
    out.set(key, line.slice(colon + 1).trim());
  }
  return out;
}

function labelsOfJSON(input) {
  const out = readJSON("Labels", input, input.value, true);
  for (const [key, value] of out) if (typeof value !== "string") throw new Invalid(`Labels: “${key}” is no text.`, input);
  return out;
}

// body writes the JSON object of the fields that were filled in.
export function body(fields) {
  const members = fields.map((field) => [field.name, field.read()]).filter(([, text]) => text !== undefined);
  return `{${members.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(",")}}`;
}
