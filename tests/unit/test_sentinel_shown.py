"""What is shown of many agents at once is what would be shown of each, and look-ups that are cut short find what the whole would."""

from __future__ import annotations

import numpy as np
import pytest

from immune.core.evidence import VitalEvidence
from immune.core.sentinel import drift, peers, standing, surprise
from immune.core.sentinel.shown import SHOW_AT_MOST, EvidenceWriter, direction_nats, medians
from immune.core.vitals import SampleBatch
from tests.unit.sentinel_fleet import INPUT, LATENCY, OUTPUT, TOOLS, Watch, at, learned


def _deployed() -> Watch:
    """Half a fleet works otherwise since a while."""
    watch = learned(12, 200)

    def change(tick: int, values: np.ndarray) -> None:
        values[:6, [INPUT, OUTPUT, LATENCY]] *= 1.8

    watch.run(200, 240, change)
    return watch


def _shown(watch: Watch, agents: list[int]) -> list[list[VitalEvidence]]:
    arena, some = watch.sentinel.arena, np.array(agents)
    return EvidenceWriter(watch.sentinel.table).strongest(arena, some, direction_nats(arena, some))


@pytest.mark.slow
def test_many_agents_show_what_each_of_them_shows() -> None:
    watch = _deployed()
    together = _shown(watch, list(range(12)))
    assert together == [_shown(watch, [agent])[0] for agent in range(12)]
    assert any(together)


def test_the_strongest_is_shown_first_and_no_more_than_fits() -> None:
    watch = _deployed()
    watch.sentinel.arena["sr"][..., 0] = np.exp(9.0)
    shown = _shown(watch, [0])[0]
    assert len(shown) == SHOW_AT_MOST
    assert [(-item.nats, item.vital) for item in shown] == sorted((-item.nats, item.vital) for item in shown)


def test_of_two_streams_that_speak_of_one_vital_the_stronger_is_shown() -> None:
    watch = learned(4, 60)
    arena, names = watch.sentinel.arena, watch.sentinel.table.names
    first, second = names.index("context_tokens"), names.index("context_start")
    arena["sr"][...] = 0
    for agent, (of_first, of_second) in enumerate([(9, 11), (11, 9)]):
        arena["sr"][0, :, first, agent], arena["sr"][0, :, second, agent] = np.exp(of_first), np.exp(of_second)
        arena["sums"][:, [first, second], agent] = np.array([4.0, 2.0, 32.0, 8.0])[:, None]
    for shown in _shown(watch, [0, 1]):
        assert [(item.vital, round(item.nats)) for item in shown] == [("context_tokens", 11)]


def test_a_cause_covers_in_many_agents_what_it_covers_in_each() -> None:
    watch = _deployed()
    shared, arena, everyone = watch.sentinel.shared, watch.sentinel.arena, np.arange(12)
    assert shared.causes
    for cause in shared.causes.values():
        symptoms, covers = shared.covers(arena, cause, everyone)
        assert covers.any()
        for agent in everyone:
            assert [symptoms[place] for place in np.flatnonzero(covers[:, agent])] == shared.covered(arena, cause, int(agent))


def _evidence_of_cause(watch: Watch, symptoms: list[tuple[int, int]], agents: int) -> list[VitalEvidence]:
    arena = watch.sentinel.arena
    return EvidenceWriter(watch.sentinel.table).of_cause(arena, np.arange(agents), symptoms, 0)


def _symptom(watch: Watch, name: str, sign: int = 0) -> tuple[int, int]:
    return sign, watch.sentinel.table.names.index(name)


def test_members_that_took_a_change_over_as_normal_have_nothing_to_say_of_it() -> None:
    watch = _deployed()
    output, arena = _symptom(watch, "output_tokens"), watch.sentinel.arena
    before = _evidence_of_cause(watch, [output], 12)
    assert [(item.vital, item.direction) for item in before] == [("output_tokens", "up")]
    assert before[0].ratio == pytest.approx(1.8, rel=0.25)
    for agent in range(6):
        standing.take_over(arena, agent, [output[1]])
        if agent < 5:  # the last one alone speaks for those that began anew
            assert [item.ratio > 1.3 and item.observed > item.expected for item in _evidence_of_cause(watch, [output], 12)] == [True]
    assert _evidence_of_cause(watch, [output], 12) == []


def test_a_shared_cause_that_nobody_shows_any_more_says_nothing_new_of_itself() -> None:
    watch = learned(12, 200)

    def change(tick: int, values: np.ndarray) -> None:
        values[:6, [INPUT, OUTPUT, LATENCY]] *= 2.5

    said = [cohort for assessment in watch.run(200, 240, change) for cohort in assessment.cohorts]
    assert said[-1].evidence
    assert said[-1].nats > watch.sentinel.threshold_nats
    for agent in range(12):
        standing.take_over(watch.sentinel.arena, agent, list(range(len(watch.sentinel.table))))
    silent = watch.sentinel.observe(SampleBatch.blank(0), at(240)).cohorts
    assert [(cohort.key, cohort.evidence, cohort.nats) for cohort in silent] == [(said[-1].key, (), 0.0)]


def test_the_middle_member_of_a_shared_cause_is_shown_as_it_was_seen() -> None:
    watch = _deployed()
    for symptom in (_symptom(watch, "output_tokens"), _symptom(watch, "latency_ms")):
        arena = watch.sentinel.arena
        (item,) = _evidence_of_cause(watch, [symptom], 5)
        arena["hot"][symptom][:] = True
        each = [told for shown in _shown(watch, [0, 1, 2, 3, 4]) for told in shown if told.vital == item.vital]
        assert (item.observed, item.expected) in [(told.observed, told.expected) for told in each]


@pytest.mark.parametrize(("sign", "moved"), [(0, -2.0), (1, 2.0), (0, 0.0)])
def test_evidence_is_not_shown_where_the_figures_since_its_onset_say_the_opposite(sign: int, moved: float) -> None:
    """What the slow reference once gathered lasts for a while; since the other direction led, the sums have begun anew."""
    watch = learned(4, 60)
    arena, (_, row) = watch.sentinel.arena, _symptom(watch, "latency_ms")
    arena["sr"][...] = 0
    arena["sr"][sign, drift.ROWS, row, :4] = np.exp(12.0)
    arena["hot"][sign, row, :4] = True
    arena["sums"][:, row, :4] = np.array([4.0, moved, 27.0, 3 * moved])[:, None]
    assert _shown(watch, [0]) == [[]]
    assert _evidence_of_cause(watch, [(sign, row)], 4) == []
    arena["sums"][1, row, 2] = 1.0 if sign == 0 else -1.0
    assert [len(shown) for shown in _shown(watch, [0, 1, 2, 3])] == [0, 0, 1, 0]
    (told,) = _evidence_of_cause(watch, [(sign, row)], 4)
    assert told.nats == pytest.approx(_shown(watch, [2])[0][0].nats)
    assert (told.ratio > 1) == (sign == 0)


def test_less_than_one_token_instead_of_none_is_nothing() -> None:
    """Zeros are dithered before they are judged; what they do by chance is no ratio."""
    watch = learned(4, 60)
    arena, (_, row) = watch.sentinel.arena, _symptom(watch, "output_tokens")
    arena["sr"][...] = 0
    arena["sr"][0, :, row, :2] = np.exp(8.0)
    arena["sums"][:, row, 0] = 4.0, 0.6, -0.2, 5.0
    arena["sums"][:, row, 1] = 4.0, 4 * np.log(301.0), 0.0, 5.0
    nothing, something = _shown(watch, [0, 1])
    assert nothing == []
    assert [(item.expected, round(item.observed), round(item.ratio)) for item in something] == [(0.0, 300, 600)]


def test_medians_are_those_of_numpy() -> None:
    rng = np.random.default_rng(4)
    for width in (1, 2, 7, 50):
        values, chosen = rng.normal(size=(30, width)).astype(np.float32), rng.random((30, width)) < 0.6
        chosen[:, 0] = True
        expected = [np.median(row[some]) for row, some in zip(values, chosen, strict=True)]
        assert medians(values, chosen).tolist() == expected


@pytest.mark.slow
def test_rare_counts_are_looked_up_as_far_as_they_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents with many tool calls are rare only beyond the slots that are looked at first."""

    def busy(tick: int, values: np.ndarray) -> None:
        values[::2, TOOLS] *= 30

    def judged() -> bytes:
        watch = Watch(6)
        return b"".join(found.nats.tobytes() for found in watch.run(0, 120, busy)) + watch.sentinel.snapshot()

    cut_short = judged()
    monkeypatch.setattr(peers, "RARE_SLOTS", surprise.SLOTS)
    monkeypatch.setattr(surprise, "RARE_SLOTS", surprise.SLOTS)
    assert judged() == cut_short
