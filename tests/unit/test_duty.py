from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immune.core.duty import REMINDERS, Channel, Duty, QuietHours
from immune.core.notices import Notice

US = 1_000_000
NOON = int(datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp()) * US
NIGHT = QuietHours(from_minute=22 * 60, to_minute=7 * 60)


def notice(key="approval r1", kind="approval", severity=6.0, waits="r1", at_us=NOON):
    return Notice(
        key=key,
        kind=kind,
        at_us=at_us,
        subject="a-1",
        title="t",
        text="x",
        severity=severity,
        page="/approvals/r1",
        event_id="e1",
        waits=waits,
    )


def told(deliveries):
    return [(delivery.channel, delivery.notices[0].key, delivery.reminders) for delivery in deliveries]


def test_everybody_who_wants_to_hear_is_told_at_once():
    duty = Duty([Channel(name="all"), Channel(name="grave", min_severity=7.0), Channel(name="brakes", kinds=("brake",))])
    assert told(duty.take(notice(), NOON)) == [("all", "approval r1", 0)]


def test_the_same_thing_again_is_counted_and_not_told_until_some_time_has_passed():
    duty = Duty([Channel(name="all")])
    duty.take(notice(kind="isolation", waits=""), NOON)
    assert duty.take(notice(kind="isolation", waits=""), NOON + 599 * US) == []
    assert duty.repeated == 1
    assert duty.take(notice(kind="isolation", waits=""), NOON + 601 * US)


def test_the_second_in_line_hears_only_of_what_nobody_answered():
    duty = Duty([Channel(name="first", repeat_s=0), Channel(name="second", after_s=900, repeat_s=0)])
    assert told(duty.take(notice(), NOON)) == [("first", "approval r1", 0)]
    assert duty.due(NOON + 899 * US, lambda _: True) == []
    assert told(duty.due(NOON + 900 * US, lambda _: True)) == [("second", "approval r1", 0)]
    assert duty.due(NOON + 5000 * US, lambda _: True) == []


def test_an_answer_in_time_spares_the_second_in_line():
    duty = Duty([Channel(name="second", after_s=900)])
    duty.take(notice(), NOON)
    assert duty.due(NOON + 60 * US, lambda _: False) == []
    assert duty.waiting == 0


def test_what_needs_no_answer_never_reaches_the_second_in_line():
    duty = Duty([Channel(name="second", after_s=900)])
    assert duty.take(notice(kind="isolation", waits=""), NOON) == []
    assert duty.due(NOON + 9000 * US, lambda _: True) == []


def test_what_still_waits_is_told_again_and_not_for_ever():
    duty = Duty([Channel(name="all", repeat_s=60)])
    duty.take(notice(), NOON)
    again = [told(duty.due(NOON + minute * 60 * US, lambda _: True)) for minute in range(1, 20)]
    assert again[:2] == [[("all", "approval r1", 1)], [("all", "approval r1", 2)]]
    assert sum(map(len, again)) == REMINDERS


def test_quiet_hours_keep_what_can_wait_and_give_it_all_at_their_end():
    at_night = int(datetime(2026, 1, 5, 23, tzinfo=UTC).timestamp()) * US
    duty = Duty([Channel(name="all", quiet=NIGHT, repeat_s=0)])
    assert duty.take(notice(key="one"), at_night) == []
    assert duty.take(notice(key="two", waits="r2"), at_night) == []
    assert duty.held == 2
    assert duty.due(at_night + 7 * 3600 * US, lambda _: True) == []
    (morning,) = duty.due(at_night + 8 * 3600 * US, lambda _: True)
    assert [one.key for one in morning.notices] == ["one", "two"]
    assert duty.held == 0


@pytest.mark.parametrize(
    ("kind", "severity", "wakes"), [("approval", 7.9, False), ("approval", 8.0, True), ("not_enforced", 1.0, True), ("brake", 1.0, True)]
)
def test_what_cannot_wait_wakes_people(kind, severity, wakes):
    at_night = int(datetime(2026, 1, 6, 3, tzinfo=UTC).timestamp()) * US
    duty = Duty([Channel(name="all", quiet=NIGHT)])
    assert bool(duty.take(notice(kind=kind, severity=severity), at_night)) is wakes


def test_quiet_hours_are_those_of_the_place():
    quiet = QuietHours(from_minute=22 * 60, to_minute=7 * 60, zone=ZoneInfo("Asia/Tokyo"))
    assert quiet.now(int(datetime(2026, 1, 5, 14, tzinfo=UTC).timestamp()) * US)
    assert not quiet.now(NOON - 12 * 3600 * US)


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5), st.booleans()), max_size=400))
def test_whatever_comes_each_channel_is_told_a_thing_at_most_once_in_ten_minutes_besides_reminders(steps):
    duty = Duty([Channel(name="all", repeat_s=0), Channel(name="quiet", quiet=NIGHT, repeat_s=0)])
    now_us, last = NOON, {}
    for pause_s, number, asks in steps:
        now_us += pause_s * US
        found = duty.take(notice(key=f"k{number}", waits=f"r{number}" if asks else ""), now_us) + duty.due(now_us, lambda _: True)
        for delivery in found:
            for one in delivery.notices:
                at = (delivery.channel, one.key)
                assert now_us - last.get(at, 0) >= 600 * US or len(delivery.notices) > 1 or delivery.channel == "quiet"
                last[at] = now_us
    assert duty.held <= 200


def test_a_flood_is_bounded_and_counted():
    at_night = int(datetime(2026, 1, 6, 3, tzinfo=UTC).timestamp()) * US
    duty = Duty([Channel(name="all", quiet=NIGHT)])
    for number in range(5_000):
        duty.take(notice(key=f"k{number}", waits=f"r{number}"), at_night)
    assert duty.held == 200
    assert duty.waiting == 1_000
    assert duty.dropped == 5_000 - 200 + 5_000 - 1_000
