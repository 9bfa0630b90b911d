"""Acting: what follows from a state, whatever led there.

`act` compares what is with what ought to be and returns the difference as events and effects. It remembers nothing: after
a crash the same state asks for the same things, so open plans go on or are undone, containment is enforced again, and
requests expire, without any code for restarts. Only `see` looks at evidence; acting looks at facts, and at fresh samples
during a probation.
"""

from __future__ import annotations

from immune.core.containing import Containment
from immune.core.decision import Decision, Docket, Rules
from immune.core.evidence import Assessment
from immune.core.mirror import Mirror
from immune.core.planning import Planning
from immune.core.probation import Probation
from immune.core.state import RunState
from immune.core.treating import Treatment


def act(state: RunState, mirror: Mirror, assessment: Assessment, rules: Rules) -> Decision:
    """Everything that is to be done in this state at this time."""
    if not (state.open_incidents or state.open_plans or state.open_approvals or state.active_containments or mirror.deviating):
        return Decision()
    docket = Docket(state=state, now_us=assessment.now_us)
    planning = Planning(state=state, mirror=mirror, assessment=assessment, rules=rules, docket=docket)
    containment = Containment(state=state, mirror=mirror, assessment=assessment, rules=rules, docket=docket)
    probation = Probation(state=state, mirror=mirror, assessment=assessment, rules=rules, docket=docket)
    treatment = Treatment(state=state, mirror=mirror, assessment=assessment, rules=rules, docket=docket, probation=probation)
    planning.expire_requests()
    containment.contain()
    planning.remind()
    planning.withdraw_plans()
    planning.propose_plans()
    treatment.advance_plans()
    containment.check_enforcement()
    return docket.close()
