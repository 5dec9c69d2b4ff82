"""Layers of experts as they stand in a graph: one operator chooses a token's experts, computes and mixes them.

Shapes: N tokens, D model dimension, E experts, F hidden dimension of an expert.
"""

from typing import Any

import torch
from torch import Tensor, nn

from rxlm.nn.feed_forward import ACTIVATIONS
from rxlm.nn.moe import Experts, MixtureOfExperts


class ExpertsPart(nn.Module):
    """A mixture of experts. Routed ones keep their weights, whatever the bits: rounded they were no faster.

    Args:
        mixture: whose weights are taken; see `computable`.
    """

    def __init__(self, mixture: MixtureOfExperts) -> None:
        super().__init__()
        self.router, self.bias, self.shared_bias = mixture.router, mixture.bias, mixture.shared_bias
        self.routed = _Mixed(mixture.experts, mixture.experts_per_token, mixture.routed_scale)
        self.shared_gate, self.shared = mixture.shared_gate, None
        shared, scale = mixture.shared_experts, mixture.shared_scale
        if shared is not None:
            count = len(shared.w_in)
            self.shared = _Alone(shared, scale) if mixture.shared_gate is None else _Mixed(shared, count, scale)

    def forward(self, x: Tensor, routing: object = None) -> Tensor:
        """Transform `x` (B, T, D) to the same shape."""
        out = self.routed(x, self.router(x))
        if self.shared is not None:
            out = out + (self.shared(x) if self.shared_gate is None else self.shared(x, self.shared_gate(x)))
        for bias in (self.bias, self.shared_bias):
            out = out if bias is None else out + bias
        return out


class _Mixed(nn.Module):
    """Experts of which each token takes the `chosen` likeliest, weighted by the softmax over these."""

    def __init__(self, experts: Experts, chosen: int, scale: float) -> None:
        super().__init__()
        self.chosen = chosen
        value, gate = experts.w_in.detach().transpose(1, 2).chunk(2, 1)
        self.register_buffer("w_in", torch.stack((gate, value), 2).flatten(1, 2))  # by turns, (E, 2F, D)
        self.register_buffer("w_out", (experts.w_out.detach() * scale).transpose(1, 2).contiguous())
        biases = experts.b_in, experts.b_out
        self.b_in = self.b_out = None
        if biases[0] is not None and biases[1] is not None:
            value, gate = biases[0].detach().chunk(2, 1)
            self.b_in = nn.Parameter(torch.stack((gate, value), 2).flatten(1))
            self.b_out = nn.Parameter(biases[1].detach() * scale)

    w_in: Tensor
    w_out: Tensor

    def forward(self, x: Tensor, scores: Tensor) -> Tensor:
        """Return the mix of `x` (B, T, D) by the experts' scores (B, T, E)."""
        settings: Any = {
            "k": self.chosen, "activation_type": "swiglu", "swiglu_fusion": 1, "normalize_routing_weights": 1,
            "activation_alpha": 1.0, "activation_beta": 0.0,
        }  # fmt: skip
        inputs = (x, scores.flatten(0, 1), self.w_in, self.b_in, self.w_out, self.b_out)
        return torch.onnx.ops.symbolic("com.microsoft::MoE", inputs, settings, dtype=x.dtype, shape=x.shape, version=1)


class _Alone(nn.Module):
    """The only shared expert, which computes every token: two linear layers."""

    def __init__(self, experts: Experts, scale: float) -> None:
        super().__init__()
        self.in_proj, self.out_proj = (
            _linear(weight[0], None if bias is None else bias[0], by)
            for weight, bias, by in ((experts.w_in, experts.b_in, 1.0), (experts.w_out, experts.b_out, scale))
        )
        self.activation = experts.activation

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.in_proj(x).chunk(2, dim=-1)
        return self.out_proj(value * self.activation(gate))


def _linear(weight: Tensor, bias: Tensor | None, scale: float) -> nn.Linear:
    made = nn.Linear(*weight.shape, bias=bias is not None)
    made.weight.data = weight.detach().t() * scale
    if bias is not None:
        made.bias.data = bias.detach() * scale
    return made


def computable(layers: nn.ModuleList) -> bool:
    """Tell whether ONNX Runtime has an operator for all experts of some layers: they are gated by silu."""
    mixtures = [each for each in layers.modules() if isinstance(each, MixtureOfExperts)]
    return all(each.experts.gated and each.experts.activation is ACTIVATIONS["silu"] for each in mixtures)
