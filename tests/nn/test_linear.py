"""The linear layer gives the same numbers whichever library computes them, and never where a gradient is wanted."""

import pytest
import torch

from rxlm.nn.linear import FEW_ROWS, LARGE_WEIGHT, Linear


@pytest.mark.parametrize("rows", [1, 3, FEW_ROWS, FEW_ROWS + 1])
@pytest.mark.parametrize("bias", [True, False])
def test_few_rows_and_a_large_weight_give_the_plain_product(rows: int, bias: bool) -> None:
    layer = Linear(64, LARGE_WEIGHT // 64, bias=bias)
    x = torch.randn(rows, 1, 64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))


def test_a_gradient_flows() -> None:
    layer = Linear(64, LARGE_WEIGHT // 64)
    layer(torch.randn(2, 64)).sum().backward()

    assert layer.weight.grad is not None
