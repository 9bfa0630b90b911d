// The fleet as a canvas: one cell an agent, coloured and marked by state.
import { h } from "./dom.js";
import { STATES } from "./words.js";

const GAP = 2;

/** Draw groups [[name, rows]] into the box; click or Enter opens, arrows move. */
export function drawMap(box, groups, { open }) {
  const rows = groups.flatMap(([, members]) => members);
  let canvas = box.querySelector("canvas");
  let tip = box.querySelector("p");
  if (!canvas) {
    canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": "Map of the fleet; arrows move, Enter opens. The table below has the same." });
    tip = h("p.quiet", { "aria-live": "polite" }, "One cell an agent.");
    box.replaceChildren(canvas, tip);
    canvas.addEventListener("mousemove", (event) => point(canvas, at(canvas, event)));
    canvas.addEventListener("click", (event) => { const row = canvas.map.rows[at(canvas, event)]; if (row) canvas.map.open(row); });
    canvas.addEventListener("keydown", keys);
  }
  const width = box.clientWidth || 600;
  const cell = Math.max(6, Math.min(22, Math.floor(Math.sqrt((width * 420) / Math.max(1, rows.length)))));
  const columns = Math.max(1, Math.floor(width / cell));
  const scale = devicePixelRatio || 1;
  canvas.map = { rows, cell, columns, open, tip, chosen: canvas.map?.chosen ?? 0 };
  canvas.width = width * scale;
  canvas.height = Math.ceil(rows.length / columns) * cell * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const style = getComputedStyle(document.documentElement);
  const colours = Object.fromEntries(["good", "warn", "bad", "plain"].map((tone) => [tone, style.getPropertyValue(`--${tone}`)]));
  // one path per state: setting a colour ten thousand times is what takes long
  const places = new Map();
  rows.forEach((row, place) => (places.get(row.state) ?? places.set(row.state, []).get(row.state)).push(place));
  for (const [word, own] of places) {
    pen.fillStyle = colours[STATES[word]?.[1] ?? "plain"];
    pen.globalAlpha = word === "healthy" ? 0.55 : 1;
    pen.beginPath();
    for (const place of own) pen.rect((place % columns) * cell, Math.floor(place / columns) * cell, cell - GAP, cell - GAP);
    pen.fill();
  }
}

function at(canvas, event) {
  const { cell, columns } = canvas.map;
  const box = canvas.getBoundingClientRect();
  return Math.floor((event.clientY - box.top) / cell) * columns + Math.floor((event.clientX - box.left) / cell);
}

function point(canvas, place) {
  const row = canvas.map.rows[place];
  if (!row) return;
  canvas.map.chosen = place;
  canvas.map.tip.textContent = `${row.id}, ${row.state}, severity ${row.severity}`;
}

function keys(event) {
  const { columns, chosen, rows, open } = event.currentTarget.map;
  const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  if (event.key === "Enter" && rows[chosen]) open(rows[chosen]);
  else if (by) point(event.currentTarget, Math.min(rows.length - 1, Math.max(0, chosen + by)));
  else return;
  event.preventDefault();
}
