// What every page does: who is here, which run, theme, banners, the count of what waits, the live stream, the keys.
import { $, h, fill } from "./dom.js";
import { get, post, loadSession, session } from "./api.js";
import { askFor, toast } from "./dialogs.js";
import { standAt, tickAges, time } from "./format.js";
import { isPast, moved, setQuery, run, at, stay, twin } from "./moment.js";
import { on, setPaused, setDaemon, startStream, live } from "./stream.js";
import { startKeys } from "./keys.js";
import { titled } from "./page.js";

function theme() {
  $("#theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme === "dark" || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    localStorage.setItem("theme", document.documentElement.dataset.theme);
  });
}

async function who() {
  await loadSession();
  const out = h("button", { type: "button", onclick: async () => { await post("/api/logout"); location.reload(); } }, "Log out");
  fill($("#who"), session.name ? [h("span.person", {}, `${session.name} (${session.role}) `), out] : h("a.button", { href: `/login?next=${encodeURIComponent(location.pathname + location.search)}` }, "Log in"));
  document.dispatchEvent(new CustomEvent("session", { detail: session }));
}

async function runs() {
  const select = $("#run-select");
  const { runs: found } = await get("/api/runs").catch(() => ({ runs: [] }));
  select.replaceChildren(h("option", { value: "" }, found.length ? "newest run" : "no runs yet"), ...found.map((one) => h("option", { value: one.run_id }, one.run_id + (one.running ? " (running)" : ""))));
  select.value = run();
  select.addEventListener("change", () => {
    setQuery({ run: select.value, at: "" }, { push: true });
    location.reload();
  });
}

export function showPending(count) {
  const badge = $("#pending-count");
  badge.hidden = !count;
  badge.textContent = count;
  badge.setAttribute("aria-label", `${count} waiting`);
  titled({ waiting: count });
}

// the page that is about troubles has a list of them; of a run that is over nobody expects a daemon
const onSystem = document.documentElement.dataset.page === "system";
let told = {};
let over = "";
function banners(status) {
  told = status;
  setDaemon(status.daemon?.status ?? "");
  const troubles = (status.troubles ?? []).filter((one) => !onSystem && !(over && one.what === "daemon"));
  fill($("#banners"), troubles.map((one) => h("div.banner", { dataset: { key: one.what } }, one.detail)), over && !isPast() ? h("div.banner", { dataset: { key: "over" } }, "This run is over; ages count from its end, ", time(over, { full: true }), ".") : null, at() || run() ? h("div.banner", { dataset: { key: "past" } }, at() ? "You look at a moment that is over. " : "You look at another run. ", h("a", { href: location.pathname }, "Back to now")) : null);
}

function navigation() {
  for (const link of document.querySelectorAll("[data-nav]")) link.href = stay(link.getAttribute("href"));
  $("#pause").addEventListener("click", (event) => {
    setPaused(!live.paused);
    event.currentTarget.setAttribute("aria-pressed", String(live.paused));
    event.currentTarget.textContent = live.paused ? "Go on" : "Pause";
  });
}

theme();
navigation();
startKeys();
banners({});
on("status", banners);
on("change", (document_) => showPending(document_.stats.approvals.pending));
on("reset", () => refreshPending());
async function refreshPending() {
  const stats = await get("/api/stats").catch(() => null);
  if (!stats) return;
  showPending(stats.approvals.pending);
  const shown = isPast() ? await get(twin("/api/stats")).catch(() => null) : stats;
  if (!shown) return;
  over = shown.ended_at ?? "";
  standAt(isPast() || over ? shown.at : "");
  if (isPast() || over) document.dispatchEvent(new Event("moment"));
  banners(told);
  tickAges();
}
setInterval(() => { if (!live.paused) tickAges(); }, 1000);
addEventListener("popstate", () => moved() && location.reload());
who();
runs();
refreshPending();
startStream();
