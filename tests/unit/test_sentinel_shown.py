"""What is shown of many agents at once is what would be shown of each, and look-ups that are cut short find what the whole would."""

from __future__ import annotations

import numpy as np
import pytest

from immune.core.evidence import VitalEvidence
from immune.core.sentinel import peers, surprise
from immune.core.sentinel.shown import SHOW_AT_MOST, EvidenceWriter, direction_nats, medians
from tests.unit.sentinel_fleet import INPUT, LATENCY, OUTPUT, TOOLS, Watch, learned


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


def test_medians_are_those_of_numpy() -> None:
    rng = np.random.default_rng(4)
    for width in (1, 2, 7, 50):
        values, chosen = rng.normal(size=(30, width)).astype(np.float32), rng.random((30, width)) < 0.6
        chosen[:, 0] = True
        expected = [np.median(row[some]) for row, some in zip(values, chosen, strict=True)]
        assert medians(values, chosen).tolist() == expected


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
