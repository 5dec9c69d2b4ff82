"""The key/value cache: a position a row, storage given once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rxlm.nn.cache import KeyValueCache

ROWS = 3


def new_cache(capacity: int = 10, num_layers: int = 2) -> KeyValueCache:
    return KeyValueCache(num_layers, ROWS, 2, 4, capacity, dtype=torch.float64, device=torch.device("cpu"))


def some_tokens(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, ROWS, 2, count, 4, dtype=torch.float64).unbind()


@given(lengths=st.lists(st.integers(1, 4), min_size=ROWS, max_size=ROWS), cuts=st.lists(st.integers(1, 2), max_size=3))
def test_a_row_gets_back_its_own_tokens_in_order(lengths, cuts):
    """A padded prompt, then tokens for all rows; the reference keeps a list a row."""
    cache, expected = new_cache(), [[] for _ in range(ROWS)]
    widths = [max(lengths), *cuts]
    for number, width in enumerate(widths):
        keys, values = some_tokens(width)
        visible = cache.visible(width)
        for layer in range(2):
            stored_keys, stored_values = cache.append(layer, keys + layer, values + layer)[:2]
        counts = lengths if number == 0 else [width] * ROWS
        for row in range(ROWS):
            before = len(expected[row])
            expected[row] += [(keys[row, :, t] + 1, values[row, :, t] + 1) for t in range(counts[row])]
            for query in range(counts[row]):
                seen = torch.ones(stored_keys.shape[2]).bool() if visible is None else visible.expand(ROWS, -1, -1, -1)[
                    row, 0, query
                ]  # fmt: skip
                mine = expected[row][: before + query + 1]
                assert int(seen.sum()) == len(mine)
                assert torch.equal(stored_keys[row][:, seen], torch.stack([key for key, _ in mine], dim=1))
                assert torch.equal(stored_values[row][:, seen], torch.stack([value for _, value in mine], dim=1))
        if number == 0:
            cache.advance_prompt(lengths)
        else:
            cache.advance_prompt([width] * len(cache.filled))
    assert cache.positions.tolist() == [len(row) for row in expected]
    assert cache.extent == max(len(row) for row in expected)


def test_a_window_hides_what_is_too_far_back():
    for lengths in ([4, 4, 4], [4, 2, 3]):
        cache = new_cache()
        cache.append(0, *some_tokens(4))
        cache.advance_prompt(lengths)
        mask = cache.visible(1, sliding_window=3).expand(ROWS, 1, 1, -1)
        for row, length in enumerate(lengths):
            seen = [slot for slot in range(5) if mask[row, 0, 0, slot]]
            assert seen == list(range(max(0, length - 2), length + 1))


def test_aligned_rows_need_no_mask_for_a_single_token():
    cache = new_cache()
    cache.append(0, *some_tokens(3))
    cache.advance_prompt([3, 3, 3])
    assert cache.visible(1) is None
    assert cache.visible(2).shape == (1, 1, 2, 5)
    ragged = new_cache()
    ragged.append(0, *some_tokens(3))
    ragged.advance_prompt([3, 2, 3])
    assert ragged.visible(1).shape == (ROWS, 1, 1, 4)


def test_finished_rows_of_a_ragged_batch_stand_still():
    cache = new_cache(capacity=6)
    cache.append(0, *some_tokens(3))
    cache.advance_prompt([3, 1, 2])
    for _ in range(5):
        cache.append(0, *some_tokens(1))
        cache.advance_active(torch.tensor([False, True, False]))
    assert cache.positions.tolist() == [3, 6, 2]
    assert cache.extent == 6


def test_a_full_cache_says_so():
    cache = new_cache(capacity=4)
    cache.append(0, *some_tokens(3))
    cache.advance_prompt([3] * len(cache.filled))
    with pytest.raises(ValueError, match="holds 4 tokens a row; 3 are taken and 2 more were given"):
        cache.new_positions(2)


def test_a_reset_cache_is_as_new_and_keeps_its_storage():
    cache = new_cache()
    storage = cache.keys.data_ptr()
    cache.append(0, *some_tokens(4))
    cache.advance_prompt([4, 2, 3])
    cache.reset()
    assert (cache.extent, cache.aligned, cache.positions.tolist()) == (0, True, [0, 0, 0])
    keys, values = some_tokens(2)
    assert torch.equal(cache.append(0, keys, values)[0], keys)
    assert cache.keys.data_ptr() == storage


def test_storage_is_given_once():
    cache = new_cache()
    storage = (cache.keys.data_ptr(), cache.values.data_ptr())
    for _ in range(cache.capacity):
        keys = cache.append(0, *some_tokens(1)).keys
        cache.advance_prompt([1] * len(cache.filled))
        assert keys.data_ptr() == storage[0]
    assert (cache.keys.data_ptr(), cache.values.data_ptr()) == storage
