"""Real daemons, killed with -9 at random instants under load, and stopped and gone on with. A few here, a hundred in CI.

The harness is `proving.kills`; `benchmarks/reliability.py` kills as often as asked.
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request

import pytest

from immune.stores.journal_sqlite import SqliteJournal
from immune.stores.tokens import TokenStore
from proving.kills import kill_again_and_again
from proving.victim import Victim, prepared

KILLS = 100 if os.environ.get("CI") else 8
PATIENCE_S = 60.0


def ask(victim, method, path, body=None):
    token = (victim.orders.data_dir / "admin.token").read_text().strip()
    request = urllib.request.Request(victim.address["url"] + path, method=method, data=json.dumps(body).encode() if body else None)
    request.add_header("Authorization", f"Bearer {token}")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.fault("F1")
async def test_whatever_a_killed_daemon_acknowledged_is_there_and_whoever_was_held_is_held(tmp_path):
    tally = await kill_again_and_again(tmp_path, kills=KILLS)
    assert tally.troubles == []
    assert tally.kills >= KILLS
    assert tally.acknowledged_events > 20 * KILLS
    assert tally.acknowledged_commands > 0
    assert tally.contained_at_restart > 0


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.fault("F24", "F57")
def test_a_stopped_daemon_that_is_gone_on_with_after_a_take_over_neither_writes_nor_lets_anybody_through(tmp_path):
    orders = prepared(tmp_path)
    TokenStore(orders.data_dir).ensure_admin()
    first = Victim(orders=orders)
    first.start()
    assert first.wait_ready(), first.log()
    assert ask(first, "POST", "/v1/agents", {"id": "a-1", "type": "coder", "service": "search"})[0] == 200
    old_url = dict(first.address)
    os.kill(first.process.pid, signal.SIGSTOP)
    second = Victim(orders=orders)
    heir = Victim(orders=type(orders)(data_dir=orders.data_dir, config=orders.config, take_over=True))
    try:
        second.start()
        assert not second.wait_ready(), "a stopped one still holds the lock"
        assert second.process.exitcode == 4
        assert "second writer on the same data directory" in second.log()
        assert "--take-over" in second.log()

        heir.start()
        assert heir.wait_ready(), heir.log()
        status, _ = ask(heir, "POST", "/v1/agents/a-1/contain", {"level": "isolated", "reason": "by hand"})
        assert status == 200
        os.kill(first.process.pid, signal.SIGCONT)
        first.address = old_url
        try:
            status, answer = ask(first, "GET", "/v1/gate/a-1")
            assert (status, answer.get("allowed")) == (503, None), "it was told of no containment, and must not say that there is none"
        except OSError:
            pass  # it is gone already
        first.process.join(PATIENCE_S)
        assert first.process.exitcode == 4, first.log()
        assert "took over" in first.log()
        with SqliteJournal.open_read_only(orders.data_dir) as journal:
            run_id = journal.runs()[0].run_id
            assert journal.verify(run_id) > 0
            epochs = [event.event().epoch for event in journal.read(run_id) if event.kind == "run_started"]
        assert epochs == sorted(set(epochs))
        assert ask(heir, "GET", "/v1/gate/a-1")[1]["allowed"] is False
    finally:
        for victim in (first, second, heir):
            victim.kill()


@pytest.mark.crash
@pytest.mark.fault("F57")
def test_a_killed_daemon_does_not_keep_the_lock(tmp_path):
    orders = prepared(tmp_path)
    TokenStore(orders.data_dir).ensure_admin()
    for _ in range(2):
        victim = Victim(orders=orders)
        victim.start()
        assert victim.wait_ready(), victim.log()
        began = time.perf_counter()
        victim.kill()
        assert time.perf_counter() - began < PATIENCE_S
