// Approve, reject, snooze, undo, heal now: the same everywhere a request is shown.
import { loadSession, post, session } from "./api.js";
import { askFor, toast } from "./dialogs.js";
import { now, words } from "./format.js";
import { action } from "./parts.js";
import { may } from "./may.js";
import { h } from "./dom.js";
import { left } from "./format.js";

const REASON = { name: "reason", label: "Reason", type: "long", required: true };
const steps = (one) => (one.plan ? one.plan.steps.map((step) => words(step.action)).join(", then ") : one.level);
const typed = (one) => (one.confirm ? [{ name: "confirm", label: `This cannot be undone. Type ${one.confirm}`, match: one.confirm, required: true }] : []);

export function approve(one) {
  return askFor({
    title: `Approve ${one.id}`,
    text: [`${steps(one)} for ${one.subject}`, one.irreversible.length ? `Cannot be undone: ${one.irreversible.map(words).join(", ")}` : "It can be undone. Nothing starts before the undo window is over."],
    fields: [...typed(one), { name: "reason", label: "Reason (optional)", type: "long" }],
    ok: "Approve",
    danger: one.irreversible.length > 0,
    send: (values) => post(`/api/approvals/${encodeURIComponent(one.id)}/approve`, { plan_hash: one.plan_hash, ...values }),
  }).then((answer) => answer && toast(`${one.id} approved; it starts when the undo window is over`));
}

export function reject(one) {
  return askFor({
    title: `Reject ${one.id}`,
    text: `${steps(one)} for ${one.subject}`,
    fields: [REASON],
    ok: "Reject",
    danger: true,
    send: (values) => post(`/api/approvals/${encodeURIComponent(one.id)}/reject`, { plan_hash: one.plan_hash, ...values }),
  }).then((answer) => answer && toast(`${one.id} rejected`));
}

export function snooze(one) {
  return askFor({
    title: `Snooze ${one.id}`,
    text: "It goes on waiting, and expires as it would.",
    fields: [{ name: "minutes", label: "Minutes", type: "number", value: 5, required: true }],
    ok: "Snooze",
    send: (values) => post(`/api/approvals/${encodeURIComponent(one.id)}/snooze`, values),
  }).then(async (answer) => {
    if (!answer) return;
    toast(`${one.id} is quiet for a while`);
    await loadSession();
    document.dispatchEvent(new CustomEvent("session", { detail: session }));
  });
}

/** Whether this person asked not to be bothered with it now. */
export const snoozed = (one) => one.status === "pending" && Boolean(session.snoozed[one.id]) && Date.parse(session.snoozed[one.id]) > now();

export function undo(one) {
  return askFor({ title: `Take ${one.id} back`, text: "The plan will not start; the request counts as rejected.", fields: [{ ...REASON, required: false, label: "Reason (optional)" }], ok: "Take it back", send: (values) => post(`/api/approvals/${encodeURIComponent(one.id)}/undo`, values) }).then(
    (answer) => answer && toast(`${one.id} taken back`),
  );
}

export function healNow(one) {
  return askFor({ title: `Heal ${one.subject} now`, text: "Decided by you, by name, at once.", fields: typed(one), ok: "Heal now", danger: true, send: (values) => post(`/api/approvals/${encodeURIComponent(one.id)}/heal-now`, values) }).then(
    (answer) => answer && toast(`${one.subject} is being healed`),
  );
}

/** The buttons of a plan: only while it is under way. */
export function planButtons(one) {
  if (!["running", "probation", "compensating"].includes(one.status)) return [];
  return [action("Roll back", one.actions?.roll_back, () => rollBack(one), { danger: true })];
}

function rollBack(one) {
  return askFor({ title: `Roll ${one.id} back`, text: "What took effect is undone, in reverse order.", fields: [REASON], ok: "Roll back", danger: true, send: (values) => post(`/api/healings/${encodeURIComponent(one.id)}/roll-back`, values) }).then(
    (answer) => answer && toast(`${one.id} is being undone`),
  );
}

/** The buttons of a request for the person who looks. */
export function buttons(one, liveRun) {
  const who = may("approver", liveRun);
  if (one.status === "pending") {
    return [action("Approve", who, () => approve(one), { primary: true }), action("Reject", who, () => reject(one), { danger: true }), action("Snooze", session.name ? { allowed: true } : { allowed: false, why: "log in first" }, () => snooze(one)), snoozed(one) ? h("span.quiet", {}, "snoozed: ", left(session.snoozed[one.id])) : null];
  }
  if (one.status === "granted") return [action("Undo", who, () => undo(one), { danger: true }), one.not_before ? h("span.quiet", {}, left(one.not_before)) : null];
  if (one.status === "rejected") return [action("Heal now", one.heal_now === false ? { allowed: false, why: "only while its incident is open" } : who, () => healNow(one))];
  return [];
}
