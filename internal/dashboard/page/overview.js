// The overview: how many flows in which status, now and lately; what is due next; what waits longest; what fails.

import { get, query } from "./api.js";
import { announce, atMost, h, replace } from "./dom.js";
import { openFeed } from "./feed.js";
import { History, movingKinds, reconstruct } from "./history.js";
import { bars, linePlot, sparkline } from "./plot.js";
import { redraw } from "./redraw.js";
import { go, link } from "./router.js";
import { empty, loading, problemNotice } from "./states.js";
import { badge, icon, statuses, terminal } from "./status.js";
import { describe } from "./sentences.js";
import { ago, live, now, until } from "./time.js";

const windows = { 5: "5 min", 15: "15 min", 60: "1 h" };
const sampleEvery = 10_000; // ms, where nothing happens
const shownEvents = 12;
const shownOfEach = 6; // flows and controllers of a card
const undoPages = 4; // of 500 events: how far back the past is undone

export function overview(root, place) {
  const view = new Overview(root, place);
  view.open();
  return { close: () => view.close(), update: (next) => view.update(next) };
}

const card = (title, body, ...more) => h("section", { class: "card", "aria-label": title }, h("h2", null, title), more, body);

class Overview {
  constructor(root, place) {
    document.title = "Overview · Taskflow";
    this.past = new History(3_600_000);
    this.parts = Object.fromEntries(["numbers", "plot", "due", "oldest", "failures", "latest"].map((name) => [name, h("div", { class: name })]));
    this.latest = [];
    this.problem = h("div");
    const { numbers, plot, due, oldest, failures, latest } = this.parts;
    replace(numbers, loading("the numbers"));
    replace(root, h("h1", { class: "unseen" }, "Overview"), this.problem, numbers, h("div", { class: "cards" },
      h("div", { class: "wide" }, card("In flight", plot, this.windowChoice(place))),
      card("Due next", due), card("Waiting longest", oldest), card("Failures by controller", failures),
      h("div", { class: "wide" }, card("Latest changes", latest))));
    this.setWindow(place);
    this.work = new AbortController();
    this.sampled = atMost(2000, () => this.guard(() => this.sample()));
  }

  async open() {
    this.closeFeed = openFeed("/events" + query({ kind: movingKinds }), { onEvents: (events) => this.take(events), onConnect: (goesOn) => (goesOn ? this.sampled() : this.guard(() => this.beginAnew())) });
    this.timer = setInterval(() => { if (!document.hidden && this.counts) this.sampled(); }, sampleEvery);
    this.resized = () => this.draw();
    window.addEventListener("resize", this.resized);
    await this.guard(() => this.begin());
  }

  close() {
    this.work.abort();
    this.closeFeed();
    clearInterval(this.timer);
    this.sampled.cancel();
    window.removeEventListener("resize", this.resized);
  }

  update(place) {
    this.setWindow(place);
    this.draw();
  }

  // guard shows what a request was refused with, and takes it away once one succeeds.
  async guard(request) {
    try {
      await request();
      if (!this.work.signal.aborted) replace(this.problem);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (!this.counts) replace(this.parts.numbers);
      replace(this.problem, problemNotice(problem, () => this.guard(() => this.begin())));
    }
  }

  setWindow(place) {
    this.minutes = windows[place.query.get("window")] ? Number(place.query.get("window")) : 15;
    this.choice.value = String(this.minutes);
  }

  windowChoice() {
    this.choice = h("select", { onchange: () => go(link("/", { window: this.choice.value }), { instead: true }) },
      Object.entries(windows).map(([minutes, name]) => h("option", { value: minutes }, name)));
    return h("label", { class: "corner" }, h("span", { class: "unseen" }, "Time shown"), this.choice);
  }

  // begin reads what is shown first, once at a time: where that fails, the feed tries it again as soon as it connects.
  begin() {
    return this.beginning ??= this.readAll().finally(() => { this.beginning = undefined; });
  }

  // beginAnew begins, or makes up for what may have happened between a reading that is under way and the feed.
  async beginAnew() {
    if (!this.beginning) return this.begin();
    await this.beginning;
    this.note((await get("/events" + query({ order: "-seq", limit: shownEvents, kind: movingKinds }), this.work.signal)).items);
  }

  // readAll reads the numbers, and undoes the latest events from them for the plot's past.
  async readAll() {
    const stats = await get("/stats", this.work.signal);
    const at = now(), events = [];
    let cursor;
    for (let page = 0; page < undoPages && cursor !== null; page++) {
      const answer = await get("/events" + query({ order: "-seq", limit: 500, kind: movingKinds, cursor }), this.work.signal);
      events.push(...answer.items);
      cursor = answer.next_cursor;
      if (at - Date.parse(events.at(-1)?.at) > this.past.span) break;
    }
    this.past.begin(reconstruct(stats.by_status, events, at, cursor === null));
    this.show(stats);
    this.note(events.slice(0, shownEvents));
  }

  async sample() {
    if (this.counts === undefined) return this.begin();
    const stats = await get("/stats", this.work.signal);
    this.past.add(now(), stats.by_status);
    this.show(stats);
  }

  take(events) {
    this.note(events.slice(-shownEvents));
    this.sampled();
  }

  // note takes events into the latest ones; what was read and what the feed brings may overlap.
  note(events) {
    const all = new Map([...this.latest, ...events].map((event) => [event.seq, event]));
    this.latest = [...all.values()].sort((a, b) => b.seq - a.seq).slice(0, shownEvents);
    this.showLatest();
  }

  show(stats) {
    this.counts = stats.by_status;
    this.draw();
    this.list(stats);
  }

  draw() {
    if (!this.counts) return;
    const span = this.minutes * 60_000, series = this.past.series(now(), span, 180);
    redraw(this.parts.numbers, h("ul", null, statuses.map((status) => h("li", { "data-status": status },
      h("a", { href: link("/flows", { status }), "data-focus": status },
        h("span", { class: "name" }, icon(status), status),
        h("strong", null, (this.counts[status] ?? 0).toLocaleString()),
        sparkline(series[status], status))))));
    const width = Math.max(300, Math.min(1100, this.parts.plot.clientWidth || 700));
    redraw(this.parts.plot, linePlot(series, statuses.filter((status) => !terminal(status)), span, width));
  }

  list(stats) {
    const { due, oldest, failures } = this.parts;
    redraw(due, stats.due_next.length === 0 ? empty("No wait ends by the clock.") : waitList(stats.due_next, "due_at", until));
    redraw(oldest, stats.waiting_longest.length === 0 ? empty("No flow waits.") : [waitList(stats.waiting_longest, "since", ago),
      h("p", { class: "more" }, h("a", { href: link("/flows", { status: "waiting", order: "updated_at" }), "data-focus": "all waiting" }, "All that wait"))]);
    const failed = stats.failed_by_controller.slice(0, shownOfEach).map(({ controller_id: name, flows: count }) => ({ name, count, href: link("/flows", { status: "failed", controller_id: name }) }));
    const counted = stats.failed_by_controller.reduce((sum, { flows }) => sum + flows, 0);
    redraw(failures, failed.length === 0 ? empty("No flow has failed.") : bars(failed, "failed"),
      counted < stats.by_status.failed && h("p", { class: "more soft" }, `The latest ${counted.toLocaleString()} of ${stats.by_status.failed.toLocaleString()}.`));
  }

  showLatest() {
    const any = Object.values(this.counts ?? {}).some((count) => count > 0);
    if (this.latest.length === 0 && any) return redraw(this.parts.latest, empty("No flow has changed its status lately."));
    if (this.latest.length === 0) return redraw(this.parts.latest, empty("Nothing has happened yet. ", h("a", { href: "/docs" }, "Create a flow by the API"), " and it shows up here."));
    redraw(this.parts.latest, h("ol", { class: "ticker" }, this.latest.map((event) => h("li", { key: event.seq },
      live(event.at, ago), badge(statusAfter(event)), h("a", { href: link(`/flows/${event.flow_id}`), "data-focus": `event ${event.seq}` }, event.flow_id),
      h("span", { class: "soft words" }, describe(event))))));
    if (this.latest.some((event) => event.kind === "failed" && !this.told?.has(event.seq)) && this.told) announce("A flow has failed");
    this.told = new Set(this.latest.map((event) => event.seq));
  }
}

const statusAfter = (event) => ({ started: "running", resumed: "running" })[event.kind] ?? event.kind;

function waitList(flows, time, words) {
  return h("ul", { class: "waits" }, flows.slice(0, shownOfEach).map((flow) => h("li", { key: flow.flow_id },
    h("a", { href: link(`/flows/${flow.flow_id}`), "data-focus": `wait ${flow.flow_id}` }, flow.goal),
    h("span", { class: "soft" }, flow.controller_id), live(flow[time], words))));
}
