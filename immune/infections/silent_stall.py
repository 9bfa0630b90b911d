"""Nothing comes any more: a crash, a deadlock, a lost connection. An agent that says it is idle is not silent."""

from immune.core.diagnosis import Infection, Symptom

INFECTION = Infection(
    kind="silent_stall",
    summary="No samples for many times the usual interval.",
    symptoms=(Symptom(vital="samples", direction="silent", required=True, often=0.98),),
    stray=0.12,
    ladder=(("restart_agent",), ("reset_agent",), ("replace_agent",)),
)
