// The life of a page: load its twin, draw it, draw it again when it may read differently; loading, empty and error states.
import { $, h, fill } from "./dom.js";
import { get, Problem } from "./api.js";
import { standAt } from "./format.js";
import { stay } from "./moment.js";
import { on, live } from "./stream.js";

const AGAIN_MS = 120;

const heading = { name: document.title, waiting: 0 };
const entitle = () => { document.title = heading.waiting ? `(${heading.waiting}) ${heading.name}` : heading.name; };
/** Name the page, or say how many decisions wait; the title keeps both. */
export function titled(changes) {
  Object.assign(heading, changes);
  entitle();
}

/**
 * Load `path()` and `draw` it into the page, now and whenever `concerns(news)` says so. `into` shows loading and errors.
 * Draws are never closer than AGAIN_MS, and one load is under way at a time.
 */
export function livePage({ path, draw, into, concerns = () => true, beats = false }) {
  let loading = false;
  let again = false;
  let timer = 0;
  let seen = Infinity;
  let drawn = false;
  const load = async () => {
    timer = 0;
    if (loading) return void (again = true);
    loading = true;
    try {
      const found = await get(path());
      seen = found.seq ?? Infinity;
      if (found.past) standAt(found.at);
      draw(found);
      $("#main").classList.remove("failed");
      drawn = true;
      arrive();
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      $("#main").classList.toggle("failed", !drawn);
      fill($(into), failure(error, load));
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
  on("change", (news) => concerns(news) && soon());
  on("reset", soon);
  on("hello", (hello) => seen < hello.seq && soon());
  if (beats) on("beat", soon);
  document.addEventListener("session", soon);
  load();
  return { again: soon, live };
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
