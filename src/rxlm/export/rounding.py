"""Rounds a weight to few bits, so that what its layer computes of what it usually reads changes least.

A block of 32 weights of one output has a scale and a zero point: w = scale (q - zero), q a whole number. Rounding to
the nearest q changes each weight least. GPTQ (Frantar et al., 2022, arXiv 2210.17323) changes the outputs least: it
rounds input by input, and lets the inputs that are still to come make up for the error, by how they go together in what
the layer reads.

Shapes: N outputs, K inputs, M blocks of an output.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rxlm.export.names import Bits

BLOCK = 32
DAMPING = 0.01
"""Of the mean of the inputs' squares, added to each: what was never read must not be taken for impossible."""
SHRINKS = 10
SMALLEST_SHRINK = 0.6
"""Scales that are tried for a block: from what reaches its largest weight down to this share of it."""


@dataclass(frozen=True)
class Rounding:
    """How the weights of linear layers are rounded.

    Fields:
        bits: of each; 32: not at all.
        moments: for a weight (N, K) the sum of x x^T over the inputs x that its layer usually reads, (K, K). Without,
            it is rounded to the nearest.
    """

    bits: Bits = 32
    moments: Mapping[Tensor, Tensor] = field(default_factory=dict)


WHOLE = Rounding()
"""Weights stay what they are."""


class Rounded(NamedTuple):
    """A weight of few bits as ONNX Runtime's MatMulNBits takes it.

    Fields:
        packed: the whole numbers, one or two of them a byte, the first one in the lower bits, (N, M, bytes of a block).
        scales: of the blocks, (N, M).
        zeros: their zero points, packed likewise, (N, bytes).
    """

    packed: Tensor
    scales: Tensor
    zeros: Tensor


def rounded(weight: Tensor, bits: Bits, moments: Tensor | None = None) -> Rounded:
    """Return a weight (N, K) in 4 or 8 bits.

    `moments` (K, K) as in `Rounding`; None: each weight is rounded to the nearest.
    """
    columns = weight.shape[1]
    weight = F.pad(weight.float(), (0, -columns % BLOCK))
    if moments is not None:
        moments = F.pad(moments.float(), (0, -columns % BLOCK, 0, -columns % BLOCK))
    numbers, scales, zeros = _nearest(weight, bits) if moments is None else _compensated(weight, bits, moments)
    packed = _packed(numbers.unflatten(1, (-1, BLOCK)), bits)
    return Rounded(packed, scales, _packed(zeros.to(torch.uint8), bits))


def restored(own: Rounded, bits: Bits, columns: int) -> Tensor:
    """Return the weight (N, K) that a rounded one stands for."""
    numbers = _unpacked(own.packed, bits).float()
    zeros = _unpacked(own.zeros, bits)[:, : numbers.shape[1]].float()
    return (own.scales[..., None] * (numbers - zeros[..., None])).flatten(1)[:, :columns]


# --- rounding --------------------------------------------------------------------------------------------------------


def _nearest(weight: Tensor, bits: Bits) -> tuple[Tensor, Tensor, Tensor]:
    """Return whole numbers (N, K), scales and zero points (N, M)."""
    blocks = weight.unflatten(1, (-1, BLOCK))
    scales, zeros = _grid(blocks, bits)
    return _numbers(blocks, scales, zeros, bits).flatten(1), scales, zeros


def _compensated(weight: Tensor, bits: Bits, moments: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `_nearest`, by GPTQ: the error of an input is spread over those after it."""
    weight, spread = weight.clone(), _spread(moments)
    numbers = torch.empty(weight.shape, dtype=torch.uint8)
    grids: list[tuple[Tensor, Tensor]] = []
    for begin in range(0, weight.shape[1], BLOCK):
        end = begin + BLOCK
        block, own = weight[:, begin:end], spread[begin:end, begin:end]
        scales, zeros = _grid(block, bits)
        errors = torch.empty_like(block)
        for place in range(BLOCK):
            column = block[:, place]
            found = _numbers(column[:, None], scales, zeros, bits)[:, 0]
            numbers[:, begin + place] = found
            errors[:, place] = (column - scales * (found - zeros)) / own[place, place]
            block[:, place + 1 :] -= errors[:, place, None] * own[place, place + 1 :]
        weight[:, end:] -= errors @ spread[begin:end, end:]
        grids.append((scales, zeros))
    scales, zeros = (torch.stack(each, 1) for each in zip(*grids, strict=True))
    return numbers, scales, zeros


def _spread(moments: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse of what inputs have in common, (K, K)."""
    squares = moments.diagonal()
    damped = moments + torch.diag((squares == 0) + DAMPING * squares.mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    return torch.linalg.cholesky(inverse, upper=True)


def _grid(blocks: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """Return the scale and zero point of each block (..., 32) that leave the least squared error, (...)."""
    most = 2**bits - 1
    low, high = blocks.amin(-1).clamp(max=0.0), blocks.amax(-1).clamp(min=0.0)
    least = scales = zeros = None
    for shrink in torch.linspace(1.0, SMALLEST_SHRINK, SHRINKS if bits < 8 else 1).tolist():
        scale = (high - low) * (shrink / most)
        scale = torch.where(scale == 0, 1.0, scale)
        zero = (-low * shrink / scale).round().clamp(0, most)
        error = (scale[..., None] * (_numbers(blocks, scale, zero, bits) - zero[..., None]) - blocks).square().sum(-1)
        if least is None or scales is None or zeros is None:
            least, scales, zeros = error, scale, zero
            continue
        better = error < least
        least, scales, zeros = (
            torch.where(better, new, old) for new, old in ((error, least), (scale, scales), (zero, zeros))
        )
    assert scales is not None
    assert zeros is not None
    return scales, zeros


def _numbers(blocks: Tensor, scales: Tensor, zeros: Tensor, bits: Bits) -> Tensor:
    """Return the nearest whole number of each weight, (..., 32), of scales and zero points (...)."""
    return (blocks / scales[..., None] + zeros[..., None]).round().clamp(0, 2**bits - 1)


# --- bytes -----------------------------------------------------------------------------------------------------------


def _packed(numbers: Tensor, bits: Bits) -> Tensor:
    """Return whole numbers (..., n) as bytes; two of 4 bits share one, the first in its lower half."""
    numbers = numbers.to(torch.uint8)
    if bits == 8:
        return numbers.contiguous()
    numbers = F.pad(numbers, (0, numbers.shape[-1] % 2))
    return numbers[..., ::2] | numbers[..., 1::2] << 4


def _unpacked(packed: Tensor, bits: Bits) -> Tensor:
    return packed if bits == 8 else torch.stack((packed & 15, packed >> 4), -1).flatten(-2)
