// How the system itself is: what answers, what runs, how full each bounded place is, what was lost.
import { $, fill, h } from "../dom.js";
import { livePage } from "../page.js";
import { copyable, figure, time, words } from "../format.js";
import { facts, stats, table } from "../parts.js";

const FULL = 0.8;
const size = (bytes) => (bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.ceil(bytes / 1e3)} kB`);
const good = (fine, yes, no) => h("span", { class: fine ? "tone-good" : "tone-bad" }, fine ? `✓ ${yes}` : `✕ ${no}`);
const plain = (value) => (value === null || value === undefined || value === "" ? "–" : typeof value === "object" ? Object.entries(value).map(([name, one]) => `${words(name)} ${one}`).join(", ") || "none" : typeof value === "number" ? figure(value, 4) : String(value));
const share = (one) => (one.limit ? one.size / one.limit : 0);
const panel = (title, ...inside) => h("section.panel", { dataset: { key: title } }, h("h2", {}, title), inside);

function head({ daemon, dashboard }) {
  const { report } = daemon;
  return stats(
    ["Daemon", good(daemon.status === "up", "up", daemon.status)],
    report ? ["Mode", report.run.mode] : null,
    report ? ["Ticks", `${figure(report.ticks.done, 6)}, ${report.ticks.skipped} skipped`] : null,
    report ? ["Tick lag", `${figure(report.ticks.lag_ms)} ms of ${figure(1000 * report.ticks.period_s)} ms`] : null,
    report ? ["Journal", good(report.journal.writable, "writable", report.journal.trouble || "not writable")] : null,
    report ? ["Telemetry", `${report.telemetry.dropped} dropped, ${report.telemetry.waiting} waiting`] : null,
    ["Dashboard reads", dashboard.followed_s_ago === null ? "nothing yet" : `${figure(1000 * dashboard.followed_s_ago)} ms ago`],
    ["Open pages", dashboard.streams],
  );
}

const children = (report) =>
  table({
    caption: "What runs inside the daemon",
    columns: [
      { head: "Child", tight: true, cell: (one) => words(one.name) },
      { head: "State", tight: true, cell: (one) => good(one.status === "running", one.status, one.status) },
      { head: "Starts again", tight: true, cell: (one) => (one.next_start ? time(one.next_start, { full: true }) : null) },
      { head: "Failures", figure: true, cell: (one) => one.failures },
      { head: "Since", tight: true, cell: (one) => time(one.since, { full: true }) },
      { head: "Last error", cell: (one) => one.last_error || "none" },
    ],
    rows: report.children,
    key: (one) => one.name,
  });

const used = (one) => one.size > 0 || one.lost > 0;
const bounds = (places) =>
  table({
    caption: "Bounded places: how full, and what was lost",
    columns: [
      { head: "Place", tight: true, cell: (one) => words(one.name.replace(".", ": ")) },
      { head: "Filled", cell: (one) => !one.limit ? null : h("progress", { class: one.size > FULL * one.limit ? "tone-bad" : "accent", max: one.limit || 1, value: one.size, "aria-hidden": "true" }) },
      { head: "Holds", figure: true, cell: (one) => (one.limit ? `${figure(one.size, 6)} of ${figure(one.limit, 6)}` : `${figure(one.size, 6)}, no limit`) },
      { head: "Lost", figure: true, cell: (one) => (one.lost ? h("strong.tone-bad", {}, `✕ ${one.lost}`) : "0") },
    ],
    rows: [...places].sort((a, b) => b.lost - a.lost || share(b) - share(a)),
    key: (one) => one.name,
  });

/** What does not work inside the daemon, each in a line. */
function inside(report) {
  if (!report) return [];
  const ill = Object.entries(report.companions ?? {}).filter(([, one]) => one?.trouble).map(([name, one]) => `${words(name)}: ${one.trouble}${name === "notifier" ? ". People may not hear of what waits for them" : ""}`);
  const stopped = report.children.filter((one) => one.status !== "running").map((one) => `${words(one.name)} is ${one.status}${one.last_error ? `: ${one.last_error}` : ""}`);
  const lost = report.bounds.filter((one) => one.lost).map((one) => `${words(one.name.replace(".", ": "))} lost ${one.lost}`);
  return [...(report.journal.doubts ?? []), ...(report.not_enforced ?? []).map((one) => `${one.agent} is not held as ordered: ${one.error}`), ...ill, ...stopped, ...(report.journal.writable ? [] : [`the journal cannot be written: ${report.journal.trouble || "see the log"}`]), ...lost];
}

function draw({ troubles, daemon, dashboard, grafana }) {
  const { report } = daemon;
  const wrong = [...troubles.map((one) => one.detail), ...inside(report)];
  fill(
    $("#system"),
    wrong.length ? h("ul.panel.wrong", {}, wrong.map((one) => h("li.tone-warn", {}, h("span", { "aria-hidden": "true" }, "▲ "), one))) : h("p.tone-good", {}, report ? "✓ Everything works." : "✓ Everything answers. Log in to see inside the daemon."),
    head({ daemon, dashboard }),
    h("div.duo", { dataset: { key: "two" } },
      panel("Journal", facts(["Run", copyable(dashboard.run_id || "none")], ["Event", dashboard.seq], report ? ["Head", copyable(report.journal.head.slice(0, 16))] : null, report ? ["Refused writes", report.journal.refused] : null, ...Object.entries(dashboard.files ?? {}).map(([name, bytes]) => [name, size(bytes)]))),
      panel("This dashboard", facts(["Since", time(dashboard.started_at, { full: true })], ["Requests", dashboard.requests], ["Unexpected errors", good(!dashboard.bugs, "none", dashboard.bugs)], ["Login needed to read", dashboard.login_required ? "yes" : "no, only to decide"], ["Data", dashboard.data_dir], grafana ? ["Grafana", h("a", { href: grafana, rel: "noreferrer" }, grafana)] : null)),
    ),
    report?.children.length ? [h("h2", {}, "Inside the daemon"), children(report)] : null,
    report ? h("div.duo", { dataset: { key: "three" } }, Object.entries(report.companions ?? {}).map(([name, one]) => panel(words(name), facts(...Object.entries(one ?? {}).map(([field, value]) => [words(field), field === "trouble" ? good(!value, "no trouble", value) : plain(value)])))), panel("Refused", facts(...Object.entries(report.api ?? {}).map(([name, value]) => [words(name), plain(value)])))) : null,
    report ? [h("h2", {}, "Queues and tables"), bounds(report.bounds.filter(used)), h("details", { dataset: { key: "empty" } }, h("summary", {}, `${report.bounds.filter((one) => !used(one)).length} are empty`), bounds(report.bounds.filter((one) => !used(one))))] : null,
    daemon.metrics ? h("details", { dataset: { key: "metrics" } }, h("summary", {}, "Metrics, as Prometheus sees them"), facts(...Object.entries(daemon.metrics).map(([name, value]) => [h("code", {}, name), plain(value)]))) : null,
    h("p.quiet", {}, "For machines: ", [["/healthz", "health"], ["/readyz", "readiness"], ["/metrics", "metrics"], ["/openapi.json", "OpenAPI"]].map(([path, says]) => [h("a", { href: path }, says), " "])),
  );
}

livePage({ path: () => "/api/system", into: "#system", beats: true, draw });
