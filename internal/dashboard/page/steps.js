// The steps of one flow, with how long each took.

import { h } from "./dom.js";
import { write } from "./json.js";
import { Paged } from "./paged.js";
import { empty } from "./states.js";
import { badge } from "./status.js";
import { duration, live, now } from "./time.js";

const active = (step) => step.status === "pending" || step.status === "running";

export class Steps {
  constructor(id, signal) {
    this.paged = new Paged({ path: `/flows/${id}/steps`, parameters: { limit: 50 }, signal, name: "steps", words: ["Back", "Next"], draw: (items) => draw(items) });
    this.element = h("section", { class: "card", "aria-label": "Steps" }, h("h2", null, "Steps"), this.paged.element);
  }

  refresh() { this.paged.refresh(); }
}

// draw lays the steps of a page against one span of time.
function draw(steps) {
  if (steps.length === 0) return empty("No step is recorded.");
  const begin = Math.min(...steps.map((step) => Date.parse(step.created_at)));
  const end = Math.max(begin + 1, ...steps.map((step) => (active(step) ? now() : Date.parse(step.updated_at))));
  const head = (words, of) => h("th", { scope: "col", class: of }, words);
  return h("table", { class: "steps" }, h("caption", { class: "unseen" }, "Steps, oldest first"),
    h("thead", null, h("tr", null, head("Step", "c-run"), head("Status", "c-status"), head("Duration", "c-time"), head("Within the flow", "c-span"))),
    h("tbody", null, steps.map((step) => row(step, begin, end))));
}

function row(step, begin, end) {
  const from = Date.parse(step.created_at), to = active(step) ? end : Date.parse(step.updated_at);
  const bar = h("span", { class: "bar", "data-status": step.status === "succeeded" ? "finished" : step.status === "pending" ? "created" : step.status });
  bar.style.marginLeft = `${((from - begin) / (end - begin)) * 100}%`;
  bar.style.width = `${((to - from) / (end - begin)) * 100}%`;
  return h("tr", { key: step.run_id },
    h("th", { scope: "row", class: "c-run" }, h("span", { class: "words" }, step.task), h("code", { class: "soft" }, step.run_id),
      step.child_session_key && h("span", { class: "soft" }, step.child_session_key),
      step.result !== null && h("details", { class: "fold" }, h("summary", { "data-focus": `result ${step.run_id}` }, "Result"), h("pre", null, write(step.result, "  ")))),
    h("td", { class: "c-status" }, badge(step.status)),
    h("td", { class: "c-time" }, active(step) ? live(step.created_at, (iso) => duration(now() - Date.parse(iso))) : duration(to - from)),
    h("td", { class: "c-span" }, h("span", { class: "lane", "aria-hidden": "true" }, bar)));
}
