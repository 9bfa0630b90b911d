"""The agent writes (or reads) far more than it used to: rambling, no stop condition, a runaway output limit."""

from immune.core.diagnosis import Infection, Symptom

INFECTION = Infection(
    kind="token_explosion",
    summary="Far more output tokens than normal; cost and latency follow because more is written, not because it is written slower.",
    symptoms=(
        Symptom(vital="output_tokens", direction="up", required=True, often=0.97, ratio=4.5, spread=0.45),
        Symptom(vital="cost_usd", direction="up", often=0.75),
        Symptom(vital="latency_ms", direction="up", often=0.6),
        Symptom(vital="cost_per_token", direction="up", often=0.5, weight=0.6),
        Symptom(vital="latency_per_output_token", direction="down", often=0.35, weight=0.6),
        Symptom(vital="context_tokens", direction="up", often=0.35),
        Symptom(vital="context_growth", direction="up", often=0.35, weight=0.6),
        Symptom(vital="input_tokens", direction="up", required=True, often=0.35),
    ),
    against=(
        Symptom(vital="latency_per_output_token", direction="up"),
        Symptom(vital="tool_calls", direction="up"),
        Symptom(vital="confidence", direction="down"),
        Symptom(vital="retries", direction="up"),
    ),
    shape="step",
    ladder=(("reset_memory",), ("restart_agent",), ("reset_agent",), ("replace_agent",)),
)
