// Dialogs: the browser's own, which keeps the focus inside and gives it back.

import { h } from "./dom.js";

let counter = 0;

// openDialog shows a modal dialog with a title and a body. It returns {element, close}; onClose is called however it closes.
// It goes with the view that it was opened in, unless it stays.
export function openDialog(title, body, { onClose = () => {}, stays = false } = {}) {
  const id = `dialog-${++counter}`;
  const held = document.activeElement?.closest("[data-focus]")?.dataset.focus;
  const close = () => element.close();
  const element = h("dialog", { class: "dialog", "aria-labelledby": id, "data-stays": stays },
    h("header", null, h("h2", { id }, title), h("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: close }, "×")), body);
  element.addEventListener("close", () => {
    element.remove();
    // What had the focus may have been drawn anew meanwhile.
    if (held && document.activeElement === document.body) document.querySelector(`[data-focus="${CSS.escape(held)}"]`)?.focus();
    onClose();
  });
  document.body.append(element);
  element.showModal();
  (element.querySelector("[autofocus]") ?? element.querySelector("input, textarea, select"))?.focus();
  return { element, close };
}

// closeDialogs closes those that belong to a view, as it is left.
export function closeDialogs() {
  for (const dialog of document.querySelectorAll("dialog[open]:not([data-stays])")) dialog.close();
}

export const dialogIsOpen = () => document.querySelector("dialog[open]") !== null;
