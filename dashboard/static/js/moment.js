// Which run and which moment the page shows: ?run= and ?at= of the address, nothing for the newest.

export const here = () => new URLSearchParams(location.search);
export const run = () => here().get("run") ?? "";
export const at = () => here().get("at") ?? "";
export const isPast = () => Boolean(run() || at());

/** A path of the JSON twin for the shown run and moment. */
export function twin(path, more = {}) {
  const query = new URLSearchParams();
  if (run()) query.set("run", run());
  if (at()) query.set("at", at());
  for (const [name, value] of Object.entries(more)) if (value !== "" && value !== null && value !== undefined) query.set(name, value);
  const text = query.toString();
  return text ? `${path}${path.includes("?") ? "&" : "?"}${text}` : path;
}

/** A page's address that stays in the shown run and moment. */
export function stay(path) {
  const query = new URLSearchParams();
  if (run()) query.set("run", run());
  if (at()) query.set("at", at());
  const text = query.toString();
  return text ? `${path}${path.includes("?") ? "&" : "?"}${text}` : path;
}

let shown = location.pathname + location.search;
/** Whether the address is another than the page shows; a fragment is none. */
export const moved = () => location.pathname + location.search !== shown;

/** Write these parameters into the address; an empty value takes one out. `push` makes a step for the back button. */
export function setQuery(changes, { push = false } = {}) {
  const query = here();
  for (const [name, value] of Object.entries(changes)) {
    if (value === "" || value === null || value === undefined) query.delete(name);
    else query.set(name, value);
  }
  const text = query.toString();
  const address = location.pathname + (text ? `?${text}` : "") + location.hash;
  if (address !== location.pathname + location.search + location.hash) history[push ? "pushState" : "replaceState"]({}, "", address);
  shown = location.pathname + location.search;
}

// an id that browsers would read as a path of its own goes into the query
const ODD = /(^|\/)\.{0,2}(\/|$)/;

export const agentPage = (id) => stay(ODD.test(id) ? `/agent?id=${encodeURIComponent(id)}` : `/agents/${encodeURIComponent(id)}`);
export const agentTwin = (id, more = {}) => twin("/api/agent", { id, ...more });
export const agentAct = (id, verb) => `/api/agent/${verb}?id=${encodeURIComponent(id)}`;
export const incidentPage = (id) => stay(`/incidents/${encodeURIComponent(id)}`);
export const approvalPage = (id) => stay(`/approvals/${encodeURIComponent(id)}`);
export const eventPage = (seq) => stay(`/journal/e${seq}`);
export const runPage = (id) => `/runs/${encodeURIComponent(id)}`;

/** The id in this page's address. */
export function ownId() {
  const last = location.pathname.split("/").slice(2).join("/");
  return last ? decodeURIComponent(last) : (here().get("id") ?? "");
}
