import { $, fill } from "../dom.js";
import { approve, buttons, planButtons, reject } from "../deciding.js";
import { toast } from "../dialogs.js";
import { livePage } from "../page.js";
import { onKey } from "../keys.js";
import { ownId, twin } from "../moment.js";
import { approvalCard } from "../parts.js";
import { drawSparks } from "../spark.js";

const id = ownId();
let shown = null;

livePage({
  path: () => twin(`/api/approvals/${encodeURIComponent(id)}`),
  draw: (found) => {
    shown = found;
    fill($("#waiting"), approvalCard(found.approval, [...buttons({ ...found.approval, heal_now: found.actions.heal_now.allowed || !found.actions.heal_now.why?.startsWith("only") }), ...(found.approval.plan ? planButtons({ ...found.approval.plan, actions: found.actions }) : [])]));
    drawSparks();
  },
  into: "#waiting",
});
for (const [key, act] of [["a", approve], ["r", reject]]) onKey(key, () => {
  const may = shown?.actions[key === "a" ? "approve" : "reject"];
  if (may?.allowed) act(shown.approval);
  else if (may) toast(may.why, { bad: true });
});
