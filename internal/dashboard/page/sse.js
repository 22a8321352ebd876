// Server-sent events, read from a fetch: EventSource cannot send a key.

// readStream calls on.event({id, data}) for each event and on.bytes() for anything at all, heartbeats too, until the
// stream ends.
export async function readStream(body, on) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", id = "", data = [];
  const line = (text) => {
    if (text === "") {
      if (data.length) on.event({ id, data: data.join("\n") });
      data = [];
      return;
    }
    const [, field, value] = /^([^:]*)(?:: ?)?([\s\S]*)$/.exec(text);
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
