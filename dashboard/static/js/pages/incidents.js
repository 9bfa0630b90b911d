import { $, fill } from "../dom.js";
import { get } from "../api.js";
import { livePage, empty } from "../page.js";
import { percent, time, words } from "../format.js";
import { filterOf } from "../filter.js";
import { here, setQuery, twin } from "../moment.js";
import { agentLink, incidentLink, table } from "../parts.js";
import { incidentState, severity } from "../words.js";

let newest = [];
let older = [];
let next = null;
const filter = $("#filter");
filter.value = here().get("q") ?? "";
// what is here already is filtered at once, what is not is asked for when typing stops
let asking = 0;
filter.addEventListener("input", () => {
  setQuery({ q: filter.value.trim() });
  older = [];
  draw();
  clearTimeout(asking);
  asking = setTimeout(page.again, 200);
});

function draw() {
  const first = new Set(newest.map((one) => one.id));
  const rows = [...newest, ...older.filter((one) => !first.has(one.id))];
  const shown = rows.filter(filterOf(filter.value));
  $("#more").hidden = !next;
  for (const [id, format] of [["#as-csv", "csv"], ["#as-json", "json"]]) $(id).href = twin("/api/incidents", { format, q: filter.value.trim() });
  fill($("#list"), shown.length ? table({
    caption: "Incidents, open ones first",
    columns: [
      { head: "Incident", cell: (one) => incidentLink(one.id) },
      { head: "Status", cell: incidentState },
      { head: "Severity", figure: true, cell: (one) => severity(one.severity) },
      { head: "Agents", cell: (one) => [one.agents.slice(0, 3).map((id, n) => [n ? ", " : "", agentLink(id)]), one.agent_count > 3 ? ` and ${one.agent_count - 3} more` : ""] },
      { head: "Looks like", cell: (one) => `${words(one.diagnosis)}${one.confidence === null || one.diagnosis === "unknown" ? "" : `, ${percent(one.confidence)}`}` },
      { head: "Opened", cell: (one) => time(one.opened_at) },
      { head: "Plan", narrow: true, cell: (one) => (one.plan ? `${one.plan}, ${words(one.plan_outcome ?? one.plan_status)}` : "–") },
    ],
    rows: shown,
    key: (one) => one.id,
  }) : empty(rows.length ? "No incident fits this filter." : "No incidents yet."));
}

function take(found) {
  newest = found.incidents;
  if (!older.length) next = found.next;
  draw();
}

$("#more").addEventListener("click", async () => {
  const found = await get(twin("/api/incidents", { q: filter.value.trim(), after: next }));
  older.push(...found.incidents);
  next = found.next;
  draw();
});

const page = livePage({ path: () => twin("/api/incidents", { q: filter.value.trim() }), draw: take, into: "#list", concerns: (news) => news.events.some((one) => one.incident) });
