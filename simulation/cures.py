"""What heals what, and how an action can go wrong: it fails, hangs, answers late, cures half, or the illness comes back.

Nobody outside learns whether an infection was cured, only whether the action ran; that is what probation is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from immune.errors import InputError
from simulation.infections import InfectionKind

Action = Literal["reset_memory", "rollback_prompt", "reduce_autonomy", "revoke_tools", "clear_cache", "restart_agent", "reset_agent", "replace_agent"]
Outcome = Literal["succeeded", "failed", "unknown"]
Cure = Literal["none", "half", "relapse", "full"]
ACTIONS: tuple[Action, ...] = get_args(Action)
FINAL: tuple[Action, ...] = ("reset_agent", "replace_agent")
"""What cannot be undone."""

CURED_BY: Mapping[InfectionKind, tuple[Action, ...]] = {
    "token_explosion": ("reset_memory", "reset_agent", "replace_agent"),
    "tool_loop": ("reset_memory", "revoke_tools", "restart_agent", "reset_agent", "replace_agent"),
    "latency_spike": ("clear_cache", "restart_agent", "reset_agent", "replace_agent"),
    "retry_storm": ("clear_cache", "restart_agent", "reset_agent", "replace_agent"),
    "error_burst": ("revoke_tools", "restart_agent", "reset_agent", "replace_agent"),
    "silent_stall": ("restart_agent", "reset_agent", "replace_agent"),
    "frozen": ("restart_agent", "reset_agent", "replace_agent"),
    "context_leak": ("reset_memory", "restart_agent", "reset_agent", "replace_agent"),
    "prompt_drift": ("rollback_prompt", "reset_agent", "replace_agent"),
    "prompt_injection": ("reset_memory", "rollback_prompt", "reset_agent", "replace_agent"),
    "cost_creep": ("clear_cache", "reset_agent", "replace_agent"),
    "confidence_collapse": ("reset_memory", "rollback_prompt", "reset_agent", "replace_agent"),
    "shared_outage": (),
}
RELAPSE_AFTER_S = (30.0, 90.0)
LATE_AFTER_S = (20.0, 90.0)
HUNG_TOOK_EFFECT = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class CureOdds:
    """How healing goes in a scenario; shares between 0 and 1.

    wrong, half, relapse   of the actions that ought to cure: no effect, half an effect, back after 30 to 90 s
    fail, hang, late       of all actions: fails, never answers (and may have worked), answers after 20 to 90 s
    possible               False: nothing cures anything
    """

    wrong: float = 0.05
    half: float = 0.05
    relapse: float = 0.05
    fail: float = 0.02
    hang: float = 0.0
    late: float = 0.0
    possible: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionAnswer:
    """What an action says of itself: its outcome, and after how many seconds (infinite: it never answers)."""

    outcome: Outcome
    after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one attempt at an action goes, drawn in full before anything happens."""

    answer: ActionAnswer
    takes_effect: bool
    cure: Cure
    relapse_after_s: float


def check_action(word: str) -> Action:
    """The action. Raises InputError for an unknown one."""
    for action in ACTIONS:
        if action == word:
            return action
    raise InputError("unknown action", field="action", value=word, way_out="one of " + " ".join(ACTIONS))


def draw_attempt(odds: CureOdds, rng: np.random.Generator) -> Attempt:
    """How an attempt goes, if the action is one that cures; always the same number of draws."""
    run, worked, wait, luck, back = rng.random(5).tolist()
    answer = _answer(odds, run, wait)
    return Attempt(
        answer=answer,
        takes_effect=answer.outcome == "succeeded" or (answer.outcome == "unknown" and worked < HUNG_TOOK_EFFECT),
        cure=_cure(odds, luck),
        relapse_after_s=_between(RELAPSE_AFTER_S, back),
    )


def _answer(odds: CureOdds, run: float, wait: float) -> ActionAnswer:
    if run < odds.fail:
        return ActionAnswer(outcome="failed")
    if run < odds.fail + odds.hang:
        return ActionAnswer(outcome="unknown", after_s=float("inf"))
    if run < odds.fail + odds.hang + odds.late:
        return ActionAnswer(outcome="succeeded", after_s=_between(LATE_AFTER_S, wait))
    return ActionAnswer(outcome="succeeded")


def _cure(odds: CureOdds, luck: float) -> Cure:
    if not odds.possible or luck < odds.wrong:
        return "none"
    if luck < odds.wrong + odds.half:
        return "half"
    return "relapse" if luck < odds.wrong + odds.half + odds.relapse else "full"


def _between(bounds: tuple[float, float], share: float) -> float:
    return bounds[0] + share * (bounds[1] - bounds[0])
