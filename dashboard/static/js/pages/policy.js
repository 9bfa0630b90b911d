import { $, fill, h } from "../dom.js";
import { livePage } from "../page.js";
import { words } from "../format.js";
import { twin } from "../moment.js";
import { stats, table } from "../parts.js";

function draw(found) {
  const sections = [...new Set(found.rules.map((one) => one.section))];
  fill($("#policy"), stats(["Version", h("code", {}, found.version || "none yet")], ["Mode", found.mode], ...Object.entries(found.modes_by_type).map(([type, mode]) => [`Mode of ${type}`, mode])),
    sections.map((section) => [h("h2", {}, words(section) || "general"), table({
      caption: section,
      columns: [
        { head: "Rule", tight: true, cell: (one) => h("code", { id: one.name }, one.name) },
        { head: "Value", figure: true, tight: true, cell: (one) => [h("strong", {}, one.value === 0 && one.unit?.includes("0: off") ? "off" : String(one.value)), one.changed ? h("div.quiet", {}, `default ${one.default}`) : null] },
        { head: "Unit", tight: true, narrow: true, cell: (one) => one.unit?.replace(", 0: off", "") ?? (one.options ?? []).join(", ") },
        { head: "Why it exists", wide: true, cell: (one) => one.why },
      ],
      rows: found.rules.filter((one) => one.section === section),
      key: (one) => one.name,
    })]),
    h("h2", {}, "What healing can do"), table({ caption: "Actions", columns: [{ head: "Action", tight: true, cell: (one) => words(one.name) }, { head: "Tier", figure: true, cell: (one) => one.tier }, { head: "Undone by", cell: (one) => (one.reversible ? one.compensation : "⚠ cannot be undone") }, { head: "What it does", wide: true, cell: (one) => one.summary }], rows: found.actions, key: (one) => one.name }),
    h("h2", {}, "What can be diagnosed"), h("p", {}, found.kinds.map(words).join(", ")));
}
livePage({ path: () => twin("/api/policy"), draw, into: "#policy", concerns: (news) => news.events.some((one) => one.kind === "run_started") });
