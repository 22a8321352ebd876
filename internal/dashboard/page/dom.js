// Making and replacing elements. Nothing here, and nothing on the page, ever reads text as HTML.

const svgSpace = "http://www.w3.org/2000/svg";

export function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) handle(element, name.slice(2), value);
    else if (name === "key") element.key = value;
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

// handle sets what an element of the page does at an event; redraw.js may set another later, null for nothing.
export function handle(element, type, handler) {
  element.handlers ??= {};
  if (!(type in element.handlers)) element.addEventListener(type, (event) => { if (element.isConnected) element.handlers[type]?.(event); });
  element.handlers[type] = handler;
}

// h makes an HTML element: h("button", {class: "x", onclick: act}, "text", child). Attributes and children that are
// undefined, null or false are left out. key says what the element stands for among its brothers, see redraw.js.
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

// s makes an SVG element, likewise.
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(svgSpace, tag), attributes, children);
}

// replace puts new children into an element, and throws away those it had.
export function replace(parent, ...children) {
  keepFocus(parent, () => {
    parent.replaceChildren();
    fill(parent, null, children);
  });
}

// keepFocus gives the focus back where drawing took it away: to the child of the same data-focus name.
export function keepFocus(parent, draw) {
  const held = parent.contains(document.activeElement) ? document.activeElement.closest("[data-focus]") : null;
  draw();
  if (held && !parent.contains(document.activeElement)) parent.querySelector(`[data-focus="${CSS.escape(held.dataset.focus)}"]`)?.focus({ preventScroll: true });
}

// announce tells users of screen readers something that others see.
export function announce(text) {
  document.getElementById("announce").textContent = text;
}

const copied = new Map(); // by the button's name, what it says of its click, for a moment

// copyButton copies what text() returns. Its name says what that is.
export function copyButton(label, text, name = label) {
  const click = async ({ currentTarget: button }) => {
    const done = await copy(text());
    copied.set(name, done ? "Copied" : "Not copied");
    button.textContent = copied.get(name);
    announce(done ? "Copied" : "The browser did not allow copying");
    setTimeout(() => {
      copied.delete(name);
      const now = document.querySelector(`[data-focus="${CSS.escape(name)}"]`); // it may have been drawn anew
      if (now) now.textContent = label;
    }, 2000);
  };
  return h("button", { type: "button", class: "quiet", "data-focus": name, onclick: click }, copied.get(name) ?? label);
}

// copy writes to the clipboard; on plain HTTP browsers offer only the older way.
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "unseen", "aria-hidden": "true" });
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    const focused = document.activeElement;
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    focused?.focus();
    return done;
  }
}

// later calls fn once, some time after the last call (debounce).
export function later(ms, fn) {
  let timer;
  const call = (...given) => { clearTimeout(timer); timer = setTimeout(() => fn(...given), ms); };
  call.cancel = () => clearTimeout(timer);
  return call;
}

// atMost calls an asynchronous fn at once, then not again until it is done and ms have passed; a call meanwhile is made up
// for by one call at the end.
export function atMost(ms, fn) {
  let busy = false, again = false, stopped = false, timer;
  const run = async () => {
    if (stopped) return;
    if (busy) { again = true; return; }
    busy = true;
    again = false;
    try { await fn(); } finally {
      timer = setTimeout(() => { busy = false; if (again) run(); }, ms);
    }
  };
  run.cancel = () => { stopped = true; clearTimeout(timer); };
  return run;
}
