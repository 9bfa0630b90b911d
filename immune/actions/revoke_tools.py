"""Take the agent's tools away."""

from immune.core.healing import Action

ACTION = Action(
    name="revoke_tools",
    tier=2,
    reversible=True,
    compensation="give the tools back",
    timeout_s=15.0,
    summary="Take the agent's tools away.",
)
