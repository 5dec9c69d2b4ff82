"""Weights of few bits: packed as ONNX Runtime packs them, and rounded so that outputs change least."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, DefaultWeightOnlyQuantizer
from torch import Tensor

from rxlm.export import rounding
from rxlm.export.names import Bits
from rxlm.export.rounding import BLOCK, restored, rounded

all_bits = pytest.mark.parametrize("bits", [4, 8])


def weight(outputs: int, inputs: int, seed: int = 0) -> Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))


def read(inputs: int, seed: int) -> Tensor:
    """Return what a layer reads, (400, K), whose inputs go together in the same way whatever the seed."""
    draws = torch.Generator().manual_seed(seed)
    together = weight(inputs // 4, inputs, seed=7)
    apart = torch.randn(400, inputs, generator=draws)
    return torch.randn(400, inputs // 4, generator=draws) @ together + 0.1 * apart


@all_bits
@pytest.mark.parametrize("shape", [(130, 160), (128, 192), (128, 144)])
def test_the_nearest_numbers_are_packed_as_by_onnx_runtime(
    bits: Bits, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounding, "SHRINKS", 1)
    own = weight(*shape)
    theirs = DefaultWeightOnlyQuantizer(DefaultWeightOnlyQuantConfig(block_size=BLOCK, bits=bits))
    packed, scales, zeros = map(torch.from_numpy, theirs.qbits_block_quant(own.t().contiguous().numpy()))
    found = rounded(own, bits)
    assert found.packed.shape == packed.shape
    assert found.zeros.shape == zeros.shape
    torch.testing.assert_close(found.scales, scales)
    whole = shape[1] // BLOCK  # the rest of the last block, and of the last byte, is read by nobody
    same = (found.packed[:, :whole] == packed[:, :whole]).float().mean()
    assert same > 0.999  # numbers just between two may fall either way
    assert torch.equal(found.zeros[:, : whole * bits // 8], zeros[:, : whole * bits // 8])


@given(outputs=st.integers(1, 5), inputs=st.integers(1, 70), seed=st.integers(0, 9), bits=st.sampled_from([4, 8]))
def test_what_is_restored_is_nearly_the_weight(outputs: int, inputs: int, seed: int, bits: Bits) -> None:
    own = weight(outputs, inputs, seed)
    found = rounded(own, bits)
    error = (restored(found, bits, inputs) - own).abs()
    largest = own.abs().max()
    assert error.max() <= 2 * largest / (2**bits - 1) * (1 if bits == 8 else 4)
    assert error.square().mean() <= (2 * largest / (2**bits - 1)).square() / 3


@all_bits
def test_weights_of_zeros_and_of_one_value_stay_what_they_are(bits: Bits) -> None:
    for value in (0.0, 0.7, -0.7):
        own = torch.full((3, 40), value)
        torch.testing.assert_close(restored(rounded(own, bits), bits, 40), own)


@all_bits
@pytest.mark.parametrize("inputs", [64, 144])
def test_outputs_change_less_where_it_is_known_what_is_read(bits: Bits, inputs: int) -> None:
    own, x, before = weight(48, inputs), read(inputs, 1), read(inputs, 2)
    errors = [
        (x @ (restored(rounded(own, bits, known), bits, inputs) - own).T).square().mean()
        for known in (None, before.T @ before)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_inputs_that_were_never_read_are_rounded_all_the_same() -> None:
    own, moments = weight(8, 64), torch.zeros(64, 64)
    moments[:10, :10] = torch.eye(10)
    for known in (moments, torch.zeros(64, 64)):
        made = restored(rounded(own, 4, known), 4, 64)
        assert made.isfinite().all()
        assert (made - own).abs().max() < 0.5
