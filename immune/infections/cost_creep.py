"""The same work costs more and more: a dearer model behind a router, a lost cache discount, a price change."""

from immune.core.diagnosis import FactHint, Infection, Symptom

INFECTION = Infection(
    kind="cost_creep",
    summary="Cost per token up while tokens stay normal.",
    symptoms=(
        Symptom(vital="cost_per_token", direction="up", required=True, often=0.75),
        Symptom(vital="cost_usd", direction="up", often=0.65),
    ),
    against=(
        Symptom(vital="output_tokens", direction="up"),
        Symptom(vital="input_tokens", direction="up"),
        Symptom(vital="context_tokens", direction="up"),
        Symptom(vital="tool_calls", direction="up"),
        Symptom(vital="latency_ms", direction="up"),
    ),
    shape="ramp",
    facts=(FactHint(field="model", nats=1.0), FactHint(field="provider", nats=1.0)),
    ladder=(("clear_cache",), ("reduce_autonomy",), ("reset_agent",), ("replace_agent",)),
)
