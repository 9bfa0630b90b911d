import { $, fill, h } from "../dom.js";
import { get, post } from "../api.js";
import { askFor, toast } from "../dialogs.js";
import { approve, buttons, reject, snoozed } from "../deciding.js";
import { livePage, empty } from "../page.js";
import { filterOf } from "../filter.js";
import { time, actor } from "../format.js";
import { onKey } from "../keys.js";
import { may } from "../may.js";
import { approvalPage, here, setQuery, twin } from "../moment.js";
import { acting, action, agentLink, approvalCard, requestState, table } from "../parts.js";
import { drawSparks } from "../spark.js";
import { severity } from "../words.js";

const filter = $("#filter");
filter.value = here().get("q") ?? "";
filter.addEventListener("input", () => { setQuery({ q: filter.value.trim() }); draw(); });

let waiting = [];
let newest = null;
let older = [];
let next = null;

function take(found) {
  newest = found;
  if (!older.length) next = found.next;
  draw();
}

$("#more").addEventListener("click", async () => {
  const found = await get(twin("/api/approvals", { after: next }));
  older.push(...found.approvals);
  next = found.next;
  draw();
});

function draw() {
  const first = new Set(newest.approvals.map((one) => one.id));
  const found = { approvals: [...newest.approvals, ...older.filter((one) => !first.has(one.id))] };
  $("#more").hidden = !next;
  const open = found.approvals.filter((one) => ["pending", "granted"].includes(one.status));
  waiting = [...open.filter((one) => !snoozed(one)), ...open.filter(snoozed)];
  const wanted = filterOf(filter.value);
  const decided = found.approvals.filter((one) => !["pending", "granted"].includes(one.status) && wanted(one));
  for (const [id, format] of [["#as-csv", "csv"], ["#as-json", "json"]]) $(id).href = twin("/api/approvals", { format, q: filter.value.trim() });
  fill($("#waiting"), waiting.length ? waiting.map((one) => approvalCard(one, buttons(one))) : empty("✓ Nothing waits for you. What is asked of a person appears here, with the reason and the reach."));
  drawBulk();
  drawSparks();
  fill($("#decided"), decided.length ? table({
    caption: "Decided requests, the newest first",
    columns: [
      { head: "Request", cell: (one) => h("a", { href: approvalPage(one.id) }, one.id) },
      { head: "Agent", cell: (one) => agentLink(one.subject) },
      { head: "Outcome", cell: requestState },
      { head: "By", cell: (one) => actor(one.decided_by) || "–" },
      { head: "When", cell: (one) => time(one.decided_at, { full: true }) },
      { head: "Severity", figure: true, narrow: true, cell: (one) => severity(one.severity) },
      { head: "Why", cell: (one) => one.reason ?? "–" },
      { head: "", cell: (one) => acting(buttons(one)) },
    ],
    rows: decided,
    key: (one) => one.id,
  }) : empty(filter.value.trim() ? "No decision fits this filter." : "Nothing decided yet."));
}

function drawBulk() {
  const alike = new Map();
  for (const one of waiting.filter((request) => request.status === "pending" && !request.irreversible.length)) alike.set(one.signature, [...(alike.get(one.signature) ?? []), one]);
  const many = [...alike.values()].filter((group) => group.length > 1);
  fill($("#bulk"), many.map((group) => ["approve", "reject"].map((decision) => action(`${decision === "approve" ? "Approve" : "Reject"} ${group.length} alike (${group.map((one) => one.subject).join(", ")})`, may("approver"), () => together(decision, group)))));
}

async function together(decision, group) {
  const answer = await askFor({ title: `${decision} ${group.length} requests`, text: group.map((one) => `${one.id}: ${one.subject}`), fields: [{ name: "reason", label: "Reason", type: "long", required: true }], ok: decision, send: (values) => post("/api/approvals/bulk", { decision, plans: Object.fromEntries(group.map((one) => [one.id, one.plan_hash])), ...values }) });
  if (answer) toast(`${answer.done} decided, ${answer.refused} refused`, { bad: answer.refused > 0 });
}

const chosen = () => waiting.find((one) => document.activeElement?.closest("article")?.id === one.id && one.status === "pending") ?? waiting.find((one) => one.status === "pending");
for (const [key, act] of [["a", approve], ["r", reject]]) onKey(key, () => {
  const one = chosen();
  const { allowed, why } = may("approver");
  if (one && allowed) act(one);
  else toast(one ? why : "Nothing waits for you.", { bad: Boolean(one) });
});

livePage({ path: () => twin("/api/approvals"), draw: take, into: "#waiting" });
