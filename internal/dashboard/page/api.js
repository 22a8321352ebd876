// Requests to the API, with the caller's key; every answer that is no success is thrown as a Problem.

import { envelope, parse } from "./json.js";
import { noteServerTime } from "./time.js";

const storedKey = "taskflow.key";

// key is the API key. It lives in this tab only, and goes with it.
export const key = {
  get: () => sessionStorage.getItem(storedKey) ?? "",
  set: (value) => (value ? sessionStorage.setItem(storedKey, value) : sessionStorage.removeItem(storedKey)),
};

// Problem is an answer of the kind application/problem+json, or what stands in for one: status 0 where there was no
// answer at all. retryAfter is in seconds, or undefined.
export class Problem extends Error {
  constructor(fields, retryAfter) {
    super(fields.detail);
    Object.assign(this, fields);
    this.retryAfter = retryAfter;
  }

  get slug() { return (this.type ?? "").replace("/problems/", ""); }
}

let onUnauthenticated = () => {};
export function whenUnauthenticated(fn) { onUnauthenticated = fn; }

function withKey(headers) {
  return key.get() ? { Authorization: `Bearer ${key.get()}`, ...headers } : { ...headers };
}

// send returns the answer as it is, a success; its body has not been read. An aborted request throws the AbortError.
export async function send(method, path, { body, headers, signal } = {}) {
  const sent = withKey(headers);
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, body, headers: sent, signal, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ status: 0, title: "No answer", detail: "The server cannot be reached." });
  }
  noteServerTime(answer.headers.get("Date"));
  if (answer.ok) return answer;
  const problem = await readProblem(answer);
  if (problem.status === 401) onUnauthenticated(problem);
  throw problem;
}

async function readProblem(answer) {
  const seconds = parseInt(answer.headers.get("Retry-After"), 10);
  const instance = answer.headers.get("X-Request-Id") ?? "";
  let fields = { status: answer.status, title: `Status ${answer.status}`, detail: "The answer came from something else than Taskflow.", instance };
  try {
    if (answer.headers.get("Content-Type")?.startsWith("application/problem+json")) fields = envelope(parse(await answer.text()));
  } catch { /* half an answer: what the status says must do */ }
  return new Problem(fields, Number.isNaN(seconds) ? undefined : seconds);
}

// get reads JSON without loss: callers' JSON as json.js has it.
export async function get(path, signal) {
  return envelope(parse(await (await send("GET", path, { signal })).text()));
}

// getSummary reads JSON that shows no caller's numbers: quicker, for long lists.
export async function getSummary(path, signal) {
  return (await send("GET", path, { signal })).json();
}

// query writes parameters; arrays repeat, empty values are left out.
export function query(parameters) {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one !== undefined && one !== null && one !== "") out.append(name, one);
  }
  const text = out.toString();
  return text && `?${text}`;
}
