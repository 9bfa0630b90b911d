// Time travel: a slider over the run with a tick where an incident opened; moving it shows the fleet as it was.
import { h, fill } from "./dom.js";
import { get } from "./api.js";
import { time } from "./format.js";
import { at, run, setQuery, twin } from "./moment.js";
import { momentChanged, on } from "./stream.js";
import { severityTone } from "./words.js";

const LAST_US = 1e6; // this close to the end is the end

export async function timeTravel(into, again) {
  const times = await get(run() ? `/api/times?run=${encodeURIComponent(run())}` : "/api/times").catch(() => null);
  if (!times || times.first_us === times.last_us) return;
  const shown = h("output", { for: "moment" });
  const slider = h("input", { id: "moment", type: "range", min: times.first_us, max: times.last_us, step: 1000000, "aria-label": "Moment of the run" });
  // a moment that is named by an event is where that event happened
  const named = at() && !at().startsWith("t") ? await get(twin("/api/stats")).catch(() => null) : null;
  const place = () => (at().startsWith("t") ? Number(at().slice(1)) : at() && named ? Date.parse(named.at) * 1000 : times.last_us);
  const marks = times.marks.map((one) => ({ ...one, at_us: Date.parse(one.at) * 1000 }));
  const tell = () => {
    slider.setAttribute("aria-valuetext", new Date(Number(slider.value) / 1000).toLocaleString());
    fill(shown, at() ? time(new Date(Number(slider.value) / 1000).toISOString()) : "now");
    document.body.classList.toggle("past", Boolean(at()));
  };
  let timer = 0;
  const go = (at_us) => {
    slider.value = at_us;
    setQuery({ at: at_us >= times.last_us - LAST_US ? "" : `t${Math.round(at_us)}` });
    momentChanged();
    tell();
    clearTimeout(timer);
    timer = setTimeout(again, 60);
  };
  slider.addEventListener("input", () => go(Number(slider.value)));
  slider.addEventListener("change", () => { if (!at()) location.reload(); });
  slider.value = place();
  tell();
  // a run that goes on has a later end
  on("change", ({ stats }) => {
    times.last_us = Math.max(times.last_us, Date.parse(stats.at) * 1000);
    slider.max = slider.value = times.last_us;
  });
  const step = (by) => {
    const from = place();
    const next = by > 0 ? marks.find((one) => one.at_us > from + LAST_US) : marks.findLast((one) => one.at_us < from - LAST_US);
    if (next) go(next.at_us);
    if (next && !at()) location.reload();
  };
  into.replaceChildren(
    h("label", { for: "moment" }, "Time travel"),
    h("button", { type: "button", title: "The incident before", "aria-label": "To the incident before", onclick: () => step(-1) }, "◀"),
    h("div.track", {}, slider, ticks(marks, times)),
    h("button", { type: "button", title: "The next incident", "aria-label": "To the next incident", onclick: () => step(1) }, "▶"),
    shown,
    h("button", { type: "button", onclick: () => { setQuery({ at: "" }); location.reload(); } }, "Now"),
  );
}

function ticks(marks, { first_us, last_us }) {
  return marks.map((one) => {
    const tick = h("span.mark", { class: `is-${severityTone(one.severity)}`, title: `${one.id}, severity ${one.severity.toFixed(1)}`, "aria-hidden": "true" });
    tick.style.left = `${(100 * (one.at_us - first_us)) / (last_us - first_us)}%`;
    return tick;
  });
}
