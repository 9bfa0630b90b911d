"""Retire the instance and start a new one in its place."""

from immune.core.healing import Action

ACTION = Action(
    name="replace_agent",
    tier=4,
    reversible=False,
    compensation="",
    timeout_s=180.0,
    summary="Retire the instance and start a new one in its place.",
)
