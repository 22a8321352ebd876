// The list of flows: one page of the API's at a time, and never more than that in the page.

import { getSummary, query } from "./api.js";
import { announce, atMost, h, replace } from "./dom.js";
import { openFeed } from "./feed.js";
import { clean, Filters } from "./filters.js";
import { redraw } from "./redraw.js";
import { go, link } from "./router.js";
import { empty, loading, problemNotice } from "./states.js";
import { badge } from "./status.js";
import { ago, live, moment } from "./time.js";
import { waitName } from "./wait.js";

const everySoOften = 60_000; // ms: that a flow was erased is no event
const kinds = ["created", "started", "waiting", "resumed", "finished", "failed", "cancel_requested", "cancelled", "state_updated"];

export function list(root, place) {
  const view = new List(root, place);
  return { close: () => view.close(), update: (next) => view.update(next) };
}

class List {
  constructor(root, place) {
    document.title = "Flows · Taskflow";
    this.filters = new Filters(clean(place.query), (query) => this.go(query, [], undefined, true));
    this.result = h("section", { class: "result", "aria-label": "Flows" });
    this.pager = h("nav", { class: "pager", "aria-label": "Pages" });
    replace(root, h("h1", { class: "unseen" }, "Flows"), this.filters.element, this.result, this.pager);
    this.refresh = atMost(2000, () => this.load(true));
    this.closeFeed = openFeed("/events" + query({ kind: kinds }), { onEvents: (events) => this.take(events), onConnect: this.refresh });
    this.timer = setInterval(() => { if (!document.hidden) this.refresh(); }, everySoOften);
    replace(this.result, loading("flows"));
    this.update(place);
  }

  close() {
    this.closeFeed();
    this.refresh.cancel();
    clearInterval(this.timer);
    this.work?.abort();
    this.filters.typed.cancel();
  }

  // go shows another page or another query. trail are the cursors of the pages before, "" for the first.
  // instead takes the place of the address before: typing in a filter does not fill the browser's history.
  go(query, trail, cursor, instead = false) {
    const parameters = new URLSearchParams(query);
    if (cursor) parameters.set("cursor", cursor);
    go(link("/flows", parameters), { state: { trail }, instead });
  }

  update(place) {
    this.query = clean(place.query);
    this.cursor = place.query.get("cursor");
    this.trail = place.state.trail ?? [];
    this.filters.show(this.query);
    this.load(false);
  }

  // load reads the page. Quietly: what is shown stays until the answer is there, and its failure is the feed's to tell; unless
  // it takes the place of a load that somebody waits for.
  async load(quietly) {
    quietly &&= !this.awaited;
    this.awaited = !quietly;
    this.work?.abort();
    const work = (this.work = new AbortController());
    const parameters = new URLSearchParams(this.query);
    parameters.set("view", "summary");
    if (this.cursor) parameters.set("cursor", this.cursor);
    if (!quietly) this.result.setAttribute("aria-busy", "true");
    try {
      const page = await getSummary(`/flows?${parameters}`, work.signal);
      if (work.signal.aborted) return;
      this.show(page);
      if (!quietly) announce(page.items.length === 1 ? "One flow" : `${page.items.length} flows`);
    } catch (problem) {
      if (problem.name === "AbortError" || (quietly && problem.status === 0)) return;
      replace(this.pager);
      const notice = problemNotice(problem, () => this.load(false));
      if (this.cursor) notice.append(h("p", null, h("a", { href: link("/flows", this.query) }, "To the first page"))); // a cursor is good for one caller, and one query
      replace(this.result, notice);
    } finally {
      if (this.work === work) {
        this.awaited = false;
        this.result.removeAttribute("aria-busy");
      }
    }
  }

  // take reads the page afresh where an event concerns it: a flow on it, or a new one on the first page.
  take(events) {
    const first = !this.cursor;
    if (events.some((event) => this.shown?.has(event.flow_id) || first)) this.refresh();
  }

  show(page) {
    const before = this.shown ?? new Map();
    this.shown = new Map(page.items.map((flow) => [flow.id, flow.revision]));
    const rows = page.items.map((flow) => row(flow, before.has(flow.id) && before.get(flow.id) !== flow.revision));
    redraw(this.result, page.items.length > 0 ? table(rows) : this.nothing(page));
    // A row that was kept has faded already.
    for (const changed of this.result.querySelectorAll("tr.changed")) for (const fading of changed.getAnimations({ subtree: true })) fading.currentTime = 0;
    const next = page.next_cursor;
    redraw(this.pager,
      h("button", { type: "button", id: "back", "data-focus": "back", disabled: !this.cursor, onclick: () => this.back() }, "Back"),
      h("span", { class: "soft" }, `Page ${this.cursor ? (this.trail.length ? this.trail.length + 1 : "…") : 1} · ${page.items.length} flows`),
      h("button", { type: "button", id: "next", "data-focus": "next", disabled: next === null, onclick: () => this.go(this.query, [...this.trail, this.cursor ?? ""], next) }, "Next"));
  }

  back() {
    const trail = this.trail.slice(0, -1);
    this.go(this.query, trail, this.trail.at(-1));
  }

  nothing(page) {
    if (page.next_cursor !== null) return empty("No match among the flows looked through so far. Next goes on.");
    if ([...this.query.keys()].some((name) => name !== "order" && name !== "limit")) return empty("No flow matches these filters.");
    return empty("There are no flows yet. ", h("a", { href: "/docs" }, "Create one by the API"), " and it shows up here.");
  }
}

function table(rows) {
  const head = (words, of) => h("th", { scope: "col", class: of }, words);
  return h("table", { class: "flows" },
    h("caption", { class: "unseen" }, "Flows"),
    h("thead", null, h("tr", null, head("Status", "c-status"), head("Goal", "c-goal"), head("Controller", "c-controller"), head("Owner", "c-owner"), head("Step", "c-step"), head("Rev.", "c-revision"), head("Created", "c-created"), head("Changed", "c-updated"))),
    h("tbody", null, rows));
}

function row(flow, changed) {
  const notes = [
    flow.status === "waiting" && flow.wait && `waits for ${waitName(flow.wait)}`,
    flow.cancel_requested && !flow.ended_at && "cancel requested",
    flow.mode === "mirrored" && "mirrored",
  ].filter(Boolean);
  return h("tr", { key: flow.id, class: changed ? "changed" : null },
    h("td", { class: "c-status" }, badge(flow.status)),
    h("th", { scope: "row", class: "c-goal" }, h("a", { href: link(`/flows/${flow.id}`), "data-focus": flow.id }, flow.goal),
      h("span", { class: "soft narrow" }, flow.controller_id),
      h("span", { class: "under" }, notes.length > 0 && h("span", { class: "soft" }, notes.join(" · ")),
        Object.entries(flow.labels).slice(0, 4).map(([key, value]) => h("span", { class: "tag" }, `${key}:${value}`)))),
    h("td", { class: "c-controller" }, flow.controller_id),
    h("td", { class: "c-owner" }, flow.owner_session_key),
    h("td", { class: "c-step" }, flow.current_step),
    h("td", { class: "c-revision" }, String(flow.revision)),
    h("td", { class: "c-created" }, live(flow.created_at, moment)),
    h("td", { class: "c-updated" }, live(flow.updated_at, ago)));
}
