import { $, fill, h } from "../dom.js";
import { livePage, empty } from "../page.js";
import { time } from "../format.js";
import { runPage } from "../moment.js";
import { table } from "../parts.js";

livePage({ path: () => "/api/runs", into: "#list", concerns: () => false, draw: (found) => fill($("#list"), found.runs.length ? table({
  caption: "Runs, the newest first",
  columns: [
    { head: "Run", cell: (one) => [h("a", { href: runPage(one.run_id) }, one.run_id), one.running ? [" ", h("span.state.tone-good", {}, h("span", { "aria-hidden": "true" }, "●"), "running")] : null] },
    { head: "Events", figure: true, cell: (one) => one.events },
    { head: "First", cell: (one) => time(one.first_at, { full: true }) },
    { head: "Last", cell: (one) => time(one.last_at, { full: true }) },
    { head: "See", cell: (one) => h("span.see", {}, h("a", { href: `/fleet?run=${encodeURIComponent(one.run_id)}` }, "fleet"), " ", h("a", { href: `/runs/${encodeURIComponent(one.run_id)}/report` }, "report")) },
  ],
  rows: found.runs,
  key: (one) => one.run_id,
}) : empty("No runs yet: run python demo.py")) });
