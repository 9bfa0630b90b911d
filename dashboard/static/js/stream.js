// The live stream: one EventSource a browser, resumed by seq; pages subscribe to what they show.
import { $, h } from "./dom.js";
import { now, setClock } from "./format.js";
import { run, at } from "./moment.js";

const STALE_MS = 15000;
const listeners = { hello: [], change: [], reset: [], beat: [], status: [] };
export const live = { runId: "", seq: 0, paused: false, state: "connecting", daemon: "", held: [] };

let source = null;
let heard = 0;
const last = {};

/** Be told: kind is hello (connected), change (news of the journal), reset (ask for everything anew), beat, or status. */
export function on(kind, hear) {
  listeners[kind].push(hear);
}

const tell = (kind, document) => listeners[kind].forEach((hear) => hear(document));

// Browsers open six connections to a host and no more. The tabs of one browser therefore share one stream: whoever holds the
// lock listens and passes on, and when it goes the next one takes over where it was.
const shared = globalThis.navigator?.locks && globalThis.BroadcastChannel ? new BroadcastChannel("immune-stream") : null;

export function startStream() {
  if (run() || at()) return momentChanged();
  setInterval(() => {
    if (live.state === "live" && performance.now() - heard > STALE_MS) setState("stale");
  }, 1000);
  if (!shared) return open();
  shared.onmessage = ({ data }) => (data.kind === "who?" ? introduce() : receive(data.kind, data.document));
  shared.postMessage({ kind: "who?" });
  navigator.locks.request("immune-stream", () => {
    open();
    return new Promise(() => {});
  });
}

// a tab that joins is told where the others are
function introduce() {
  if (!source || !live.seq) return;
  shared.postMessage({ kind: "hello", document: { run_id: live.runId, from: live.seq, seq: live.seq, now: new Date(now()).toISOString() } });
  if (last.status) shared.postMessage({ kind: "status", document: last.status });
}

function open() {
  source?.close();
  const query = live.seq ? `?after=${live.seq}&run_id=${encodeURIComponent(live.runId)}` : "";
  source = new EventSource(`/api/stream${query}`);
  for (const kind of Object.keys(take)) {
    source.addEventListener(kind, (event) => {
      const document = JSON.parse(event.data);
      if (kind === "status") last.status = document;
      pass(kind, document);
    });
  }
  source.onerror = () => {
    pass("broken", {});
    if (source.readyState === EventSource.CLOSED) setTimeout(open, 2000);
  };
}

function pass(kind, document) {
  shared?.postMessage({ kind, document });
  receive(kind, document);
}

function receive(kind, document) {
  if (kind === "broken") return setState("reconnecting");
  heard = performance.now();
  setState("live");
  take[kind](document);
}

const take = {
  hello(document) {
    setClock(document.now);
    const gap = live.runId && (live.runId !== document.run_id || document.from > live.seq);
    live.runId = document.run_id;
    if (gap || !live.seq) live.seq = document.from;
    if (gap) deliver(["reset", document]);
    else tell("hello", document);
  },
  run: restart,
  change(document) {
    if (document.run_id !== live.runId || document.seq <= live.seq) return; // told already
    const gap = document.after > live.seq;
    live.seq = document.seq;
    deliver(gap || document.reset ? ["reset", document] : ["change", document]);
  },
  beat(document) {
    setClock(document.now);
    deliver(["beat", document]);
  },
  status: (document) => tell("status", document),
};

function restart(document) {
  live.runId = document.run_id;
  live.seq = document.seq;
  deliver(["reset", document]);
}

// a frozen page is told everything at once when it goes on
function deliver([kind, document]) {
  if (run() || at()) return; // what is shown is over: nothing that happens now belongs there
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

/** What the daemon is: a page of a daemon that is away is not live, whatever the stream says. */
export function setDaemon(word) {
  if (word === live.daemon) return;
  live.daemon = word;
  setState(live.state, true);
}

/** The page shows another moment than before. */
export const momentChanged = () => setState(live.state, true);

function setState(heard, force = false) {
  if (heard === live.state && !force) return;
  live.state = heard;
  const word = at() ? "past" : run() ? "other run" : heard;
  const away = word === "live" && live.daemon && live.daemon !== "up";
  const says = !away ? word : live.daemon === "away" ? "daemon away" : `live, daemon ${live.daemon}`;
  const chip = $("#live-chip");
  chip.replaceChildren(...(live.paused ? ["paused"] : says === "daemon away" ? [h("span.hide-narrow", {}, "daemon "), "away"] : [says]));
  chip.title = away ? `The daemon is ${live.daemon}` : "";
  chip.className = `chip tone-${word === "live" && !away && !live.paused ? "good" : word === "past" || word === "other run" ? "plain" : "warn"}`;
}
