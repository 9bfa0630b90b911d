// What the person who looks may do, as the buttons say it; the server has the last word.
import { session } from "./api.js";
import { isPast } from "./moment.js";

const RANK = { viewer: 0, operator: 1, approver: 2, admin: 3 };

export function may(role, reachable = true) {
  if (isPast()) return { allowed: false, why: "this is not the running moment" };
  if (!reachable) return { allowed: false, why: "the daemon is away" };
  if (!session.name) return { allowed: false, why: "log in to decide" };
  if (RANK[session.role] < RANK[role]) return { allowed: false, why: `the role ${session.role} may not do this; ask for the role ${role}` };
  return { allowed: true, why: null };
}
