// The fleet: counts that filter, the filter box, groups, a table (and a map when there are many), what changed.
import { $, fill, h } from "../dom.js";
import { get } from "../api.js";
import { livePage, empty } from "../page.js";
import { left, seen, time, unseen, words } from "../format.js";
import { filterOf } from "../filter.js";
import { agentPage, at, eventPage, incidentPage, isPast, run, stay, here, setQuery, twin } from "../moment.js";
import { agentLink, incidentLink, table } from "../parts.js";
import { on } from "../stream.js";
import { timeTravel } from "../travel.js";
import { announce } from "../announcing.js";
import { ORDER, severity, severityTone, state, STATES } from "../words.js";
import { drawMap } from "../map.js";

const TILES = 60;
const ROWS = 24; // a row of the table is some thirty nodes
const MANY = 300;
const SIGNS = { good: "✓", warn: "▲", bad: "✚", plain: "◔" };
let rows = [];
let byId = new Map();
let stats = null;
let loaded = false;

const filter = $("#filter");
const group = $("#group");
filter.value = here().get("q") ?? "";
group.value = here().get("group") ?? "";
let perLeaf = TILES;
let leafNumber = Number(here().get("page")) || 1;
const turn = (changes) => { leafNumber = 1; setQuery({ page: "", ...changes }); draw(); };
filter.addEventListener("input", () => turn({ q: filter.value.trim() }));
const view = $("#view");
view.value = here().get("view") ?? "";
view.addEventListener("change", () => { setQuery({ view: view.value }); draw(); });
group.addEventListener("change", () => turn({ group: group.value }));

const COLUMNS = [
  { head: "Agent", cell: (row) => agentLink(row.id) },
  { head: "State", cell: (row) => state(row.state) },
  { head: "Severity", figure: true, cell: (row) => severity(row.severity) },
  { head: "Type", cell: (row) => row.type || "–" },
  { head: "Service", narrow: true, cell: (row) => row.service || "–" },
  { head: "Tier", narrow: true, figure: true, cell: (row) => row.tier ?? "–" },
  { head: "Doing", narrow: true, cell: (row) => [row.plan === "none" ? "" : row.plan.replaceAll("_", " "), row.desired !== row.observed ? h("span.tone-bad", {}, ` NOT ${row.desired}`) : ""] },
  { head: "Incident", narrow: true, cell: (row) => incidentLink(row.incident) ?? "–" },
  { head: "Last seen", cell: seen },
];

const RANK = Object.fromEntries(ORDER.map((word, place) => [word, place]));

function worstFirst(a, b) {
  return b.severity - a.severity || RANK[a.state] - RANK[b.state] || (a.id < b.id ? -1 : 1);
}

// however much happens, a page is drawn once a frame
let due = 0;
function drawSoon() {
  due ||= requestAnimationFrame(() => {
    due = 0;
    draw();
  });
}

function draw() {
  if (!loaded) return; // what is not known yet is not nothing
  const begun = performance.now();
  drawAll();
  if (performance.getEntriesByName("fleet-drawn").length > 50) performance.clearMeasures("fleet-drawn");
  if (rows.length) performance.measure("fleet-drawn", { start: begun });
}

function drawAll() {
  const wanted = filterOf(filter.value);
  rows.sort(worstFirst); // nearly sorted already, so this is cheap
  const shown = filter.value.trim() ? rows.filter(wanted) : rows;
  drawCounts();
  drawSummary();
  for (const [id, format] of [["#as-csv", "csv"], ["#as-json", "json"]]) $(id).href = twin("/api/agents", { format, q: filter.value.trim() });
  if (!rows.length) return fill($("#agents"), empty("No agents yet: run ", h("code", {}, "python demo.py"), " or send vitals to the daemon."));
  const groups = group.value ? grouped(shown) : [["", shown]];
  const listed = rows.length > MANY || view.value === "table";
  view.parentElement.hidden = rows.length > MANY; // so many are a map and a table
  perLeaf = listed ? ROWS : TILES;
  const list = listed ? (members) => table({ caption: "Agents, the most severe first", columns: COLUMNS, rows: members, key: (row) => row.id }) : tiles;
  const mapped = rows.length > MANY || view.value === "map";
  $("#map").hidden = !mapped;
  if (mapped) drawMap($("#map"), groups, { open: (row) => location.assign(agentPage(row.id)) });
  leafNumber = Math.min(Math.max(1, leafNumber), Math.ceil(shown.length / perLeaf) || 1);
  fill(
    $("#agents"),
    shown.length ? leaf(groups).map(([name, members, all]) => [name ? h("h3", { dataset: { key: `group-${name}` } }, `${name} (${all})`) : null, list(members)]) : empty("No agent fits this filter."),
    shown.length > perLeaf ? pager(shown.length) : null,
  );
}

/** The part of the groups that this page of the list shows: [[name, members shown, members in all]]. */
function leaf(groups) {
  let from = (leafNumber - 1) * perLeaf;
  let room = perLeaf;
  const found = [];
  for (const [name, members] of groups) {
    const part = members.slice(from, from + room);
    from = Math.max(0, from - members.length);
    room -= part.length;
    if (part.length) found.push([name, part, members.length]);
  }
  return found;
}

function pager(total) {
  const pages = Math.ceil(total / perLeaf);
  const go = (to) => () => { leafNumber = to; setQuery({ page: to > 1 ? to : "" }); draw(); };
  const button = (label, to) => h("button", { type: "button", dataset: { key: label, means: `${label}${to}`, act: label }, "aria-disabled": to < 1 || to > pages ? "true" : null, onclick: () => to >= 1 && to <= pages && go(to)() }, label);
  return h("nav.bar.pager", { "aria-label": "Pages of the list", dataset: { key: "pager" } }, button("First", leafNumber > 1 ? 1 : 0), button("Before", leafNumber - 1), h("span.quiet", { role: "status" }, `${(leafNumber - 1) * perLeaf + 1} to ${Math.min(total, leafNumber * perLeaf)} of ${total}${group.value ? "" : ", the most severe first"}`), button("Next", leafNumber + 1), button("Last", leafNumber < pages ? pages : pages + 1));
}

const notInForce = (row) => row.desired !== row.observed;
const doing = (row) => (notInForce(row) ? h("strong.tone-bad", {}, `NOT ${row.desired}: ${row.observed} in force`) : row.plan === "none" ? null : h("span", {}, words(row.plan)));

const tiles = (members) => h("ul.tiles", {}, members.map(tile));

function tile(row) {
  const [icon, tone] = STATES[row.state] ?? ["·", "plain"];
  const worry = severityTone(row.severity);
  return h(
    "li.tile",
    { class: `is-${tone}`, dataset: { key: row.id, row: "" } },
    h("span.sign", { "aria-hidden": "true" }, icon),
    h("div", {}, h("a.name", { href: agentPage(row.id) }, row.id), h("div.kind", {}, [row.type, row.service].filter(Boolean).join(" · ") || "no type yet")),
    h("div.number", { class: row.severity ? `tone-${worry}` : "quiet" }, row.severity ? row.severity.toFixed(1) : "0", h("small", {}, "severity")),
    row.severity ? h("progress", { class: `tone-${worry}`, max: 10, value: row.severity, "aria-hidden": "true" }) : null,
    h("div.more", {}, h("span", { class: `tone-${tone}` }, row.state, h("span", { class: row.tier === null ? "quiet" : null }, `, tier ${row.tier ?? "–"}`)), doing(row), incidentLink(row.incident), h("span.quiet", {}, unseen(row) ? "not seen yet" : ["seen ", seen(row)])),
  );
}

const several = (count, one, more) => (count ? `${count} ${count === 1 ? one : more}` : null);

/** One sentence: what is sick, what is held, what waits. */
function drawSummary() {
  const count = (holds) => rows.filter(holds).length;
  const broken = count(notInForce);
  const sick = count((row) => row.health === "sick");
  const suspected = count((row) => row.health === "suspected");
  const held = count((row) => row.observed !== "none");
  const silent = count((row) => row.liveness === "silent");
  const learning = count((row) => row.health === "learning" && row.liveness !== "retired");
  const judged = count((row) => row.liveness !== "retired") - learning;
  const waiting = stats?.approvals.pending ?? 0;
  const parts = [several(broken, "block is NOT in force", "blocks are NOT in force"), several(sick, "agent is sick", "agents are sick"), several(held, "is contained", "are contained"), several(suspected, "is suspected", "are suspected"), several(silent, "is silent", "are silent"), several(waiting, "decision waits for you", "decisions wait for you")].filter(Boolean);
  const tone = broken || sick ? "bad" : parts.length ? "warn" : judged ? "good" : "plain";
  const open = stats?.incidents.open ?? 0;
  const when = at() ? "At that moment: " : run() || stats?.ended_at ? "At the end of the run: " : "";
  const say = (text) => h("h1", {}, when ? when + text : text[0].toUpperCase() + text.slice(1));
  const quietly = learning ? `${judged ? `${judged} ${judged === 1 ? "agent is" : "agents are"} well, ` : ""}${several(learning, "agent is", "agents are")} being learned and not judged yet` : open ? `all agents are well, ${several(open, "incident is", "incidents are")} still open` : `all ${judged} agents are well`;
  fill(
    $("#summary"),
    h("span.sign", { class: `tone-${tone}`, "aria-hidden": "true" }, SIGNS[tone]),
    h("div", {}, say(parts.length ? `${parts.join(", ")}.` : rows.length ? `${quietly}.` : "No agents yet."), stats && rows.length ? h("p", {}, `${several(stats.incidents.total, "incident", "incidents") ?? "no incidents"} so far, ${stats.plans.verified} of ${stats.plans.total} plans verified`, stats.approvals.next_expiry_at && waiting ? [", next answer due: ", left(stats.approvals.next_expiry_at)] : "", stats.source ? `. ${stats.source}` : "") : null),
    waiting && !isPast() ? h("a.button.primary.go", { href: stay("/approvals"), dataset: { key: "go" } }, "Decide now") : null,
  );
  $("#summary").className = `summary is-${tone}`;
}

function grouped(shown) {
  const groups = new Map();
  for (const row of shown) {
    const name = String(row[group.value] ?? "") || "none";
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push(row);
  }
  return [...groups].sort(([a], [b]) => (a < b ? -1 : 1));
}

function drawCounts() {
  const counts = new Map();
  for (const row of rows) counts.set(row.state, (counts.get(row.state) ?? 0) + 1);
  const chosen = /(?:^| )state:(\S+)/.exec(filter.value)?.[1] ?? "";
  const press = (word) => {
    const rest = filter.value.replace(/(?:^| )state:\S+/, "").trim();
    filter.value = word && word !== chosen ? `${rest} state:${word}`.trim() : rest;
    filter.dispatchEvent(new Event("input"));
  };
  fill(
    $("#counts"),
    h("button", { type: "button", dataset: { key: "all", means: `all${chosen}` }, "aria-pressed": String(!chosen), onclick: () => press("") }, h("strong", {}, rows.length), " agents"),
    ORDER.filter((word) => counts.has(word)).map((word) => h("button", { type: "button", dataset: { key: word, means: word + chosen }, "aria-pressed": String(chosen === word), onclick: () => press(word) }, h("strong", {}, counts.get(word)), " ", state(word))),
  );
}

function take(found) {
  rows = found.agents;
  loaded = true;
  byId = new Map(rows.map((row) => [row.id, row]));
  draw();
}

// news bring the lines that changed; nothing is asked for again
on("change", (news) => {
  stats = news.stats ?? stats;
  for (const row of news.agents) {
    const known = byId.get(row.id);
    if (known) Object.assign(known, row);
    else {
      rows.push(row);
      byId.set(row.id, row);
    }
  }
  drawSoon();
  changesSoon();
});
on("beat", (news) => {
  if (!news.seen_us) return;
  for (const [id, at_us] of Object.entries(news.seen_us)) if (byId.has(id)) byId.get(id).last_seen = new Date(at_us / 1000).toISOString();
  drawSoon();
});

let asked = 0;
function changesSoon() {
  asked ||= setTimeout(() => {
    asked = 0;
    changes();
  }, 150);
}

const MARKS = { bad: "✚ ", warn: "▲ ", good: "✓ " };

// an incident that is told again and again is one line, as it was told last
function folded(changes) {
  const groups = new Map();
  for (const one of changes) {
    const name = one.kind === "incident_updated" ? `${one.kind} ${one.incident}` : one.id;
    const known = groups.get(name);
    if (known) known.times += 1;
    else groups.set(name, { one, times: 1 });
  }
  return [...groups.values()];
}

// an answer about a moment that is no longer looked at comes too late
async function ofThisMoment(path) {
  const asked = twin(path);
  const found = await get(asked).catch(() => null);
  return asked === twin(path) ? found : null;
}

async function totals() {
  stats = (await ofThisMoment("/api/stats")) ?? stats;
  drawSoon();
}
on("reset", () => { totals(); changes(); });

async function changes() {
  const found = await ofThisMoment("/api/changes");
  if (!found) return;
  const grouped = folded(found.changes).slice(0, 40);
  fill($("#changes"), grouped.length ? grouped.map(({ one, times }) => h("li", { dataset: { key: one.id } }, time(one.at), one.incident ? h("span.quiet", {}, ` ${one.incident}`) : null, times > 1 ? h("span.quiet", {}, `, ${times} updates`) : null, h("a", { href: one.incident ? `${incidentPage(one.incident)}#${one.id}` : eventPage(one.seq) }, h("span", { class: `tone-${one.notable.tone}` }, MARKS[one.notable.tone] ?? "", one.notable.text)))) : h("li.quiet", { dataset: { key: "none" } }, "Nothing worth saying."));
}

$("#announce").addEventListener("click", announce);

const page = livePage({ path: () => twin("/api/agents"), draw: take, into: "#agents", concerns: () => false });
changes();
totals();
timeTravel($("#time-travel"), () => { page.again(); changes(); totals(); });
