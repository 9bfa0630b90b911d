"""Something outside makes many agents slow at once: one incident, nobody blamed; and the truly sick among them."""

from __future__ import annotations

from typing import Any

import numpy as np
from workloads import START_US, Fault, Fleet, struck

from trials.watching import US, blamed, sentinel_over

ONSET = 900
RELEASED_AFTER_S = 10


def outage(seed: int, agents: int, share: float, over_s: int) -> dict[str, Any]:
    """Latency and errors of a share of the fleet (of a small fleet: of one service), all at once or one after the other."""
    rng = np.random.default_rng([seed, 9])
    fleet = Fleet("diurnal", agents, seed, services=8 if agents > 20 else 5)
    hit = rng.permutation(agents)[: round(share * agents)] if agents > 20 else np.arange(seed % 5, agents, 5)
    factor = rng.uniform(2.5, 5.0)
    faults = [Fault(kind="latency_spike", agent=int(a), start=ONSET + int(rng.uniform(0, over_s)), size=factor) for a in hit]
    faults += [Fault(kind="error_burst", agent=f.agent, start=f.start, size=0.4) for f in faults]
    healthy = sorted(set(range(agents)) - set(hit.tolist()))
    sick = Fault(kind="token_explosion", agent=int(hit[0]), start=ONSET + over_s, size=5.0)
    return _follow(fleet, [*faults, sick], set(hit.tolist()), sick.agent, set(healthy), over_s)


def _follow(fleet: Fleet, faults: list[Fault], hit: set[int], sick: int, healthy: set[int], over_s: int) -> dict[str, Any]:
    sentinel = sentinel_over(fleet.roster, fleet.lexicon)
    known: int | None = None
    sick_known: int | None = None
    before, after, bystanders, keys = set[int](), set[int](), set[int](), set[str]()
    still = 0
    for t, batch in struck(fleet, faults, ONSET + over_s + 120):
        found = sentinel.observe(batch, START_US + t * US)
        if t < ONSET:
            continue
        now = {finding.agent for finding in blamed(found)}
        bystanders |= now & healthy
        keys |= {cohort.key for cohort in found.cohorts}
        if found.cohorts and known is None:
            known = t - ONSET + 1
        if sick in now and t >= ONSET + over_s and sick_known is None:
            sick_known = t - ONSET - over_s + 1
        members = now & hit - {sick}
        (before if known is None else after).update(members)
        if known is not None and t - ONSET + 1 >= known + RELEASED_AFTER_S:
            still = max(still, len(members & before))
    return {
        "hit": len(hit),
        "known": known,
        "incidents": len(keys),
        "bystanders": len(bystanders),
        "blamed_before": len(before),
        "blamed_after": len(after - before),
        "still_blamed": still,
        "sick_known": sick_known,
        "agents": fleet.n,
    }
