// The numbers of flows by status over time: the past undone from the feed, the present as it was sampled.

import { statuses } from "./status.js";

// moves says what an event makes of a flow: where it comes to, and whence, where the event alone tells that.
const moves = {
  created: { to: "created" },
  started: { to: "running", from: "created" },
  waiting: { to: "waiting", from: "running" },
  resumed: { to: "running", from: "waiting" },
  finished: { to: "finished", from: "running" },
  failed: { to: "failed" },
  cancelled: { to: "cancelled" },
};

// sourceOf is the status that an event took its flow from, as far as it tells: the clock ends nothing but waits.
const sourceOf = (event) => moves[event.kind].from ?? (event.actor === "timer" ? "waiting" : undefined);

// movingKinds are the events that move a flow from one status to another.
export const movingKinds = Object.keys(moves);

// reconstruct undoes events, newest first, from the counts of today. It returns samples {at, counts}, oldest first. Where
// the events do not tell whence a flow failed or was cancelled, it is taken to have been running. Flows erased meanwhile
// are not known of. whole says that these are all events there are.
export function reconstruct(counts, events, now, whole) {
  const known = new Map(), from = new Map();
  for (const event of [...events].reverse()) {
    const move = moves[event.kind];
    if (event.kind !== "created") from.set(event.seq, sourceOf(event) ?? known.get(event.flow_id) ?? "running");
    known.set(event.flow_id, move.to);
  }
  const current = { ...counts };
  const samples = [{ at: now, counts: { ...current } }];
  for (const event of events) {
    const at = Date.parse(event.at);
    samples.push({ at, counts: { ...current } });
    const move = moves[event.kind], source = from.get(event.seq);
    current[move.to] = Math.max(0, current[move.to] - 1);
    if (source) current[source]++;
    samples.push({ at: at - 0.001, counts: { ...current } });
  }
  if (whole) samples.push({ at: -Infinity, counts: current });
  return samples.reverse();
}

// History keeps samples for as long as the longest window, and never more than bound.
export class History {
  constructor(span, bound = 4000) { Object.assign(this, { span, bound, samples: [] }); }

  begin(samples) { this.samples = samples; this.trim(); }

  add(at, counts) { this.samples.push({ at, counts }); this.trim(); }

  trim() {
    const oldest = (this.samples.at(-1)?.at ?? 0) - this.span;
    const first = this.samples.findIndex((sample) => sample.at >= oldest);
    // One sample from before the window says how it began.
    this.samples.splice(0, Math.max(0, first - 1));
    if (this.samples.length > this.bound) this.samples = this.samples.filter((_, i, all) => i % 2 === 0 || i === all.length - 1);
  }

  // series returns, by status, the counts at equally spaced times; null before the first sample.
  series(end, span, points) {
    const out = Object.fromEntries(statuses.map((status) => [status, []]));
    let i = -1;
    for (let p = 0; p < points; p++) {
      const at = end - span + (span * p) / (points - 1);
      while (i + 1 < this.samples.length && this.samples[i + 1].at <= at) i++;
      for (const status of statuses) out[status].push(i < 0 ? null : this.samples[i].counts[status] ?? 0);
    }
    return out;
  }
}
