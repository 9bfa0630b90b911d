// Figures, times and words as people read them. Times are local, UTC stands in the title.
import { toast } from "./dialogs.js";
import { h } from "./dom.js";
import { isPast } from "./moment.js";

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const DAYED = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium", hour12: false });

export const words = (text) => String(text ?? "").replaceAll("_", " ");
export const clock = (iso) => (iso ? CLOCK.format(new Date(iso)) : "–");

export const utc = (iso) => `${iso.slice(0, 19).replace("T", " ")} UTC`;

/** A time element: local, with UTC on hover; the day stands before the hour where it is another than today. */
export function time(iso, { full = false } = {}) {
  if (!iso) return h("span.quiet", {}, "–");
  const date = new Date(iso);
  const today = date.toDateString() === new Date(now()).toDateString();
  return h("time", { datetime: iso, title: utc(iso) }, (full ? FULL : today ? CLOCK : DAYED).format(date));
}

export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  const both = (large, name, small, unit) => `${large} ${name}${small ? ` ${small} ${unit}` : ""}`;
  if (s < 3600) return both(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86400) return both(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
  return both(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
}

let offset = 0;
let standing = "";
/** The dashboard's clock, so that ages do not depend on this machine's. */
export const now = () => (standing ? Date.parse(standing) : Date.now() + offset);
/** What is over is told as it was then: ages count to this moment. An empty one lets the clock run again. */
export function standAt(iso) {
  standing = iso;
}
export function setClock(iso) {
  offset = Date.parse(iso) - Date.now();
}

/** An hour from now, as a field for local times takes it. */
export const inAnHour = () => new Date(now() + 3600e3 - new Date().getTimezoneOffset() * 60e3).toISOString().slice(0, 16);

/** Elements with data-since or data-until are kept counting by `tickAges`. */
export function age(iso) {
  return iso ? h("span", { dataset: { since: iso }, title: utc(iso) }, `${span((now() - Date.parse(iso)) / 1000)} ago`) : h("span.quiet", {}, "never");
}
/** Whether an agent may really have sent nothing yet. */
export const unseen = (row) => !row.last_seen && row.health === "learning" && !isPast();
/** When an agent was last seen. Whoever has a baseline was seen: then it is only not known when. */
export const seen = (row) => (row.last_seen || unseen(row) ? age(row.last_seen) : h("span.quiet", { title: "told of the running moment alone, from the measurements" }, "–"));
export function left(iso) {
  return iso ? h("span", { dataset: { until: iso }, title: utc(iso) }, leftText(iso)) : "";
}
const leftText = (iso) => {
  const seconds = (Date.parse(iso) - now()) / 1000;
  return seconds > 0 ? `${span(seconds)} left` : "over";
};
export function tickAges(from = document) {
  for (const element of from.querySelectorAll("[data-since]")) element.textContent = `${span((now() - Date.parse(element.dataset.since)) / 1000)} ago`;
  for (const element of from.querySelectorAll("[data-runs-out]")) element.value = Math.max(0, Date.parse(element.dataset.runsOut) - now());
  for (const element of from.querySelectorAll("[data-until]")) element.textContent = leftText(element.dataset.until);
}

export function figure(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-3)) return Number(value).toExponential(2);
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString();
  return Number(value).toLocaleString(undefined, { maximumSignificantDigits: digits });
}
const UNITS = { ms: "ms", usd: "USD", tokens: "tokens", calls: "calls", retries: "retries", errors: "errors", s: "s" };
const unitWord = (vital) => UNITS[String(vital).split("_").at(-1)];
/** A figure of a vital with its unit: names of vitals end in theirs. */
export const measured = (value, vital) => (unitWord(vital) ? `${figure(value)} ${unitWord(vital)}` : figure(value));
/** The name of a vital in words, without the unit that its figures carry. */
export const vitalWords = (vital) => words(String(vital).replace(/_(ms|usd|s)$/, ""));
/** A share as people may take it: nobody is a hundred percent sure. */
export function percent(share) {
  if (share === null || share === undefined) return "–";
  return share > 0.99 ? "> 99 %" : share > 0 && share < 0.01 ? "< 1 %" : `${Math.round(100 * share)} %`;
}
export const actor = (name) => String(name ?? "").replace(/^(person|policy|agent):/, (_, kind) => (kind === "person" ? "" : `${kind} `));

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    return toast("The browser does not let pages copy here: select it by hand.", { bad: true });
  }
  button.classList.add("copied");
  return toast(`Copied ${text}`);
}

/** An id that is copied when pressed. */
export function copyable(text, shown = text) {
  return h(
    "button.id.copy",
    {
      type: "button",
      title: `Copy ${text}`,
      "aria-label": `Copy ${text}`,
      dataset: { means: `copy:${text}` },
      onclick: ({ currentTarget }) => copy(text, currentTarget),
    },
    shown,
  );
}
