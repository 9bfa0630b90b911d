from __future__ import annotations

import asyncio
import time

import pytest

from immune.clock import US, DeadlockError, SystemClock, VirtualClock, VirtualLoop, elapsed_s, run_virtual

START = 1_767_225_600_000_000


def test_hours_pass_in_no_time_and_end_exactly_where_they_should():
    clock = VirtualClock(START)

    async def sleep_long():
        for n in range(1, 3601):
            await clock.sleep_until_us(START + n * 7 * US + n)
            assert clock.now_us() == START + n * 7 * US + n, "virtual time drifted"

    lap = elapsed_s()
    run_virtual(sleep_long())
    assert lap() < 5.0
    assert clock.now_us() == START + 3600 * 7 * US + 3600


def test_sleeping_until_a_time_that_has_passed_returns_at_once_but_lets_others_run():
    clock, order = VirtualClock(START), []

    async def main():
        asyncio.get_running_loop().call_soon(order.append, "other")
        await clock.sleep_until_us(START - 5 * US)
        order.append("sleeper")

    run_virtual(main())
    assert order == ["other", "sleeper"]
    assert clock.now_us() == START


def test_timers_fire_in_order_of_time_and_equal_times_in_order_of_asking():
    fired = []

    async def later(name, seconds):
        await asyncio.sleep(seconds)
        fired.append(name)

    async def main():
        await asyncio.gather(later("c", 2), later("a", 1), later("b", 1))

    run_virtual(main())
    assert fired == ["a", "b", "c"]


def test_waiting_for_what_nobody_will_do_is_an_error_and_not_a_hang():
    async def forgotten():
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="nothing will ever wake"):
        run_virtual(forgotten())


def test_timeouts_are_virtual_too():
    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(3600), 60)
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == pytest.approx(60.0)


def test_a_timer_that_rounding_puts_a_hair_ahead_still_makes_time_move():
    loop = VirtualLoop()
    try:
        loop._advance(1e-9)
        assert loop.time() == 1e-6
    finally:
        loop.close()


def test_outside_a_loop_the_virtual_clock_stands_where_it_was_seen_last():
    clock = VirtualClock(START)
    assert clock.now_us() == START
    run_virtual(clock.sleep_until_us(START + 9 * US))
    assert clock.now_us() == START, "nobody looked in between"

    async def look():
        await clock.sleep_until_us(START + 9 * US)
        return clock.now_us()

    assert run_virtual(look()) == clock.now_us() == START + 9 * US


@pytest.mark.fault("F23")
def test_the_wall_clock_never_goes_back_within_a_process(monkeypatch):
    clock = SystemClock()
    before = clock.now_us()
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    assert clock.now_us() >= before


@pytest.mark.fault("F24")
def test_the_wall_clock_counts_the_time_that_the_machine_slept_through(monkeypatch):
    clock = SystemClock()
    before = clock.now_us()
    slept = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 3600 * 10**9
    monkeypatch.setattr(time, "clock_gettime_ns", lambda which: slept)
    assert clock.now_us() - before >= 3600 * US


async def test_the_wall_clock_wakes_at_or_after_its_time():
    clock = SystemClock()
    at_us = clock.now_us() + 2000
    await clock.sleep_until_us(at_us)
    assert clock.now_us() >= at_us
