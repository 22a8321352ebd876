// Light and dark: what the system prefers, unless a choice was made here.

import { announce } from "./dom.js";
import { inThisBrowser } from "./storage.js";

const stored = "taskflow.theme";
const order = ["system", "light", "dark"];

function apply(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme-button");
  button.setAttribute("aria-label", `Theme: ${theme}`);
  button.title = `Theme: ${theme}`;
}

const chosen = () => (order.includes(inThisBrowser.get(stored)) ? inThisBrowser.get(stored) : "system");

// nextTheme goes on to the next of system, light, dark.
export function nextTheme() {
  const theme = order[(order.indexOf(chosen()) + 1) % order.length];
  inThisBrowser.set(stored, theme);
  apply(theme);
  announce(`Theme: ${theme}`);
}

export function startTheme() {
  apply(chosen());
  document.getElementById("theme-button").addEventListener("click", nextTheme);
}
