// JSON as a tree that folds, digit for digit.

import { h } from "./dom.js";
import { Num } from "./json.js";
import { redraw } from "./redraw.js";

const shownAtOnce = 100; // members of one value; more are a click away
const longText = 300;

// Tree keeps which parts are open, and how much of them is shown, from one version of the value to the next.
export class Tree {
  constructor() { this.open = new Map(); this.shown = new Map(); }

  render(value) {
    return h("div", { class: "tree" }, this.node(null, value, "$", 0));
  }

  // openAll opens or closes everything there is, in the element that the tree is in too.
  openAll(open, element) {
    this.open = new Map([["*", open]]);
    for (const fold of element.querySelectorAll("details:not(.long)")) fold.open = open;
  }

  isOpen(path, depth) { return this.open.get(path) ?? this.open.get("*") ?? depth < 2; }

  node(key, value, path, depth) {
    const name = key === null ? null : h("span", { class: "key" }, key);
    const nested = value instanceof Map || Array.isArray(value);
    const size = value instanceof Map ? value.size : value?.length;
    if (!nested || size === 0) return h("div", { class: "leaf" }, name, leaf(value));
    const words = value instanceof Map ? `{ ${count(size, "member")} }` : `[ ${count(size, "item")} ]`;
    const open = this.isOpen(path, depth);
    // What is folded away is not drawn until it is opened.
    const toggle = ({ currentTarget: fold }) => {
      if (fold.open !== this.isOpen(path, depth)) this.open.set(path, fold.open);
      if (fold.open && !fold.querySelector("ul")) fold.append(this.members(value, path, depth));
    };
    return h("details", { open, ontoggle: toggle }, h("summary", { "data-focus": `tree ${path}` }, name, h("span", { class: "soft" }, words)), open && this.members(value, path, depth));
  }

  members(value, path, depth) { return h("ul", null, this.items(value, path, depth)); }

  items(value, path, depth) {
    const entries = value instanceof Map ? [...value] : value.map((item, i) => [String(i), item]);
    const most = this.shown.get(path) ?? shownAtOnce, left = entries.length - most;
    const more = ({ currentTarget: button }) => {
      this.shown.set(path, most + shownAtOnce);
      redraw(button.closest("ul"), this.items(value, path, depth));
    };
    return [
      entries.slice(0, most).map(([name, member]) => h("li", { key: name }, this.node(name, member, `${path}/${name}`, depth + 1))),
      left > 0 && h("li", null, h("button", { type: "button", class: "quiet", "data-focus": `more ${path}`, onclick: more }, `${left} more`)),
    ];
  }
}

const count = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

// leaf shows a value without members.
export function leaf(value) {
  if (value instanceof Num) return h("span", { class: "number" }, value.text);
  if (typeof value === "string") {
    const quoted = JSON.stringify(value);
    if (quoted.length <= longText) return h("span", { class: "string" }, quoted);
    return h("details", { class: "long", key: "long" }, h("summary", null, h("span", { class: "string" }, `${quoted.slice(0, longText)}…`)), h("span", { class: "string" }, quoted));
  }
  if (value instanceof Map) return h("span", { class: "word" }, "{}");
  if (Array.isArray(value)) return h("span", { class: "word" }, "[]");
  return h("span", { class: "word" }, String(value));
}
