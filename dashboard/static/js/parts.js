// Pieces that several pages show: evidence, plans, approvals, timelines, tables.
import { h } from "./dom.js";
import { actor, age, copyable, figure, left, percent, time, words } from "./format.js";
import { agentPage, approvalPage, eventPage, incidentPage } from "./moment.js";
import { ARROWS, severity, state } from "./words.js";

export const agentLink = (id) => h("a", { href: agentPage(id) }, id);
export const incidentLink = (id) => (id ? h("a", { href: incidentPage(id) }, id) : null);
export const facts = (...pairs) => h("dl.facts", {}, pairs.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

/** A table from columns [{head, cell, figure, narrow}] and rows; `key` names each row, `href` is where Enter goes. */
export function table({ columns, rows, key, href, caption }) {
  return h(
    "div.scroll",
    {},
    h(
      "table",
      {},
      caption ? h("caption.visually-hidden", {}, caption) : null,
      h("thead", {}, h("tr", {}, columns.map((one) => h("th", { scope: "col", class: [one.figure && "figure", one.narrow && "hide-narrow"].filter(Boolean).join(" ") || null }, one.head)))),
      h("tbody", {}, rows.map((row) => h("tr", { dataset: { key: key(row), row: "" } }, columns.map((one) => h("td", { class: [one.figure && "figure", one.narrow && "hide-narrow"].filter(Boolean).join(" ") || null }, one.cell(row, href)))))),
    ),
  );
}

export function evidence(incident) {
  if (!incident.evidence.length) return h("p.quiet", {}, "No evidence kept.");
  return table({
    caption: "Ranked evidence",
    columns: [
      { head: "Vital", cell: (one) => `${ARROWS[one.direction] ?? ""} ${words(one.vital)}` },
      { head: "Observed", figure: true, cell: (one) => figure(one.observed) },
      { head: "Expected", figure: true, cell: (one) => figure(one.expected) },
      { head: "Ratio", figure: true, cell: (one) => `×${figure(one.ratio)}` },
      { head: "Evidence", figure: true, cell: (one) => `${figure(one.nats)} nats` },
      { head: "Since", cell: (one) => time(one.onset_at) },
      { head: "Calibration", narrow: true, cell: (one) => `${figure(one.calibration)} (${words(one.basis)})` },
    ],
    rows: [...incident.evidence].sort((a, b) => b.nats - a.nats),
    key: (one) => `${one.vital}-${one.direction}`,
  });
}

export function diagnosis(incident) {
  if (!incident.diagnosis.length) return h("p", {}, "Looks like nothing known.");
  return h("ol", {}, incident.diagnosis.map((one) => h("li", {}, h("strong", {}, words(one.kind)), ` ${percent(one.confidence)}`, one.for.length ? h("div.quiet", {}, `for: ${one.for.join("; ")}`) : null, one.against.length ? h("div.quiet", {}, `against: ${one.against.join("; ")}`) : null)));
}

export function plan(one, ...buttons) {
  return h(
    "div.plan",
    { dataset: { key: one.id } },
    h("p", {}, h("strong", {}, one.id), ` rung ${one.rung}, ${words(one.status)}`, one.outcome ? `, ${words(one.outcome)}` : "", one.reason ? `: ${one.reason}` : ""),
    h("ol", {}, one.steps.map((step) => h("li", {}, h("strong", {}, words(step.action)), ` tier ${step.tier}, ${words(step.status ?? "pending")}. ${step.summary} `, step.reversible ? h("span.tone-good", {}, `↩ undone by ${step.undo}`) : h("span.tone-bad", {}, "⚠ cannot be undone")))),
    buttons.length ? h("div.actions", {}, buttons) : null,
  );
}

export function timelineItem(one) {
  return h(
    "li",
    { id: one.id, dataset: { key: one.id } },
    time(one.at),
    " ",
    one.stage ? h("span", { class: `tone-${one.tone}` }, h("strong", {}, one.stage), " ") : null,
    one.says,
    h("span.quiet", {}, ` ${actor(one.actor)} `),
    h("a", { href: eventPage(one.seq) }, one.id),
    one.rule ? h("span.quiet", {}, ` rule ${one.rule}`) : null,
  );
}

/** One request as a card; `buttons` come from the page. */
export function approvalCard(one, buttons = []) {
  const incident = one.incident;
  const top = incident?.diagnosis[0];
  const reach = one.reach;
  return h(
    "article.card",
    { dataset: { key: one.id, row: "" }, tabindex: "-1", id: one.id, "aria-labelledby": `${one.id}-title` },
    h("h2", { id: `${one.id}-title` }, h("a", { href: approvalPage(one.id) }, one.id), " ", one.about === "brake" ? "lift the fleet brake" : [agentLink(one.subject)], " "),
    facts(
      ["Status", h("strong", {}, words(one.status))],
      ["Severity", severity(one.severity)],
      top ? ["Looks like", `${words(top.kind)}, ${percent(top.confidence)}`] : null,
      incident ? ["Incident", incidentLink(incident.id)] : null,
      ["Reach", one.about === "brake" ? `the fleet of ${reach.fleet}, ${reach.contained} contained already` : `${reach.agents} of ${reach.fleet} agents${reach.tier ? `, tier ${reach.tier}` : ""}${reach.same_service > 1 ? `, ${reach.same_service} in ${reach.service}` : ""}`],
      ["Asked", [age(one.requested_at), ` by rule ${one.rule}`]],
      one.status === "pending" ? ["Expires", [left(one.expires_at), " (no answer is a no)"]] : null,
      one.decided_by ? ["Decided", [`${words(one.status)} by ${actor(one.decided_by)} `, time(one.decided_at, { full: true }), one.reason ? `: ${one.reason}` : ""]] : null,
      one.status === "granted" && one.not_before ? ["Starts", left(one.not_before)] : null,
    ),
    one.plan ? plan(one.plan) : h("p", {}, `Level: ${one.level}`),
    incident ? h("details", {}, h("summary", {}, "Evidence"), evidence(incident)) : null,
    h("div.actions", {}, buttons),
    h("p.quiet", {}, "Plan ", copyable(one.plan_hash.slice(0, 16))),
  );
}

/** A button that says why it cannot be pressed. */
export function action(label, may, act, { primary = false, danger = false } = {}) {
  const why = may?.allowed ? null : (may?.why ?? "not possible");
  return h(
    "button",
    { type: "button", class: [primary && "primary", danger && "danger"].filter(Boolean).join(" ") || null, "aria-disabled": why ? "true" : null, title: why, dataset: { act: label, means: `${label}|${why ?? ""}` }, onclick: () => !why && act() },
    label,
    why ? h("span.visually-hidden", {}, `: ${why}`) : null,
  );
}

export { age, severity, state, time };
