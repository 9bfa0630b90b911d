"""The agent is no longer sure of what it does: a degraded model, a task outside its reach, missing context."""

from immune.core.diagnosis import FactHint, Infection, Symptom

INFECTION = Infection(
    kind="confidence_collapse",
    summary="Confidence down, and nothing else.",
    symptoms=(
        Symptom(vital="confidence", direction="down", required=True, often=0.98, ratio=0.4, spread=0.45),
        Symptom(vital="output_tokens", direction="down", often=0.1),
        Symptom(vital="errors", direction="up", often=0.1),
    ),
    against=(
        Symptom(vital="tool_calls", direction="up"),
        Symptom(vital="cost_usd", direction="up"),
        Symptom(vital="output_tokens", direction="up"),
        Symptom(vital="retries", direction="up"),
    ),
    shape="step",
    facts=(FactHint(field="model", nats=0.7),),
    ladder=(("reset_memory",), ("rollback_prompt",), ("reset_agent",), ("replace_agent",)),
)
