from __future__ import annotations

import datetime as dt
import typing
from dataclasses import dataclass, fields, replace
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from immune.core import codec
from immune.core import events as ev
from immune.core.events import Draft, Envelope, seal
from immune.errors import InputError, SchemaTooNewError
from tests.drawn_events import EVENTS, drafts

NOW = 1_767_225_600_000_000


def one(**changes):
    draft = Draft(at_us=NOW, subject="a-1", event=ev.RunEnded(reason="done", ticks=3), correlation_id="inc-1", causation_id="e1", actor="person:ann")
    return seal("r", [replace(draft, **changes)], 4, "f" * 64)[0]


@given(EVENTS)
def test_every_event_survives_the_way_through_its_bytes(event):
    body = codec.encode(event)
    read = ev.read_event(event.kind, event.schema, body)
    assert type(read) is type(event)
    assert codec.encode(read) == body


@given(st.lists(drafts(), max_size=6))
def test_sealing_in_pieces_gives_the_same_chain_as_sealing_at_once(some):
    whole = seal("r", some, 0, ev.GENESIS)
    first = seal("r", some[:2], 0, ev.GENESIS)
    rest = seal("r", some[2:], len(first), first[-1].hash if first else ev.GENESIS)
    assert [*first, *rest] == whole
    assert [envelope.seq for envelope in whole] == list(range(1, len(some) + 1))
    assert all(envelope.hash == envelope.computed_hash() for envelope in whole)


@pytest.mark.parametrize("field", [field.name for field in fields(Envelope) if field.name != "hash"])
def test_the_hash_covers_every_field_of_the_envelope(field):
    envelope = one()
    value = getattr(envelope, field)
    other = value + 1 if isinstance(value, int) else value + (b" " if isinstance(value, bytes) else " ")
    changed = replace(envelope, **{field: other})
    assert changed.computed_hash() != envelope.hash == envelope.computed_hash()


def test_text_that_moves_from_one_field_to_the_next_changes_the_hash():
    assert one(subject="ab", correlation_id="c").hash != one(subject="a", correlation_id="bc").hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Grown(ev.Event):
    kind = "grown"
    schema = 3
    metres: float


def test_an_old_schema_is_upcast_step_by_step(monkeypatch):
    monkeypatch.setitem(ev.KINDS, "grown", Grown)
    monkeypatch.setitem(ev.UPCASTERS, ("grown", 1), lambda body: {"feet": body["height"]})
    monkeypatch.setitem(ev.UPCASTERS, ("grown", 2), lambda body: {"metres": body["feet"] * 0.3})
    assert ev.read_event("grown", 1, b'{"height": 10}') == Grown(metres=3.0)
    assert ev.read_event("grown", 2, b'{"feet": 10}') == Grown(metres=3.0)
    assert ev.read_event("grown", 3, b'{"metres": 2.5}') == Grown(metres=2.5)


def test_a_schema_from_the_future_and_an_unknown_kind_are_refused_with_a_way_out():
    for kind, schema in (("run_ended", 2), ("from_the_future", 1)):
        with pytest.raises(SchemaTooNewError, match="upgrade") as refused:
            ev.read_event(kind, schema, b"{}")
        assert refused.value.exit_code == 2


def test_two_classes_cannot_claim_the_same_kind():
    with pytest.raises(InputError, match="same kind"):
        ev.register(type("Twin", (ev.Event,), {"kind": "run_ended"}))


def test_every_known_kind_is_a_stable_word_that_its_class_says():
    for kind, cls in ev.KINDS.items():
        assert cls.kind == kind == kind.lower()
        assert all(schema < cls.schema for (name, schema) in ev.UPCASTERS if name == kind)


def test_fields_of_events_are_only_what_the_codec_can_keep():
    for cls in ev.KINDS.values():
        for hint in typing.get_type_hints(cls).values():
            assert "dict" not in str(hint), (cls, hint)
            assert "list" not in str(hint), (cls, hint)


@given(st.integers(0, 13_600_000_000_000_000))
def test_iso_times_agree_with_the_calendar(at_us):
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=at_us)
    assert ev.iso(at_us) == moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def test_an_envelope_as_json_says_everything():
    said = one().as_json()
    assert {*said} == {field.name for field in fields(Envelope)} - {"at_us"} | {"id", "at"}
    assert (said["id"], said["body"]) == ("e5", {"reason": "done", "ticks": 3})


TEXTS = st.one_of(st.text("aé😀-", max_size=6), st.sampled_from(["x" * size for size in (254, 255, 256, 300)] + ["é" * 128]))


@given(st.lists(TEXTS, min_size=7, max_size=7), st.integers(0, 10**12), st.integers(-(10**15), 10**18), st.integers(1, 300), st.binary(max_size=400))
def test_the_hash_is_that_of_every_part_with_its_length_before_it(texts, seq, at_us, schema, body):
    prev_hash, run_id, kind, subject, correlation_id, causation_id, actor = texts
    parts = [prev_hash, run_id, seq, at_us, kind, schema, subject, correlation_id, causation_id, actor]
    plain = b"".join(b"%d:%b," % (len(part), part) for part in [str(one).encode() for one in parts] + [body])
    found = ev.chain_hash(prev_hash, run_id, seq, at_us, kind, schema, subject, correlation_id, causation_id, actor, body)
    assert found == sha256(plain).hexdigest()
