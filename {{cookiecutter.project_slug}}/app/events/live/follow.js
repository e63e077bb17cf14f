// Server-sent events with a token, which EventSource cannot send; resumes after the last event.

const WAIT_MS = 2000;

export async function follow(url, { token, renew, onReady, onEvent, onState }) {
  let lastId = null;
  let waitMs = WAIT_MS;
  for (;;) {
    onState("connecting");
    try {
      const headers = { Authorization: `Bearer ${token()}`, ...(lastId && { "Last-Event-ID": lastId }) };
      const response = await fetch(url, { headers, cache: "no-store" });
      if (response.status === 401) await renew();
      if (response.status === 403) return onState("refused");
      // Too long ago: all is read again.
      if (response.status === 410) lastId = null;
      if (response.ok) {
        for await (const message of messagesOf(response)) {
          if (message.retry) waitMs = Number(message.retry);
          // After a resume nothing was missed, so nothing is read again.
          if (message.event === "ready" && lastId === null) onReady();
          if (message.event === "ready") onState("open");
          if (message.id) lastId = message.id;
          if (!message.event) onEvent(JSON.parse(message.data));
        }
      }
    } catch (error) {
      // The session has ended; anything else is a network or a service that is away for a while.
      if (error.status === 401) return onState("logged out");
    }
    onState("reconnecting");
    await new Promise((resolve) => setTimeout(resolve, waitMs * (0.5 + Math.random())));
  }
}

// https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
async function* messagesOf(response) {
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of chunksOf(response.body.getReader())) {
    const parts = (text + decoder.decode(bytes, { stream: true })).split("\n\n");
    text = parts.pop();
    for (const part of parts) {
      const fields = part.split("\n").map((line) => line.split(/: ?(.*)/s));
      const message = Object.fromEntries(fields.filter(([name]) => name));
      if (message.data) yield message;
    }
  }
}

async function* chunksOf(reader) {
  for (let { done, value } = await reader.read(); !done; { done, value } = await reader.read()) yield value;
}
