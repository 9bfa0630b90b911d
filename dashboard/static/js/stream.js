// The live stream: one EventSource a page, resumed by seq; pages subscribe to what they show.
import { $ } from "./dom.js";
import { setClock } from "./format.js";
import { run, at } from "./moment.js";

const STALE_MS = 15000;
const listeners = { hello: [], change: [], reset: [], beat: [], status: [] };
export const live = { runId: "", seq: 0, paused: false, state: "connecting", held: [] };

let source = null;
let heard = 0;

/** Be told: kind is hello (connected), change (news of the journal), reset (ask for everything anew), beat, or status. */
export function on(kind, hear) {
  listeners[kind].push(hear);
}

const tell = (kind, document) => listeners[kind].forEach((hear) => hear(document));

export function startStream() {
  if (run() || at()) return setState(at() ? "past" : "other run");
  open();
  setInterval(() => {
    if (source && live.state === "live" && performance.now() - heard > STALE_MS) setState("stale");
  }, 1000);
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => {
    if (event.persisted) open();
  });
}

function open() {
  source?.close();
  const query = live.seq ? `?after=${live.seq}&run_id=${encodeURIComponent(live.runId)}` : "";
  source = new EventSource(`/api/stream${query}`);
  const hear = (kind, take) =>
    source.addEventListener(kind, (event) => {
      heard = performance.now();
      setState("live");
      take(JSON.parse(event.data));
    });
  hear("hello", (document) => {
    setClock(document.now);
    const gap = live.runId && (live.runId !== document.run_id || document.from > live.seq);
    live.runId = document.run_id;
    if (gap || !live.seq) live.seq = document.from;
    if (gap) deliver(["reset", document]);
    else tell("hello", document);
  });
  hear("run", restart);
  hear("change", (document) => {
    if (document.run_id !== live.runId || document.seq <= live.seq) return; // told already
    const gap = document.after > live.seq;
    live.seq = document.seq;
    deliver(gap || document.reset ? ["reset", document] : ["change", document]);
  });
  hear("beat", (document) => {
    setClock(document.now);
    deliver(["beat", document]);
  });
  hear("status", (document) => tell("status", document));
  source.onerror = () => {
    setState("reconnecting");
    if (source.readyState === EventSource.CLOSED) setTimeout(open, 2000);
  };
}

function restart(document) {
  live.runId = document.run_id;
  live.seq = document.seq;
  deliver(["reset", document]);
}

// a frozen page is told everything at once when it goes on
function deliver([kind, document]) {
  if (!live.paused) return tell(kind, document);
  if (kind === "beat") return;
  live.held.push([kind, document]);
  if (live.held.length > 500) live.held = [["reset", document]];
  $("#live-chip").textContent = `paused, ${live.held.length} changes wait`;
}

export function setPaused(paused) {
  live.paused = paused;
  const held = live.held;
  live.held = [];
  if (!paused) held.forEach(([kind, document]) => tell(kind, document));
  setState(live.state, true);
}

function setState(word, force = false) {
  if (word === live.state && !force) return;
  live.state = word;
  const chip = $("#live-chip");
  chip.textContent = live.paused ? "paused" : word;
  chip.className = `chip tone-${word === "live" ? "good" : word === "past" || word === "other run" ? "plain" : "warn"}`;
}
