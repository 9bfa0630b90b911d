"""The known infections, one file each. A new one is a new file and a line in the list below."""

from immune.core.diagnosis import Infection
from immune.infections import (
    confidence_collapse,
    context_leak,
    cost_creep,
    error_burst,
    frozen,
    latency_spike,
    prompt_drift,
    prompt_injection,
    retry_storm,
    shared_outage,
    silent_stall,
    token_explosion,
    tool_loop,
)

CATALOGUE: tuple[Infection, ...] = (
    token_explosion.INFECTION,
    tool_loop.INFECTION,
    latency_spike.INFECTION,
    retry_storm.INFECTION,
    error_burst.INFECTION,
    silent_stall.INFECTION,
    frozen.INFECTION,
    context_leak.INFECTION,
    prompt_drift.INFECTION,
    prompt_injection.INFECTION,
    cost_creep.INFECTION,
    confidence_collapse.INFECTION,
    shared_outage.INFECTION,
)
