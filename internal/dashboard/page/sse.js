// Server-sent events, read from a fetch: EventSource cannot send a key.

// readStream reads until the stream ends. It calls on.id(id) for how far the stream has come, on.event(data) for each
// event, on.comment(words) for a sign of life, on.bytes() for anything at all, and on.pause() after each piece that has come.
export async function readStream(body, on) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", id, data = [];
  const line = (text) => {
    if (text === "") {
      if (data.length) on.event(data.join("\n"));
      if (id !== undefined) on.id(id);
      id = undefined;
      data = [];
      return;
    }
    const [, field, value] = /^([^:]*)(?:: ?)?([\s\S]*)$/.exec(text);
    if (field === "") on.comment(value);
    if (field === "data") data.push(value);
    else if (field === "id") id = value;
  };
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    on.bytes();
    const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    lines.forEach(line);
    on.pause();
  }
}
