// The fleet: counts that filter, the filter box, groups, a table (and a map when there are many), what changed.
import { $, fill, h } from "../dom.js";
import { get } from "../api.js";
import { livePage, empty } from "../page.js";
import { age, time } from "../format.js";
import { filterOf } from "../filter.js";
import { agentPage, eventPage, here, setQuery, twin } from "../moment.js";
import { agentLink, incidentLink, table } from "../parts.js";
import { on } from "../stream.js";
import { timeTravel } from "../travel.js";
import { announce } from "../announcing.js";
import { ORDER, severity, state } from "../words.js";
import { drawMap } from "../map.js";

const ROWS_MAX = 60;
const MANY = 300;
let rows = [];
let byId = new Map();

const filter = $("#filter");
const group = $("#group");
filter.value = here().get("q") ?? "";
group.value = here().get("group") ?? "";
filter.addEventListener("input", () => { setQuery({ q: filter.value.trim() }); draw(); });
group.addEventListener("change", () => { setQuery({ group: group.value }); draw(); });

const COLUMNS = [
  { head: "Agent", cell: (row) => agentLink(row.id) },
  { head: "State", cell: (row) => state(row.state) },
  { head: "Severity", figure: true, cell: (row) => severity(row.severity) },
  { head: "Type", cell: (row) => row.type || "–" },
  { head: "Service", narrow: true, cell: (row) => row.service || "–" },
  { head: "Tier", narrow: true, figure: true, cell: (row) => row.tier ?? "–" },
  { head: "Doing", narrow: true, cell: (row) => [row.plan === "none" ? "" : row.plan.replaceAll("_", " "), row.desired !== row.observed ? h("span.tone-bad", {}, ` NOT ${row.desired}`) : ""] },
  { head: "Incident", narrow: true, cell: (row) => incidentLink(row.incident) ?? "–" },
  { head: "Last seen", cell: (row) => age(row.last_seen) },
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
  for (const [id, format] of [["#as-csv", "csv"], ["#as-json", "json"]]) $(id).href = twin("/api/agents", { format, q: filter.value.trim() });
  if (!rows.length) return fill($("#agents"), empty("No agents yet: run ", h("code", {}, "python demo.py"), " or send vitals to the daemon."));
  const groups = group.value ? grouped(shown) : [["", shown]];
  $("#map").hidden = rows.length <= MANY;
  if (rows.length > MANY) drawMap($("#map"), groups, { open: (row) => location.assign(agentPage(row.id)) });
  fill(
    $("#agents"),
    groups.map(([name, members]) => [name ? h("h3", { dataset: { key: `group-${name}` } }, `${name} (${members.length})`) : null, members.length ? table({ caption: "Agents, the most severe first", columns: COLUMNS, rows: members.slice(0, Math.ceil(ROWS_MAX / groups.length)), key: (row) => row.id }) : empty("No agent fits this filter.")]),
    shown.length > ROWS_MAX ? empty(`The ${ROWS_MAX} most severe of ${shown.length} are listed; filter to see others.`) : null,
  );
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
  byId = new Map(rows.map((row) => [row.id, row]));
  draw();
}

// news bring the lines that changed; nothing is asked for again
on("change", (news) => {
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

async function changes() {
  const found = await get(twin("/api/changes")).catch(() => null);
  if (!found) return;
  fill($("#changes"), found.changes.length ? found.changes.slice(0, 50).map((one) => h("li", { dataset: { key: one.id } }, time(one.at), " ", h("a", { href: one.incident ? `/incidents/${one.incident}#${one.id}` : eventPage(one.seq) }, h("span", { class: `tone-${one.notable.tone}` }, one.notable.text)))) : h("li.quiet", { dataset: { key: "none" } }, "Nothing worth saying."));
}

$("#announce").addEventListener("click", announce);

const page = livePage({ path: () => twin("/api/agents"), draw: take, into: "#agents", concerns: () => false });
changes();
timeTravel($("#time-travel"), () => { page.again(); changes(); });
