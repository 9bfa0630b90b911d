import { $, fill, h } from "../dom.js";
import { livePage } from "../page.js";
import { time } from "../format.js";
import { facts } from "../parts.js";

const shown = (value) => (value === null || value === undefined ? "–" : typeof value === "object" ? h("pre", {}, JSON.stringify(value, null, 1)) : String(value));
const pairs = (document) => facts(...Object.entries(document).map(([name, value]) => [name.replaceAll("_", " "), shown(value)]));

livePage({ path: () => "/api/system", into: "#system", beats: true, draw: (found) => fill($("#system"), found.troubles.length ? h("div.panel", {}, found.troubles.map((one) => h("p.tone-warn", {}, "⚠ ", one.detail))) : h("p.tone-good", {}, "✓ Everything answers."),
  h("h2", {}, "Daemon"), pairs({ ...found.daemon, report: undefined, metrics: undefined }), found.daemon.report ? [h("h3", {}, "Its own report"), pairs(found.daemon.report)] : null, h("h2", {}, "Dashboard"), pairs(found.dashboard), found.daemon.metrics ? [h("h2", {}, "Metrics"), pairs(found.daemon.metrics)] : null) });
