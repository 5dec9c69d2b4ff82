"""Precision "auto" takes bfloat16 where it is faster, not wherever it exists."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from rxlm.training import distributed, precision
from training_runs import trainer

CPU = torch.device("cpu")
RATE = "rxlm.training.precision.product_rate"


@pytest.fixture(autouse=True)
def measured_anew() -> Iterator[None]:
    precision.computes_bfloat16.cache_clear()
    yield
    precision.computes_bfloat16.cache_clear()


def a_cpu(monkeypatch: pytest.MonkeyPatch, speedup: float) -> None:
    """A CPU that has the instructions and multiplies so many times as fast with them."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(RATE, lambda dtype, size: speedup if dtype is torch.bfloat16 else 1.0)


@pytest.mark.parametrize(("speedup", "taken"), [(0.55, False), (1.0, False), (4.0, True)])
def test_a_cpu_with_the_instructions_takes_bfloat16_only_if_it_is_faster(
    monkeypatch: pytest.MonkeyPatch, speedup: float, taken: bool
) -> None:
    a_cpu(monkeypatch, speedup)
    assert precision.computes_bfloat16(CPU) is taken


def test_a_cpu_without_the_instructions_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(RATE, lambda dtype, size: pytest.fail("measured"))
    assert not precision.computes_bfloat16(CPU)


@pytest.mark.parametrize("others", [0, 1])
def test_processes_take_bfloat16_only_if_all_found_it_faster(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, others: int
) -> None:
    a_cpu(monkeypatch, 4.0)
    monkeypatch.setattr(precision, "NARROW", 0)
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed, "sum_over_processes", lambda own: {name: own[name] + others for name in own})
    with trainer("dialogues", tmp_path, precision="auto").autocast():
        assert torch.is_autocast_enabled("cpu") is bool(others)


def test_narrow_models_compute_in_float32_on_a_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    a_cpu(monkeypatch, 4.0)
    with trainer("dialogues", tmp_path, precision="auto").autocast():
        assert not torch.is_autocast_enabled("cpu")
    narrow, wide = nn.Linear(128, 1024), nn.Sequential(nn.Linear(576, 1536), nn.Linear(576, 8))
    assert (precision.width_of(narrow), precision.width_of(wide), precision.width_of(nn.Identity())) == (128, 576, 0)
    assert not precision.gains_by_bfloat16(narrow, CPU)
    assert precision.gains_by_bfloat16(wide, CPU)


def test_measuring_draws_no_random_numbers() -> None:
    before = torch.get_rng_state()
    assert precision.product_rate(torch.float32, size=16) > 0
    assert torch.equal(before, torch.get_rng_state())
