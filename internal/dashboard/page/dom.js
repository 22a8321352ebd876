// Making and replacing elements. Nothing here, and nothing on the page, ever reads text as HTML.

const svgSpace = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

// h makes an HTML element: h("button", {class: "x", onclick: act}, "text", child). Attributes and children that are
// undefined, null or false are left out.
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

// s makes an SVG element, likewise.
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(svgSpace, tag), attributes, children);
}

// replace puts new children into an element. Where the focus was on a child with a data-focus name, it goes to the new
// child of that name, so that a live update does not throw anybody out.
export function replace(parent, ...children) {
  const held = parent.contains(document.activeElement) ? document.activeElement.closest("[data-focus]") : null;
  parent.replaceChildren();
  fill(parent, null, children);
  if (held) parent.querySelector(`[data-focus="${CSS.escape(held.dataset.focus)}"]`)?.focus({ preventScroll: true });
}

// announce tells users of screen readers something that others see.
export function announce(text) {
  document.getElementById("announce").textContent = text;
}

// copyButton copies what text() returns.
export function copyButton(label, text, name) {
  const button = h("button", { type: "button", class: "quiet", "data-focus": name ?? label }, label);
  button.addEventListener("click", async () => {
    const done = await copy(text());
    button.textContent = done ? "Copied" : "Not copied";
    announce(done ? "Copied" : "The browser did not allow copying");
    setTimeout(() => { button.textContent = label; }, 2000);
  });
  return button;
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
