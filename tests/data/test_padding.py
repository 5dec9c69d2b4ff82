"""Padding: rows come back from the tensor, and the mask tells them from the padding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxlm.data.padding import padded


@given(rows=st.lists(st.lists(st.integers(1, 9), max_size=5), max_size=4), wider=st.none() | st.integers(0, 3))
def test_rows_come_back_from_ids_and_mask(rows, wider):
    longest = max(map(len, rows), default=0)
    ids, mask = padded(rows, 0, width=None if wider is None else longest + wider)
    assert ids.shape == mask.shape == (len(rows), max(longest, 1) if wider is None else longest + wider)
    assert [row[kept].tolist() for row, kept in zip(ids, mask, strict=True)] == rows
    assert not ids[~mask].any()


def test_row_longer_than_the_width_is_refused():
    with pytest.raises(ValueError, match="width=2 must be at least the longest row, 3 tokens, or None"):
        padded([[1], [1, 2, 3]], 0, width=2)
