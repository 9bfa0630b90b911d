// The keyboard: g f, g a, g i, g j, /, j k, Enter, a, r, ?, Esc. Never while somebody types.
import { $, h } from "./dom.js";
import { stay } from "./moment.js";

const PAGES = { f: "/fleet", a: "/approvals", i: "/incidents", j: "/journal", p: "/policy", r: "/runs", s: "/system" };
const LISTED = [["g f", "fleet"], ["g a", "approvals"], ["g i", "incidents"], ["g j", "journal"], ["/", "filter"], ["j k", "next, previous"], ["Enter", "open"], ["a", "approve"], ["r", "reject"], ["?", "these keys"], ["Esc", "close"]];
const own = {};

/** Give a key a meaning on this page. */
export function onKey(key, act) {
  own[key] = act;
}

let before = "";
export function startKeys() {
  $("#help-keys").replaceChildren(h("dl.facts", {}, LISTED.map(([key, says]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, says)])));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || $("dialog[open]")) return;
    const chord = before === "g" ? PAGES[event.key] : null;
    before = event.key === "g" ? "g" : "";
    if (chord) location.assign(stay(chord));
    else if (event.key === "?") $("#help").showModal();
    else if (event.key === "/" && $("#filter")) $("#filter").focus();
    else if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
    else if (event.key === "Enter" && event.target.dataset?.opens) location.assign(event.target.dataset.opens);
    else if (own[event.key]) own[event.key](event);
    else return;
    event.preventDefault();
  });
}

const typing = (target) => target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.nodeName));

function step(by) {
  const rows = [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent !== null);
  if (!rows.length) return;
  const place = rows.findIndex((row) => row === document.activeElement || row.contains(document.activeElement));
  const next = rows[Math.min(rows.length - 1, Math.max(0, place < 0 ? 0 : place + by))];
  (next.matches("a,button,[tabindex]") ? next : (next.querySelector("a,button") ?? next)).focus();
}
