"""Go back to the last prompt under which the agent was healthy."""

from immune.core.healing import Action

ACTION = Action(
    name="rollback_prompt",
    tier=2,
    reversible=True,
    compensation="put the newer prompt back",
    timeout_s=30.0,
    summary="Go back to the last prompt under which the agent was healthy.",
)
