// The state machine: the moves there are, and a drawing of them with one flow's way through it.

import { h, s } from "./dom.js";
import { shape, statuses, terminal } from "./status.js";
import { duration, live, now } from "./time.js";

// transitions are all moves of the contract; whatever is not here is refused.
export const transitions = [
  { from: "created", verb: "start", to: "running" },
  { from: "created", verb: "cancel", to: "cancelled" },
  { from: "running", verb: "wait", to: "waiting" },
  { from: "running", verb: "finish", to: "finished" },
  { from: "running", verb: "fail", to: "failed" },
  { from: "running", verb: "cancel", to: "cancelled" },
  { from: "waiting", verb: "resume", to: "running" },
  { from: "waiting", verb: "fail", to: "failed" },
  { from: "waiting", verb: "cancel", to: "cancelled" },
];

const places = { created: [58, 40], running: [206, 40], waiting: [206, 160], finished: [368, 40], failed: [368, 115], cancelled: [368, 190] };
const half = [54, 17];

// lines are the arrows' paths, and where their words stand.
const lines = {
  "created start running": ["M112 40H146", [131, 31]],
  "created cancel cancelled": ["M58 57V206Q58 222 74 222H352Q368 222 368 213", [130, 226]],
  "running wait waiting": ["M190 57V137", [163, 102]],
  "running finish finished": ["M260 40H308", [286, 31]],
  "running fail failed": ["M260 48C288 54 290 98 309 109", [288, 70]],
  "running cancel cancelled": ["M246 57C260 96 270 158 309 182", [264, 98]],
  "waiting resume running": ["M222 143V63", [243, 124]],
  "waiting fail failed": ["M260 154C284 148 290 130 309 120", [289, 142]],
  "waiting cancel cancelled": ["M260 168C276 172 290 186 308 189", [270, 190]],
};

const kindsToStatus = { created: "created", started: "running", waiting: "waiting", resumed: "running", finished: "finished", failed: "failed", cancelled: "cancelled" };

// wayOf reads the statuses that a flow went through, from the events that moved it: [{status, at}].
export function wayOf(events) {
  return events.filter((event) => kindsToStatus[event.kind]).map((event) => ({ status: kindsToStatus[event.kind], at: event.at }));
}

const moveBetween = (from, to) => transitions.find((move) => move.from === from && move.to === to);
const nameOf = (move) => `${move.from} ${move.verb} ${move.to}`;

// drawMachine draws the machine for a flow that came this way. partly tells that the way is longer than it is shown.
export function drawMachine(flow, way, partly) {
  const taken = new Map();
  for (let i = 1; i < way.length; i++) {
    const move = moveBetween(way[i - 1].status, way[i].status);
    if (move) taken.set(nameOf(move), (taken.get(nameOf(move)) ?? 0) + 1);
  }
  const open = (move) => move.from === flow.status && (!flow.cancel_requested || move.verb === "cancel");
  const arrow = (id) => s("marker", { id: `arrow-${id}`, class: `head ${id}`, viewBox: "0 0 8 8", refX: 6.5, refY: 4, markerWidth: 7, markerHeight: 7, markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" }, s("path", { d: "M0 0 8 4 0 8z" }));
  const edges = transitions.map((move) => {
    const name = nameOf(move), times = taken.get(name);
    const kind = times ? "taken" : open(move) ? "open" : "shut";
    const [d, [x, y]] = lines[name];
    return { kind, element: s("g", { class: `edge ${kind}` }, s("path", { d, "marker-end": `url(#arrow-${kind})` }), s("text", { x, y, "text-anchor": "middle" }, times > 1 ? `${move.verb} ×${times}` : move.verb)) };
  });
  const ranks = ["shut", "open", "taken"];
  edges.sort((a, b) => ranks.indexOf(a.kind) - ranks.indexOf(b.kind));
  const visited = new Set(way.map((stop) => stop.status));
  return h("div", { class: "machine" },
    s("svg", { viewBox: "0 14 426 222", role: "img", "aria-label": sentence(flow, way) },
      s("defs", null, ranks.map(arrow)), edges.map((edge) => edge.element), statuses.map((status) => node(status, flow, visited))),
    wayList(flow, way, partly));
}

function node(status, flow, visited) {
  const [x, y] = places[status], now = flow.status === status;
  return s("g", { class: `node${now ? " now" : visited.has(status) ? " visited" : ""}`, "data-status": status, transform: `translate(${x - half[0]} ${y - half[1]})` },
    s("rect", { width: 2 * half[0], height: 2 * half[1], rx: 9 }),
    s("g", { transform: "translate(9 10) scale(.875)" }, shape(status)), s("text", { x: 29, y: 21.5 }, status));
}

function sentence(flow, way) {
  const next = transitions.filter((move) => move.from === flow.status && (!flow.cancel_requested || move.verb === "cancel"));
  const ahead = terminal(flow.status) ? "It has ended." : `It can ${next.map((move) => move.verb).join(", ")}.`;
  return `State machine. The flow is ${flow.status}. Its way: ${way.map((stop) => stop.status).join(", ")}. ${ahead}`;
}

const shownStops = 8;

// wayList is the way in words, with the time spent in each status.
function wayList(flow, way, partly) {
  const from = Math.max(0, way.length - shownStops);
  return h("ol", { class: "way", "aria-label": "The way of this flow", start: String(from + 1) },
    (from > 0 || partly) && h("li", { class: "soft cut" }, partly ? "…" : `${from} before`),
    way.slice(from).map((stop, i) => {
      const next = way[from + i + 1];
      const spent = next ? duration(Date.parse(next.at) - Date.parse(stop.at)) : terminal(stop.status) ? null : live(stop.at, (iso) => duration(now() - Date.parse(iso)));
      return h("li", { "data-status": stop.status }, stop.status, spent && h("span", { class: "soft" }, spent));
    }));
}
