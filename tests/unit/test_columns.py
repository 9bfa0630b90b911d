"""Packed columns: nothing is lost, and what can be narrow is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from immune.stores.columns import Columns, pack_floats, pack_ints

HEAD = 9
INT64 = st.integers(-(2**63), 2**63 - 1)


@pytest.mark.parametrize("low", [0, -5, 2**40])
@pytest.mark.parametrize(("span", "width"), [(0, 0), (255, 1), (256, 2), (65_535, 2), (65_536, 4), (2**32 - 1, 4), (2**32, 8)])
def test_whole_numbers_take_the_narrowest_width_that_holds_them(low, span, width):
    column = np.array([low, low + span, low], dtype=np.int64)
    content = pack_ints((column,))
    assert len(content) == HEAD + 3 * width
    assert Columns(content, 3).ints(0).tolist() == column.tolist()


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.int64])
def test_the_whole_range_of_a_type_comes_back(kind):
    limits = np.iinfo(kind)
    column = np.array([limits.min, limits.max, 0, -1], dtype=kind)
    assert Columns(pack_ints((column,)), 4).ints(0).tolist() == column.tolist()


@given(st.lists(st.tuples(INT64, INT64), max_size=20))
def test_any_whole_numbers_come_back(rows):
    columns = np.array(rows, dtype=np.int64).reshape(-1, 2)
    packed = Columns(pack_ints((columns[:, 0], columns[:, 1])), len(columns))
    assert packed.ints(0).tolist() == columns[:, 0].tolist()
    assert packed.ints(1).tolist() == columns[:, 1].tolist()


@given(st.lists(st.tuples(st.floats(), st.floats(width=32)), max_size=20))
def test_any_floats_come_back_bit_by_bit_but_for_the_kind_of_nan(rows):
    values = np.array(rows, dtype=np.float64).reshape(-1, 2)
    packed = Columns(pack_floats(values), len(values))
    for column in range(2):
        np.testing.assert_array_equal(packed.floats(column), values[:, column])
        assert (np.signbit(packed.floats(column)) == np.signbit(values[:, column]))[~np.isnan(values[:, column])].all()


def test_a_column_takes_what_its_numbers_need():
    tokens = np.array([0.0, 4200.0, 2.0**24, np.nan])
    assert len(pack_floats(tokens[:, None])) == HEAD + 4 * 4
    assert len(pack_floats(np.array([[0.000123]] * 4))) == HEAD + 4 * 8
    assert len(pack_floats(np.full((4, 1), np.nan))) == HEAD
