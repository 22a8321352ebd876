// The commands on one flow: which are allowed, their forms, and sending them.

import { ask, byHand, Problem, send } from "./api.js";
import { conflictNotice } from "./conflict.js";
import { openDialog } from "./dialog.js";
import { announce, h, replace } from "./dom.js";
import { body, Invalid, jsonField, labelsField, textField } from "./fields.js";
import { transitions } from "./machine.js";
import { address, link } from "./router.js";
import { problemNotice } from "./states.js";
import { terminal } from "./status.js";
import { waitField } from "./waitform.js";

const patch = (name) => jsonField(name, "Patch of the state (JSON)", { help: "An object overwrites top-level keys; anything else replaces the state. Empty leaves it." });
const reason = (required) => textField("reason", "Reason", { required, long: true });

// commands, in the order of their buttons. A verb of the transition table is allowed where the table says so; the others
// have an allowed of their own, for a flow that has not ended and whose cancel was not requested.
const commands = [
  { verb: "start", label: "Start", fields: () => [], now: true },
  { verb: "resume", label: "Resume", fields: () => [patch("state_patch")] },
  { verb: "wait", label: "Wait", fields: () => [waitField()] },
  { verb: "state", label: "Update state", allowed: () => true, needed: true, fields: (flow) => [
    patch("patch"), textField("current_step", "Step", { max: 256, value: flow.current_step }), textField("goal", "Goal", { value: flow.goal, long: true }), labelsField(flow.labels)] },
  { verb: "finish", label: "Finish", fields: () => [patch("final_state")] },
  { verb: "fail", label: "Fail", danger: true, fields: () => [reason(true)] },
  { verb: "request-cancel", label: "Request cancel", danger: true, allowed: () => true, fields: () => [reason(false)] },
  { verb: "cancel", label: "Cancel", danger: true, fields: () => [reason(false)] },
  { verb: "delete", label: "Delete", danger: true, words: "Erases the flow with its steps and its trail. There is no way back.", fields: () => [] },
];

// allowed says whether a command may be sent to a flow as it is: by the rules of the contract, in their order.
function allowed(command, flow) {
  if (terminal(flow.status)) return command.verb === "delete";
  if (command.verb === "delete") return false;
  if (flow.cancel_requested && command.verb !== "cancel") return false;
  return command.allowed ? command.allowed(flow) : transitions.some((move) => move.verb === command.verb && move.from === flow.status);
}

// commandBar draws the buttons that are allowed. done(flow) gets the flow after a command, null after it was erased;
// met(flow) gets a newer version that a conflict brought.
export function commandBar(flow, { done, met }) {
  return commands.filter((command) => allowed(command, flow)).map((command) => h("button", {
    type: "button", class: command.danger ? "danger" : null, "data-focus": `command ${command.verb}`, "data-verb": command.verb,
    onclick: () => (underWay.get(`${flow.id} ${command.verb}`) ?? new Sending(command, flow, done, met)).begin(),
  }, command.label));
}

const randomKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

const underWay = new Map(); // by flow and verb, what was sent and is not answered yet: asked for again, it is the same command

// Sending is one command on its way, with the version of the flow that was shown when it was chosen.
class Sending {
  constructor(command, flow, done, met) {
    Object.assign(this, { command, shown: flow, base: flow, done, met, fields: command.fields(flow), place: address().path });
  }

  get left() { return address().path !== this.place; }

  get title() { return [`${this.command.label}: revision ${this.shown.revision}`, h("span", { class: "goal soft" }, this.shown.goal)]; }

  begin() {
    if (this.command.now) return this.submit();
    this.openForm();
  }

  openForm() {
    const { command } = this;
    this.answer = h("div", { class: "answer" });
    this.button = h("button", { type: "submit", class: command.danger ? "danger" : "primary" }, command.label);
    const form = h("form", { class: "form", novalidate: true, onsubmit: (event) => { event.preventDefault(); this.submit(); } },
      command.words && h("p", null, command.words), this.fields.map((field) => field.element), this.answer,
      h("div", { class: "buttons" }, this.button, h("button", { type: "button", onclick: () => this.dialog.close() }, "Close")));
    this.dialog = openDialog(this.title, form);
  }

  async submit() {
    let text;
    try {
      text = this.command.verb === "delete" ? undefined : body(this.fields);
      if (this.command.needed && text === "{}") throw new Invalid("Nothing is changed yet.", this.dialog.element.querySelector("textarea"));
    } catch (error) {
      if (!(error instanceof Invalid)) throw error;
      this.say(h("p", { class: "notice", role: "alert", "data-status": "failed" }, error.message));
      error.input.setAttribute("aria-invalid", "true");
      error.input.focus();
      return;
    }
    for (const input of this.dialog?.element.querySelectorAll("[aria-invalid]") ?? []) input.removeAttribute("aria-invalid");
    await this.send(text);
  }

  async send(text) {
    const name = `${this.base.id} ${this.command.verb}`;
    if (underWay.has(name)) return;
    underWay.set(name, this);
    try {
      const flow = await byHand(() => this.request(text));
      this.dialog?.close();
      announce(flow ? `Done: the flow is ${flow.status}, revision ${flow.revision}` : "The flow is erased");
      if (!this.left) this.done(flow);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.refused(problem);
    } finally {
      underWay.delete(name);
    }
  }

  // request sends the command on the revision it is based on. A repeat of the same has the same key, so that it takes
  // effect once whatever became of the first.
  async request(text) {
    const match = `"${this.base.revision}"`, path = `/flows/${this.base.id}`;
    if (this.command.verb === "delete") {
      await send("DELETE", path, { headers: { "If-Match": match } });
      return null;
    }
    if (this.sent !== match + text) { this.sent = match + text; this.key = randomKey(); }
    return ask("POST", `${path}/${this.command.verb}`, { body: text, headers: { "If-Match": match, "Idempotency-Key": this.key } });
  }

  // refused says so in the form, which may have been closed meanwhile; elsewhere there is none to send again.
  refused(problem) {
    if (this.left) return openDialog(this.title, h("div", { class: "form" }, problemNotice(problem), h("p", null, h("a", { href: link(`/flows/${this.base.id}`) }, "To the flow"))));
    if (!this.dialog?.element.open) this.openForm();
    if (problem.slug !== "revision-conflict") {
      this.say(problemNotice(problem));
      return;
    }
    const current = problem.flow;
    this.met(current);
    this.say(conflictNotice(this.shown, current, {
      applies: allowed(this.command, current), label: this.command.label,
      apply: () => { this.base = current; this.submit(); },
    }));
    this.button.hidden = true;
    this.dialog.element.querySelector("#apply-anyway")?.focus();
  }

  // say shows what became of it, and lets the form be sent again; of a conflict its own notice does.
  say(notice) {
    this.button.hidden = false;
    replace(this.answer, notice);
  }
}
