// Times and durations in words, and a clock that goes by the server's.

import { h } from "./dom.js";

let offset = 0; // ms the server is ahead of this machine; a second either way is the header's own roughness

// noteServerTime takes the Date header of an answer.
export function noteServerTime(date) {
  const server = Date.parse(date ?? "");
  if (!Number.isNaN(server)) offset = Math.abs(server - Date.now()) > 2000 ? server - Date.now() : 0;
}

export const now = () => Date.now() + offset;

const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

// duration says how long, in two units at most: 850 ms, 4.2 s, 3 min 20 s, 2 d 4 h.
export function duration(ms) {
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1).replace(/\.0$/, "")} s`;
  let seconds = Math.floor(ms / 1000);
  const words = [];
  for (const [unit, size] of units) {
    const count = Math.floor(seconds / size);
    seconds -= count * size;
    if (count > 0) words.push(`${count} ${unit}`);
    else if (words.length) break;
    if (words.length === 2) break;
  }
  return words.join(" ");
}

const sameDay = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const otherDay = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

// moment is a time of day, with the date where that is not today's.
export function moment(iso) {
  const date = new Date(iso);
  return (date.toDateString() === new Date(now()).toDateString() ? sameDay : otherDay).format(date);
}

// ago is rough on purpose: what is read over and over should not change every second.
export function ago(iso) {
  const past = now() - Date.parse(iso);
  return past < 1500 ? "just now" : `${duration(past).split(" ").slice(0, 2).join(" ")} ago`;
}

export function until(iso) {
  const left = Date.parse(iso) - now();
  return left <= 0 ? "due now" : `in ${duration(left < 10_000 ? Math.ceil(left / 1000) * 1000 : left)}`;
}

// live is a <time> whose words are kept up to date: words is ago, until, moment, or one of the caller's own.
export function live(iso, words = ago) {
  const say = ({ currentTarget: time }) => {
    const text = words(iso);
    if (time.textContent !== text) time.textContent = text;
  };
  return h("time", { datetime: iso, title: iso, ontick: say }, words(iso));
}

// tick refreshes every time on the page. main.js calls it once a second.
export function tick() {
  for (const time of document.querySelectorAll("time")) time.dispatchEvent(new Event("tick"));
}
