// What a view shows while it has nothing to show: loading, nothing there, refused.

import { byHand } from "./api.js";
import { h, replace } from "./dom.js";
import { duration, now } from "./time.js";

export const loading = (what) => h("p", { class: "loading", role: "status" }, `Loading ${what}`);

export const empty = (...words) => h("p", { class: "empty" }, words);

// problemNotice shows a refusal with what the server said and the request's id. retry, where given, is offered, and is
// called by itself once the time that the server asked for has passed.
export function problemNotice(problem, retry) {
  const notice = h("div", { class: "notice", role: "alert", "data-status": "failed", key: "notice" },
    h("h2", { class: "notice-title" }, problem.title ?? "Something went wrong here"),
    h("p", null, problem.detail ?? String(problem.message ?? problem)),
    problem.errors && h("ul", null, problem.errors.map((error) => h("li", null, h("code", null, error.pointer || "body"), ` ${error.detail}`))),
    problem.outcome_unknown && h("p", null, "Whether it took effect is unknown. Sending it again is safe: it takes effect once."),
    h("p", { class: "facts" },
      problem.status > 0 && h("span", null, `Status ${problem.status}`),
      problem.slug && h("a", { href: problem.type }, problem.slug),
      problem.instance && h("span", null, "Request ", h("code", null, problem.instance))));
  if (retry) notice.append(retryLine(problem, retry, notice));
  return notice;
}

function retryLine(problem, retry, notice) {
  const line = h("p", { class: "retry" });
  const button = h("button", { type: "button", "data-focus": "retry", onclick: () => { clearInterval(timer); byHand(retry); } }, "Try again");
  const left = h("span", { class: "soft", "aria-hidden": "true" });
  const due = problem.retryAfter === undefined ? undefined : now() + problem.retryAfter * 1000;
  const timer = due === undefined ? undefined : setInterval(() => {
    if (!notice.isConnected) return clearInterval(timer);
    left.textContent = `again in ${duration(Math.max(0, due - now()))}`;
    if (now() >= due) { clearInterval(timer); retry(); }
  }, 250);
  replace(line, button, left);
  return line;
}

// nothing is the view of an address that leads nowhere.
export function nothing(root) {
  replace(root, h("h1", null, "No such page"), empty("This address leads nowhere. ", h("a", { href: "#/" }, "To the overview")));
  return { close: () => {} };
}
