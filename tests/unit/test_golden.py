"""Journals that released versions wrote, read by today's code. They are never made again: see tests/golden/make.py.

Held against today is the chain over the stored bytes, and what the fold says of named facts (`projection`). Not the canonical hash
of the whole state: that may change by design when a version adds a field.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from immune.core.fold import fold
from immune.core.state import RunState
from immune.stores.archive import check_archive, read_archive
from tests.golden.make import fingerprint, main, projection

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
JOURNALS = sorted(GOLDEN.glob("journal-*.jsonl.gz"))
DIGESTS = {"journal-0.1.jsonl.gz": "2536be00530eaf4fdce4fedad40cbbb66046d370ec35de0388f009caeea5aa2e"}
"""SHA-256 of the files themselves: whoever replaces one has to say so here."""


def test_the_journal_of_every_version_is_there_and_is_the_one_that_was_kept():
    from hashlib import sha256

    assert {path.name: sha256(path.read_bytes()).hexdigest() for path in JOURNALS} == DIGESTS
    assert all(path.stat().st_size < 60_000 for path in JOURNALS)


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.name)
def test_a_journal_of_a_released_version_is_replayed_to_what_it_said_then(path):
    envelopes = list(read_archive(path))
    assert check_archive(path) == len(envelopes) >= 200
    assert fingerprint(envelopes) == path.with_name(path.name + ".sha256").read_text().strip()
    assert all(envelope.event() is not None for envelope in envelopes)


@pytest.mark.parametrize("path", JOURNALS, ids=lambda path: path.name)
def test_the_golden_run_is_rich_enough_to_mean_something(path):
    envelopes = list(read_archive(path))
    said = projection(envelopes)
    assert {facts[2] for facts in said["approvals"].values()} >= {"used", "rejected"}
    assert {facts[2] for facts in said["plans"].values()} >= {"succeeded", "compensated"}
    assert len({envelope.kind for envelope in envelopes}) >= 25
    assert fold(RunState(), envelopes).head == envelopes[-1].hash


def test_another_story_has_another_fingerprint():
    envelopes = list(read_archive(JOURNALS[0]))
    without = [envelope for envelope in envelopes if envelope.kind != "approval_closed"]
    assert fingerprint(without) != fingerprint(envelopes)


def test_a_golden_journal_is_never_made_again():
    before = JOURNALS[0].read_bytes()
    with pytest.raises(SystemExit, match="never made again"):
        main(JOURNALS[0])
    assert JOURNALS[0].read_bytes() == before
