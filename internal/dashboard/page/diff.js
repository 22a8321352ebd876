// What differs between two values, and how that is shown.

import { h } from "./dom.js";
import { same, write } from "./json.js";

const most = 200; // differences that are listed

// diff lists the differences of two values of json.js: {path, change: added|removed|changed|set, before, after}. set means
// that the value before is not known.
export function diff(before, after, path = []) {
  if (before instanceof Map && after instanceof Map) {
    const out = [];
    for (const [key, value] of before) {
      if (!after.has(key)) out.push({ path: [...path, key], change: "removed", before: value });
      else out.push(...diff(value, after.get(key), [...path, key]));
    }
    for (const [key, value] of after) if (!before.has(key)) out.push({ path: [...path, key], change: "added", after: value });
    return out;
  }
  if (Array.isArray(before) && Array.isArray(after)) return diffItems(before, after, path);
  return same(before, after) ? [] : [{ path, change: "changed", before, after }];
}

// diffItems compares arrays place by place: what was appended is added, what fell off the end is removed.
function diffItems(before, after, path) {
  const out = [];
  for (let i = 0; i < Math.max(before.length, after.length); i++) {
    const at = [...path, String(i)];
    if (i >= before.length) out.push({ path: at, change: "added", after: after[i] });
    else if (i >= after.length) out.push({ path: at, change: "removed", before: before[i] });
    else out.push(...diff(before[i], after[i], at));
  }
  return out;
}

const signs = { added: "+", removed: "−", changed: "~", set: "=" };
const short = (value) => {
  const text = write(value);
  return text.length > 400 ? `${text.slice(0, 400)}…` : text;
};

// showDiff is a list of differences. whole names the value itself, where the difference is in all of it.
export function showDiff(changes, whole = "state") {
  return h("ul", { class: "diff" }, changes.slice(0, most).map(({ path, change, before, after }) => h("li", { class: change },
    h("span", { class: "sign", "aria-hidden": "true" }, signs[change]), h("span", { class: "unseen" }, change),
    h("code", { class: "path" }, path.length ? path.join(".") : whole),
    before !== undefined && h("del", null, h("span", { class: "unseen" }, "from "), short(before)),
    after !== undefined && h("ins", null, h("span", { class: "unseen" }, "to "), short(after)))),
    changes.length > most && h("li", { class: "soft" }, `and ${changes.length - most} more`));
}
