from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from immune.core import codec
from immune.core import events as ev
from immune.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    word: str
    size: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    count: int
    level: Literal["low", "high"]
    inner: Inner
    many: tuple[Inner, ...]
    pair: tuple[str, int]
    maybe: str | None
    yes: bool


INNERS = st.builds(Inner, word=st.text(max_size=5), size=st.floats(allow_nan=False, allow_infinity=False))
OUTERS = st.builds(
    Outer,
    count=st.integers(),
    level=st.sampled_from(["low", "high"]),
    inner=INNERS,
    many=st.lists(INNERS, max_size=3).map(tuple),
    pair=st.tuples(st.text(max_size=3), st.integers()),
    maybe=st.none() | st.text(max_size=3),
    yes=st.booleans(),
)
GOOD = {
    "count": 1,
    "level": "low",
    "inner": {"word": "w"},
    "many": [{"word": "x", "size": 2}],
    "pair": ["a", 1],
    "maybe": None,
    "yes": True,
}


@given(OUTERS)
def test_what_was_encoded_is_read_back_and_encodes_to_the_same_bytes(value):
    content = codec.encode(value)
    back = codec.decode(Outer, content)
    assert codec.encode(back) == content
    assert (back.count, back.pair, back.maybe, back.inner.word) == (value.count, value.pair, value.maybe, value.inner.word)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_keeps_six_significant_digits_and_rounding_twice_changes_nothing(value):
    kept = codec.rounded(value)
    assert kept == codec.rounded(kept)
    assert math.isclose(kept, value, rel_tol=5.1e-6, abs_tol=5e-324)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_a_number_that_is_not_finite_is_refused_on_the_way_in_and_out(value):
    with pytest.raises(InputError, match="not finite"):
        codec.encode(Inner(word="w", size=value))


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_stored_number_that_is_not_finite_is_refused(word):
    with pytest.raises(InputError, match="not finite"):
        codec.decode(Inner, b'{"word":"w","size":%s}' % word.encode())


@pytest.mark.parametrize("value", [{"a": 1}, ["list"], {1}, object(), np.int64(1), np.bool_(True), b"bytes"])
def test_what_an_event_may_not_hold_is_refused(value):
    with pytest.raises(InputError, match="cannot hold"):
        codec.encode((value,))


def test_numbers_of_numpy_that_are_floats_encode_like_floats():
    assert codec.encode(np.float64(1.23456789)) == b"1.23457"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", "1"),
        ("count", 1.5),
        ("count", True),
        ("count", None),
        ("level", "middle"),
        ("level", ["low"]),
        ("inner", "text with word in it"),
        ("inner", None),
        ("inner", {"size": 1.0}),
        ("many", {"word": "x"}),
        ("many", [1]),
        ("pair", ["a"]),
        ("pair", ["a", 1, 2]),
        ("pair", "ab"),
        ("maybe", 3),
        ("yes", 1),
    ],
)
def test_a_stored_value_of_another_shape_is_an_input_error_and_nothing_else(field, value):
    with pytest.raises(InputError):
        codec.build(Outer, {**GOOD, field: value})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"1", b'"text"', b"\xff\xfe", b"null"])
def test_bytes_that_are_not_an_object_are_an_input_error(content):
    with pytest.raises(InputError):
        codec.decode(Inner, content)


def test_unknown_keys_are_ignored_absent_ones_take_their_default_and_whole_numbers_pass_as_floats():
    read = codec.build(Inner, {"word": "w", "from_the_future": 1})
    assert read == Inner(word="w", size=1.0)
    assert isinstance(codec.build(Inner, {"word": "w", "size": 3}).size, float)


def test_a_missing_field_is_an_input_error():
    with pytest.raises(InputError, match="word"):
        codec.build(Inner, {})


@pytest.mark.parametrize("kind", sorted(ev.KINDS))
def test_every_kind_of_event_can_be_read(kind):
    with pytest.raises(InputError):
        ev.read_event(kind, ev.KINDS[kind].schema, b"[]")
