"""Everything takes longer: a slow provider, a throttled key, a starved host."""

from immune.core.diagnosis import Infection, Symptom

INFECTION = Infection(
    kind="latency_spike",
    summary="Latency up, and up per output token: the same work takes longer, and costs the same.",
    symptoms=(
        Symptom(vital="latency_ms", direction="up", required=True, often=0.97, ratio=3.5, spread=0.5),
        Symptom(vital="latency_per_output_token", direction="up", required=True, often=0.8, weight=0.6),
        Symptom(vital="retries", direction="up", often=0.12),
        Symptom(vital="errors", direction="up", often=0.12),
    ),
    against=(
        Symptom(vital="output_tokens", direction="up"),
        Symptom(vital="tool_calls", direction="up"),
        Symptom(vital="cost_usd", direction="up"),
        Symptom(vital="confidence", direction="down"),
    ),
    shape="step",
    ladder=(("clear_cache",), ("restart_agent",), ("replace_agent",)),
)
