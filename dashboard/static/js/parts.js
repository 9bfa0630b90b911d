// Pieces that several pages show: evidence, plans, approvals, timelines, tables.
import { h } from "./dom.js";
import { toast } from "./dialogs.js";
import { actor, age, copyable, figure, left, measured, now, percent, time, vitalWords, words } from "./format.js";
import { agentPage, approvalPage, eventPage, incidentPage, twin, stay } from "./moment.js";
import { spark } from "./spark.js";
import { ARROWS, severity, severityTone, state } from "./words.js";

export const agentLink = (id) => h("a", { href: agentPage(id) }, id);
export const incidentLink = (id) => (id ? h("a", { href: incidentPage(id) }, id) : null);
export const facts = (...pairs) => h("dl.facts", {}, pairs.filter(Boolean).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

/** Facts as a strip of small boxes. */
export const stats = (...pairs) => h("dl.stats", {}, pairs.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

const cellClass = (one) => [one.figure && "figure", one.narrow && "hide-narrow", one.tight && "tight", one.wide && "wide"].filter(Boolean).join(" ") || null;

/**
 * A table from columns [{head, cell, figure, narrow, tight, wide}] and rows; `key` names each row. On a phone each row is a card:
 * a `narrow` column is left out there, a `wide` one goes without its name.
 */
export function table({ columns, rows, key, caption }) {
  return h(
    "div.scroll",
    {},
    h(
      "table.stack",
      { role: "table" },
      caption ? h("caption.visually-hidden", {}, caption) : null,
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map((one) => h("th", { scope: "col", role: "columnheader", class: cellClass(one) }, one.head)))),
      h("tbody", { role: "rowgroup" }, rows.map((row) => h("tr", { role: "row", dataset: { key: key(row), row: "" } }, columns.map((one) => h("td", { role: "cell", class: cellClass(one), dataset: { head: one.head } }, h("div.cell", {}, one.cell(row))))))),
    ),
  );
}

const ratio = (value) => (value >= 1 || !value ? `×${figure(value)}` : `÷${figure(1 / value)}`);

// the ratio of counts stands on half a count more on either side: beside plain figures it would contradict them
function times({ observed, expected, ratio: told }) {
  const plain = observed / expected;
  return told && Math.abs(Math.log(plain / told)) < 0.15 ? `, ${ratio(told)}` : "";
}

function against(one) {
  if (one.direction === "silent") return `nothing for ${figure(one.observed)} s, usually one every ${figure(one.expected)} s`;
  if (one.direction === "stuck") return `stays at ${measured(one.observed, one.vital)}`;
  return [`${measured(one.observed, one.vital)} against ${measured(one.expected, one.vital)} expected`, times(one)];
}

/** Ranked evidence: one bar a symptom, as long as it is strong. */
export function evidence(incident, { brief = false } = {}) {
  if (!incident.evidence.length) return h("p.quiet", {}, "No evidence kept.");
  const ranked = [...incident.evidence].sort((a, b) => b.nats - a.nats);
  return h(
    "ol.why-list",
    { "aria-label": "Ranked evidence" },
    ranked.map((one) =>
      h(
        "li",
        { dataset: { key: `${one.vital}-${one.direction}` } },
        h("div.line", {}, h("strong", {}, `${ARROWS[one.direction] ?? ""} ${one.direction === "silent" ? "no samples" : vitalWords(one.vital)}`), h("span", {}, against(one))),
        h("progress.tone-bad", { max: ranked[0].nats || 1, value: one.nats, "aria-hidden": "true" }),
        brief ? null : h("div.small", {}, `evidence ${figure(one.nats)} nats, since `, time(one.onset_at), `, calibration ${figure(one.calibration)} (${words(one.basis)})`),
      ),
    ),
  );
}

/** What it may be, the likeliest first; what is next to impossible is left out. */
export function diagnosis(incident) {
  if (!incident.diagnosis.length) return h("p", {}, "Looks like nothing known.");
  const likely = incident.diagnosis.filter((one, place) => !place || one.confidence >= 0.005);
  return h(
    "ol.causes",
    { "aria-label": "What it looks like" },
    likely.map((one) =>
      h(
        "li",
        { dataset: { key: one.kind } },
        h("div.line", {}, h("strong", {}, words(one.kind)), h("progress.accent", { max: 1, value: one.confidence ?? 0, "aria-hidden": "true" }), h("span", {}, percent(one.confidence))),
        one.for.length ? h("div.small", {}, `for: ${one.for.join("; ")}`) : null,
        one.against.length ? h("div.small", {}, `against: ${one.against.join("; ")}`) : null,
      ),
    ),
  );
}

const STEP_ICONS = { succeeded: ["✓", "good"], failed: ["✕", "bad"], running: ["▶", "warn"], pending: ["◦", "plain"], undone: ["↩", "warn"] };

function step(one) {
  const word = one.status ?? "pending";
  const [icon, tone] = STEP_ICONS[word] ?? ["·", "plain"];
  return h(
    "li",
    {},
    h("div.line", {}, h("strong", {}, words(one.action)), h("span.chip.plain", {}, `tier ${one.tier}`), one.reversible ? h("span.chip.tone-good", {}, `↩ undone by: ${one.undo}`) : h("span.chip.tone-bad", {}, "⚠ cannot be undone"), word === "pending" ? null : h("span.chip", { class: `tone-${tone}` }, h("span", { "aria-hidden": "true" }, icon), words(word))),
    h("div.quiet", {}, one.summary, one.detail ? ` (${one.detail})` : ""),
  );
}

export const steps = (one) => h("ol.steps", {}, one.steps.map(step));

export function plan(one, ...buttons) {
  return h(
    "div.plan.card",
    { dataset: { key: one.id } },
    h("p.plan-head", {}, h("strong", {}, one.id), ` rung ${one.rung + 1}, ${words(one.status)}`, one.outcome ? `, ${words(one.outcome)}` : "", one.reason ? `: ${one.reason}` : ""),
    steps(one),
    buttons.length ? h("div.actions", {}, acting(buttons)) : null,
  );
}

export function timelineItem(one) {
  return h(
    "li",
    { id: one.id, dataset: { key: one.id } },
    time(one.at),
    one.stage ? h("strong.stage", { class: `tone-${one.tone}` }, words(one.stage)) : h("span.quiet", {}, words(one.kind)),
    h("span.says", {}, one.says, one.rule && !one.says.includes(one.rule) ? h("span.quiet", {}, ` (rule ${one.rule})`) : null),
    h("span.where", {}, h("span.quiet", {}, `${actor(one.actor)} `), h("a", { href: eventPage(one.seq), title: "Permalink" }, one.id), " ", h("a.raw", { href: twin(`/api/journal/${one.id}`), title: "Raw JSON", "aria-label": `Raw JSON of ${one.id}` }, "{ }")),
  );
}

const blast = (one) => {
  const { reach } = one;
  if (one.about === "brake") return `the whole fleet of ${reach.fleet}; ${reach.contained} contained already`;
  const near = reach.same_service > 1 ? `; ${reach.same_service} agents share the service ${reach.service}` : "";
  return `${reach.agents} of ${reach.fleet} agents${reach.tier ? `, tier ${reach.tier}` : ""}${near}`;
};

function clockOf(one) {
  const whole = Date.parse(one.expires_at) - Date.parse(one.requested_at);
  const rest = Math.max(0, Date.parse(one.expires_at) - now());
  const tone = rest / whole < 0.2 ? "tone-bad" : "tone-warn";
  return h("div", {}, h("progress", { class: tone, max: whole || 1, value: rest, "aria-hidden": "true", dataset: { runsOut: one.expires_at } }), h("div.clock", {}, h("strong", { class: tone }, left(one.expires_at)), h("span.quiet", {}, "no answer is a no"), h("span.quiet", {}, "asked ", age(one.requested_at))));
}

const DECIDED = { used: "approved", granted: "approved" };
const DONE_TITLE = { used: "What was done", granted: "What will be done", rejected: "What was not done", expired: "What was not done", withdrawn: "What was not done" };
const WAITING = { pending: ["◷", "waits for you", "warn"], granted: ["✓", "approved, starts soon", "good"], rejected: ["✕", "rejected", "plain"], used: ["✓", "approved and done", "good"], expired: ["◌", "expired: no answer was a no", "plain"], withdrawn: ["–", "withdrawn", "plain"] };

/** How a request stands, as text, icon and tone. */
export function requestState(one) {
  const [icon, says, tone] = WAITING[one.status] ?? ["·", words(one.status), "plain"];
  return h("span.state", { class: `tone-${tone}` }, h("span", { "aria-hidden": "true" }, icon), says);
}

/** One request as a card: what is sick, why that is believed, what would be done, how far it reaches, then the buttons. */
export function approvalCard(one, buttons = []) {
  const incident = one.incident;
  const top = incident?.diagnosis[0];
  const known = top && top.kind !== "unknown";
  const tone = severityTone(one.severity);
  const [icon, says, statusTone] = WAITING[one.status] ?? ["·", words(one.status), "plain"];
  const symptom = incident ? [...incident.evidence].sort((a, b) => b.nats - a.nats)[0] : null;
  const charted = symptom && symptom.direction !== "silent" && one.about !== "brake"; // silence has no chart
  return h(
    "article.card.ask",
    { class: `is-${tone}`, dataset: { key: one.id, row: "", opens: approvalPage(one.id) }, tabindex: "-1", id: one.id, "aria-labelledby": `${one.id}-title` },
    h("h2", { id: `${one.id}-title` }, one.about === "brake" ? "Lift the fleet brake?" : [agentLink(one.subject), top ? (known ? ` looks like ${words(top.kind)}` : " is sick, of nothing known") : ` may be ${one.level}`]),
    h("div.meta", {}, h("span.chip", { class: `tone-${tone}` }, h("span", { "aria-hidden": "true" }, "▲"), `severity ${Number(one.severity).toFixed(1)} of 10`), known ? h("span.chip.plain", {}, `${percent(top.confidence)} likely`) : null, h("span.chip", { class: `tone-${statusTone}` }, h("span", { "aria-hidden": "true" }, icon), says), h("a", { href: approvalPage(one.id) }, one.id), copyable(one.id, ""), incident ? incidentLink(incident.id) : null),
    one.status === "pending" ? clockOf(one) : null,
    one.status === "granted" && one.not_before ? h("p", {}, "It starts when the undo window is over: ", left(one.not_before)) : null,
    one.decided_by ? h("p.decision", {}, `${DECIDED[one.status] ?? words(one.status)} by ${actor(one.decided_by)} `, time(one.decided_at, { full: true }), one.reason ? `: ${one.reason}` : "") : null,
    h(
      "div.duo",
      {},
      incident ? h("section", {}, h("h3", {}, "Why we believe it"), charted ? spark(incident.agents[0] ?? one.subject, symptom) : null, evidence({ evidence: [...incident.evidence].sort((a, b) => b.nats - a.nats).slice(0, 3) }, { brief: true }), symptom?.onset_at ? h("p.small", {}, "first symptom ", time(symptom.onset_at)) : null) : null,
      h("section", {}, h("h3", {}, DONE_TITLE[one.status] ?? "What would be done"), one.plan ? steps(one.plan) : h("p", {}, `Containment: ${one.level}`), h("h3", {}, one.decided_by ? "How far it reached" : "How far it reaches"), h("p", {}, blast(one)), h("h3", {}, one.status === "pending" ? "Why you are asked" : "Why a person was asked"), h("p", {}, one.rule_why ? [one.rule_why, ": "] : "", h("a", { href: stay(`/policy#${one.rule}`) }, h("code", {}, one.rule)))),
    ),
    incident ? h("details", { dataset: { key: "more" } }, h("summary", {}, "Everything known"), diagnosis(incident), evidence(incident), h("p.quiet", {}, "Plan ", copyable(one.plan_hash.slice(0, 16)))) : h("p.quiet", {}, "Plan ", copyable(one.plan_hash.slice(0, 16))),
    buttons.length ? h("div.actions.decide", {}, h("p.whom.quiet", {}, `${one.subject}: ${(one.plan?.steps ?? []).map((part) => words(part.action)).join(", then ") || one.level}`), acting(buttons)) : null,
  );
}

/** A button that says why it cannot be pressed. */
export function action(label, may, act, { primary = false, danger = false } = {}) {
  const why = may?.allowed ? null : (may?.why ?? "not possible");
  return h(
    "button",
    { type: "button", class: [primary && "primary", danger && "danger"].filter(Boolean).join(" ") || null, "aria-disabled": why ? "true" : null, title: why, dataset: { act: label, means: `${label}|${why ?? ""}` }, onclick: () => (why ? toast(`${label}: ${why}`, { bad: true }) : act()) },
    label,
    why ? h("span.visually-hidden", {}, `: ${why}`) : null,
  );
}

/** Buttons, and after them in words why some cannot be pressed: no hand must hover to learn it. */
export function acting(...buttons) {
  const why = new Map();
  for (const one of buttons.flat(9).filter((node) => node instanceof Element && node.getAttribute("aria-disabled") === "true")) why.set(one.title, [...(why.get(one.title) ?? []), one.dataset.act]);
  return [buttons, why.size ? h("p.why-not", {}, [...why].map(([reason, labels], n) => [n ? h("br") : null, `${labels.join(", ")}: ${reason}`])) : null];
}

export { age, severity, state, time };
