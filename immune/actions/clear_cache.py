"""Empty caches and retry queues of the agent."""

from immune.core.healing import Action

ACTION = Action(
    name="clear_cache",
    tier=1,
    reversible=False,
    compensation="",
    timeout_s=30.0,
    summary="Empty caches and retry queues of the agent.",
)
