import { $, fill } from "../dom.js";
import { livePage, empty } from "../page.js";
import { percent, time, words } from "../format.js";
import { filterOf } from "../filter.js";
import { here, setQuery, twin } from "../moment.js";
import { agentLink, incidentLink, table } from "../parts.js";
import { severity } from "../words.js";

let rows = [];
const filter = $("#filter");
filter.value = here().get("q") ?? "";
filter.addEventListener("input", () => { setQuery({ q: filter.value.trim() }); draw(); });

function draw() {
  const shown = rows.filter(filterOf(filter.value));
  for (const [id, format] of [["#as-csv", "csv"], ["#as-json", "json"]]) $(id).href = twin("/api/incidents", { format, q: filter.value.trim() });
  fill($("#list"), shown.length ? table({
    caption: "Incidents, open ones first",
    columns: [
      { head: "Incident", cell: (one) => incidentLink(one.id) },
      { head: "Status", cell: (one) => (one.open ? "open" : words(one.outcome)) },
      { head: "Severity", figure: true, cell: (one) => severity(one.severity) },
      { head: "Agents", cell: (one) => [one.agents.slice(0, 3).map((id, n) => [n ? ", " : "", agentLink(id)]), one.agent_count > 3 ? ` and ${one.agent_count - 3} more` : ""] },
      { head: "Looks like", cell: (one) => `${words(one.diagnosis)}${one.confidence === null ? "" : `, ${percent(one.confidence)}`}` },
      { head: "Opened", cell: (one) => time(one.opened_at) },
      { head: "Plan", narrow: true, cell: (one) => (one.plan ? `${one.plan}, ${words(one.plan_status)}` : "–") },
    ],
    rows: shown,
    key: (one) => one.id,
  }) : empty(rows.length ? "No incident fits this filter." : "No incidents yet."));
}

livePage({ path: () => twin("/api/incidents"), draw: (found) => { rows = found.incidents; draw(); }, into: "#list", concerns: (news) => news.events.some((one) => one.incident) });
