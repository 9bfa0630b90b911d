"""Restart the agent from its clean configuration; its memory is gone."""

from immune.core.healing import Action

ACTION = Action(
    name="reset_agent",
    tier=3,
    reversible=False,
    compensation="",
    timeout_s=90.0,
    summary="Restart the agent from its clean configuration; its memory is gone.",
)
