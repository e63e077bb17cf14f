// Follows the events of whoever logs in, and comes back by itself after whatever cuts it off.

import { follow } from "./follow.js";

const byId = (id) => document.getElementById(id);
const EVENTS_SHOWN = 20;
// In memory alone: no other page and no script of another origin can read them.
let tokens = null;

async function call(method, path, body, { mayRenew = true } = {}) {
  const response = await fetch(`api/v1/${path}`, {
    method,
    headers: {
      ...(body && { "Content-Type": "application/json" }),
      ...(tokens && { Authorization: `Bearer ${tokens.access_token}` }),
    },
    body: body && JSON.stringify(body),
  });
  if (response.status === 401 && tokens && mayRenew) {
    await renew();
    return call(method, path, body, { mayRenew: false });
  }
  const answer = response.status === 204 ? null : await response.json();
  if (!response.ok) throw Object.assign(new Error(answer.detail ?? answer.title), { status: response.status });
  return answer;
}

// Once for all who ask at the same time: a refresh token is good for one use.
let renewal = null;
function renew() {
  const body = { refresh_token: tokens.refresh_token };
  renewal ??= call("POST", "auth/refresh", body, { mayRenew: false })
    .then((pair) => (tokens = pair))
    .finally(() => (renewal = null));
  return renewal;
}

async function logIn(email, password) {
  const body = new URLSearchParams({ username: email, password });
  const response = await fetch("api/v1/auth/token", { method: "POST", body });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail ?? answer.title);
  tokens = answer;
}

function showItem(item) {
  const row = byId(`item-${item.id}`) ?? document.createElement("li");
  row.id = `item-${item.id}`;
  row.replaceChildren(`${item.title} (${item.status})`);
  const other = item.status === "open" ? "done" : "open";
  row.append(button(other, () => call("PATCH", `items/${item.id}`, { status: other })));
  row.append(button("delete", () => call("DELETE", `items/${item.id}`)));
  if (!row.isConnected) byId("items").prepend(row);
}

function button(text, act) {
  const element = document.createElement("button");
  element.textContent = text;
  element.addEventListener("click", () => attempt(act));
  return element;
}

// An event names the row; what it is like now, the API tells.
async function show(event) {
  const line = document.createElement("li");
  line.value = event.seq;
  line.textContent = `${event.kind} ${event.subject_id}`;
  byId("events").prepend(line);
  [...byId("events").children].slice(EVENTS_SHOWN).forEach((old) => old.remove());
  if (!event.kind.startsWith("item.")) return;
  try {
    showItem(await call("GET", `items/${event.subject_id}`));
  } catch (error) {
    if (error.status !== 404) throw error;
    byId(`item-${event.subject_id}`)?.remove();
  }
}

async function attempt(act) {
  byId("message").textContent = "";
  try {
    await act();
  } catch (error) {
    byId("message").textContent = error.message;
  }
}

async function readAll() {
  const { items } = await call("GET", "items?limit=20");
  byId("items").replaceChildren();
  items.reverse().forEach(showItem);
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const { email, password } = Object.fromEntries(new FormData(event.target));
  const isNew = event.submitter?.value === "sign-up";
  attempt(async () => {
    if (isNew) await call("POST", "users", { email, password });
    await logIn(email, password);
    byId("login").hidden = true;
    byId("signed-in").hidden = false;
    follow("api/v1/events", {
      token: () => tokens.access_token,
      renew,
      // From here on nothing is missed, so what is read now and what comes later fit together.
      onReady: () => attempt(readAll),
      onEvent: (message) => attempt(() => show(message)),
      onState: (state) => (byId("state").textContent = state),
    });
  });
});

byId("new-item").addEventListener("submit", (event) => {
  event.preventDefault();
  const title = new FormData(event.target).get("title");
  attempt(async () => {
    await call("POST", "items", { title });
    event.target.reset();
  });
});
