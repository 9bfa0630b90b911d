"""Let the agent propose instead of act; every step waits for its caller."""

from immune.core.healing import Action

ACTION = Action(
    name="reduce_autonomy",
    tier=1,
    reversible=True,
    compensation="give the autonomy back",
    timeout_s=15.0,
    summary="Let the agent propose instead of act; every step waits for its caller.",
)
