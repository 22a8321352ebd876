// Waits: their names, when they end by the clock, and the panel that explains one.

import { get } from "./api.js";
import { copyButton, h, replace } from "./dom.js";
import { write } from "./json.js";
import { redraw } from "./redraw.js";
import { link } from "./router.js";
import { problemNotice } from "./states.js";
import { ago, live, moment, until } from "./time.js";

// member reads a field of a wait, which is a plain object in an answer and a Map in a payload.
const member = (wait, name) => (wait instanceof Map ? wait.get(name) : wait?.[name]);

const names = { timer: "timer", external_event: "external event", callback: "callback", manual: "go-ahead by hand", timeout: "timeout" };

// waitName says what a wait is for.
export function waitName(wait) {
  const kind = member(wait, "kind");
  if (kind === "any_of") return `first of ${member(wait, "conditions").map(waitName).join(", ")}`;
  if (kind === "external_event") return `${member(wait, "topic")} ${member(wait, "correlation_id")}`;
  return names[kind] ?? String(kind);
}

const outcomes = { resume: "resumes the flow", fail: "fails the flow", cancel: "cancels the flow" };

// WaitPanel explains the wait of one flow, from GET /flows/{id}/wait.
export class WaitPanel {
  constructor(signal) {
    this.signal = signal;
    this.element = h("section", { class: "card wait-panel", "aria-label": "What it waits for", hidden: true });
  }

  async show(flow) {
    this.element.hidden = flow.status !== "waiting";
    if (this.element.hidden) { this.shown = undefined; return replace(this.element); }
    const version = `${flow.id} ${flow.revision}`;
    if (this.shown === version) return;
    this.shown = version;
    this.flow = flow;
    await this.explain(false);
  }

  // refresh looks for what has changed without the flow: events that nearly matched.
  async refresh() {
    if (this.shown) await this.explain(true);
  }

  async explain(quietly) {
    const { flow, shown: version } = this;
    try {
      const explained = await get(`/flows/${flow.id}/wait`, this.signal);
      if (this.shown === version) this.draw(explained);
    } catch (problem) {
      if (problem.name === "AbortError" || problem.slug === "not-waiting" || this.shown !== version || quietly) return;
      this.shown = undefined; // the next look asks again
      replace(this.element, h("h2", null, "Waiting"), problemNotice(problem, () => this.show(flow)));
    }
  }

  draw(explained) {
    const { wait } = explained;
    redraw(this.element,
      h("h2", null, "Waiting"),
      h("p", { class: "corner soft" }, "began ", live(wait.since, ago)),
      explained.next_due
        ? h("p", { class: "countdown" }, live(explained.next_due, until), h("span", { class: "soft" }, ` ends by the clock at ${moment(explained.next_due)}`))
        : h("p", { class: "soft" }, "It does not end by the clock."),
      h("ul", { class: "conditions" }, explained.conditions.map((condition) => this.condition(condition, wait))),
      wait.details && h("details", { class: "fold", open: true }, h("summary", { "data-focus": "wait details" }, "Details"), h("pre", null, write(wait.details, "  "))),
      explained.near_events.length > 0 && this.nearEvents(explained.near_events));
  }

  condition(condition, wait) {
    const whole = condition.condition === null ? wait : wait.conditions[condition.condition];
    const timeout = condition.kind === "timeout" && wait.timeout;
    return h("li", { key: `${wait.generation} ${condition.condition} ${condition.kind}`, class: condition.can_happen ? null : "off" },
      h("strong", null, names[condition.kind]), !condition.can_happen && " (can no longer happen)",
      condition.at && [" · ", live(condition.at, until)],
      timeout && ` · ${outcomes[timeout.on_timeout]}`,
      condition.kind === "external_event" && h("span", null, " · ", h("code", null, whole.topic), " ", h("code", null, whole.correlation_id)),
      h("span", { class: "soft" }, condition.detail),
      condition.kind === "callback" && this.callback(whole));
  }

  callback(condition) {
    if (!condition.url) return h("span", { class: "soft" }, "Its address is shown to callers that may write.");
    return h("span", { class: "address" }, h("code", null, condition.url), copyButton("Copy the URL", () => condition.url, `copy ${condition.url}`));
  }

  nearEvents(events) {
    return h("div", { class: "near" }, h("h3", null, "Events that nearly matched"), h("ul", null, events.map(({ event, differs }) => h("li", { key: event.id },
      h("code", null, event.topic), " ", h("code", null, event.correlation_id), " ", live(event.created_at, ago), h("span", { class: "soft" }, differs),
      event.flow_id && h("a", { href: link(`/flows/${event.flow_id}`) }, "its flow")))));
  }
}
