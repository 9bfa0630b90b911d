// The filter box: `state:isolated type:coder sev>6 word`. The same grammar as dashboard/filters.py.
const TERM = /(-?)(?:([a-z_]+)(:|>=|<=|>|<|=))?("[^"]*"|\S+)/g;
const ALIASES = { sev: "severity", agent: "subject", kind: "diagnosis" };
const COMPARE = { ">": (a, b) => a > b, "<": (a, b) => a < b, ">=": (a, b) => a >= b, "<=": (a, b) => a <= b };
const LOOSE = new Set(["id", "subject", "cohort", "reason"]);

/** A predicate over rows. */
export function filterOf(query) {
  const terms = [...query.matchAll(TERM)].map(([, minus, name, sign, value]) => {
    const text = value.replace(/^"|"$/g, "").toLowerCase();
    const holds = !name ? anywhere(text) : COMPARE[sign] ? compared(ALIASES[name] ?? name, COMPARE[sign], Number(text)) : word(ALIASES[name] ?? name, text.split(","));
    return minus ? (row) => !holds(row) : holds;
  });
  return (row) => terms.every((term) => term(row));
}

const anywhere = (text) => (row) => Object.values(row).some((value) => (typeof value === "string" || Array.isArray(value)) && String(value).toLowerCase().includes(text));
const compared = (name, compare, limit) => (row) => typeof row[name] === "number" && compare(row[name], limit);
const word = (name, words) => (row) => {
  const value = row[name];
  if (Array.isArray(value)) return value.some((item) => words.includes(String(item).toLowerCase()));
  const text = value === null || value === undefined ? "" : String(value).toLowerCase();
  return words.some((one) => text === one || (one && LOOSE.has(name) && text.includes(one)));
};
