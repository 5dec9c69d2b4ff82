"""Computing rows of like length together changes what is padded, and no result."""

import pytest
import torch

import rxlm.training.by_length as grouping
from rxlm.training.by_length import by_length, encode_by_length
from training_runs import batches, model, stage


def test_groups_hold_every_row_once_and_are_as_wide_as_their_longest() -> None:
    lengths = torch.randint(0, 30, (300,), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(30) < lengths[:, None]
    groups = by_length(mask, 128)

    assert len(groups) == grouping.GROUPS
    assert torch.equal(torch.cat([rows for rows, _ in groups]).sort().values, torch.arange(300))
    assert [width for _, width in groups] == [int(lengths[rows].max()) for rows, _ in groups]
    assert sum(len(rows) * width for rows, width in groups) < 0.7 * mask.numel()


def test_few_rows_stay_together() -> None:
    assert len(by_length(torch.ones(100, 5, dtype=torch.bool), 128)) == 1
    assert len(by_length(torch.ones(100, 5, dtype=torch.bool), 576)) == grouping.GROUPS  # each makes large products


def test_encoded_rows_come_back_in_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "FEWEST_NUMBERS", 2 * 128)
    ids = torch.arange(1, 61).view(10, 6)
    mask = torch.arange(6) < torch.tensor([1, 6, 3, 2, 5, 4, 6, 1, 2, 3])[:, None]
    encoded = encode_by_length(lambda rows, real: (rows * real)[None, :, :, None].float(), ids, mask, 128)

    assert torch.equal(encoded[0, :, :, 0], (ids * mask).float())


def test_rows_that_are_the_same_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "FEWEST_NUMBERS", 2 * 128)
    ids, mask = torch.tensor([[1, 2, 0], [3, 4, 5], [1, 2, 0], [1, 2, 0], [6, 0, 0]]), torch.ones(5, 3).bool()
    mask[[0, 3], 2] = mask[4, 1:] = False  # the third row has the numbers of the first, and a token more
    weight, seen = torch.ones(3, requires_grad=True), []

    def encode(rows: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        seen.append(len(rows))
        return (rows * real * weight[: rows.shape[1]])[None, :, :, None]

    encoded = encode_by_length(encode, ids, mask, 128)
    encoded.sum().backward()

    assert sum(seen) == 4
    assert torch.equal(encoded[0, :, :, 0], (ids * mask).float())
    assert weight.grad.tolist() == [12, 10, 5]


def test_losses_and_gradients_are_those_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = stage("memory_aware", model()).prepare(next(batches("memory_aware", 8)), torch.Generator())
    figures = []
    for fewest in (10**6, 2):
        monkeypatch.setattr(grouping, "FEWEST_NUMBERS", fewest * 16)
        module = stage("memory_aware", model().double())
        losses = module(turns, module.counts(turns))
        losses.total.backward()
        figures.append([losses.total, *(parameter.grad for parameter in module.parameters())])

    for one, other in zip(*figures, strict=True):
        torch.testing.assert_close(one, other)
