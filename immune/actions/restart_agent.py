"""Stop the agent and start it again with the same configuration."""

from immune.core.healing import Action

ACTION = Action(
    name="restart_agent",
    tier=2,
    reversible=False,
    compensation="",
    timeout_s=60.0,
    summary="Stop the agent and start it again with the same configuration.",
)
