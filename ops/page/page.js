// The live page: what it shows comes from the feed's own HTTP; a click is a real click through Kafka.
// Text of others only ever becomes textContent.

const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const KEPT = 90; // seconds that a chart shows
const WINDOW = 10; // seconds that a rate is of

let user = null;
let stream = null;
let listed = new Set();
let recent = new Set(); // what was listed before the last click
let overviews = [];
let [asked, answered] = [0, 0]; // questions for the user's clicks: an older answer does not replace a newer one

function element(name, text = "", kind = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function shape(name, attributes, text = "") {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

// -- the list -------------------------------------------------------------------------------------------------

function follow(id) {
  if (stream) stream.close();
  user = id;
  listed = new Set();
  recent = new Set();
  $("user").value = id;
  $("who").textContent = id;
  $("list").replaceChildren();
  $("clicks").replaceChildren();
  stream = new EventSource(`/users/${encodeURIComponent(id)}/stream`);
  stream.addEventListener("list", (event) => show(JSON.parse(event.data)));
  stream.onerror = () => { $("state").textContent = "The connection is away; trying again…"; };
}

function show(made) {
  const before = listed;
  listed = new Set(made.items.map((item) => item.item_id));
  for (const id of before) recent.add(id);
  const fresh = before.size ? made.items.filter((item) => !before.has(item.item_id)) : [];
  const where = made.personal && made.layer ? `In layer ${made.layer.id}, ${made.layer.label}.` : "";
  $("state").textContent = made.personal
    ? `${where} Made ${new Date(made.generated_at).toLocaleTimeString()}. Click an item: it is a real click.`
    : "Nothing is known of this user: this is what everybody likes. Click an item to change that.";
  $("news").textContent = before.size ? `List refreshed, ${fresh.length} new` : "";
  const focused = document.activeElement?.dataset?.item;
  const place = [...$("list").children].findIndex((row) => row.contains(document.activeElement));
  const news = new Set(fresh.map((item) => item.item_id));
  $("list").replaceChildren(...made.items.map((item, n) => row(item, n, news.has(item.item_id))));
  if (place >= 0) { // the keyboard stays where it was: on the item, or else on its place
    const rows = [...$("list").querySelectorAll("button")];
    (rows.find((one) => one.dataset.item === focused) ?? rows[Math.min(place, rows.length - 1)])?.focus();
  }
  clicks();
}

function row(item, n, fresh) {
  const line = element("li", "", fresh ? "fresh" : "");
  const button = element("button");
  button.type = "button";
  button.dataset.item = item.item_id;
  const title = element("span", item.title, "title");
  if (fresh) title.append(" ", element("span", "new", "badge"));
  button.append(element("span", `${n + 1}`, "place"), title, element("span", item.score.toFixed(2), "score"));
  const parts = Object.entries(item.reason.parts).filter(([, part]) => Math.abs(part) >= 0.005);
  const shares = parts.sort((a, b) => b[1] - a[1]).map(([name, part]) => `${name} ${part.toFixed(2)}`).join(" · ");
  button.append(element("span", item.reason.text + (shares ? ` (${shares})` : ""), "why"));
  button.addEventListener("click", () => click(item));
  line.append(button);
  return line;
}

async function click(item) {
  $("news").textContent = `Clicked ${item.title}`;
  try {
    const answer = await fetch("/clicks", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ user_id: user, item_id: item.item_id, ts: Date.now(), event: "view" }),
    });
    if (!answer.ok) $("state").textContent = (await answer.json()).detail;
  } catch {
    $("state").textContent = "The click did not get through; try again.";
  }
}

// profiles reach the feed by another topic than lists, perhaps a little later: so each look asks again
async function clicks() {
  const [id, question] = [user, ++asked];
  const found = await ask(`/live/users/${encodeURIComponent(id)}`);
  if (!found || id !== user || question < answered) return;
  answered = question;
  $("clicks").replaceChildren(...found.clicks.map((one) => {
    const line = element("li");
    const hit = recent.has(one.item_id);
    line.append(element("span", (hit ? "✓ " : "") + one.title, hit ? "hit" : ""), element("span", ago(one.ts), "when"));
    return line;
  }));
  if (!found.clicks.length) $("clicks").append(element("li", "Nothing yet", "quiet"));
}

function ago(ts) {
  const s = Math.max(0, Math.round((Date.now() - ts) / 1000));
  return s < 90 ? `${s} s ago` : s < 5400 ? `${Math.round(s / 60)} min ago` : s < 129600 ? `${Math.round(s / 3600)} h ago` : `${Math.round(s / 86400)} d ago`;
}

// -- all users ------------------------------------------------------------------------------------------------

async function ask(path) {
  try {
    const answer = await fetch(path);
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

async function look() {
  if (document.hidden) return;
  const seen = await ask("/live/overview");
  if (!seen) return;
  overviews.push(seen);
  overviews = overviews.filter((one) => one.at > seen.at - 1000 * (KEPT + WINDOW));
  if (!user && seen.named && seen.users.length) follow(someone(seen));
  if (user) clicks();
  const names = seen.named ? seen.users.slice(0, 50).map((one) => one.id) : [];
  $("users").replaceChildren(...names.map((name) => Object.assign(document.createElement("option"), { value: name })));
  draw(seen);
  charts();
}

function someone(seen) {
  const some = seen.users.slice(0, 20);
  return some[Math.floor(Math.random() * some.length)].id;
}

function draw(seen) {
  const map = $("map");
  const dots = new Map([...map.querySelectorAll(".one")].map((dot) => [dot.dataset.user, dot]));
  map.querySelectorAll(".layer, text").forEach((old) => old.remove());
  for (const layer of [...seen.layers].sort((a, b) => b.size - a.size)) {
    const [x, y] = [100 * layer.x, -95 * layer.y];
    map.prepend(shape("circle", { cx: x, cy: y, r: 6 + 38 * Math.sqrt(layer.size), class: "layer" }));
    map.append(shape("text", { x, y: y + 2 }, layer.id));
  }
  const now = new Set();
  seen.users.filter((one) => one.place && seen.named).forEach((one) => {
    now.add(one.id);
    let dot = dots.get(one.id);
    if (!dot) {
      dot = shape("circle", { class: "one" });
      dot.dataset.user = one.id;
      map.append(dot);
    }
    const followed = one.id === user;
    dot.classList.toggle("followed", followed);
    const spread = (v, most) => most * Math.tanh(v);
    dot.setAttribute("cx", spread(one.place[0], 115));
    dot.setAttribute("cy", -spread(one.place[1], 100));
    dot.setAttribute("r", followed ? 4 : 1.8);
  });
  for (const [id, dot] of dots) if (!now.has(id)) dot.remove();
  $("layers").replaceChildren(...[...seen.layers].sort((a, b) => b.size - a.size).map((layer) => {
    const line = element("li");
    line.append(element("span", `${layer.id}  ${layer.label}`), element("span", `${Math.round(100 * layer.size)} %`, "when"));
    const moved = layer.joined === null ? "" : `of its users ${percent(layer.joined)} came lately, ${percent(layer.left)} went; `;
    if (layer.since) line.title = `${moved}began ${ago(layer.since)}`;
    return line;
  }));
}

function percent(share) {
  return `${(100 * share).toFixed(1)} %`;
}

function charts() {
  const points = [];
  for (const seen of overviews) {
    const before = overviews.find((one) => one.at >= seen.at - 1000 * WINDOW);
    if (before === seen) continue;
    const [a, b] = [before.figures, seen.figures];
    points.push({
      lists: (1000 * (b.lists - a.lists)) / (seen.at - before.at),
      p50: quantile(a.freshness, b.freshness, 0.5),
      p99: quantile(a.freshness, b.freshness, 0.99),
      hits: b.updaters.hits ?? {},
      lag: b.updaters.lag,
    });
  }
  const last = points.at(-1);
  if (!last) return;
  const updaters = overviews.at(-1).figures.updaters;
  const ms = (s) => (s === null ? "–" : s < 1 ? `${Math.round(1000 * s)} ms` : `${s.toFixed(1)} s`);
  const arms = Object.entries(last.hits);
  chart("lists", [points.map((p) => p.lists)], last.lists.toFixed(1));
  chart("fresh", [points.map((p) => p.p50), points.map((p) => p.p99)], `${ms(last.p50)} / ${ms(last.p99)}`,
    last.p50 === null ? `no new click was answered in the last ${WINDOW} s` : "");
  chart("hits", arms.slice(0, 2).map(([arm]) => points.map((p) => p.hits[arm] ?? null)),
    arms.map(([arm, rate]) => `${arm} ${(100 * rate).toFixed(1)} %`).join(", ") || "–",
    updaters.missing || (arms.length ? updaters.over : "nobody who has a list has clicked"));
  chart("lag", [points.map((p) => p.lag)], ms(last.lag),
    updaters.missing || (last.lag === null ? "nothing was read yet" : ""));
}

// of what came between two states of a histogram, inside a bucket in proportion
function quantile(a, b, q) {
  const old = new Map(a);
  const buckets = b.map(([le, count]) => [le === "+Inf" ? Infinity : Number(le), count - (old.get(le) ?? 0)]);
  const total = buckets.at(-1)?.[1] ?? 0;
  if (!total) return null;
  let [from, below] = [0, 0];
  for (const [le, count] of buckets) {
    if (count >= q * total) return le === Infinity ? from : from + ((le - from) * (q * total - below)) / Math.max(1e-9, count - below);
    [from, below] = [le, count];
  }
  return from;
}

// what is missing is said, and no empty chart is drawn
function chart(name, lines, value, note = "") {
  const figure = document.querySelector(`[data-chart="${name}"]`);
  figure.querySelector(".value").textContent = value;
  figure.querySelector(".note").textContent = note;
  figure.classList.toggle("missing", !lines.flat().some((y) => y !== null));
  const most = Math.max(1e-9, ...lines.flat().filter((y) => y !== null));
  figure.querySelector("svg").replaceChildren(...lines.map((line, n) => {
    const step = 240 / KEPT;
    const points = line.map((y, i) => (y === null ? "" : `${(240 - step * (line.length - 1 - i)).toFixed(1)},${(53 - (48 * y) / most).toFixed(1)}`));
    return shape("polyline", { points: points.filter(Boolean).join(" "), class: n ? "second" : "first" });
  }));
}

$("choose").addEventListener("submit", (event) => {
  event.preventDefault();
  const id = $("user").value.trim();
  if (id) follow(id);
});
$("random").addEventListener("click", () => {
  const seen = overviews.at(-1);
  if (seen?.named && seen.users.length) follow(someone(seen));
});
look();
setInterval(look, 1000);
