import { $, fill, h } from "../dom.js";
import { get, post, Problem } from "../api.js";
import { askFor, toast } from "../dialogs.js";
import { planButtons } from "../deciding.js";
import { livePage, empty, failure, titled } from "../page.js";
import { copyable, inAnHour, seen, words } from "../format.js";
import { agentAct, agentTwin, here, ownId } from "../moment.js";
import { acting, action, diagnosis, evidence, stats, incidentLink, plan, timelineItem } from "../parts.js";
import { drawCharts } from "../charts.js";
import { on } from "../stream.js";
import { severity, state } from "../words.js";

const id = ownId();
const REASON = { name: "reason", label: "Reason", type: "long", required: true };
let learning = false;

const acts = {
  contain: () => ["Contain", [{ name: "level", label: "Level", options: ["throttled", "restricted", "isolated", "evicted"], required: true }, REASON]],
  release: () => ["Release", [REASON]],
  reset_baseline: () => ["Reset baseline", [REASON]],
  mute: () => ["Mute", [{ name: "until", label: "Until", type: "datetime-local", value: inAnHour(), required: true }, REASON]],
  report: () => ["Report sick", [REASON]],
};

function act(verb) {
  const [title, fields] = acts[verb]();
  const send = (values) => post(agentAct(id, verb.replace("_", "-")), values.until ? { ...values, until: new Date(values.until).toISOString() } : values);
  return askFor({ title: `${title}: ${id}`, fields, ok: title, danger: verb === "contain", send }).then((answer) => answer && toast(`${title}: done`));
}

async function heal(now) {
  let look;
  try {
    look = await post(agentAct(id, "heal"), { dry_run: true });
  } catch (problem) {
    return toast(problem.message, { bad: true });
  }
  const lasting = look.risk.cannot_be_undone;
  const fields = now && lasting.length ? [{ name: "confirm", label: `This cannot be undone (${lasting.map(words).join(", ")}). Type ${id}`, match: id, required: true }] : [];
  const text = [`${look.steps.map((step) => words(step.action)).join(", then ")}; tier ${look.risk.tier}`, look.would_ask_a_person && !now ? "A person will be asked." : ""];
  return askFor({ title: now ? `Heal ${id} now` : `Ask for a plan for ${id}`, text, fields, ok: now ? "Heal now" : "Ask", danger: now, send: (values) => post(agentAct(id, "heal"), { now, ...values }) }).then((answer) => answer && toast("Done"));
}

function draw(found) {
  const one = found.agent;
  learning = found.learning.learning;
  titled({ name: `${one.id} · Immune` });
  fill($("#agent-head"), h("div.hero", {}, h("h1", {}, one.id, " ", state(one.state)), one.severity ? severity(one.severity) : null), stats(
    ["Type", one.type || "–"], ["Service", one.service || "–"], ["Severity", one.severity ? one.severity.toFixed(1) : "0"],
    ["Containment", one.desired === one.observed ? one.observed : h("strong.tone-bad", {}, `NOT ${one.desired}: ${one.observed} is in force`)],
    ["Last seen", seen(one)], ["Incident", incidentLink(one.incident) ?? "none open"],
    found.learning.learning ? ["Baseline", `${found.learning.samples ?? "?"} of ${found.learning.needed}`] : null,
    ["Id", copyable(one.id)], found.grafana ? ["Grafana", h("a", { id: "grafana", href: found.grafana, rel: "noreferrer" }, "same window")] : null,
  ));
  const may = found.actions;
  sameWindow();
  fill($("#actions"), acting(action("Contain", may.contain, () => act("contain"), { danger: true }), action("Release", may.release, () => act("release")), action("Heal", may.heal, () => heal(false)), action("Heal now", may.heal_now, () => heal(true)), action("Reset baseline", may.reset_baseline, () => act("reset_baseline")), action("Mute", may.mute, () => act("mute")), action("Report sick", may.report, () => act("report"))));
  const incident = found.incidents.find((other) => other.id === one.incident) ?? found.incidents[0];
  fill($("#why"), incident ? [h("p", {}, incidentLink(incident.id), incident.id === one.incident ? ", open, " : ", over, ", `at worst severity ${incident.peak_severity.toFixed(1)}`), h("div.duo", {}, h("div", {}, h("h3", {}, "Looks like"), diagnosis(incident)), h("div", {}, h("h3", {}, "Evidence, the strongest first"), evidence(incident)))] : empty(found.learning.learning ? `It is learning: baseline ${found.learning.samples ?? 0} of ${found.learning.needed}.` : "No incident of this agent is on record."));
  fill($("#timeline"), found.timeline.map(timelineItem));
  fill($("#plans"), found.plans.length ? found.plans.map((one) => plan(one, ...planButtons(one))) : empty("No plans."));
}

const range = () => ({ from: here().get("from") ?? "", to: here().get("to") ?? "" });
async function charts() {
  try {
    drawCharts($("#charts"), $("#chart-tools"), await get(`/api/series?${agentTwin(id, { points: 500, ...range() }).split("?")[1]}`), charts);
    fill($("#charts-say"));
    sameWindow();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    fill($("#charts-say"), failure(error, charts));
  }
}

/** The link to Grafana leads to the window that the charts show. */
function sameWindow() {
  const link = $("#grafana");
  if (!link || !range().to) return;
  const there = new URL(link.href);
  for (const [name, at_us] of Object.entries(range())) there.searchParams.set(name, Math.round(at_us / 1000));
  link.href = there;
}

const page = livePage({ path: () => agentTwin(id), draw, into: "#agent-head", concerns: (news) => news.events.some((one) => one.subject === id || one.incident) });
charts();
let beats = 0;
on("beat", () => {
  if (document.hidden) return;
  if (learning) page.again();
  if (++beats % 2 === 0 && !range().to) charts();
});
