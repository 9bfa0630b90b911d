// Vitals as uPlot charts: line, learned band, marks, shading; the cursor is shared, a drag zooms and goes into the address.
import { h } from "./dom.js";
import { setQuery } from "./moment.js";

const plots = new Map();
const HEIGHT = 160;

export function drawCharts(box, tools, found, again) {
  if (!tools.firstChild) tools.append(h("button", { type: "button", onclick: () => { setQuery({ from: "", to: "" }); again(); } }, "Newest 15 minutes"), h("span.quiet", {}, "Drag to zoom."));
  for (const vital of found.vitals) {
    if (!vital.at_us.length) continue;
    const data = columns(vital);
    const known = plots.get(vital.name);
    if (known) {
      known.found = found;
      known.plot.setData(data);
      continue;
    }
    const holder = h("div.chart", {}, h("h3", {}, vital.label, vital.unit ? h("span.quiet", {}, ` ${vital.unit}`) : null));
    box.append(holder);
    const kept = { found };
    kept.plot = make(holder, vital, data, kept, again);
    plots.set(vital.name, kept);
  }
}

function columns(vital) {
  const band = vital.band ?? { at_us: [], expected: [], low: [], high: [] };
  const x = vital.at_us.map((at) => at / 1e6);
  const pick = (values) => {
    let place = 0;
    return vital.at_us.map((at) => {
      while (place + 1 < band.at_us.length && band.at_us[place + 1] <= at) place += 1;
      return band.at_us.length && band.at_us[place] <= at ? values[place] : null;
    });
  };
  return [x, vital.value, pick(band.expected), pick(band.low), pick(band.high)];
}

function make(holder, vital, data, kept, again) {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
  return new uPlot(
    {
      width: Math.max(200, holder.clientWidth - 16),
      height: HEIGHT,
      legend: { show: false },
      cursor: { sync: { key: "agent" }, drag: { x: true, y: false, setScale: false } },
      axes: [axis, { ...axis, size: 56 }],
      series: [{}, { stroke: colour("--accent"), width: 1.5 }, { stroke: colour("--soft"), dash: [4, 4], width: 1 }, { stroke: "transparent" }, { stroke: "transparent" }],
      bands: [{ series: [4, 3], fill: `color-mix(in srgb, ${colour("--soft")} 22%, transparent)` }],
      hooks: {
        drawClear: [(plot) => shade(plot, kept.found, colour)],
        setSelect: [(plot) => {
          if (plot.select.width < 4) return;
          setQuery({ from: Math.round(plot.posToVal(plot.select.left, "x") * 1e6), to: Math.round(plot.posToVal(plot.select.left + plot.select.width, "x") * 1e6) }, { push: true });
          plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
          again();
        }],
      },
    },
    data,
    holder,
  );
}

const SHADES = { sick: "--bad-ground", held: "--warn-ground", trial: "--good-ground" };
function shade(plot, found, colour) {
  const { left, width, top, height } = plot.bbox;
  const x = (at_us) => Math.min(left + width, Math.max(left, plot.valToPos(at_us / 1e6, "x", true)));
  const pen = plot.ctx;
  for (const span of found.spans) {
    pen.fillStyle = colour(SHADES[span.kind]);
    const from = x(span.from_us);
    pen.fillRect(from, top, x(span.to_us || found.to_us) - from, height);
  }
  pen.fillStyle = colour("--bad");
  for (const mark of found.marks) if (mark.kind === "opened") pen.fillRect(x(mark.at_us), top, 2, height);
}
