"""The agent follows somebody else's instructions: text in its input took over. Known by several symptoms at once, none of which proves it."""

from immune.core.diagnosis import FactHint, Infection, Symptom

INFECTION = Infection(
    kind="prompt_injection",
    summary="Several at once: more tool calls, longer output, lower confidence, perhaps an unusual tool or another prompt.",
    symptoms=(
        Symptom(vital="tool_calls", direction="up", often=0.65),
        Symptom(vital="output_tokens", direction="up", often=0.65),
        Symptom(vital="confidence", direction="down", often=0.65, weight=1.2),
        Symptom(vital="cost_usd", direction="up", often=0.4),
        Symptom(vital="latency_ms", direction="up", often=0.4),
        Symptom(vital="input_tokens", direction="up", often=0.35),
        Symptom(vital="context_tokens", direction="up", often=0.3),
        Symptom(vital="cost_per_token", direction="up", often=0.3, weight=0.6),
        Symptom(vital="errors", direction="up", often=0.2),
    ),
    against=(Symptom(vital="retries", direction="up"),),
    shape="step",
    facts=(FactHint(field="prompt_hash", nats=1.5), FactHint(field="tool", nats=1.5)),
    at_least=2,
    stray=0.02,
    ladder=(("revoke_tools", "reset_memory"), ("rollback_prompt",), ("reset_agent",), ("replace_agent",)),
)
