"""Empty the agent's working memory and let it start its task anew."""

from immune.core.healing import Action

ACTION = Action(
    name="reset_memory",
    tier=1,
    reversible=True,
    compensation="put the memory back as it was",
    timeout_s=30.0,
    summary="Empty the agent's working memory and let it start its task anew.",
)
