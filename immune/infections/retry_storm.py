"""Calls are repeated again and again: a rate limit met without back-off, a flaky dependency."""

from immune.core.diagnosis import Infection, Symptom

INFECTION = Infection(
    kind="retry_storm",
    summary="Retries where there were hardly any; latency follows, and some errors.",
    symptoms=(
        Symptom(vital="retries", direction="up", required=True, often=0.98),
        Symptom(vital="latency_ms", direction="up", often=0.55),
        Symptom(vital="latency_per_output_token", direction="up", often=0.45, weight=0.6),
        Symptom(vital="cost_usd", direction="up", often=0.35),
        Symptom(vital="errors", direction="up", often=0.35),
        Symptom(vital="input_tokens", direction="up", often=0.2),
        Symptom(vital="tool_calls", direction="up", often=0.12),
    ),
    against=(Symptom(vital="confidence", direction="down"),),
    shape="step",
    ladder=(("clear_cache",), ("restart_agent",), ("replace_agent",)),
)
