import { $, fill, h } from "../dom.js";
import { post, session } from "../api.js";
import { askFor, toast } from "../dialogs.js";
import { approve, buttons, reject } from "../deciding.js";
import { livePage, empty } from "../page.js";
import { now, time, words, actor } from "../format.js";
import { onKey } from "../keys.js";
import { may } from "../may.js";
import { approvalPage, twin } from "../moment.js";
import { action, agentLink, approvalCard, table } from "../parts.js";
import { drawSparks } from "../spark.js";
import { severity } from "../words.js";

let waiting = [];

function draw(found) {
  const quiet = (one) => session.snoozed[one.id] && Date.parse(session.snoozed[one.id]) > now();
  waiting = found.approvals.filter((one) => ["pending", "granted"].includes(one.status));
  const decided = found.approvals.filter((one) => !["pending", "granted"].includes(one.status));
  fill($("#waiting"), waiting.length ? [...waiting.filter((one) => !quiet(one)), ...waiting.filter(quiet)].map((one) => approvalCard(one, buttons(one))) : empty("✓ Nothing waits for you. What is asked of a person appears here, with the reason and the reach."));
  drawBulk();
  drawSparks();
  fill($("#decided"), decided.length ? table({
    caption: "Decided requests, the newest first",
    columns: [
      { head: "Request", cell: (one) => h("a", { href: approvalPage(one.id) }, one.id) },
      { head: "Agent", cell: (one) => agentLink(one.subject) },
      { head: "Outcome", cell: (one) => words(one.status) },
      { head: "By", cell: (one) => actor(one.decided_by) || "–" },
      { head: "When", cell: (one) => time(one.decided_at) },
      { head: "Severity", figure: true, narrow: true, cell: (one) => severity(one.severity) },
      { head: "Why", narrow: true, cell: (one) => one.reason ?? "" },
      { head: "Again", cell: (one) => buttons(one) },
    ],
    rows: decided,
    key: (one) => one.id,
  }) : empty("Nothing decided yet."));
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

const chosen = () => waiting.find((one) => document.activeElement?.closest("[data-key]")?.dataset.key === one.id && one.status === "pending") ?? waiting.find((one) => one.status === "pending");
for (const [key, act] of [["a", approve], ["r", reject]]) onKey(key, () => { const one = chosen(); if (one && may("approver").allowed) act(one); });

livePage({ path: () => twin("/api/approvals"), draw, into: "#waiting" });
