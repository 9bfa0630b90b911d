"""The context is never trimmed: history, memory or tool results pile up, and every step pays for them."""

from immune.core.diagnosis import Infection, Symptom

INFECTION = Infection(
    kind="context_leak",
    summary="Context and input tokens climb from step to step; cost climbs with them, the price per token does not.",
    symptoms=(
        Symptom(vital="context_tokens", direction="up", required=True, often=0.65),
        Symptom(vital="context_growth", direction="up", required=True, often=0.65),
        Symptom(vital="input_tokens", direction="up", often=0.55),
        Symptom(vital="cost_usd", direction="up", often=0.4),
        Symptom(vital="cost_per_token", direction="down", often=0.25, weight=0.6),
        Symptom(vital="latency_ms", direction="up", often=0.2),
        Symptom(vital="latency_per_output_token", direction="up", often=0.15, weight=0.6),
    ),
    against=(
        Symptom(vital="output_tokens", direction="up"),
        Symptom(vital="tool_calls", direction="up"),
        Symptom(vital="cost_per_token", direction="up"),
        Symptom(vital="retries", direction="up"),
    ),
    shape="ramp",
    ladder=(("reset_memory",), ("restart_agent",), ("reset_agent",)),
)
