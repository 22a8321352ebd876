// The audit trail of one flow, with what each event did to the state.

import { replay } from "./changes.js";
import { h } from "./dom.js";
import { write } from "./json.js";
import { Paged } from "./paged.js";
import { describe } from "./sentences.js";
import { showDiff } from "./diff.js";
import { empty } from "./states.js";
import { icon } from "./status.js";
import { duration, live, moment } from "./time.js";

const pageSize = 50;
const signs = { started: "running", resumed: "running", cancel_requested: "cancelled" };
const marks = ["created", "waiting", "finished", "failed", "cancelled"];

// Timeline shows the trail newest first, or oldest first.
export class Timeline {
  constructor(id, signal) {
    this.open = new Set();
    this.order = "-seq";
    this.paged = new Paged({
      path: `/flows/${id}/events`, parameters: this.parameters(), signal, name: "events", words: ["Newer", "Older"],
      draw: (items) => this.draw(items),
    });
    const order = h("select", { onchange: () => this.turn(order.value) }, h("option", { value: "-seq" }, "Newest first"), h("option", { value: "seq" }, "Oldest first"));
    this.element = h("section", { class: "card", "aria-label": "Timeline" }, h("h2", null, "Timeline"),
      h("label", { class: "corner" }, h("span", { class: "unseen" }, "Order of the timeline"), order), this.paged.element);
  }

  parameters() { return { order: this.order, limit: pageSize }; }

  turn(order) {
    this.order = order;
    this.paged.words = order === "seq" ? ["Older", "Newer"] : ["Newer", "Older"];
    this.paged.from(this.parameters());
  }

  refresh() { this.paged.refresh(); }

  draw(items) {
    if (items.length === 0) return empty("No event is here.");
    const inOrder = this.order === "seq" ? items : [...items].reverse();
    const changes = replay(inOrder);
    const gaps = new Map(inOrder.map((event, i) => [event.seq, i === 0 ? null : Date.parse(event.at) - Date.parse(inOrder[i - 1].at)]));
    return h("ol", { class: "timeline" }, items.map((event) => this.item(event, changes.get(event.seq), gaps.get(event.seq))));
  }

  item(event, changes, gap) {
    const sign = signs[event.kind] ?? (marks.includes(event.kind) ? event.kind : null);
    return h("li", { key: event.seq, "data-kind": event.kind, "data-status": sign },
      h("span", { class: "mark" }, sign && icon(sign)),
      h("div", { class: "event" },
        h("p", null, h("strong", null, event.kind.replaceAll("_", " ")), " ", h("span", { class: "words" }, describe(event))),
        h("p", { class: "soft facts" },
          live(event.at, moment),
          gap !== null && h("span", { title: "since the event before" }, `+${duration(gap)}`),
          h("span", null, `revision ${event.revision}`), h("span", null, `by ${event.actor}`), h("span", null, `seq ${event.seq}`),
          event.traceparent && h("span", { title: event.traceparent }, "trace ", h("code", null, event.traceparent.split("-")[1]))),
        changes?.length > 0 && this.fold(`changes ${event.seq}`, `${changes.length} ${changes.length === 1 ? "change" : "changes"} to the state`, () => showDiff(changes), changes.length <= 4),
        event.payload.size > 0 && this.fold(`payload ${event.seq}`, "Payload", () => h("pre", null, write(event.payload, "  ")), false)));
  }

  // fold stays open or closed when the page is drawn again.
  fold(name, title, body, standard) {
    const open = this.open.has(name) !== standard;
    const toggle = ({ currentTarget: fold }) => {
      if (fold.open === standard) this.open.delete(name);
      else this.open.add(name);
      if (fold.open && fold.children.length === 1) fold.append(body());
    };
    return h("details", { class: "fold", open, key: name, ontoggle: toggle }, h("summary", { "data-focus": name }, title), open && body());
  }
}
