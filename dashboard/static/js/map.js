// The fleet as a canvas: one cell an agent, coloured by state and shaped by how bad it is, so that colour never speaks alone.
import { h } from "./dom.js";
import { STATES } from "./words.js";

const GAP = 2;
const LABEL = 22;

/** Draw groups [[name, rows]] into the box; click or Enter opens, arrows move, what is pointed at is told. */
export function drawMap(box, groups, { open }) {
  const canvas = box.querySelector("canvas") ?? make(box);
  const known = canvas.map;
  const here = known?.rows[known.chosen];
  const rows = groups.flatMap(([, members]) => members);
  const width = box.clientWidth || 600;
  const cell = Math.max(6, Math.min(22, Math.floor(Math.sqrt((width * 420) / Math.max(1, rows.length)))));
  const columns = Math.max(1, Math.floor(width / cell));
  const blocks = placed(groups, columns, cell);
  const height = (blocks.at(-1)?.bottom ?? 0) + 1;
  canvas.map = { rows, blocks, cell, columns, open, chosen: Math.max(0, here ? rows.indexOf(here) : 0), tip: box.querySelector("p"), ring: box.querySelector(".here") };
  canvas.style.height = `${height}px`;
  const scale = devicePixelRatio || 1;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  paint(pen, canvas.map);
  if (known && !canvas.map.ring.hidden) point(canvas, canvas.map.chosen);
}

function make(box) {
  const canvas = h("canvas", { tabindex: "0", role: "application", "aria-label": "Map of the fleet, the most severe first; arrows move, Enter opens. The table below has the same.", "aria-describedby": "map-tip" });
  const ring = h("i.here", { "aria-hidden": "true" });
  ring.hidden = true;
  box.replaceChildren(canvas, ring, h("p.quiet", { id: "map-tip", "aria-live": "polite" }, "One cell an agent: the larger and sharper, the worse."));
  canvas.addEventListener("mousemove", (event) => point(canvas, at(canvas, event)));
  canvas.addEventListener("focus", () => point(canvas, canvas.map.chosen));
  canvas.addEventListener("blur", () => { ring.hidden = true; });
  canvas.addEventListener("click", (event) => {
    const place = at(canvas, event);
    const again = place === canvas.map.chosen;
    point(canvas, place);
    // a finger covers many cells: the first touch tells, the second opens
    if (canvas.map.rows[place] && (again || event.pointerType !== "touch")) canvas.map.open(canvas.map.rows[place]);
  });
  canvas.addEventListener("keydown", keys);
  return canvas;
}

/** Where each group lies: rows of cells from `top` to `bottom`, its first agent, and how many. */
function placed(groups, columns, cell) {
  let first = 0;
  let top = 0;
  return groups.map(([name, members]) => {
    if (name) top += LABEL;
    const block = { name, first, count: members.length, top, bottom: top + Math.ceil(members.length / columns) * cell };
    first += members.length;
    top = block.bottom;
    return block;
  });
}

function cornerOf({ blocks, columns, cell }, place) {
  const block = blocks.find((one) => place < one.first + one.count);
  const own = place - block.first;
  return [(own % columns) * cell, block.top + Math.floor(own / columns) * cell];
}

// one path per state: setting a colour ten thousand times is what takes long
function paint(pen, { rows, blocks, columns, cell }) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`);
  const corners = new Map();
  for (const block of blocks) {
    for (let own = 0; own < block.count; own += 1) {
      const { state } = rows[block.first + own];
      if (!corners.has(state)) corners.set(state, []);
      corners.get(state).push((own % columns) * cell, block.top + Math.floor(own / columns) * cell);
    }
  }
  const size = cell - GAP;
  for (const [word, found] of corners) {
    const tone = STATES[word]?.[1] ?? "plain";
    pen.fillStyle = colour(tone);
    pen.beginPath();
    for (let n = 0; n < found.length; n += 2) shapes[tone](pen, found[n], found[n + 1], size);
    pen.fill();
  }
  pen.fillStyle = colour("soft");
  pen.font = "13px system-ui, sans-serif";
  for (const block of blocks) if (block.name) pen.fillText(`${block.name} (${block.count})`, 0, block.top - 6);
}

const shapes = {
  bad: (pen, x, y, size) => pen.rect(x, y, size, size),
  warn(pen, x, y, size) {
    pen.moveTo(x + size / 2, y);
    pen.lineTo(x + size, y + size);
    pen.lineTo(x, y + size);
  },
  good: (pen, x, y, size) => pen.rect(x + size / 4, y + size / 4, size / 2, size / 2),
  plain: (pen, x, y, size) => pen.rect(x, y + size / 3, size, size / 3),
};

function at(canvas, event) {
  const { blocks, cell, columns } = canvas.map;
  const box = canvas.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const block = blocks.find((one) => y >= one.top && y < one.bottom);
  const column = Math.floor(x / cell);
  const own = block && column < columns ? Math.floor((y - block.top) / cell) * columns + column : -1;
  return block && own >= 0 && own < block.count ? block.first + own : -1;
}

function point(canvas, place) {
  const { rows, ring, tip, cell } = canvas.map;
  const row = rows[place];
  if (!row) return;
  canvas.map.chosen = place;
  const [x, y] = cornerOf(canvas.map, place);
  Object.assign(ring.style, { left: `${x - 1}px`, top: `${y - 1}px`, width: `${cell}px`, height: `${cell}px` });
  ring.hidden = false;
  tip.textContent = `${row.id}, ${row.state}, severity ${row.severity}`;
}

function keys(event) {
  const { columns, chosen, rows, open } = event.currentTarget.map;
  const by = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  if (event.key === "Enter" && rows[chosen]) open(rows[chosen]);
  else if (by) point(event.currentTarget, Math.min(rows.length - 1, Math.max(0, chosen + by)));
  else return;
  event.preventDefault();
}
