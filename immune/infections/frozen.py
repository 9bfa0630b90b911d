"""Samples still come, but they are the same again and again: a hung loop, a cached answer, a stuck exporter."""

from immune.core.diagnosis import Infection, Symptom

INFECTION = Infection(
    kind="frozen",
    summary="All vitals repeat exactly; healthy vitals never do for long.",
    symptoms=(Symptom(vital="*", direction="stuck", required=True, often=0.98),),
    stray=0.12,
    ladder=(("restart_agent",), ("reset_agent",), ("replace_agent",)),
)
