import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from immune.core.evidence import SILENCE, VitalEvidence
from immune.core.policy import Policy, SeverityPolicy
from immune.core.severity import severity
from tests.effort import examples

POLICY = Policy()


def seen(vital, direction, ratio, *, nats=20.0, effect=2.0, growth=0.0, expected=1.0):
    return VitalEvidence(
        vital=vital,
        direction=direction,
        nats=nats,
        ratio=ratio,
        observed=ratio * expected,
        expected=expected,
        effect=effect,
        growth=growth,
        onset_us=0,
        calibration=1.0,
        basis="own",
    )


def of(*items, **more):
    return severity([seen(*item) for item in items], **more).value


def test_the_scale_reads_as_documented():
    assert of() == 0.0
    assert of(("output_tokens", "up", 1.3)) == pytest.approx(1.4, abs=0.1)
    assert of(("output_tokens", "up", 1.6)) == pytest.approx(2.4, abs=0.1)
    assert of(("output_tokens", "up", 3.0)) == pytest.approx(4.7, abs=0.1)
    assert of(("output_tokens", "up", 8.0), ("cost_usd", "up", 8.0)) == pytest.approx(7.0, abs=0.1)
    assert of(("output_tokens", "up", 8.0), ("cost_usd", "up", 8.0), ("latency_ms", "up", 6.0)) == pytest.approx(8.0, abs=0.2)
    assert of(("cost_usd", "up", 5), ("latency_ms", "up", 5), ("tool_calls", "up", 5), ("errors", "up", 5)) == pytest.approx(8.4, abs=0.2)
    assert of((SILENCE, "silent", 1.0)) == 6.0
    assert of(("vitals", "stuck", 1.0)) == 5.0


@pytest.mark.parametrize(("vital", "usual", "sick"), [("retries", 0.02, 1.5), ("retries", 0.15, 3.5), ("errors", 0.005, 0.8), ("errors", 0.04, 1.8)])
def test_failures_where_there_were_none_are_serious(vital, usual, sick):
    assert 4.0 <= of((vital, "up", (sick + 0.5) / (usual + 0.5))) <= 7.5


def test_the_default_levels_let_noise_be_slow_down_the_mild_and_stop_the_serious():
    assert POLICY.level_for(of(("latency_ms", "up", 1.2)))[0] == "none"
    assert POLICY.level_for(of(("latency_ms", "up", 1.3)))[0] == "throttled"
    assert POLICY.level_for(of(("output_tokens", "up", 1.6)))[0] == "restricted"
    assert POLICY.level_for(of(("cost_usd", "up", 1.3), ("cost_per_token", "up", 1.3)))[0] == "throttled"
    for vital, ratio in (("output_tokens", 3.0), ("latency_ms", 2.5), ("tool_calls", 3.0), ("retries", 3.5), ("errors", 2.5)):
        assert POLICY.level_for(of((vital, "up", ratio)))[0] == "isolated", vital
    assert POLICY.level_for(of(("confidence", "down", 0.5)))[0] == "isolated"
    assert POLICY.level_for(of((SILENCE, "silent", 1.0)))[0] == "isolated"


def test_one_harm_seen_in_three_vitals_counts_once():
    assert of(("output_tokens", "up", 4), ("cost_usd", "up", 4), ("input_tokens", "up", 4)) == of(("cost_usd", "up", 4))
    assert of(("cost_usd", "up", 4), ("errors", "up", 2)) > of(("cost_usd", "up", 4))


def test_money_weighs_more_than_time():
    assert of(("cost_usd", "up", 3)) > of(("latency_ms", "up", 3))


def test_what_falls_does_little_harm_confidence_excepted():
    assert of(("latency_ms", "down", 0.25)) < 1.0
    assert of(("cost_usd", "down", 0.25)) < 1.0
    assert of(("confidence", "down", 0.25)) > 6.0
    assert of(("confidence", "up", 1.2)) < 0.5


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize("ratio", [1e-6, 0.0, 1e6])
def test_nothing_where_nothing_was_does_no_harm_whatever_its_ratio(direction, ratio):
    for vital in ("output_tokens", "cost_usd", "confidence"):
        told = severity([replace(seen(vital, direction, ratio), observed=0.0, expected=0.0)], agents=12, fleet=60)
        assert (told.value, told.why) == (0.0, ())


def test_what_still_grows_counts_up_to_a_quarter_more():
    step = severity([seen("context_tokens", "up", 1.5)]).value
    slow = severity([seen("context_tokens", "up", 1.5, growth=math.log(2) / 100)]).value
    fast = severity([seen("context_tokens", "up", 1.5, growth=5.0)]).value
    assert step < slow < fast
    assert fast <= severity([seen("context_tokens", "up", 1.5**1.25)]).value + 0.01


def test_recovering_is_not_growing():
    assert severity([seen("confidence", "down", 0.5, growth=1.0)]).value == of(("confidence", "down", 0.5))
    assert severity([seen("confidence", "down", 0.5, growth=-1.0)]).value > of(("confidence", "down", 0.5))


def test_many_agents_are_worse_than_one():
    one = of(("latency_ms", "up", 3), agents=1, fleet=200)
    few = of(("latency_ms", "up", 3), agents=5, fleet=200)
    many = of(("latency_ms", "up", 3), agents=60, fleet=200)
    all_of_a_small_fleet = of(("latency_ms", "up", 3), agents=5, fleet=5)
    assert one < few < many
    assert few < all_of_a_small_fleet


def test_dollars_an_hour_count_when_the_rate_is_known():
    dear = [seen("cost_usd", "up", 3.0, expected=0.01)]
    assert severity(dear, samples_per_h=3600).value > severity(dear).value
    assert severity(dear, samples_per_h=3600).why[-1] == "72 USD an hour more than normal"


def test_weights_come_from_the_policy():
    patient = SeverityPolicy(time=0.0)
    assert severity([seen("latency_ms", "up", 6.0)], weights=patient).value == 0.0
    assert severity([seen(SILENCE, "silent", 1.0)], weights=SeverityPolicy(silent=2.0)).value == 2.0


def test_a_long_gap_is_not_yet_silence():
    gap = seen(SILENCE, "silent", 5.0, nats=11.0)
    assert severity([gap], threshold_nats=18.3).value == 0.0
    assert severity([seen(SILENCE, "silent", 9.0, nats=18.4)], threshold_nats=18.3).value == 6.0


def test_a_symptom_that_has_hardly_begun_does_no_harm_beside_one_that_is_known():
    known, begun = seen("input_tokens", "up", 1.4, nats=22.0), seen("output_tokens", "down", 0.12, nats=3.3)
    assert severity([known, begun]) == severity([known])
    assert severity([known, seen("output_tokens", "down", 0.12, nats=6.0)]).value > severity([known]).value
    assert severity([begun]).value > 3.0, "the strongest always counts"


def test_why_names_the_worst_first():
    why = severity([seen("latency_ms", "up", 2.0), seen("cost_usd", "up", 4.8), seen(SILENCE, "silent", 1.0)], agents=3, fleet=15).why
    assert why == ("no samples: 6", "cost_usd ×4.8: 6.0", "latency_ms ×2: 2.7", "3 of 15 agents")


VITALS = ["latency_ms", "output_tokens", "cost_usd", "tool_calls", "retries", "errors", "confidence", "context_growth", "mine"]
RATIO = st.floats(0.0, 1e9)
ITEM = st.tuples(st.sampled_from(VITALS), st.sampled_from(["up", "down"]), RATIO)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(ITEM, max_size=6), st.sampled_from(VITALS), RATIO, RATIO, st.integers(1, 50))
def test_severity_never_falls_when_a_ratio_gets_worse(others, vital, one, other, agents):
    low, high = sorted((one, other))
    assert of(*others, (vital, "up", low), agents=agents, fleet=60) <= of(*others, (vital, "up", high), agents=agents, fleet=60)
    assert of(*others, (vital, "down", high), agents=agents, fleet=60) <= of(*others, (vital, "down", low), agents=agents, fleet=60)


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(ITEM, min_size=1, max_size=6), st.floats(-5, 1e6), st.floats(0, 50))
def test_more_certainty_changes_nothing(items, nats, effect):
    assert severity([seen(*item, nats=nats, effect=effect) for item in items]) == severity([seen(*item) for item in items])


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(ITEM, max_size=8), ITEM, st.integers(1, 1000))
def test_severity_is_between_0_and_10_and_another_symptom_never_lowers_it(items, another, agents):
    before, after = of(*items, agents=agents, fleet=1000), of(*items, another, agents=agents, fleet=1000)
    assert 0.0 <= before <= after <= 10.0


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(ITEM, min_size=2, max_size=6, unique_by=lambda item: item[0]), st.randoms(use_true_random=False))
def test_the_order_of_evidence_does_not_matter(items, rng):
    shuffled = list(items)
    rng.shuffle(shuffled)
    assume(shuffled != items)
    assert of(*items) == of(*shuffled)


@pytest.mark.parametrize("ratio", [math.nan, math.inf, -math.inf, -1.0, 0.0])
@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_ratio_that_is_no_number_breaks_nothing(ratio, direction):
    value = severity([seen("cost_usd", direction, ratio, growth=math.nan)], samples_per_h=3600).value
    assert 0.0 <= value <= 10.0
