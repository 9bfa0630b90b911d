// Vitals as uPlot charts: line, learned band, marks, shading; the cursor is shared, a drag zooms and goes into the address.
import { fill, h } from "./dom.js";
import { clock, figure, time, words } from "./format.js";
import { empty } from "./page.js";
import { here, setQuery } from "./moment.js";

const HOUR = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const SHORT = new Intl.NumberFormat(undefined, { notation: "compact", maximumSignificantDigits: 3 });
const plots = new Map();
const HEIGHT = 170;
const LEGEND = [["line", "measured"], ["expected", "expected"], ["band", "learned band"], ["onset", "first symptom"], ["mark", "incident opened"], ["sick", "sick"], ["held", "contained"], ["trial", "healing on trial"]];

const LEAST_US = 5e6;

// what a drag does, for hands that cannot: each button is a part of the window that is shown
function toolbar(again) {
  const go = (from, to) => { setQuery({ from: Math.round(from), to: Math.round(to) }, { push: true }); again(); };
  const move = (ends) => () => {
    // the window that was asked for, whether or not its measurements are here yet
    const asked = ["from", "to"].map((name) => Number(here().get(name)));
    const [from_us, to_us] = asked.every(Boolean) ? asked : [last.found.from_us, last.found.to_us];
    const [from, to] = ends(to_us - from_us);
    if (to_us + to - (from_us + from) >= LEAST_US) go(Math.max(0, from_us + from), to_us + to);
  };
  const button = (label, says, act) => h("button", { type: "button", title: says, "aria-label": says, onclick: act }, label);
  const all = h("button", { type: "button", onclick: () => { setQuery({ from: "", to: "" }, { push: true }); again(); } }, "Newest 15 minutes");
  const tools = h("span.zoom", { role: "group", "aria-label": "Window of the charts" }, button("◀", "Earlier", move((span) => [-span / 2, -span / 2])), button("+", "Zoom in", move((span) => [span / 4, -span / 4])), button("−", "Zoom out", move((span) => [-span / 2, span / 2])), button("▶", "Later", move((span) => [span / 2, span / 2])));
  return [all, tools, h("span.quiet", {}, "Drag over a chart to zoom; the cursor is shared, and the arrow keys move it."), h("span.legend", {}, LEGEND.map(([key, says]) => h("span", {}, h("i", { class: `k-${key}`, "aria-hidden": "true" }), says)))];
}

// colours are read when a chart is made: another theme makes them anew
new MutationObserver(forget).observe(document.documentElement, { attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", forget);
let last = null;
function forget() {
  if (!last) return;
  for (const { plot } of plots.values()) plot.destroy();
  plots.clear();
  last.box.replaceChildren();
  drawCharts(last.box, last.tools, last.found, last.again);
}
addEventListener("resize", () => plots.forEach(({ plot, holder }) => plot.setSize({ width: fit(holder), height: HEIGHT })));
const fit = (holder) => Math.max(200, holder.clientWidth - 24);

export function drawCharts(box, tools, found, again) {
  if (!tools.firstChild) tools.append(...toolbar(again));
  last = { box, tools, found, again };
  // what speaks comes first, and stands out
  const loud = new Set(found.marks.flatMap((mark) => (mark.kind === "opened" ? (mark.vitals ?? []) : [])));
  for (const vital of [...found.vitals].sort((a, b) => loud.has(b.name) - loud.has(a.name))) {
    const known = plots.get(vital.name);
    if (!vital.at_us.length && !known) continue;
    const data = columns(vital);
    if (known) {
      known.found = found;
      known.plot.setData(data);
      known.holder.classList.toggle("is-sick", loud.has(vital.name));
      known.holder.setAttribute("aria-label", inWords(vital));
      continue;
    }
    const read = h("span.read", {}, "");
    const holder = h("div.chart", { tabindex: "0", role: "group", "aria-label": inWords(vital), dataset: { vital: vital.name } }, h("header", {}, h("h3", {}, vital.label, vital.unit ? h("span.quiet", {}, ` ${vital.unit}`) : null), read));
    holder.classList.toggle("is-sick", loud.has(vital.name));
    box.append(holder);
    const kept = { found, holder, read };
    kept.plot = make(holder, vital, data, kept, again);
    plots.set(vital.name, kept);
    holder.kept = kept;
    holder.addEventListener("keydown", (event) => step(kept.plot, event));
    // only the chart that is stepped through speaks, not all that share its cursor
    holder.addEventListener("focus", () => read.setAttribute("aria-live", "polite"));
    holder.addEventListener("blur", () => read.removeAttribute("aria-live"));
  }
  tellCourse(box.parentElement.querySelector("#course"), found);
}

/** A chart for who does not see it. */
function inWords({ label, unit, value, band }) {
  const newest = value.findLast((one) => one !== null);
  const of = unit ? ` ${unit}` : "";
  if (newest === undefined) return `${label}: nothing measured in this window`;
  const learned = band?.expected.length ? `, expected ${figure(band.expected.at(-1))}, learned band ${figure(band.low.at(-1))} to ${figure(band.high.at(-1))}` : ", no band learned yet";
  return `${label}: newest ${figure(newest)}${of}${learned}`;
}

const COURSE = { onset: "first symptom", opened: "incident opened", closed: "incident over", fact: "changed", sick: "sick", held: "contained", trial: "healing on trial" };
/** What the marks and shades mean, in words, with their times. */
function tellCourse(list, { marks, spans, to_us, vitals }) {
  const iso = (at_us) => new Date(at_us / 1000).toISOString();
  const rows = [
    ...spans.map((one) => ({ at: one.from_us, kind: one.kind, says: [time(iso(one.from_us)), " to ", one.to_us && one.to_us <= to_us ? time(iso(one.to_us)) : "now"], text: one.kind === "trial" ? "" : one.text })),
    ...marks.map((one) => ({ at: one.at_us, kind: one.kind, says: [time(iso(one.at_us))], text: one.kind === "fact" ? one.text : one.incident })),
  ].sort((a, b) => a.at - b.at);
  const nothing = vitals.some((one) => one.at_us.length) ? null : empty("Nothing was measured in this window.");
  fill(list, nothing, rows.map((one) => h("li", { dataset: { key: `${one.kind}-${one.at}` } }, h("i", { class: `k-${one.kind === "opened" ? "mark" : one.kind}`, "aria-hidden": "true" }), one.says, ` ${COURSE[one.kind] ?? words(one.kind)}`, one.text ? `: ${one.text}` : "")));
}

/** The arrow keys move the cursor of this chart from sample to sample, and that of the others with it. */
function step(plot, event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const end = { Home: 0, End: plot.data[0].length - 1 }[event.key];
  if ((by === undefined && end === undefined) || !plot.data[0].length) return;
  event.preventDefault();
  const from = plot.cursor.idx ?? (by > 0 ? -1 : plot.data[0].length);
  const place = Math.min(plot.data[0].length - 1, Math.max(0, end ?? from + by));
  const value = plot.data[1][place];
  plot.setCursor({ left: plot.valToPos(plot.data[0][place], "x"), top: value === null ? 0 : plot.valToPos(value, "y") }, true, true);
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
      width: fit(holder),
      height: HEIGHT,
      legend: { show: false },
      cursor: { sync: { key: "agent" }, drag: { x: true, y: false, setScale: false } },
      axes: [{ ...axis, values: (_, ticks) => ticks.map((one) => HOUR.format(new Date(one * 1000))) }, { ...axis, size: 58, values: (_, ticks) => ticks.map((one) => SHORT.format(one)) }],
      series: [{}, { stroke: colour("--accent"), width: 1.5 }, { stroke: colour("--soft"), dash: [4, 4], width: 1 }, { stroke: "transparent" }, { stroke: "transparent" }],
      bands: [{ series: [4, 3], fill: `color-mix(in srgb, ${colour("--soft")} 22%, transparent)` }],
      hooks: {
        drawClear: [(plot) => shade(plot, kept.found, colour)],
        draw: [(plot) => pins(plot, kept.found, vital.name, colour)],
        setCursor: [(plot) => tell(plot, kept.read)],
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
}

// onsets dotted, openings solid, over the line: the moment counts more than the value there
function pins(plot, found, vital, colour) {
  const { left, width, top, height } = plot.bbox;
  const pen = plot.ctx;
  pen.save();
  pen.strokeStyle = colour("--bad");
  for (const mark of found.marks) {
    const x = plot.valToPos(mark.at_us / 1e6, "x", true);
    if (!["onset", "opened"].includes(mark.kind) || x < left || x > left + width || (mark.vitals?.length && !mark.vitals.includes(vital))) continue;
    pen.lineWidth = mark.kind === "opened" ? 2 : 1.5;
    pen.setLineDash(mark.kind === "opened" ? [] : [3, 4]);
    pen.beginPath();
    pen.moveTo(x, top);
    pen.lineTo(x, top + height);
    pen.stroke();
  }
  pen.restore();
}

function tell(plot, read) {
  const place = plot.cursor.idx;
  const at = plot.data[0][place];
  const value = plot.data[1][place];
  read.textContent = at === undefined || value === null || value === undefined ? "" : `${clock(new Date(at * 1000).toISOString())}  ${figure(value)}${plot.data[2][place] == null ? "" : `, expected ${figure(plot.data[2][place])}`}`;
}
