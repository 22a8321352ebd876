// One flow: its machine, its wait, its state, its steps and its trail, live.

import { get, query } from "./api.js";
import { commandBar } from "./commands.js";
import { announce, atMost, copyButton, h, replace } from "./dom.js";
import { openFeed } from "./feed.js";
import { movingKinds } from "./history.js";
import { write } from "./json.js";
import { drawMachine, wayOf } from "./machine.js";
import { redraw } from "./redraw.js";
import { go, link } from "./router.js";
import { loading, problemNotice } from "./states.js";
import { badge } from "./status.js";
import { Steps } from "./steps.js";
import { ago, live, moment } from "./time.js";
import { Timeline } from "./timeline.js";
import { Tree } from "./tree.js";
import { WaitPanel } from "./wait.js";

const mostMoves = 500; // of a flow's way that are read
const mostPages = 20; // of 5,000 events each that are looked through for them
const nearMissesEvery = 5_000; // ms: an event that nearly ends a wait is no event of the flow's

export function flow(root, place) {
  const view = new FlowView(root, place.match[1]);
  view.open();
  return { close: () => view.close(), update: () => {} };
}

const part = (title, body, ...more) => h("section", { class: "card", "aria-label": title }, h("h2", null, title), more, body);

class FlowView {
  constructor(root, id) {
    document.title = "Flow · Taskflow";
    this.root = root;
    this.id = id;
    this.work = new AbortController();
    this.tree = new Tree();
    this.waiting = new WaitPanel(this.work.signal);
    this.timeline = new Timeline(id, this.work.signal);
    this.steps = new Steps(id, this.work.signal);
    this.failed = new Set(); // the names of requests
    this.moves = []; // the events that moved the flow, oldest first
    this.parts = Object.fromEntries(["head", "problem", "commands", "machine", "facts", "state"].map((name) => [name, h("div", { class: name })]));
    this.refresh = atMost(300, () => this.guard("load"));
    this.refreshWay = atMost(300, () => this.guard("loadWay"));
  }

  async open() {
    replace(this.root, loading("the flow"));
    this.follow();
    this.timer = setInterval(() => { if (!document.hidden) this.waiting.refresh(); }, nearMissesEvery);
    await this.guard("load");
  }

  // follow follows the flow's own events: so the feed ends with the flow.
  follow() {
    this.closeFeed = openFeed(`/flows/${this.id}/events`, { onEvents: (events) => this.take(events), onConnect: () => this.reload(), onGone: () => { this.closeFeed = undefined; this.refresh(); } });
  }

  loadRest() {
    this.refreshWay();
    this.timeline.refresh();
    this.steps.refresh();
  }

  reload() {
    this.refresh();
    if (this.flow) this.loadRest();
  }

  close() {
    this.work.abort();
    this.closeFeed?.();
    clearInterval(this.timer);
    for (const one of [this.refresh, this.refreshWay, this.timeline.paged.refresh, this.steps.paged.refresh]) one.cancel();
  }

  // guard calls a request by its name, and shows what it was refused with until it, and every other that was, succeeds.
  async guard(name) {
    try {
      await this[name]();
      this.failed.delete(name);
      if (this.failed.size === 0) replace(this.parts.problem);
    } catch (problem) {
      if (problem.name === "AbortError" || this.work.signal.aborted) return;
      this.failed.add(name);
      const notice = problemNotice(problem, () => [...this.failed].forEach((failed) => this.guard(failed)));
      if (this.flow && problem.status !== 404) return replace(this.parts.problem, notice);
      Object.assign(this, { flow: undefined, moves: [] }); // what comes at this address next may be another
      replace(this.root, crumbs(), h("h1", null, problem.status === 404 ? "No such flow" : "The flow cannot be shown"), notice);
    }
  }

  take(events) {
    this.refresh();
    this.timeline.refresh();
    if (events.some((event) => event.kind === "step_observed")) this.steps.refresh();
    if (events.some((event) => movingKinds.includes(event.kind))) this.refreshWay();
  }

  // load reads the flow, and the first time that it is there the rest too, however many tries that took.
  async load() {
    const flow = await get(`/flows/${this.id}`, this.work.signal);
    const first = !this.flow;
    this.show(flow);
    if (!this.closeFeed) this.follow();
    if (first) this.loadRest();
  }

  // loadWay reads the flow's way backwards, up to what is known of it. A page may be short, or empty: among many events there
  // may be few that move a flow.
  async loadWay() {
    const known = this.moves.at(-1)?.seq ?? 0, found = [];
    let cursor, pages = 0;
    do {
      const page = await get("/events" + query({ flow_id: this.id, kind: movingKinds, order: "-seq", limit: mostMoves, cursor }), this.work.signal);
      found.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor && ++pages < mostPages && found.length < mostMoves && !(found.at(-1)?.seq <= known));
    found.reverse();
    if (cursor === null || found[0]?.seq <= known) this.moves.push(...found.filter((event) => event.seq > known));
    else Object.assign(this, { moves: found, partly: true });
    if (this.flow) this.showMachine();
  }

  // show draws a version of the flow, unless a newer one is there already.
  show(flow) {
    if (this.flow && (flow.revision < this.flow.revision || flow.updated_at < this.flow.updated_at)) return;
    const before = this.flow;
    this.flow = flow;
    document.title = `${flow.goal.slice(0, 60)} · Taskflow`;
    if (!before) this.lay();
    if (before && before.status !== flow.status) announce(`The flow is now ${flow.status}, revision ${flow.revision}`);
    redraw(this.parts.head, h("h1", { tabindex: "-1" }, flow.goal), h("p", { class: "sub" }, badge(flow.status),
      flow.cancel_requested && h("span", { class: "tag strong" }, "cancel requested"),
      h("span", { class: "soft" }, flow.current_step), h("span", { class: "soft" }, "revision ", h("span", { id: "revision" }, String(flow.revision)))));
    redraw(this.parts.commands, commandBar(flow, { done: (after) => this.done(after), met: (newer) => this.show(newer) }));
    redraw(this.parts.facts, facts(flow));
    if (!before || write(before.state) !== write(flow.state)) this.showState();
    this.showMachine();
    this.waiting.show(flow);
  }

  lay() {
    const { head, problem, commands, machine, facts: factsPart, state } = this.parts;
    commands.setAttribute("role", "group");
    commands.setAttribute("aria-label", "Commands");
    const all = (open) => this.tree.openAll(open, state);
    const tools = h("p", { class: "corner" },
      h("button", { type: "button", class: "quiet", onclick: () => all(true) }, "Open all"), h("button", { type: "button", class: "quiet", onclick: () => all(false) }, "Close all"),
      copyButton("Copy JSON", () => write(this.flow.state, "  ")));
    replace(this.root, crumbs(), head, problem, commands, h("div", { class: "columns" },
      h("div", { class: "column" }, part("Way", machine), this.waiting.element, this.steps.element),
      h("div", { class: "column" }, part("State", state, tools), part("About", factsPart), this.timeline.element)));
  }

  showState() { redraw(this.parts.state, this.tree.render(this.flow.state)); }

  showMachine() {
    redraw(this.parts.machine, drawMachine(this.flow, wayOf(this.moves), this.partly));
  }

  done(after) {
    if (after === null) return go(link("/flows"));
    this.show(after);
    this.loadRest();
  }
}

const crumbs = () => h("nav", { class: "crumbs", "aria-label": "Where" }, h("a", { href: link("/flows") }, "← Flows"));

function facts(flow) {
  const label = (key, words) => (key.includes(":") ? h("span", { class: "tag" }, words) // the API's filter ends the key at the first colon
    : h("a", { class: "tag", href: link("/flows", { label: words }), "data-focus": `label ${key}` }, words));
  const filter = (name, value) => h("a", { href: link("/flows", { [name]: value }), "data-focus": `fact ${name} ${value}` }, value);
  const rows = [
    ["Id", h("span", { class: "together" }, h("code", null, flow.id), copyButton("Copy", () => flow.id, "copy id"))],
    ["Controller", filter("controller_id", flow.controller_id)],
    ["Owner", filter("owner_session_key", flow.owner_session_key)],
    flow.requester_origin && ["Asked by", flow.requester_origin],
    ["Mode", flow.mode],
    ["Step", flow.current_step],
    flow.labels.size > 0 && ["Labels", h("span", { class: "tags" }, [...flow.labels].map(([key, value]) => label(key, `${key}:${value}`)))],
    ["Created", [live(flow.created_at, moment), " · ", live(flow.created_at, ago)]],
    ["Changed", [live(flow.updated_at, moment), " · ", live(flow.updated_at, ago)]],
    flow.ended_at && ["Ended", [live(flow.ended_at, moment), " · ", live(flow.ended_at, ago)]],
    flow.resumed_by && ["Last wait", `ended by ${flow.resumed_by.kind.replace("_", " ")}, ${flow.resumed_by.outcome}`],
  ].filter(Boolean);
  return h("dl", null, rows.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}
