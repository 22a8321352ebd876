// Which view is shown. The address after # says it, filters included: #/flows?status=running.

import { byHand } from "./api.js";
import { closeDialogs } from "./dialog.js";

// address splits what follows the #.
export function address() {
  const [path, search = ""] = (location.hash.slice(1) || "/").split(/\?(.*)/s);
  return { path, query: new URLSearchParams(search), state: history.state ?? {} };
}

export const link = (path, parameters) => {
  const text = new URLSearchParams(parameters).toString();
  return `#${path}${text && `?${text}`}`;
};

let show = () => {};
let current = null;

// go shows another address; state goes with it in the browser's history.
export function go(hash, { state = {}, instead = false } = {}) {
  history[instead ? "replaceState" : "pushState"](state, "", hash);
  show();
}

// refresh shows the same address anew, from the start.
export function refresh() { show(true); }

// leave closes the view, for a page that is put aside: a browser may keep it for the way back, and its connections with it.
export function leave() { current?.view.close(); }

// startRouter runs a table of [pattern, mount]. mount(root, place) returns {close, update?}; update(place) takes a new
// query of the same path, where there is none the view is mounted anew.
export function startRouter(root, routes, onChange) {
  show = (anew) => {
    const place = address();
    if (!anew && current?.path === place.path && current.view.update) return byHand(() => current.view.update(place));
    const first = !current;
    if (current?.path !== place.path) closeDialogs();
    current?.view.close();
    root.replaceChildren();
    for (const [pattern, name, mount] of routes) {
      const match = pattern.exec(place.path);
      if (!match) continue;
      place.match = match;
      onChange(name);
      current = { path: place.path, view: byHand(() => mount(root, place)) };
      break;
    }
    if (!first) { root.focus({ preventScroll: true }); window.scrollTo(0, 0); }
  };
  window.addEventListener("popstate", () => show());
  show();
}
