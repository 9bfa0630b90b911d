// Telling the system what people know: a deploy, a maintenance window. It is an event, and hides no hard limit.
import { post } from "./api.js";
import { askFor, toast } from "./dialogs.js";
import { inAnHour } from "./format.js";
import { may } from "./may.js";

export function announce() {
  const { allowed, why } = may("operator");
  if (!allowed) return toast(why, { bad: true });
  return askFor({
    title: "Announce a change or a maintenance window",
    text: "What these agents do until then is expected to differ. Hard limits hold all the same.",
    fields: [
      { name: "kind", label: "Whom it concerns", options: ["version", "service", "type", "provider", "model", "fleet"], required: true },
      { name: "value", label: "Which one (for the fleet: all)", required: true },
      { name: "until", label: "Until", type: "datetime-local", value: inAnHour(), required: true },
      { name: "reason", label: "Reason", type: "long" },
    ],
    ok: "Announce",
    send: ({ kind, value, until, reason }) => post("/api/announcements", { cohort: `${kind}=${value}`, until: new Date(until).toISOString(), ...(reason ? { reason } : {}) }),
  }).then((answer) => answer && toast("Announced."));
}
