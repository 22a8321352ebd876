// The statuses of flows and steps. Each has a name, a colour and a shape: none is told by its colour alone.

import { h, s } from "./dom.js";

export const statuses = ["created", "running", "waiting", "finished", "failed", "cancelled"];
export const terminal = (status) => ["finished", "failed", "cancelled"].includes(status);

// shapes are drawn on 16 x 16.
const shapes = {
  created: [["circle", { cx: 8, cy: 8, r: 5.5 }]],
  running: [["path", { d: "M5 3.2v9.6l7.8-4.8z", class: "solid" }]],
  waiting: [["path", { d: "M5.5 3.5v9M10.5 3.5v9" }]],
  finished: [["circle", { cx: 8, cy: 8, r: 6.5 }], ["path", { d: "m5 8.200 2.200 2.200L11.200 6" }]],
  failed: [["path", { d: "M5.300 1.5h5.400l3.800 3.800v5.400l-3.800 3.800H5.300l-3.800-3.800V5.300z" }], ["path", { d: "m5.700 5.700 4.600 4.600m0-4.600-4.600 4.600" }]],
  cancelled: [["circle", { cx: 8, cy: 8, r: 6.5 }], ["path", { d: "m3.600 12.400 8.800-8.800" }]],
  pending: [["circle", { cx: 8, cy: 8, r: 5.5, "stroke-dasharray": "2.5 2" }]],
};
const alike = { succeeded: "finished" };

// shape is the sign of a status, for inside an <svg>.
export function shape(status) {
  return s("g", { class: "shape" }, shapes[alike[status] ?? status].map(([tag, attributes]) => s(tag, attributes)));
}

export function icon(status) {
  return s("svg", { class: "icon", viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" }, shape(status));
}

// badge is a status with its sign.
export function badge(status) {
  return h("span", { class: "badge", "data-status": alike[status] ?? status }, icon(status), status);
}
