import { $, fill, h } from "../dom.js";
import { livePage } from "../page.js";
import { copyable, time, words } from "../format.js";
import { ownId } from "../moment.js";
import { facts, table } from "../parts.js";

const id = ownId();
livePage({ path: () => `/api/runs/${encodeURIComponent(id)}`, into: "#run", draw: ({ run: one, stats, report, memory }) => fill($("#run"), h("h1", {}, one.run_id), h("p", {}, h("a.button", { href: report }, "Report"), " ", h("a.button", { href: `/fleet?run=${encodeURIComponent(id)}` }, "Fleet")), facts(
  ["Source", one.source], ["From", time(one.started_at, { full: true })], ["To", one.ended_at ? time(one.ended_at, { full: true }) : "goes on"], ["Agents", one.agents], ["Incidents", `${one.incidents}, ${one.open_incidents} open`],
  ["Approvals", `${stats.approvals.total}, ${stats.approvals.pending} waiting`], ["Plans", `${stats.plans.total}, ${stats.plans.verified} verified, ${stats.plans.undone} undone`], ["Samples lost", one.telemetry_lost], ["Policy", one.policy_version], ["Events", one.events], ["Head", copyable(one.head)],
), h("h2", {}, "What is remembered of cures"), memory.length ? table({ caption: "Memory", columns: [{ head: "Signature", cell: (m) => words(m.signature) }, { head: "Action", cell: (m) => words(m.action) }, { head: "Worked", figure: true, cell: (m) => m.worked }, { head: "Failed", figure: true, cell: (m) => m.failed }], rows: memory, key: (m) => m.signature + m.action }) : h("p.quiet", {}, "Nothing yet.")) });
