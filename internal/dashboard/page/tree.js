// JSON as a tree that folds, digit for digit.

import { h } from "./dom.js";
import { Num } from "./json.js";

const shownAtOnce = 100; // members of one value; more are a click away
const longText = 300;

// Tree keeps which parts are open from one version of the value to the next.
export class Tree {
  constructor() { this.open = new Map(); }

  render(value) {
    return h("div", { class: "tree" }, this.node(null, value, "$", 0));
  }

  // openAll opens or closes everything there is.
  openAll(open) { this.open = new Map([["*", open]]); }

  isOpen(path, depth) { return this.open.get(path) ?? this.open.get("*") ?? depth < 2; }

  node(key, value, path, depth) {
    const name = key === null ? null : h("span", { class: "key" }, key);
    const nested = value instanceof Map || Array.isArray(value);
    const size = value instanceof Map ? value.size : value?.length;
    if (!nested || size === 0) return h("div", { class: "leaf" }, name, leaf(value));
    const words = value instanceof Map ? `{ ${count(size, "member")} }` : `[ ${count(size, "item")} ]`;
    const fold = h("details", { open: this.isOpen(path, depth) }, h("summary", { "data-focus": `tree ${path}` }, name, h("span", { class: "soft" }, words)));
    let filled = false;
    const fillIn = () => {
      if (!fold.open || filled) return;
      filled = true;
      fold.append(this.members(value, path, depth));
    };
    fold.addEventListener("toggle", () => {
      if (fold.open !== this.isOpen(path, depth)) this.open.set(path, fold.open);
      fillIn();
    });
    fillIn();
    return fold;
  }

  members(value, path, depth) {
    const entries = value instanceof Map ? [...value] : value.map((item, i) => [String(i), item]);
    const items = h("ul");
    const more = (from) => {
      items.append(...entries.slice(from, from + shownAtOnce).map(([key, member]) => h("li", null, this.node(key, member, `${path}/${key}`, depth + 1))));
      const left = entries.length - from - shownAtOnce;
      if (left <= 0) return;
      const button = h("button", { type: "button", class: "quiet", onclick: () => { line.remove(); more(from + shownAtOnce); } }, `${left} more`);
      const line = h("li", null, button);
      items.append(line);
    };
    more(0);
    return items;
  }
}

const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

// leaf shows a value without members.
export function leaf(value) {
  if (value instanceof Num) return h("span", { class: "number" }, value.text);
  if (typeof value === "string") {
    const quoted = JSON.stringify(value);
    if (quoted.length <= longText) return h("span", { class: "string" }, quoted);
    return h("details", { class: "long" }, h("summary", null, h("span", { class: "string" }, `${quoted.slice(0, longText)}…`)), h("span", { class: "string" }, quoted));
  }
  if (value instanceof Map) return h("span", { class: "word" }, "{}");
  if (Array.isArray(value)) return h("span", { class: "word" }, "[]");
  return h("span", { class: "word" }, String(value));
}
