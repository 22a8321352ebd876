// Plots of numbers over time, drawn as SVG.

import { h, s } from "./dom.js";
import { shape } from "./status.js";
import { duration } from "./time.js";

// path draws steps: a count holds until it changes. Gaps (null) are left out.
function path(values, x, y) {
  let out = "", before = null;
  values.forEach((value, i) => {
    if (value !== null) {
      if (before === null) out += `M${x(i)} ${y(value)}`;
      else if (value === before) out += `H${x(i)}`;
      else out += `H${x(i)}V${y(value)}`;
    }
    before = value;
  });
  return out;
}

const round = (n) => Math.round(n * 10) / 10;

// sparkline is a small plot without axes, for beside a number that says the rest.
export function sparkline(values, status) {
  const width = 120, height = 28, known = values.filter((v) => v !== null);
  const low = Math.min(...known), high = Math.max(...known, low + 1);
  const x = (i) => round((i * width) / (values.length - 1));
  const y = (v) => round(height - 2 - ((v - low) / (high - low)) * (height - 4));
  return s("svg", { class: "sparkline", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "data-status": status, "aria-hidden": "true", focusable: "false" },
    s("path", { d: path(values, x, y), "vector-effect": "non-scaling-stroke" }));
}

// ticksUpTo returns whole, round numbers from 0 to at least high.
function ticksUpTo(high) {
  const step = [1, 2, 5].flatMap((n) => [...Array(12).keys()].map((p) => n * 10 ** p)).sort((a, b) => a - b).find((n) => n * 5 >= high) ?? high;
  return [...Array(Math.ceil(Math.max(high, 1) / step) + 1).keys()].map((i) => i * step);
}

// apart moves labels that would lie on one another, keeping their order.
function apart(labels, gap, bottom) {
  labels.sort((a, b) => a.y - b.y);
  for (let i = 1; i < labels.length; i++) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + gap);
  let limit = bottom;
  for (const label of [...labels].reverse()) {
    label.y = Math.min(label.y, limit);
    limit = label.y - gap;
  }
}

// linePlot draws one line for each of the statuses; series is by status, span in ms. Each line is named at its end.
export function linePlot(series, shown, span, width) {
  const height = 220, left = 38, right = 104, top = 12, bottom = 24;
  const points = series[shown[0]].length;
  const ticks = ticksUpTo(Math.max(1, ...shown.flatMap((status) => series[status])));
  const x = (i) => round(left + (i * (width - left - right)) / (points - 1));
  const y = (v) => round(height - bottom - (v / ticks.at(-1)) * (height - top - bottom));
  const grid = ticks.map((tick) => s("g", null,
    s("line", { class: "grid", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
    s("text", { class: "tick", x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, tick.toLocaleString())));
  const parts = width < 460 ? [1, 0] : [1, 0.8, 0.6, 0.4, 0.2, 0];
  const times = parts.map((part) => s("text", { class: "tick", x: x((1 - part) * (points - 1)), y: height - 6, "text-anchor": part === 1 ? "start" : "middle" },
    part === 0 ? "now" : `−${duration(span * part)}`));
  const labels = shown.map((status) => ({ status, y: y(series[status].at(-1) ?? 0), count: series[status].at(-1) ?? 0 }));
  apart(labels, 18, height - bottom);
  return s("svg", { class: "plot", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": sentence(series, shown, span) },
    grid, times,
    shown.map((status) => s("path", { class: "line", "data-status": status, d: path(series[status], x, y) })),
    labels.map((label) => s("g", { class: "end", "data-status": label.status, transform: `translate(${width - right + 8} ${label.y})` },
      s("g", { transform: "translate(0 -6) scale(.75)" }, shape(label.status)),
      s("text", { x: 16, y: 4 }, `${label.status} ${label.count.toLocaleString()}`))));
}

function sentence(series, shown, span) {
  const words = shown.map((status) => {
    const known = series[status].filter((v) => v !== null);
    return `${status}: ${known[0] ?? 0} then, ${known.at(-1) ?? 0} now, between ${Math.min(...known)} and ${Math.max(...known)}`;
  });
  return `Flows in flight over the last ${duration(span)}. ${words.join(". ")}.`;
}

// bars is a list of names with numbers, each with a bar of its share; entries are {name, count, href}.
export function bars(entries, status) {
  const high = Math.max(1, ...entries.map((entry) => entry.count));
  return h("ul", { class: "bars" }, entries.map((entry) => {
    const bar = h("span", { class: "bar", "data-status": status, "aria-hidden": "true" });
    bar.style.width = `${(entry.count / high) * 100}%`;
    return h("li", { key: entry.name }, h("a", { href: entry.href, "data-focus": `bar ${entry.name}` }, entry.name), h("span", { class: "number" }, entry.count.toLocaleString()), bar);
  }));
}
