"""Steps fail: a broken tool, a revoked key, a schema that no longer fits."""

from immune.core.diagnosis import Infection, Symptom

INFECTION = Infection(
    kind="error_burst",
    summary="Errors where there were hardly any; some retries may follow, and output may shrink.",
    symptoms=(
        Symptom(vital="errors", direction="up", required=True, often=0.98),
        Symptom(vital="retries", direction="up", often=0.35),
        Symptom(vital="output_tokens", direction="down", often=0.2),
        Symptom(vital="confidence", direction="down", often=0.2),
        Symptom(vital="latency_ms", direction="up", often=0.15),
        Symptom(vital="latency_ms", direction="down", often=0.15),
    ),
    against=(
        Symptom(vital="output_tokens", direction="up"),
        Symptom(vital="tool_calls", direction="up"),
        Symptom(vital="cost_per_token", direction="up"),
    ),
    shape="step",
    ladder=(("restart_agent",), ("revoke_tools",), ("reset_agent",), ("replace_agent",)),
)
