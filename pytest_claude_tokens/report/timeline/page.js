"use strict";
// Draws the history that stands in the page. Only what is in view is drawn: a history may have 60,000 events.

const history_ = JSON.parse(document.getElementById("history").textContent);
const { events, ops, lanes, violations, gaps, holds } = history_;
const [SEQ, TIME, LANE, KIND, TEXT, OP, CHANGES] = [0, 1, 2, 3, 4, 5, 6];
const [O_LANE, O_FROM, O_TO, O_OUTCOME, O_TEXT, O_QUEUED, O_SOURCE, O_SEQ] = [0, 1, 2, 3, 4, 5, 6, 7];
const HEAD = 24, ROW = 28, AROUND = 12, LISTED = 40;
const DEAD = ["spent", "expired", "revoked", "replaced"];

const by = (id) => document.getElementById(id);
const picture = by("picture"), field = by("field"), drawing = by("drawing"), list = by("lanes"), slider = by("step");
const guilty = new Map();  // a request's index -> its violation's
violations.forEach((violation, index) => violation.ops.forEach((op) => guilty.has(op) || guilty.set(op, index)));

let step = 0, chosen = 0, width = 24, printed = null;

// Elements. Text goes in as text, never as markup.

function put(parent, name, attributes = {}, text = "") {
  const svg = parent.namespaceURI === drawing.namespaceURI;
  const made = svg ? document.createElementNS(drawing.namespaceURI, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== "") made.textContent = text;
  parent.append(made);
  return made;
}

function empty(id) {
  const element = by(id);
  element.replaceChildren();
  return element;
}

// Places.

const left = () => (printed ? 8 : list.offsetWidth + 8);
const x = (place) => left() + (place + 0.5) * width;
const y = (lane) => HEAD + lane * ROW;
const seconds = (t) => `${t < 0 ? "-" : "+"}${Math.abs(t).toFixed(3)}`;

/** The part of the field that is in view, in pixels, and the places of the events in it. */
function view() {
  if (printed) return printed;
  const from = picture.scrollLeft, size = picture.clientWidth;
  const first = Math.max(0, Math.floor((from - left()) / width) - 1);
  const last = Math.min(events.length - 1, Math.ceil((from + size - left()) / width) + 1);
  return { from, size, first, last, top: picture.scrollTop, height: picture.clientHeight };
}

// The picture.

function draw() {
  const seen = view(), height = HEAD + lanes.length * ROW + 4;
  field.style.width = printed ? `${seen.size}px` : `${left() + (events.length + 1) * width}px`;
  field.style.height = `${height}px`;
  drawing.style.left = printed ? "0" : `${seen.from}px`;
  drawing.setAttribute("width", seen.size);
  drawing.setAttribute("height", height);
  drawing.setAttribute("viewBox", `${seen.from} 0 ${seen.size} ${height}`);
  drawGround(seen, height);
  drawMarks(seen, height);
  drawBars(seen);
  drawArcs();
  drawCursor(height);
}

function drawGround(seen, height) {
  const ground = empty("ground");
  lanes.forEach((lane, number) => {
    if (number % 2 === 0 && isTall(number, seen)) {
      put(ground, "rect", { class: "lane", x: seen.from, y: y(number), width: seen.size, height: ROW });
    }
    if (printed) put(ground, "text", { class: "axis", x: seen.from + 2, y: y(number) + 9 }, lane[0]);
  });
  const every = Math.max(1, Math.ceil(110 / width));
  for (let place = seen.first; place <= seen.last; place++) {
    if (place % every) continue;
    put(ground, "text", { class: "axis", x: x(place), y: 14 }, `#${events[place][SEQ]} ${seconds(events[place][TIME])}`);
  }
  for (const [place, size] of gaps) {
    if (place < seen.first || place > seen.last + 1) continue;
    const at = x(place - 0.5);
    const line = put(ground, "line", { class: "gap", x1: at, x2: at, y1: HEAD, y2: height });
    put(line, "title", {}, `${size} events left out`);
  }
}

const isTall = (lane, seen) => printed !== null || (y(lane) + ROW >= seen.top && y(lane) <= seen.top + seen.height);

function drawMarks(seen, height) {
  const marks = empty("marks");
  for (let place = seen.first; place <= seen.last; place++) {
    const [, , lane, kind, text] = events[place];
    if (["invoke", "ok", "fail", "info"].includes(kind)) continue;
    const mark = put(marks, "g", { class: kind });
    if (kind === "rotation" || kind === "revocation") {
      put(mark, "line", { x1: x(place), x2: x(place), y1: HEAD, y2: height });
    }
    put(mark, "circle", { class: `dot ${kind}`, cx: x(place), cy: y(lane) + ROW / 2, r: 4 });
    put(mark, "title", {}, `#${events[place][SEQ]} ${text}`);
  }
}

function drawBars(seen) {
  const bars = empty("bars");
  ops.forEach((op, index) => {
    if (op[O_FROM] > seen.last + 1 || op[O_TO] < seen.first - 1 || !isTall(op[O_LANE], seen)) return;
    drawBar(put(bars, "g", { "data-op": op[O_SEQ] }), op, index, seen);
  });
  for (const hold of holds) drawHold(bars, hold, seen);
}

function drawHold(bars, [lane, from, to, worker, at], seen) {
  if (from > seen.last + 1 || to < seen.first - 1 || !isTall(lane, seen)) return;
  const left = Math.max(x(from), seen.from - 20), right = Math.min(x(to), seen.from + seen.size + 20);
  const group = put(bars, "g"), high = y(lane) + 7;
  put(group, "rect", { class: "bar lease", x: left, y: high, width: Math.max(3, right - left), height: ROW - 14, rx: 2 });
  put(group, "title", {}, `held by ${worker}${at ? ` (${at})` : ""}`);
  put(group, "text", { class: "on-bar", x: left + 4, y: high + 11 }, worker);
}

function drawBar(group, op, index, seen) {
  const from = Math.max(x(op[O_FROM]), seen.from - 20), to = Math.min(x(op[O_TO]), seen.from + seen.size + 20);
  // An unknown outcome has no known end: its bar fades away beyond the event that says so.
  const tail = op[O_OUTCOME] === "info" ? Math.max(width, 24) : 0;
  const high = y(op[O_LANE]) + 5, size = { y: high, height: ROW - 10, rx: 2 };
  const at = guilty.has(index) ? " guilty" : "";
  put(group, "rect", { class: `bar ${op[O_OUTCOME]}${at}`, x: from, width: Math.max(3, to - from + tail), ...size });
  if (op[O_QUEUED] > op[O_FROM]) {
    const until = Math.min(x(op[O_QUEUED]), to);
    put(group, "rect", { class: `bar queued${at}`, x: from, width: Math.max(2, until - from), ...size });
  }
  const outcome = op[O_OUTCOME] === "open" ? "never ended" : op[O_OUTCOME];
  put(group, "title", {}, `#${op[O_SEQ]} ${op[O_TEXT]}: ${outcome}${op[O_SOURCE] ? ` (${op[O_SOURCE]})` : ""}`);
  const room = Math.floor((to - from - 6) / 6.7);
  const words = op[O_TEXT].length <= room ? op[O_TEXT] : op[O_TEXT].split(" ").pop();
  if (words.length <= room) put(group, "text", { class: "on-bar", x: from + 4, y: high + 13 }, words);
  group.addEventListener("click", () => go(Math.max(0, Math.ceil(op[O_FROM]))));
}

/** Joins the requests at fault of the chosen violation, the first with each later one. */
function drawArcs() {
  const arcs = empty("arcs"), found = violations[chosen];
  if (!found || found.ops.length < 2) return;
  const [first, ...others] = found.ops.map((index) => ops[index]);
  for (const again of others) {
    const [x1, y1, x2, y2] = [x(first[O_FROM]), y(first[O_LANE]) + ROW / 2, x(again[O_FROM]), y(again[O_LANE]) + ROW / 2];
    const bend = y1 === y2 ? y1 - ROW : (y1 + y2) / 2;
    put(arcs, "path", { class: "arc", d: `M ${x1} ${y1} C ${x1} ${bend}, ${x2} ${bend}, ${x2} ${y2}` });
    put(arcs, "circle", { class: "dot kill", cx: x2, cy: y2, r: 4 });
  }
  put(arcs, "circle", { class: "dot kill", cx: x(first[O_FROM]), cy: y(first[O_LANE]) + ROW / 2, r: 4 });
}

function drawCursor(height) {
  const cursor = empty("cursor");
  if (!events.length) return;
  put(cursor, "line", { class: "step", x1: x(step), x2: x(step), y1: 16, y2: height });
  put(cursor, "path", { class: "step-head", d: `M ${x(step) - 5} 16 h 10 l -5 7 z` });
}

// The state after the event of this step. Changes are summed up from the start, or from where the last step was.

let told = -1, tokens = new Map(), stores = new Map();

function stateAt(place) {
  if (place < told) [told, tokens, stores] = [-1, new Map(), new Map()];
  for (told++; told <= place; told++) {
    for (const [name, state, holder, expires] of events[told][CHANGES]) {
      const known = name.startsWith("store ") ? stores : tokens;
      const before = known.get(name) || {};
      known.delete(name);  // what changed last stands last
      known.set(name, {
        state: state ?? before.state ?? "?", holder: holder ?? before.holder, expires: expires ?? before.expires, at: told,
      });
    }
  }
  told = place;
}

function wordFor(token, t) {
  return token.state === "live" && token.expires != null && token.expires <= t ? "expired" : token.state;
}

function showState() {
  const now = events[step], rows = empty("tokens").appendChild(document.createElement("tbody"));
  stateAt(step);
  const known = [...tokens].reverse();
  const listed = known.filter(([, token], index) => index < LISTED || !DEAD.includes(wordFor(token, now[TIME]))).slice(0, 5 * LISTED);
  for (const [name, token] of listed) {
    const state = wordFor(token, now[TIME]);
    const row = put(rows, "tr", { class: `${state.split(",")[0]}${token.at === step ? " changed" : ""}` });
    put(row, "td", {}, name);
    put(row, "td", {}, state + (token.holder ? `, got by ${token.holder}` : ""));
  }
  if (listed.length < known.length) put(put(rows, "tr"), "td", { colspan: 2 }, `and ${known.length - listed.length} more`);
  const shelf = empty("stores").appendChild(document.createElement("tbody"));
  for (const [name, store] of stores) {
    const row = put(shelf, "tr", { class: store.at === step ? "changed" : "" });
    put(row, "td", {}, name.slice("store ".length));
    put(row, "td", {}, store.state);
  }
  showOpen();
}

function showOpen() {
  const rows = empty("open").appendChild(document.createElement("tbody"));
  const under = ops.filter((op) => op[O_FROM] <= step && step < op[O_TO]);
  for (const op of under.slice(0, LISTED)) {
    const row = put(rows, "tr");
    put(row, "td", {}, `#${op[O_SEQ]} ${lanes[op[O_LANE]][0]}`);
    put(row, "td", {}, op[O_TEXT] + (op[O_SOURCE] ? ` (${op[O_SOURCE]})` : ""));
  }
  if (under.length > LISTED) put(put(rows, "tr"), "td", { colspan: 2 }, `and ${under.length - LISTED} more`);
}

function showEvents() {
  const body = by("events").tBodies[0];
  body.replaceChildren();
  const first = Math.max(0, Math.min(step - AROUND, events.length - 2 * AROUND - 1));
  for (let place = first; place < Math.min(events.length, first + 2 * AROUND + 1); place++) {
    const event = events[place];
    const kind = `${place === step ? "current" : ""}${guilty.has(event[OP]) && event[KIND] !== "note" ? " guilty" : ""}`;
    const row = put(body, "tr", { class: kind.trim() });
    for (const text of [`#${event[SEQ]}`, seconds(event[TIME]), lanes[event[LANE]][0], event[TEXT]]) put(row, "td", {}, text);
    row.addEventListener("click", () => go(place));
  }
}

// Steps.

function go(place) {
  if (!events.length) return;
  step = Math.max(0, Math.min(events.length - 1, place));
  slider.value = step;
  const now = events[step];
  by("now").textContent = `event ${step + 1} of ${events.length}: #${now[SEQ]} ${seconds(now[TIME])} s, ${lanes[now[LANE]][0]}: ${now[TEXT]}`;
  slider.setAttribute("aria-valuetext", by("now").textContent);
  by("first").disabled = by("back").disabled = step === 0;
  by("last").disabled = by("forward").disabled = step === events.length - 1;
  const at = x(step), margin = Math.min(3 * width, picture.clientWidth / 4);
  if (at < picture.scrollLeft + left() + margin || at > picture.scrollLeft + picture.clientWidth - margin) {
    picture.scrollLeft = at - (picture.clientWidth + left()) / 2;
  }
  showState();
  showEvents();
  draw();
}

/** Shows the violation after the one that is shown; the first time, the first. */
let jumped = false;
function jump() {
  if (!violations.length) return;
  chosen = jumped ? (chosen + 1) % violations.length : 0;
  jumped = true;
  const lane = ops[violations[chosen].ops.at(-1)]?.[O_LANE] ?? 0;
  if (!isTall(lane, view())) picture.scrollTop = y(lane) - ROW;
  go(violations[chosen].at);
}

function zoom(factor) {
  const middle = x(step) - picture.scrollLeft;
  width = Math.max(2, Math.min(160, width * factor));
  draw();
  picture.scrollLeft = x(step) - middle;
  draw();
}

const KEYS = {
  ArrowLeft: (many) => go(step - many), ArrowRight: (many) => go(step + many),
  Home: () => go(0), End: () => go(events.length - 1), v: jump, V: jump,
  "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5),
};

document.addEventListener("keydown", (event) => {
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();  // of the slider, too, which would step a second time
  act(event.shiftKey ? 10 : 1);
});
for (const [id, key] of [["first", "Home"], ["back", "ArrowLeft"], ["forward", "ArrowRight"], ["last", "End"], ["jump", "v"], ["narrow", "-"], ["wide", "+"]]) {
  by(id).addEventListener("click", () => KEYS[key](1));
}
slider.addEventListener("input", () => go(Number(slider.value)));
let waiting = 0;
const later = () => { waiting = waiting || requestAnimationFrame(() => { waiting = 0; draw(); }); };
picture.addEventListener("scroll", later);
addEventListener("resize", later);

// On paper nothing scrolls: the events around this step, as many as a page is wide.
addEventListener("beforeprint", () => {
  const size = 1000, room = Math.floor((size - 16) / width);
  const first = Math.max(0, Math.min(step - Math.floor(room / 2), events.length - room));
  printed = { from: 0, size, first, last: Math.min(events.length - 1, first + room - 1), top: 0, height: Infinity };
  printed.from = x(first - 0.5) - 8;
  draw();
  list.hidden = true;
});
addEventListener("afterprint", () => { printed = null; list.hidden = false; draw(); });

// The start.

by("app").hidden = false;
for (const [name, kind] of lanes) put(list, "li", { class: kind, title: name }, name);
slider.max = Math.max(0, events.length - 1);
by("jump").disabled = !violations.length;
width = Math.max(14, Math.min(64, (picture.clientWidth - left() - 16) / Math.max(1, events.length)));
if (history_.start !== null) go(history_.start); else if (violations.length) jump(); else go(0);
document.documentElement.dataset.ready = "";
