// Time travel: a slider over the run; moving it shows the fleet as it was.
import { h, fill } from "./dom.js";
import { get } from "./api.js";
import { time } from "./format.js";
import { at, run, setQuery, twin } from "./moment.js";

export async function timeTravel(into, again) {
  const times = await get(run() ? `/api/times?run=${encodeURIComponent(run())}` : "/api/times").catch(() => null);
  if (!times || times.first_us === times.last_us) return;
  const shown = h("output", { for: "moment" });
  const slider = h("input", { id: "moment", type: "range", min: times.first_us, max: times.last_us, step: 1000000, "aria-label": "Moment of the run" });
  slider.value = at().startsWith("t") ? at().slice(1) : times.last_us;
  const tell = () => fill(shown, at() ? time(new Date(Number(slider.value) / 1000).toISOString(), { full: true }) : "now");
  let timer = 0;
  slider.addEventListener("input", () => {
    setQuery({ at: Number(slider.value) >= times.last_us - 1e6 ? "" : `t${Math.round(slider.value)}` });
    tell();
    clearTimeout(timer);
    timer = setTimeout(again, 60);
    document.body.classList.toggle("past", Boolean(at()));
  });
  slider.addEventListener("change", () => { if (!at()) location.reload(); });
  tell();
  document.body.classList.toggle("past", Boolean(at()));
  into.replaceChildren(h("label", { for: "moment" }, "As it was at"), slider, shown, h("button", { type: "button", onclick: () => { setQuery({ at: "" }); location.reload(); } }, "Now"));
}
