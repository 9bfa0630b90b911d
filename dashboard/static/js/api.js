// Asking the dashboard's JSON routes: errors as objects with a request id, changes with the session's own word.

export const session = { name: null, role: "viewer", csrf: null, login_required: false, snoozed: {} };

const STAMP = /\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g;
/** A sentence of the API, which scripts read too, for people: local times, names without their kind. */
const forPeople = (text) => text.replace(STAMP, (iso) => new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium", hour12: false })).replace(/\bperson:(?=\S)/g, "");

export class Problem extends Error {
  constructor(document, status) {
    super(forPeople(document?.detail ?? `the dashboard answered ${status}`));
    this.status = status;
    this.field = document?.field ?? null;
    this.requestId = document?.request_id ?? "";
    this.document = document ?? {};
  }
}

async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Problem({ detail: "the dashboard does not answer" }, 0);
  }
  const isJson = (response.headers.get("Content-Type") ?? "").includes("json");
  const document = isJson ? await response.json().catch(() => null) : null;
  if (!response.ok) throw new Problem(document, response.status);
  return document;
}

export const get = (path) => ask(path);

export function post(path, body = {}) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID?.() ?? String(Math.random()).slice(2) };
  if (session.csrf) headers["X-CSRF-Token"] = session.csrf;
  return ask(path, { method: "POST", headers, body: JSON.stringify(body) });
}

export async function loadSession() {
  Object.assign(session, await get("/api/session"));
  return session;
}
