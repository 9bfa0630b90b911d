"""Many agents move together: a provider slow or down, a deploy, a network. One cause, handled as one incident."""

from immune.core.diagnosis import FactHint, Infection, Symptom

INFECTION = Infection(
    kind="shared_outage",
    summary="Many agents at once, mostly latency, errors, retries or silence: the cause is shared, no single agent is to blame.",
    symptoms=(
        Symptom(vital="latency_ms", direction="up", often=0.4),
        Symptom(vital="latency_per_output_token", direction="up", often=0.4, weight=0.6),
        Symptom(vital="errors", direction="up", often=0.3),
        Symptom(vital="retries", direction="up", often=0.2),
        Symptom(vital="samples", direction="silent", often=0.2),
        Symptom(vital="confidence", direction="down", often=0.15),
        Symptom(vital="output_tokens", direction="up", often=0.15),
        Symptom(vital="cost_usd", direction="up", often=0.15),
    ),
    facts=(FactHint(field="version", nats=1.0), FactHint(field="model", nats=1.0), FactHint(field="provider", nats=1.0)),
    stray=0.12,
    at_least=0,
    shared=True,
)
