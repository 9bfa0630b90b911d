// A small line of the vital that speaks loudest: the last minutes, the learned band behind, nothing else.
import { get } from "./api.js";
import { h } from "./dom.js";
import { agentTwin } from "./moment.js";

const BEFORE_US = 8 * 60e6;
const AFTER_US = 90e6;
const drawn = new WeakSet();

/** A place for the line; `drawSparks` draws it once it is on the page. */
export const spark = (agent, evidence) =>
  h("div.spark", { role: "img", "aria-label": `${evidence.vital.replaceAll("_", " ")} around the first symptom`, dataset: { keep: "", agent, vital: evidence.vital, onset: evidence.onset_at ?? "" } });

/** Draw what is not drawn yet. */
export async function drawSparks(from = document) {
  for (const box of from.querySelectorAll(".spark")) {
    if (drawn.has(box)) continue;
    drawn.add(box);
    const onset_us = Date.parse(box.dataset.onset) * 1000;
    const range = Number.isFinite(onset_us) ? { from: onset_us - BEFORE_US, to: onset_us + AFTER_US } : {};
    const found = await get(`/api/series?${agentTwin(box.dataset.agent, { vital: box.dataset.vital, points: 160, ...range }).split("?")[1]}`).catch(() => null);
    const vital = found?.vitals[0];
    if (vital?.at_us.length > 1) line(box, vital, onset_us);
  }
}

function line(box, { at_us, value, band }, onset_us) {
  const canvas = h("canvas");
  box.replaceChildren(canvas);
  const [width, height, scale] = [canvas.clientWidth || 300, 46, devicePixelRatio || 1];
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name);
  const known = value.filter((one) => one !== null);
  const [low, high] = [Math.min(...known, ...(band?.low.filter(Number.isFinite) ?? [])), Math.max(...known)];
  const x = (at) => ((at - at_us[0]) / (at_us.at(-1) - at_us[0])) * width;
  const y = (one) => height - 3 - ((Math.min(one, high) - low) / (high - low || 1)) * (height - 6);
  if (band?.at_us.length) {
    pen.fillStyle = colour("--sunk");
    pen.beginPath();
    band.at_us.forEach((at, n) => pen.lineTo(x(at), y(band.high[n])));
    [...band.at_us].reverse().forEach((at, n) => pen.lineTo(x(at), y(band.low[band.at_us.length - 1 - n])));
    pen.fill();
  }
  if (Number.isFinite(onset_us)) {
    pen.fillStyle = colour("--bad-ground");
    pen.fillRect(x(onset_us), 0, width, height);
    pen.fillStyle = colour("--bad");
    pen.fillRect(x(onset_us), 0, 2, height);
  }
  pen.strokeStyle = colour("--accent");
  pen.lineWidth = 1.5;
  pen.beginPath();
  at_us.forEach((at, n) => value[n] !== null && pen.lineTo(x(at), y(value[n])));
  pen.stroke();
}
