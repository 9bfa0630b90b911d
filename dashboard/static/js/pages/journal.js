import { $, fill, h } from "../dom.js";
import { get } from "../api.js";
import { livePage, empty } from "../page.js";
import { actor, time, words } from "../format.js";
import { eventPage, here, setQuery, twin } from "../moment.js";
import { agentLink, incidentLink, table } from "../parts.js";

const NAMES = ["text", "kind", "subject", "actor"];
const form = $("#journal-filter");
let older = [];
let next = null;
for (const name of NAMES) if (form.elements[name] && here().get(name)) form.elements[name].value = here().get(name);
const chosen = () => Object.fromEntries(NAMES.map((name) => [name, form.elements[name].value]));
form.addEventListener("submit", (event) => { event.preventDefault(); search(); });
$("#kind").addEventListener("change", () => search());

function search() {
  setQuery(chosen());
  older = [];
  exports();
  page.anew();
}

// what is exported is what was asked for, from the moment it was asked
function exports() {
  for (const [id, format] of [["#as-csv", "csv"], ["#as-json", "json"]]) $(id).href = twin("/api/journal", { ...chosen(), format, limit: 2000 });
}

let newest = [];
function draw(found) {
  newest = found.events;
  if (!older.length) next = found.next_before;
  for (const kind of found.kinds) if (![...$("#kind").options].some((one) => one.value === kind)) $("#kind").append(h("option", { value: kind }, words(kind)));
  if (here().get("kind")) $("#kind").value = here().get("kind");
  show();
}

function show() {
  const last = newest.at(-1)?.seq ?? Infinity;
  const rows = [...newest, ...older.filter((one) => one.seq < last)];
  $("#more").hidden = !next;
  exports();
  fill($("#list"), rows.length ? table({
    caption: "Events, the newest first",
    columns: [
      { head: "Event", tight: true, cell: (one) => h("a", { href: eventPage(one.seq) }, one.id) },
      { head: "When", tight: true, cell: (one) => time(one.at) },
      { head: "Kind", narrow: true, tight: true, cell: (one) => words(one.kind) },
      { head: "What", wide: true, cell: (one) => one.says },
      { head: "Who", cell: (one) => actor(one.actor) },
      { head: "Incident", tight: true, narrow: true, cell: (one) => incidentLink(one.incident) ?? "" },
    ],
    rows,
    key: (one) => one.id,
  }) : empty("No event fits."));
}

$("#more").addEventListener("click", async () => {
  const found = await get(twin("/api/journal", { ...chosen(), before: next }));
  older.push(...found.events);
  next = found.next_before;
  show();
});

const page = livePage({ path: () => twin("/api/journal", chosen()), draw, into: "#list" });
