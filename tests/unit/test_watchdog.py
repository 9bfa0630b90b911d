from __future__ import annotations

import asyncio
import threading

import pytest

from immune.runtime.watchdog import LOOK_EVERY_S, PROCESS, STALLED_AFTER_S, Watchdog
from tests.doubles import START_US, US


class Hands:
    """A clock that is moved by hand, and what was heard."""

    def __init__(self):
        self.at_us = START_US
        self.said = []
        self.over = []

    def now_us(self):
        return self.at_us

    def dog(self, **more):
        made = Watchdog(self, say=self.said.append, recovered=self.over.append, **more)
        made._beat_us = self.at_us
        made._loop_thread = threading.get_ident()
        return made


@pytest.fixture
def hands():
    return Hands()


@pytest.mark.fault("F53")
def test_a_stalled_loop_is_noticed_within_five_seconds_told_at_once_and_on_record_when_it_is_over(hands, tmp_path):
    dog = hands.dog(dump=tmp_path / "stall.txt")
    noticed_us = 0
    for _ in range(20):
        hands.at_us += round(LOOK_EVERY_S * US)
        dog.look(LOOK_EVERY_S)
        noticed_us = noticed_us or (hands.at_us if hands.said else 0)
    assert STALLED_AFTER_S * US < noticed_us - START_US <= 5 * US
    assert len(hands.said) == 1, "once a stall, not every look"
    assert "test_watchdog.py" in hands.said[0], "where it is stuck"
    assert dog.health()["trouble"].startswith("the loop has not come round for 10.0 s")
    assert "test_a_stalled_loop" in (tmp_path / "stall.txt").read_text()
    assert hands.over == []
    dog.beat()
    (stall,) = hands.over
    assert (stall.since_us, stall.for_s) == (START_US, 10.0)
    assert dog.health()["stalls"] == 1
    assert dog.health()["longest_stall_s"] == 10.0


def test_a_loop_that_beats_is_left_alone(hands):
    dog = hands.dog()
    for _ in range(100):
        hands.at_us += round(LOOK_EVERY_S * US)
        dog.look(LOOK_EVERY_S)
        dog.beat()
    assert (hands.said, hands.over, dog.stalls) == ([], [], 0)


@pytest.mark.fault("F24")
def test_a_process_that_was_suspended_blames_nobody(hands):
    dog = hands.dog()
    hands.at_us += 3600 * US
    dog.look(3600.0)
    dog.beat()
    assert (dog.stalls, dog.pauses) == (0, 1)
    assert hands.over[0].where == PROCESS
    assert hands.over[0].for_s == 3600.0


@pytest.mark.fault("F24")
def test_a_pause_is_noticed_too_when_the_loop_comes_round_before_the_thread_does(hands):
    dog = hands.dog()
    hands.at_us += 3600 * US
    dog.beat()
    dog.look(3600.0)
    assert (dog.stalls, dog.pauses) == (0, 1)
    assert [one.where for one in hands.over] == [PROCESS]


def test_stacks_that_cannot_be_written_are_said_and_stop_nothing(hands, tmp_path):
    dog = hands.dog(dump=tmp_path / "nowhere" / "stall.txt")
    hands.at_us += 10 * US
    dog.look(0.5)
    assert any("could not be written" in one for one in hands.said)


@pytest.mark.fault("F11")
async def test_without_a_thread_it_fails_loudly_and_is_started_again_by_the_supervisor(hands, monkeypatch):
    dog = hands.dog()

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            await dog.run()
    assert "does not run" in dog.health()["trouble"]
    again = asyncio.create_task(dog.run())
    for _ in range(100):
        if not dog.health()["trouble"]:
            break
        await asyncio.sleep(0)
    assert not dog.health()["trouble"]
    again.cancel()
    await dog.close()
    assert threading.active_count() >= 1
