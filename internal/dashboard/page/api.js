// Requests to the API, with the caller's key; every answer that is no success is thrown as a Problem.

import { envelope, parse } from "./json.js";
import { inThisTab } from "./storage.js";
import { noteServerTime } from "./time.js";

const storedKey = "taskflow.key";
const patience = 60_000; // ms for a whole answer: as long as a server lets one take

// key is the API key. It lives in this tab only, and goes with it.
export const key = {
  get: () => inThisTab.get(storedKey) ?? "",
  set: (value) => (value ? inThisTab.set(storedKey, value) : inThisTab.remove(storedKey)),
};

// Problem is an answer of the kind application/problem+json, or what stands in for one: status 0 where there was none that
// could be read to its end. retryAfter is in seconds, or undefined.
export class Problem extends Error {
  constructor(fields) {
    super(fields.detail);
    Object.assign(this, fields);
  }

  get slug() { return (this.type ?? "").replace("/problems/", ""); }
}

let onUnauthenticated = () => {};
// whenUnauthenticated sets what is called with each refusal for want of a good key, and whether somebody had asked for it.
export function whenUnauthenticated(fn) { onUnauthenticated = fn; }

let acting = false;

// byHand calls fn for somebody who did something: the requests that it begins, before it waits for anything, are theirs and
// not the page's own.
export function byHand(fn) {
  const before = acting;
  acting = true;
  try { return fn(); } finally { acting = before; }
}

function withKey(headers) {
  return key.get() ? { Authorization: `Bearer ${key.get()}`, ...headers } : { ...headers };
}

// send returns the answer as it is, a success; its body has not been read. An aborted request throws the AbortError. One that
// is not lasting has patience: a connection that nothing comes over any more may never fail by itself.
export async function send(method, path, { body, headers, signal, lasting = false } = {}) {
  const sent = withKey(headers), asked = acting;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  if (!lasting) signal = AbortSignal.any([signal, AbortSignal.timeout(patience)].filter(Boolean));
  let answer;
  try {
    answer = await fetch(path, { method, body, headers: sent, signal, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw lost(method, "The server cannot be reached.");
  }
  noteServerTime(answer.headers.get("Date"));
  if (answer.ok) {
    if (answer.status === 204 || ours.test(answer.headers.get("Content-Type"))) return answer;
    throw lost(method, elsewhere); // a network that wants its guests to log in says 200 to everything
  }
  const problem = await readProblem(answer, method);
  if (problem.status === 401) onUnauthenticated(problem, asked);
  throw problem;
}

const ours = /^(application\/json|text\/event-stream)\b/;
const elsewhere = "The answer came from something else than Taskflow.";

// lost is a Problem for an answer that was not Taskflow's, or not whole: what a command did then is unknown.
const lost = (method, detail, fields) => new Problem({ status: 0, title: "No answer", detail, outcome_unknown: method !== "GET", ...fields });

async function readProblem(answer, method) {
  const seconds = parseInt(answer.headers.get("Retry-After"), 10);
  const instance = answer.headers.get("X-Request-Id") ?? "";
  let problem = lost(method, elsewhere, { status: answer.status, title: `Status ${answer.status}`, instance });
  try {
    if (answer.headers.get("Content-Type")?.startsWith("application/problem+json")) problem = new Problem(envelope(parse(await answer.text())));
  } catch { /* half an answer: what the status says must do */ }
  problem.retryAfter = Number.isNaN(seconds) ? undefined : seconds;
  return problem;
}

// ask sends a request and reads the whole of its answer, by read: without loss, where nothing else is said.
export async function ask(method, path, options, read = (text) => envelope(parse(text))) {
  const answer = await send(method, path, options);
  try {
    return read(await answer.text());
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw lost(method, "The answer did not arrive whole.");
  }
}

// get reads JSON without loss: callers' JSON as json.js has it.
export const get = (path, signal) => ask("GET", path, { signal });

// getSummary reads JSON that shows no caller's numbers: quicker, for long lists.
export const getSummary = (path, signal) => ask("GET", path, { signal }, JSON.parse);

// query writes parameters; arrays repeat, empty values are left out.
export function query(parameters) {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one !== undefined && one !== null && one !== "") out.append(name, one);
  }
  const text = out.toString();
  return text && `?${text}`;
}
