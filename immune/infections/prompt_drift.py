"""The agent answers differently than it used to: an edited prompt, a shifted instruction, a slowly changing style."""

from immune.core.diagnosis import FactHint, Infection, Symptom

INFECTION = Infection(
    kind="prompt_drift",
    summary="Output about half as long again as normal, or about as much shorter; all else follows in proportion, or stays.",
    symptoms=(
        Symptom(vital="output_tokens", direction="up", required=True, often=0.65, ratio=1.6, spread=0.22),
        Symptom(vital="output_tokens", direction="down", required=True, often=0.25, ratio=0.62, spread=0.3),
        Symptom(vital="cost_usd", direction="up", often=0.6),
        Symptom(vital="latency_ms", direction="up", often=0.55),
        Symptom(vital="cost_per_token", direction="up", often=0.3, weight=0.6),
        Symptom(vital="cost_per_token", direction="down", often=0.3, weight=0.6),
        Symptom(vital="latency_per_output_token", direction="down", often=0.4, weight=0.6),
        Symptom(vital="cost_usd", direction="down", often=0.2),
        Symptom(vital="latency_ms", direction="down", often=0.2),
        Symptom(vital="confidence", direction="down", often=0.05),
        Symptom(vital="context_tokens", direction="up", often=0.15),
        Symptom(vital="input_tokens", direction="up", often=0.15),
    ),
    against=(
        Symptom(vital="tool_calls", direction="up"),
        Symptom(vital="latency_per_output_token", direction="up"),
        Symptom(vital="retries", direction="up"),
        Symptom(vital="errors", direction="up"),
    ),
    facts=(FactHint(field="prompt_hash", nats=1.5), FactHint(field="version", nats=0.7), FactHint(field="model", nats=0.7)),
    ladder=(("rollback_prompt",), ("reset_agent",), ("replace_agent",)),
)
