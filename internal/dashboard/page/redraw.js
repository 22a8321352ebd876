// Drawing a part of the page anew, where news may come while somebody uses it.

import { fill, handle, keepFocus } from "./dom.js";

// redraw gives an element new children, as replace does, but keeps those that stand for the same as before and changes only
// what differs about them. So a click that has begun ends where it began, the focus and selected text stay, and what
// somebody folded stays folded.
//
// Children stand for the same where they have the same key (h's attribute key, or data-focus), or where they have none and
// are in turn of one kind. A new element may be thrown away after it was drawn: nobody may hold on to it, and a handler
// finds its own as event.currentTarget. What is typed is not looked after: forms are not for here.
export function redraw(parent, ...children) {
  const drawn = fill(document.createDocumentFragment(), null, children);
  keepFocus(parent, () => reconcile(parent, [...drawn.childNodes]));
}

const keyOf = (node) => node.key ?? node.dataset?.focus ?? "";
const kindOf = (node) => `${node.nodeName} ${keyOf(node)}`;

// reconcile removes first and moves as little as it can: a browser takes the focus, and the click, from what is moved.
function reconcile(parent, drawn) {
  const before = Map.groupBy(parent.childNodes, kindOf);
  const olds = new Map(drawn.map((node) => [node, before.get(kindOf(node))?.shift()]));
  const kept = new Set(olds.values());
  for (const node of [...parent.childNodes]) if (!kept.has(node)) node.remove();
  let place = parent.firstChild;
  for (const node of drawn) {
    const old = olds.get(node);
    if (old) change(old, node);
    if (old && old === place?.nextSibling) { parent.append(place); place = old; } // one left its place: the others keep theirs
    if (old && old === place) place = place.nextSibling;
    else parent.insertBefore(old ?? node, place);
  }
}

// change makes of an element, or a text, what it would be if it were drawn now.
function change(old, drawn) {
  if (!(old instanceof Element)) {
    if (old.nodeValue !== drawn.nodeValue) old.nodeValue = drawn.nodeValue;
    return;
  }
  for (const name of new Set([...old.getAttributeNames(), ...drawn.getAttributeNames()])) {
    const value = drawn.getAttribute(name);
    if (name === "open" || value === old.getAttribute(name)) continue; // whether it is folded is for its user to say
    if (value === null) old.removeAttribute(name);
    else if (name === "style") old.style.cssText = value; // as an attribute, the page's policy forbids it
    else old.setAttribute(name, value);
  }
  for (const type of Object.keys({ ...old.handlers, ...drawn.handlers })) handle(old, type, drawn.handlers?.[type] ?? null);
  reconcile(old, [...drawn.childNodes]);
  if (old.open !== drawn.open) old.dispatchEvent(new Event("toggle")); // to fill in what was drawn folded
}
