// The calculator of docs/calculator.md: plans as server/capacity.py does, from the same TABLES
// (tables.js), and orders timeouts as doctor/timeouts.toml asks for. A test holds it to both.

// What PostgreSQL's max_connections does not leave to the workers: 3 are for superusers, 7 for
// migrations, `manage`, backups and monitoring, 10 for the process of the jobs.
const CONNECTIONS_KEPT = 20;
// Shares of the longest request; the others inside of it are at most this share and their default.
const SCALED = ["statement", "command"];
const CAPPED = ["pool_wait", "lock", "connect", "peer"];
// They follow the longest request by the same distance as they do by default.
const SHIFTED = [
  "deadline", "idle_in_transaction", "proxy_read", "last_request", "drain", "graceful", "stop",
  "pod_stop", "nginx_shutdown", "nginx_stop",
];
// Not ours alone: shifted only when they have to be.
const SHIFTED_UP = ["balancer", "client_keepalive"];

function plan({ cores, memoryMib, replicas, maxConnections }) {
  const { capacity: c, settings: s } = TABLES;
  const budget = maxConnections - CONNECTIONS_KEPT;
  const needed = c.GENERATIONS * s.worker_memory_mib + s.worker_peak_memory_mib;
  const each = (pool) => (pool + c.LISTENING) * c.GENERATIONS;
  const rooms = {
    cores: cores < 1 ? 1 : Math.max(c.WORKERS_MIN, Math.floor(cores)),
    memory: Math.floor(Math.max(0, memoryMib - c.MASTER_MEMORY_MIB) / needed),
    connections: Math.floor(budget / (replicas * each(1))),
  };
  const workers = Math.max(1, Math.min(...Object.values(rooms)));
  const room = Math.floor(budget / (replicas * workers * c.GENERATIONS));
  const pool = Math.max(1, Math.min(room - c.LISTENING, c.POOL_SIZE_MAX));
  const connections = replicas * workers * each(pool);
  const shortages = Object.keys(rooms).filter((name) => rooms[name] < 1);
  return { budget, rooms, workers, pool, connections, shortages };
}

function timeoutsFor(longestSeconds) {
  const defaults = Object.fromEntries(
    Object.entries(TABLES.timeouts).map(([name, one]) => [name, one.default_seconds]),
  );
  const share = longestSeconds / defaults.deadline;
  const later = longestSeconds - defaults.deadline;
  const change = (names, changed) =>
    Object.fromEntries(names.map((name) => [name, changed(defaults[name])]));
  return {
    ...defaults,
    ...change(SCALED, (seconds) => round(seconds * share)),
    ...change(CAPPED, (seconds) => Math.min(seconds, round(seconds * share))),
    ...change(SHIFTED, (seconds) => seconds + later),
    ...change(SHIFTED_UP, (seconds) => seconds + Math.max(0, later)),
    // A whole number in the settings.
    peer: Math.min(defaults.peer, Math.floor(defaults.peer * share)),
  };
}

function round(seconds) {
  return Math.round(seconds * 10) / 10;
}

// Little's law: busy connections = requests per second x seconds that each holds one.
function requestsPerSecond(planned, replicas, heldMs) {
  return (replicas * planned.workers * planned.pool * 1000) / heldMs;
}

function filesFor(input, planned) {
  const timeouts = timeoutsFor(input.longestSeconds);
  const changed = (names) => names.filter(
    (name) => timeouts[name] !== TABLES.timeouts[name].default_seconds,
  );
  const settings = changed([
    "deadline", ...SCALED, ...CAPPED, "idle_in_transaction", "graceful", "balancer",
  ]).map((name) => `${TABLES.timeouts[name].name}=${timeouts[name]}`);
  const files = {
    ".env": [`REPLICAS=${input.replicas}`, `DATABASE_CONNECTION_BUDGET=${planned.budget}`,
      ...settings].join("\n"),
    "postgresql.conf": `max_connections = ${input.maxConnections}`,
  };
  if (!settings.length) return files;
  return {
    ...files,
    "deploy/nginx/http/proxy.conf": `proxy_read_timeout ${timeouts.proxy_read}s;`,
    "deploy/nginx/http/client.conf": `keepalive_timeout ${timeouts.client_keepalive}s;`,
    "deploy/nginx/nginx.conf": `worker_shutdown_timeout ${timeouts.nginx_shutdown}s;`,
    "compose.yaml, service": `stop_grace_period: ${timeouts.stop}s`,
    "compose.yaml, nginx": `stop_grace_period: ${timeouts.nginx_stop}s`,
    "app@.service": `TimeoutStopSec=${timeouts.stop}s`,
    "nginx.service": `TimeoutStopSec=${timeouts.nginx_stop}s`,
    "deployment.yaml":
      `terminationGracePeriodSeconds: ${timeouts.pod_stop + timeouts.app_pre_stop}`,
  };
}

const INPUTS = [
  ["cores", "Cores of each replica", 4, 0.1, 256, 0.1],
  ["memoryMib", "Memory of each replica, MiB", 4096, 64, 1048576, 1],
  ["replicas", "Replicas", 1, 1, 1000, 1],
  ["maxConnections", "max_connections of PostgreSQL", 100, 30, 10000, 1],
  ["longestSeconds", "Longest request, seconds", 25, 10, 3600, 1],
  ["heldMs", "A request holds a connection for, ms", 5, 0.1, 60000, 0.1],
];

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function table(title, head, rows) {
  const cells = (name, row) =>
    element("tr", {}, ...row.map((cell) => element(name, {}, String(cell))));
  return element("section", {}, element("h3", {}, title),
    element("div", { class: "md-typeset__scrollwrap" }, element("table", {},
      element("thead", {}, cells("th", head)),
      element("tbody", {}, ...rows.map((row) => cells("td", row))))));
}

function answer(input) {
  const planned = plan(input);
  const timeouts = timeoutsFor(input.longestSeconds);
  const rate = Math.floor(requestsPerSecond(planned, input.replicas, input.heldMs));
  const warnings = planned.shortages.map((name) => `There is no room for one worker: ${name}.`);
  if (planned.connections > planned.budget) {
    warnings.push(`${planned.connections} connections do not fit into ${planned.budget}.`);
  }
  const timed = (name) => `${TABLES.timeouts[name].name} ${timeouts[name]} s`;
  return [
    ...warnings.map((text) => element("p", { class: "warning" }, text)),
    table("The plan", ["what", "how many"], [
      ["workers of each replica", planned.workers],
      ["connections of each worker (pool)", planned.pool],
      ["connections at most, while all are replaced",
        `${planned.connections} of ${planned.budget}`],
      ["room for workers", Object.entries(planned.rooms)
        .map(([name, room]) => `${name} ${room}`).join(", ")],
      ["requests per second that the pools carry (Little's law)", rate.toLocaleString("en")],
    ]),
    table("Timeouts", ["ends first", "before", "or else"], TABLES.orders.map(
      (order) => [timed(order.shorter), timed(order.longer), order.why],
    )),
    element("p", {}, "Paste these; workers and pool are planned by the service itself."),
    ...Object.entries(filesFor(input, planned)).map(([name, text]) =>
      element("figure", {}, element("figcaption", {}, name),
        element("pre", {}, element("code", {}, text)))),
  ];
}

function start(place) {
  const fields = INPUTS.map(([name, label, value, min, max, step]) => element("label", {}, label,
    element("input", { name, type: "number", value, min, max, step, required: "" })));
  const form = element("form", {}, ...fields);
  const output = element("div", { "aria-live": "polite" });
  const show = () => {
    if (!form.checkValidity()) {
      output.replaceChildren(element("p", { class: "warning" }, "Each number has to be in range."));
      return;
    }
    const numbers = [...new FormData(form)].map(([name, value]) => [name, Number(value)]);
    output.replaceChildren(...answer(Object.fromEntries(numbers)));
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  place.replaceChildren(form, output);
  show();
}

document.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("capacity-form");
  if (place) start(place);
});
