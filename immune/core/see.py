"""Seeing: from evidence to what is now believed of every agent, and to incidents.

Pure: the same state, evidence, time and rules give the same events and effects. The engine appends the events, and only
then lets the effects happen.
"""

from __future__ import annotations

import numpy as np

from immune.core import acts
from immune.core import events as ev
from immune.core.decision import Decision, Docket, HoldLearning, ResumeLearning, Rules
from immune.core.evidence import Assessment, Finding
from immune.core.incidents import Examiner, in_common
from immune.core.mirror import HEALTH_CODES, HEALTHS, LIVENESS_CODES, LIVENESSES, Mirror
from immune.core.state import RunState

US = 1_000_000
WHY: dict[ev.Liveness, str] = {
    "silent": "no sample for longer than its learned interval allows",
    "idle": "says it is idle",
    "working": "samples arrive again",
    "retired": "",
}


def see(state: RunState, mirror: Mirror, assessment: Assessment, rules: Rules) -> Decision:
    """Everything that is to be believed after one tick's assessment."""
    docket = Docket(state=state, now_us=assessment.now_us)
    standing = {finding.agent: finding for finding in assessment.findings}
    _facts(docket, mirror, assessment)
    _rebased(docket, mirror, assessment)
    _liveness(docket, mirror, assessment, rules)
    examiner = Examiner(state=state, mirror=mirror, assessment=assessment, policy=rules.policy, version=rules.version, catalogue=rules.catalogue)
    changes = examiner.examine(docket.add)
    _health(docket, mirror, assessment, rules, standing, changes.fell_sick, changes.recovered)
    if changes.fell_sick:
        docket.effects.append(HoldLearning(agents=tuple(changes.fell_sick)))
    if changes.recovered:
        docket.effects.append(ResumeLearning(agents=tuple(changes.recovered)))
    return docket.close()


def _facts(docket: Docket, mirror: Mirror, assessment: Assessment) -> None:
    """A new model, version, prompt or provider is put on record as a fact; whether it harms is for the vitals to say."""
    for index, field, before, after, at_us in assessment.facts:
        fact = ev.FactNote(field=field, before=before, after=after, at_us=at_us)
        docket.add(mirror.agents[index], ev.FactChanged(fact=fact))


def _rebased(docket: Docket, mirror: Mirror, assessment: Assessment) -> None:
    """Baselines that took a change over are put on record: what was abnormal is normal from now on."""
    cohorts = {cohort.key: cohort for cohort in assessment.cohorts}
    for agents, key, basis in assessment.taken_over:
        known, open_incident = cohorts.get(key), docket.state.open_for_cohort(key)
        cohort = in_common(known) if known else key
        reason = "it was announced" if basis == "announced" else "the change has lasted, and nobody spoke against it"
        event = acts.Rebased(agents=tuple(mirror.agents[one] for one in agents), basis=basis, cohort=cohort, reason=reason)  # type: ignore[arg-type]
        docket.add(cohort, event, correlation=open_incident.incident_id if open_incident else "")


def _liveness(docket: Docket, mirror: Mirror, assessment: Assessment, rules: Rules) -> None:
    n = len(assessment.silent)
    idle_us = round(rules.policy.detection.idle_after_s * US)
    since = mirror.idle_since_us[:n]
    settled = assessment.idle & (since > 0) & (assessment.now_us - since >= idle_us)
    now = np.where(assessment.silent, LIVENESS_CODES["silent"], np.where(settled, LIVENESS_CODES["idle"], LIVENESS_CODES["working"]))
    before = mirror.liveness[:n]
    retired = before == LIVENESS_CODES["retired"]
    for agent_id in mirror.watched:
        index = docket.state.agents[agent_id].index
        if index < n and now[index] == LIVENESS_CODES["silent"]:
            now[index] = before[index]  # silence says nothing of an agent that is kept from working
    changed = (now != before) & (~retired | mirror.spoke[:n])
    for index in np.flatnonzero(changed).tolist():
        word = LIVENESSES[int(now[index])]
        docket.add(mirror.agents[index], ev.LivenessChanged(before=LIVENESSES[before[index]], after=word, reason=WHY[word]))


def _health(
    docket: Docket, mirror: Mirror, assessment: Assessment, rules: Rules, standing: dict[int, Finding], fell_sick: list[int], recovered: list[int]
) -> None:
    n = len(assessment.ready)
    before = mirror.health[:n]
    after = before.copy()
    after[(before == HEALTH_CODES["learning"]) & assessment.ready] = HEALTH_CODES["healthy"]
    suspect_nats = rules.policy.detection.suspect_share * assessment.threshold_nats
    suspected = before == HEALTH_CODES["suspected"]
    after[suspected & (assessment.nats < suspect_nats / 2)] = HEALTH_CODES["healthy"]
    for index, finding in standing.items():
        blamed = finding.nats >= suspect_nats and finding.present and not finding.explained_by
        if blamed and after[index] == HEALTH_CODES["healthy"]:
            after[index] = HEALTH_CODES["suspected"]
        elif suspected[index] and finding.explained_by:
            after[index] = HEALTH_CODES["healthy"]
    after[recovered] = HEALTH_CODES["healthy"]
    after[fell_sick] = HEALTH_CODES["sick"]
    for index in np.flatnonzero(after != before).tolist():
        known = standing.get(index)
        docket.add(
            mirror.agents[index],
            ev.HealthChanged(
                before=HEALTHS[before[index]],
                after=HEALTHS[after[index]],
                nats=float(assessment.nats[index]),
                samples=int(assessment.samples[index]),
                basis=known.basis if known else "",
            ),
        )
