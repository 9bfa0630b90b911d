"""The agent calls its tools again and again without getting on: a loop, a tool that never satisfies it."""

from immune.core.diagnosis import Infection, Symptom

INFECTION = Infection(
    kind="tool_loop",
    summary="Far more tool calls than normal, or the same one again and again; latency and cost follow because each call takes a round.",
    symptoms=(
        Symptom(vital="tool_calls", direction="up", required=True, often=0.97, ratio=3.5, spread=0.6),
        Symptom(vital="repeated_call", direction="stuck", required=True, often=0.6, weight=2.0),
        Symptom(vital="task_tool_calls", direction="up", required=True, often=0.6),
        Symptom(vital="task_steps", direction="up", required=True, often=0.5),
        Symptom(vital="latency_ms", direction="up", often=0.6),
        Symptom(vital="latency_per_output_token", direction="up", often=0.5, weight=0.6),
        Symptom(vital="cost_usd", direction="up", often=0.5),
        Symptom(vital="input_tokens", direction="up", often=0.4),
        Symptom(vital="context_tokens", direction="up", often=0.35),
        Symptom(vital="context_growth", direction="up", often=0.3, weight=0.6),
        Symptom(vital="output_tokens", direction="up", often=0.12),
        Symptom(vital="errors", direction="up", often=0.12),
    ),
    against=(Symptom(vital="confidence", direction="down"),),
    shape="step",
    ladder=(("reset_memory",), ("revoke_tools",), ("restart_agent",), ("replace_agent",)),
)
