// JSON without loss: numbers keep their digits and objects the order of their keys, whatever they are called. Objects are
// Maps, numbers are Num, the rest is JavaScript's own.

// Num is a number as it was written.
export class Num {
  constructor(text) { this.text = text; }
  toString() { return this.text; }
}

const space = /[ \t\n\r]*/y;
const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?/y;
const string = /"(?:[^"\\\u0000-\u001f]|\\.)*"/y;
const word = /true|false|null/y;
const words = { true: true, false: false, null: null };

class Reader {
  constructor(text) { this.text = text; this.at = 0; }

  take(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at = pattern.lastIndex;
    return found?.[0];
  }

  fail(what) {
    const lines = this.text.slice(0, this.at).split("\n");
    throw new SyntaxError(`${what} at line ${lines.length}, column ${lines.at(-1).length + 1}`);
  }

  next(character) {
    this.take(space);
    if (this.text[this.at] !== character) return false;
    this.at++;
    return true;
  }

  value() {
    this.take(space);
    switch (this.text[this.at]) {
      case "{": return this.object();
      case "[": return this.array();
      case '"': return this.string();
    }
    const digits = this.take(number);
    if (digits !== undefined) return new Num(digits);
    const name = this.take(word);
    return name === undefined ? this.fail(this.at < this.text.length ? "Not JSON" : "The JSON ends too early") : words[name];
  }

  string() {
    this.take(space);
    const text = this.take(string);
    return text === undefined ? this.fail("A string is expected") : JSON.parse(text);
  }

  object() {
    const out = new Map();
    this.at++;
    if (this.next("}")) return out;
    do {
      const key = this.string();
      if (out.has(key)) this.fail(`The key ${JSON.stringify(key)} is there twice, before`);
      if (!this.next(":")) this.fail("A colon is expected");
      out.set(key, this.value());
    } while (this.next(","));
    return this.next("}") ? out : this.fail("A comma or } is expected");
  }

  array() {
    const out = [];
    this.at++;
    if (this.next("]")) return out;
    do out.push(this.value()); while (this.next(","));
    return this.next("]") ? out : this.fail("A comma or ] is expected");
  }
}

// parse reads a JSON text; a SyntaxError says where it is none.
export function parse(text) {
  const reader = new Reader(text);
  const value = reader.value();
  reader.take(space);
  if (reader.at < text.length) reader.fail("More than one JSON value");
  return value;
}

// write is the inverse of parse; with an indent it is laid out over lines.
export function write(value, indent = "", margin = "\n") {
  if (value instanceof Num) return value.text;
  const inner = margin + indent;
  const list = (open, items, close) => {
    if (!items.length) return open + close;
    return indent ? open + inner + items.join("," + inner) + margin + close : open + items.join(",") + close;
  };
  if (value instanceof Map) {
    return list("{", [...value].map(([key, member]) => `${JSON.stringify(key)}:${indent && " "}${write(member, indent, inner)}`), "}");
  }
  if (Array.isArray(value)) return list("[", value.map((item) => write(item, indent, inner)), "]");
  return JSON.stringify(value);
}

export const same = (a, b) => a === b || write(a) === write(b);

// callers' are the members of the API's answers that hold a caller's own JSON; only there do digits and order matter.
const callers = new Set(["state", "payload", "result", "details", "state_patch", "labels"]);

// envelope turns what parse returns into plain objects and numbers, but for the callers' own JSON.
export function envelope(value) {
  if (value instanceof Num) return Number(value.text);
  if (Array.isArray(value)) return value.map(envelope);
  if (!(value instanceof Map)) return value;
  const out = Object.create(null);
  for (const [key, member] of value) out[key] = callers.has(key) ? member : envelope(member);
  return out;
}
