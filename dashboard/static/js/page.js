// The life of a page: load its twin, draw it, draw it again when it may read differently; loading, empty and error states.
import { $, h, fill } from "./dom.js";
import { get, Problem } from "./api.js";
import { standAt } from "./format.js";
import { stay } from "./moment.js";
import { on } from "./stream.js";

const AGAIN_MS = 120;

const heading = { name: document.title, waiting: 0 };
const entitle = () => { document.title = heading.waiting ? `(${heading.waiting}) ${heading.name}` : heading.name; };
/** Name the page, or say how many decisions wait; the title keeps both. */
export function titled(changes) {
  Object.assign(heading, changes);
  entitle();
}

/**
 * Load `path()` and `draw` it into the page, now and whenever `concerns(news)` says so. `into` shows loading and the error of a
 * page that never came; what stood there once stays when a later load fails, with the error above it.
 * Draws are never closer than AGAIN_MS, and one load is under way at a time.
 */
export function livePage({ path, draw, into, concerns = () => true, beats = false }) {
  let loading = false;
  let again = false;
  let timer = 0;
  let newest = null;
  let failed = false;
  let met = false;
  const load = async () => {
    timer = 0;
    if (loading) return void (again = true);
    loading = true;
    try {
      newest = await get(path());
      if (newest.past) standAt(newest.at);
      draw(newest);
      said(null);
      arrive();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      said(error);
    } finally {
      loading = false;
      if (again) {
        again = false;
        soon();
      }
    }
  };
  const soon = () => {
    timer ||= setTimeout(load, AGAIN_MS);
  };
  const said = (error) => {
    failed = Boolean(error);
    $(into).removeAttribute("aria-busy");
    $("#main").classList.toggle("failed", failed && !newest);
    if (failed && !newest) fill($(into), failure(error, load));
    else late(failed ? failure(error, load) : null);
  };
  on("change", (news) => concerns(news) && soon());
  on("reset", soon);
  // after a gap a page heals by itself; at the first greeting it has asked only a moment ago
  on("hello", (hello) => {
    if (failed ? met : (newest?.seq ?? Infinity) < hello.seq) soon();
    met = true;
  });
  if (beats) on("beat", soon);
  // who looks, and the moment that ages count to, change how the same answer reads
  for (const kind of ["session", "moment"]) document.addEventListener(kind, () => newest && draw(newest));
  load();
  return {
    again: soon,
    /** What is shown is about to be another list. */
    anew: () => {
      $(into).setAttribute("aria-busy", "true");
      soon();
    },
  };
}

/** Above what stays: why it is not newer. */
function late(panel) {
  const place = $("#late");
  if (panel) fill(place ?? $("#main").insertAdjacentElement("afterbegin", h("div", { id: "late" })), panel);
  else place?.remove();
}

let arrived = false;
// what an address points at is drawn after the browser looked for it: go there once, as the browser would have
function arrive() {
  if (arrived || location.hash.length < 2 || !document.getElementById(decodeURIComponent(location.hash.slice(1)))) return;
  arrived = true;
  const { hash } = location;
  history.replaceState(history.state, "", location.pathname + location.search);
  location.replace(hash);
}

export function failure(error, retry) {
  return h(
    "div.panel",
    { role: "alert" },
    h("p.error", {}, error.message.replace(/; see \/api\/\w+$/, "")),
    error.requestId ? h("p.quiet", {}, "Request id ", h("code", {}, error.requestId)) : null,
    h("p.bar", {}, h("button", { type: "button", onclick: retry }, "Try again"), error.status === 404 ? h("a.button", { href: stay("/fleet") }, "To the fleet") : null),
  );
}

export const empty = (...text) => h("p.hollow", {}, ...text);
