// A list inside a view that is read a page at a time, with Newer/Older or Next/Back below it.

import { byHand, get, query } from "./api.js";
import { atMost, h, replace } from "./dom.js";
import { redraw } from "./redraw.js";
import { loading, problemNotice } from "./states.js";

// Paged reads path with parameters, and draws each page with draw(items, page). Only one page is held.
export class Paged {
  constructor({ path, parameters, draw, words, signal, name }) {
    Object.assign(this, { path, parameters, draw, words, signal, name, trail: [], cursor: undefined });
    this.body = h("div", null, loading(name));
    this.pager = h("nav", { class: "pager small", "aria-label": `Pages of ${name}` });
    this.element = h("div", null, this.body, this.pager);
    this.refresh = atMost(700, () => this.load());
  }

  async load() {
    const { parameters, cursor } = this;
    const asked = () => this.parameters === parameters && this.cursor === cursor; // or a late answer is for another page
    try {
      const page = await get(this.path + query({ ...parameters, cursor }), this.signal);
      if (!asked()) return;
      this.page = page;
      this.redraw();
    } catch (problem) {
      if (problem.name === "AbortError" || !asked()) return;
      if (problem.status === 404) return; // the view itself tells that the flow is gone
      replace(this.pager);
      replace(this.body, problemNotice(problem, () => this.load()));
    }
  }

  redraw() {
    redraw(this.body, this.draw(this.page.items, this.page));
    const [back, next] = this.words;
    this.pager.hidden = this.trail.length === 0 && this.page.next_cursor === null;
    redraw(this.pager,
      h("button", { type: "button", class: "quiet", "data-focus": `${this.name} back`, disabled: this.trail.length === 0, onclick: () => this.turn(this.trail.pop()) }, back),
      h("span", { class: "soft" }, `Page ${this.trail.length + 1}`),
      h("button", { type: "button", class: "quiet", "data-focus": `${this.name} next`, disabled: this.page.next_cursor === null, onclick: () => { this.trail.push(this.cursor); this.turn(this.page.next_cursor); } }, next));
  }

  turn(cursor) {
    this.cursor = cursor;
    byHand(() => this.load());
  }

  // from starts again at the first page, with other parameters.
  from(parameters) {
    this.parameters = parameters;
    this.trail = [];
    this.turn(undefined);
  }
}
