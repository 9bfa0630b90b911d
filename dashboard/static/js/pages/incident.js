import { $, fill, h } from "../dom.js";
import { post } from "../api.js";
import { askFor, toast } from "../dialogs.js";
import { buttons, planButtons } from "../deciding.js";
import { livePage, titled } from "../page.js";
import { actor, age, copyable, span, time, vitalWords, words } from "../format.js";
import { ownId, twin } from "../moment.js";
import { acting, action, agentLink, approvalCard, diagnosis, evidence, facts, plan, stats, timelineItem } from "../parts.js";
import { drawSparks } from "../spark.js";
import { incidentState, severity } from "../words.js";

const id = ownId();

function feedback(verdict, title) {
  const cause = verdict === "cause" ? [{ name: "cause", label: "What it really was", required: true }] : [];
  return askFor({ title, fields: [...cause, { name: "reason", label: "Why", type: "long", required: verdict !== "cause" }], ok: title, send: (values) => post(`/api/incidents/${encodeURIComponent(id)}/feedback`, { verdict, ...values }) }).then((answer) => answer && toast("Told."));
}

const between = (from, to) => span((Date.parse(to) - Date.parse(from)) / 1000);

function draw(found) {
  const one = found.incident;
  titled({ name: `${one.id} · Immune` });
  fill($("#incident-head"), h("div.hero", {}, h("h1", {}, one.id, ": ", one.diagnosis[0] ? words(one.diagnosis[0].kind) : "looks like nothing known"), incidentState(one), severity(one.open ? one.severity : one.peak_severity)), stats(
    ["Agents", [one.agents.slice(0, 20).map((agent, n) => [n ? ", " : "", agentLink(agent)]), one.agents.length > 20 ? ` and ${one.agents.length - 20} more` : ""]],
    ["First symptom", time(one.onset_at, { full: true })], ["Noticed", [time(one.opened_at, { full: true }), h("div.small", {}, `${between(one.onset_at, one.opened_at)} later`)]],
    one.closed_at ? ["Over", [time(one.closed_at, { full: true }), h("div.small", {}, `after ${between(one.onset_at, one.closed_at)}`)]] : ["Began", age(one.onset_at)],
    [one.open ? "Why so severe" : "Why so severe, at its height", one.severity_why.map((part) => h("div", {}, vitalWords(part.split(" ")[0]), words(part.slice(part.split(" ")[0].length))))],
  ), one.open ? null : h("p.decision", {}, h("strong", {}, words(one.outcome)), one.reason ? `: ${words(one.reason)}` : ""), facts(
    ["Id", copyable(one.id)],
    ["Post-mortem", [h("a", { href: twin(`/api/incidents/${encodeURIComponent(id)}/export`, { format: "md" }) }, "Markdown"), " ", h("a", { href: twin(`/api/incidents/${encodeURIComponent(id)}/export`, { format: "json" }) }, "JSON")]],
  ));
  const may = found.actions;
  fill($("#actions"), acting(action("False alarm", may.false_alarm, () => feedback("false_alarm", "False alarm")), action("New normal", may.new_normal, () => feedback("new_normal", "New normal")), action("Name the cause", may.cause, () => feedback("cause", "Name the cause"))));
  fill($("#why"), h("div.duo", {}, h("div", {}, h("h3", {}, "Looks like"), diagnosis(one)), h("div", {}, h("h3", {}, "Evidence, the strongest first"), evidence(one))), one.ruled_out.length ? h("details", { dataset: { key: "ruled-out" } }, h("summary", {}, `${one.ruled_out.length} kinds ruled out`), h("ul.plain", {}, one.ruled_out.map((kind) => h("li", {}, words(kind))))) : null, one.changed.map((fact) => h("p", {}, `Changed before: ${words(fact.field)} from ${fact.before || "(none)"} to ${fact.after}`)));
  fill($("#done"), found.approvals.map((request) => approvalCard(request, buttons(request))), found.plans.map((one) => plan(one, ...planButtons(one))), found.containments.map((held) => h("p.decision", { dataset: { key: held.id } }, `${held.level} by ${actor(held.by)} `, time(held.since), held.ended_at ? [" until ", time(held.ended_at)] : ", in force")), found.feedback.map((told) => h("p", {}, `${words(told.verdict)} by ${actor(told.by)}`)));
  drawSparks();
  fill($("#timeline"), found.timeline.map(timelineItem));
}

livePage({ path: () => twin(`/api/incidents/${encodeURIComponent(id)}`), draw, into: "#incident-head", concerns: (news) => news.events.some((one) => one.incident === id) });
