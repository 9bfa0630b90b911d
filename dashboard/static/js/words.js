// States as text, icon and tone: colour never speaks alone.
import { h } from "./dom.js";

export const STATES = {
  healthy: ["●", "good"],
  learning: ["◔", "plain"],
  idle: ["◦", "plain"],
  suspected: ["▲", "warn"],
  sick: ["✚", "bad"],
  silent: ["∅", "warn"],
  throttled: ["◒", "warn"],
  restricted: ["◧", "warn"],
  isolated: ["■", "bad"],
  evicted: ["✕", "bad"],
  retired: ["–", "plain"],
};
export const ORDER = ["evicted", "isolated", "restricted", "throttled", "sick", "suspected", "silent", "learning", "healthy", "idle", "retired"];
export const ARROWS = { up: "↑", down: "↓", stuck: "=", silent: "∅" };

export function state(word) {
  const [icon, tone] = STATES[word] ?? ["·", "plain"];
  return h("span.state", { class: `tone-${tone}` }, h("span", { "aria-hidden": "true" }, icon), word);
}

export const severityTone = (value) => (value >= 7 ? "bad" : value >= 3 ? "warn" : "plain");

export function severity(value) {
  if (!value) return h("span.quiet", {}, "0");
  const tone = `tone-${severityTone(value)}`;
  return h("span.sev", { class: tone, title: "severity, 0 to 10" }, Number(value).toFixed(1), h("progress", { class: tone, max: 10, value, "aria-hidden": "true" }));
}

const ENDS = { healed: ["✓", "good"], recovered: ["✓", "good"], false_alarm: ["–", "plain"], new_normal: ["–", "plain"] };

/** Whether an incident is open, or how it ended. */
export function incidentState(one) {
  const [icon, tone] = one.open ? ["▲", "warn"] : (ENDS[one.outcome] ?? ["◌", "plain"]);
  return h("span.state", { class: `tone-${tone}` }, h("span", { "aria-hidden": "true" }, icon), one.open ? "open" : String(one.outcome).replaceAll("_", " "));
}
