// The live feed: every audit event as it is committed, across broken connections without a gap.

import { send } from "./api.js";
import { envelope, parse } from "./json.js";
import { showConnection } from "./connection.js";
import { readStream } from "./sse.js";

const silence = 45_000; // ms without a sign of life until the connection, or the try to make one, is given up
const stale = 60_000; // ms without a sign of life after which what was missed is not asked for
const longest = 30_000; // ms between two tries

// openFeed follows the events at path from now on. onEvents gets the new ones in batches, oldest first; onConnect is called
// at every connection: what is read from then on and what the feed brings leave no gap. It is told whether the feed goes on
// from the last event, or begins anew. onGone is called once where nothing is at path, or no longer, and the feed is closed.
// It returns a function that closes it.
export function openFeed(path, { onEvents, onConnect, onGone = () => {} }) {
  const feed = new Feed(path, onEvents, onConnect, onGone);
  feed.run();
  return () => feed.close();
}

class Feed {
  constructor(path, onEvents, onConnect, onGone) {
    Object.assign(this, { path, onEvents, onConnect, onGone, tries: 0, closed: false });
    this.seen = () => { if (document.hidden) this.abort?.abort(); else this.wake?.(); };
    document.addEventListener("visibilitychange", this.seen);
  }

  close() {
    this.closed = true;
    document.removeEventListener("visibilitychange", this.seen);
    this.abort?.abort();
    this.wake?.();
  }

  async run() {
    showConnection("connecting");
    while (!this.closed) {
      await this.sight();
      if (this.closed) return;
      let problem;
      try { await this.connect(); } catch (error) { problem = error; }
      clearTimeout(this.watch);
      if (this.closed) return;
      if (problem?.status === 404) return this.end();
      if (!document.hidden) await this.rest(problem);
    }
  }

  end() {
    this.close();
    showConnection("none");
    this.onGone();
  }

  // sight waits until somebody sees the page. A browser has six connections to a server, for all its tabs together: those
  // that nobody looks at leave theirs to the others, and begin anew when they are looked at again: what they missed may be a
  // night's events.
  async sight() {
    if (!document.hidden) return;
    await new Promise((wake) => { this.wake = wake; });
    this.last = undefined;
    if (!this.closed) showConnection("connecting");
  }

  async connect() {
    this.abort = new AbortController();
    const { signal } = this.abort;
    if (Date.now() - this.heard > stale) this.last = undefined; // as for a page that nobody has seen meanwhile
    this.giveUpLater();
    const answer = await send("GET", this.path, {
      signal, lasting: true, headers: { Accept: "text/event-stream", ...(this.last && { "Last-Event-ID": this.last }) },
    });
    showConnection("connected");
    this.tries = 0;
    this.onConnect(this.last !== undefined);
    await this.read(answer.body);
  }

  async read(body) {
    let batch = [];
    await readStream(body, {
      bytes: () => this.listen(),
      comment: (words) => showConnection(words === "stalled" ? "stalled" : "connected"),
      id: (id) => { this.last = id; },
      event: (data) => batch.push(envelope(parse(data))),
      pause: () => {
        if (batch.length && !this.closed) this.onEvents(batch);
        batch = [];
      },
    });
  }

  listen() {
    this.heard = Date.now();
    this.giveUpLater();
  }

  // giveUpLater gives the connection up after a while of silence.
  giveUpLater() {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => this.abort.abort(), silence);
  }

  // rest waits before the next try: longer each time, never in step with others, and as long as the server asks for.
  async rest(problem) {
    const backOff = Math.min(longest, 500 * 2 ** this.tries++) * (0.5 + Math.random() / 2);
    const ms = Math.max(backOff, (problem?.retryAfter ?? 0) * 1000);
    showConnection("disconnected", { at: Date.now() + ms, why: problem?.status > 0 ? problem : undefined, now: () => this.wake() });
    await new Promise((wake) => { this.wake = wake; setTimeout(wake, ms); });
    if (!this.closed) showConnection("connecting");
  }
}
