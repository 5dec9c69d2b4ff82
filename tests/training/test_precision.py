"""Precision "auto" takes bfloat16 where it is faster, not wherever it exists."""

import pytest
import torch

from rxlm.training import precision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _measured_anew():
    precision.computes_bfloat16.cache_clear()
    yield
    precision.computes_bfloat16.cache_clear()


@pytest.mark.parametrize(("speedup", "taken"), [(0.55, False), (1.0, False), (4.0, True)])
def test_a_cpu_with_the_instructions_takes_bfloat16_only_if_it_is_faster(monkeypatch, speedup, taken):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    rates = {torch.float32: 100.0, torch.bfloat16: 100.0 * speedup}
    monkeypatch.setattr(precision, "product_rate", lambda dtype, size: rates[dtype])
    assert precision.computes_bfloat16(CPU) is taken


def test_a_cpu_without_the_instructions_is_not_measured(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(precision, "product_rate", lambda dtype, size: pytest.fail("measured"))
    assert not precision.computes_bfloat16(CPU)


def test_measuring_draws_no_random_numbers():
    before = torch.get_rng_state()
    assert precision.product_rate(torch.float32, size=16) > 0
    assert torch.equal(before, torch.get_rng_state())
