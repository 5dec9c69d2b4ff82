"""Mixture of experts with top-k routing, shared experts and a load-balancing loss.

Shapes: N tokens (any leading dimensions, flattened), D model dimension, E experts, F hidden dimension of an
expert, k experts a token, G shared experts.
"""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rxlm.config import Config, config, require, require_at_most, require_bool, require_choice, require_int
from rxlm.nn.feed_forward import ACTIVATIONS, activate
from rxlm.nn.sizes import MOST_EXPERTS
from rxlm.shapes import Float, Int

ExpertBias = Literal["none", "local", "global"]
EXPERT_BIASES: tuple[ExpertBias, ...] = ("none", "local", "global")

# How experts run, by device and number of token-expert pairs (tokens times k):
#
# | device | from             | to             | method                                                          |
# |--------|------------------|----------------|-----------------------------------------------------------------|
# | CPU    | one token        |                | two experts at a time                                           |
# | CPU    | number of experts| BATCHED_LIMIT  | one batched product, each expert's tokens padded to the longest |
# |        |                  |                | list, where that is at most PADDING_LIMIT times the work        |
# | GPU    | 1                | GATHER_LIMIT   | each pair's weights gathered                                    |
# | GPU    | GATHER_LIMIT     | DENSE_LIMIT    | all experts on all tokens, where there is no grouped kernel for |
# |        |                  | (tokens)       | their type                                                      |
# | both   | otherwise        |                | tokens sorted by expert                                         |
BATCHED_LIMIT = 256
PADDING_LIMIT = 2
GATHER_LIMIT = 64
DENSE_LIMIT = 512


class Routing:
    """Collects the load-balancing losses of one forward pass through a stack of layers.

    Args:
        mask: True at tokens that count, in the shape of the tokens; None where all do.
    """

    def __init__(self, mask: Tensor | None = None) -> None:  # no dataclass: sharded layers would get copies of it
        self.mask = mask
        self.losses: list[Tensor] = []

    def loss(self) -> Tensor | None:
        """Mean over the expert layers, a scalar that is 1 for perfectly even routing; None without such layers."""
        return torch.stack(self.losses).mean() if self.losses else None


class Experts(nn.Module):
    """A stack of E feed-forward networks of one shape whose weights are one tensor a projection."""

    without_decay: ClassVar[tuple[str, ...]] = ("b_in", "b_out")

    def __init__(
        self, num_experts: int, dim: int, hidden_dim: int, *, gated: bool, activation: str, bias: bool
    ) -> None:
        super().__init__()
        self.gated = gated
        self.activation = ACTIVATIONS[activation]
        width = 2 * hidden_dim if gated else hidden_dim
        self.w_in = nn.Parameter(torch.empty(num_experts, dim, width))
        self.w_out = nn.Parameter(torch.empty(num_experts, hidden_dim, dim))
        self.b_in = nn.Parameter(torch.zeros(num_experts, width)) if bias else None
        self.b_out = nn.Parameter(torch.zeros(num_experts, dim)) if bias else None
        for weight in (self.w_in, self.w_out):
            nn.init.uniform_(weight, -(weight.shape[1] ** -0.5), weight.shape[1] ** -0.5)

    def one(self, x: Float[Tensor, "N D"], expert: int) -> Float[Tensor, "N D"]:
        """Run one expert on all of `x` (N, D)."""
        b_in = None if self.b_in is None else self.b_in[expert]
        b_out = None if self.b_out is None else self.b_out[expert]
        return self._run(x, self.w_in[expert], b_in, self.w_out[expert], b_out)

    def _run(self, x: Tensor, w_in: Tensor, b_in: Tensor | None, w_out: Tensor, b_out: Tensor | None) -> Tensor:
        hidden = activate(_affine(x, w_in, b_in), self.activation, self.gated)
        return _affine(hidden, w_out, b_out)

    def each(self, x: Float[Tensor, "N D"], experts: Int[Tensor, " N"]) -> Float[Tensor, "N D"]:
        """Run expert `experts[n]` on row n of `x` (N, D) by gathering its weights: for few rows, without a sync."""
        b_in = 0 if self.b_in is None else self.b_in[experts]
        b_out = 0 if self.b_out is None else self.b_out[experts]
        hidden = torch.bmm(x[:, None], self.w_in[experts])[:, 0] + b_in
        hidden = activate(hidden, self.activation, self.gated)
        return torch.bmm(hidden[:, None], self.w_out[experts])[:, 0] + b_out

    def grouped(
        self, x: Float[Tensor, "N D"], experts: Int[Tensor, " N"], counts: Int[Tensor, " E"]
    ) -> Float[Tensor, "N D"]:
        """Run the experts on `x` (N, D) sorted by expert, `counts` (E,) rows each, without a host sync."""
        ends = counts.cumsum(0).int()
        hidden = F.grouped_mm(x, self.w_in, offs=ends)
        if self.b_in is not None:
            hidden = hidden + self.b_in[experts]
        out = F.grouped_mm(activate(hidden, self.activation, self.gated), self.w_out, offs=ends)
        return out if self.b_out is None else out + self.b_out[experts]

    def looped(self, x: Float[Tensor, "N D"], counts: list[int]) -> Float[Tensor, "N D"]:
        """Run the experts on `x` (N, D) sorted by expert, one after the other; `counts` lives on the host."""
        # Unbound at once: the gradient of a single slice would be as large as all experts' weights, mostly zeros.
        weights = (self.w_in, self.b_in, self.w_out, self.b_out)
        slices = zip(*([None] * len(counts) if weight is None else weight.unbind() for weight in weights), strict=True)
        runs = zip(x.split(counts), slices, strict=True)
        return torch.cat([self._run(part, *weights) for part, weights in runs if len(part)])

    def all(self, x: Float[Tensor, "*E N D"], experts: slice = slice(None)) -> Float[Tensor, "_ N D"]:
        """Run a slice of the experts on all of `x` (N, D), or each on rows of its own of `x` (E, N, D): (E, N, D)."""
        w_in = self.w_in[experts]
        hidden = torch.bmm(x.expand(len(w_in), -1, -1), w_in)
        hidden = activate(_add(hidden, self.b_in, experts), self.activation, self.gated)
        return _add(torch.bmm(hidden, self.w_out[experts]), self.b_out, experts)

    def pair(self, x: Float[Tensor, "1 D"], first: int, second: int) -> Float[Tensor, "2 D"]:
        """Run two experts on one row `x` (1, D): (2, D).

        Any two are a strided slice of the weights: one batched product, on two cores of a CPU, without a copy.
        """
        low, high = sorted((first, second))
        outputs = self.all(x, slice(low, high + 1, high - low))[:, 0]
        return outputs if first < second else outputs.flip(0)


@config
class ExpertsConfig(Config):
    """Kind of a feed-forward layer of experts, and what builds it.

    Fields:
        num_experts, experts_per_token, ff_dim: E, k, and hidden dimension F of an expert.
        num_shared_experts, shared_ff_dim: G (0 for none) and their hidden dimension, F when None.
        gated, activation: as in `FeedForwardConfig`.
        bias: "local" to each expert, "global" (one, added to the mix) or "none"; `shared_bias` likewise.
        weighted_shared: scale the routed part by k / (k + G) and the shared part by G / (k + G).
    """

    num_experts: int
    experts_per_token: int = 1
    ff_dim: int = 1536
    num_shared_experts: int = 0
    shared_ff_dim: int | None = None
    gated: bool = True
    activation: str = "silu"
    bias: ExpertBias = "none"
    shared_bias: ExpertBias = "none"
    weighted_shared: bool = False

    def __post_init__(self) -> None:
        require_int(self, "num_experts", "experts_per_token", "ff_dim", "shared_ff_dim")
        require_int(self, "num_shared_experts", minimum=0)
        require_at_most(self, MOST_EXPERTS, "num_experts", "num_shared_experts")
        require_bool(self, "gated", "weighted_shared")
        require_choice(self, "activation", tuple(ACTIVATIONS))
        require_choice(self, "bias", EXPERT_BIASES)
        require_choice(self, "shared_bias", EXPERT_BIASES)
        require(
            self.experts_per_token <= self.num_experts,
            f"experts_per_token must be between 1 and num_experts={self.num_experts}, got {self.experts_per_token}.",
        )

    def build(self, dim: int) -> "MixtureOfExperts":
        """Return such a layer for a model of dimension `dim`."""
        return MixtureOfExperts(dim, self)


class MixtureOfExperts(nn.Module):
    """Feed-forward layer in which each token is computed by k of E experts, and by all shared ones.

    y = scale_r * sum over the top k of p_e * expert_e(x) + bias + scale_s * shared(x), where p is the softmax of
    the router over all experts, renormalised over the chosen. Several shared experts are mixed by a softmax gate
    of their own. The load-balancing loss is E * sum_e f_e * P_e with f_e the share of choices that fell on expert
    e and P_e its mean probability (Fedus et al., 2021, equation 4).
    """

    def __init__(self, dim: int, config: ExpertsConfig) -> None:
        super().__init__()
        chosen, shared = config.experts_per_token, config.num_shared_experts
        kind: dict[str, Any] = {"gated": config.gated, "activation": config.activation}
        self.experts_per_token = chosen
        self.router = nn.Linear(dim, config.num_experts, bias=False)
        self.experts = Experts(config.num_experts, dim, config.ff_dim, **kind, bias=config.bias == "local")
        self.bias = nn.Parameter(torch.zeros(dim)) if config.bias == "global" else None
        self.shared_experts, self.shared_gate, self.shared_bias = None, None, None
        if shared:
            width = config.shared_ff_dim or config.ff_dim
            self.shared_experts = Experts(shared, dim, width, **kind, bias=config.shared_bias == "local")
            if shared > 1:
                self.shared_gate = nn.Linear(dim, shared, bias=False)
            if config.shared_bias == "global":
                self.shared_bias = nn.Parameter(torch.zeros(dim))
        self.routed_scale = chosen / (chosen + shared) if config.weighted_shared else 1.0
        self.shared_scale = shared / (chosen + shared) if config.weighted_shared else 1.0

    def forward(self, x: Float[Tensor, "*B D"], routing: Routing | None = None) -> Float[Tensor, "*B D"]:
        """Transform `x` (..., D) to the same shape; with `routing`, record the load-balancing loss there."""
        tokens = x.reshape(-1, x.shape[-1])
        logits = self.router(tokens)
        best, chosen = logits.topk(self.experts_per_token, dim=-1)
        if routing is not None:
            routing.losses.append(_load_balancing_loss(logits.softmax(-1), chosen, routing.mask))
        # The softmax over the chosen alone is that over all, renormalised.
        out = _scale(self._routed(tokens, best.softmax(-1), chosen), self.routed_scale)
        if self.bias is not None:
            out = out + self.bias
        if self.shared_experts is not None:
            out = out + _scale(self._shared(tokens), self.shared_scale)
        return out.view_as(x)

    def _routed(self, tokens: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """Sum of the chosen experts' outputs, weighted; (N, D). No way taken for few tokens waits for a GPU."""
        num_tokens, k = chosen.shape
        if not tokens.is_cuda and num_tokens == 1:
            return weights @ self._in_pairs(tokens, chosen[0].tolist())
        if not tokens.is_cuda and self.router.out_features <= num_tokens * k <= BATCHED_LIMIT:
            outputs = self._batched(tokens, chosen.flatten(), k)
        elif tokens.is_cuda and num_tokens * k <= GATHER_LIMIT:
            outputs = self.experts.each(tokens.repeat_interleave(k, dim=0), chosen.flatten())
        elif tokens.is_cuda and not _has_grouped_kernel(tokens, self.experts) and num_tokens <= DENSE_LIMIT:
            rows = torch.arange(num_tokens, device=tokens.device)
            outputs = self.experts.all(tokens)[chosen, rows[:, None]]
        else:
            outputs = self._sorted(tokens, chosen.flatten(), k)
        return (weights[:, None] @ outputs.view(num_tokens, k, -1))[:, 0]

    def _in_pairs(self, token: Tensor, chosen: list[int]) -> Tensor:
        """Outputs of the chosen experts for one token, (k, D), two experts at a time."""
        outputs = [self.experts.pair(token, *chosen[i : i + 2]) for i in range(0, len(chosen) - 1, 2)]
        if len(chosen) % 2:
            outputs.append(self.experts.one(token, chosen[-1]))
        return torch.cat(outputs) if len(outputs) > 1 else outputs[0]

    def _batched(self, tokens: Tensor, flat: Tensor, k: int) -> Tensor:
        """Outputs of each token-expert pair, (N * k, D): each expert's tokens are padded to the longest list."""
        num_experts = self.router.out_features
        ranks = F.one_hot(flat, num_experts).cumsum(0)
        capacity = int(ranks[-1].max())
        if num_experts * capacity > PADDING_LIMIT * len(flat):
            return self._sorted(tokens, flat, k)
        places = flat * capacity + ranks.gather(1, flat[:, None])[:, 0] - 1
        padded = tokens.new_zeros(num_experts * capacity, tokens.shape[1])
        padded = padded.index_copy(0, places, tokens.repeat_interleave(k, dim=0))
        return self.experts.all(padded.view(num_experts, capacity, -1)).flatten(0, 1)[places]

    def _sorted(self, tokens: Tensor, flat: Tensor, k: int) -> Tensor:
        """Outputs of each token-expert pair, (N * k, D), computed expert by expert."""
        order = flat.argsort(stable=True)
        grouped = tokens.index_select(0, order // k)
        experts = torch.arange(self.router.out_features, device=flat.device)
        counts = (flat[:, None] == experts).sum(0)
        if _has_grouped_kernel(tokens, self.experts):
            outputs = self.experts.grouped(grouped, flat[order], counts)
        else:
            outputs = self.experts.looped(grouped, counts.tolist())
        return torch.empty_like(outputs).index_copy(0, order, outputs)

    def _shared(self, tokens: Tensor) -> Tensor:
        assert self.shared_experts is not None
        if self.shared_gate is None:
            out = self.shared_experts.one(tokens, 0)
        else:
            mix = self.shared_gate(tokens).softmax(-1)
            out = torch.einsum("ng,gnd->nd", mix, self.shared_experts.all(tokens))
        return out if self.shared_bias is None else out + self.shared_bias


def _has_grouped_kernel(tokens: Tensor, experts: Experts) -> bool:
    if not (tokens.is_cuda and tokens.dtype == torch.bfloat16 and hasattr(F, "grouped_mm")):
        return False
    # Rows of all its matrices, of D and of F numbers, must begin at multiples of 16 bytes.
    return all(size * tokens.element_size() % 16 == 0 for size in experts.w_out.shape[1:])


def _scale(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1.0 else x * factor


def _add(x: Tensor, bias: Tensor | None, experts: slice) -> Tensor:
    return x if bias is None else x + bias[experts, None]


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight if bias is None else torch.addmm(bias, x, weight)


def _load_balancing_loss(probabilities: Tensor, chosen: Tensor, mask: Tensor | None) -> Tensor:
    num_experts = probabilities.shape[-1]
    counted = torch.ones_like(chosen[:, 0], dtype=torch.bool) if mask is None else mask.reshape(-1)
    counted = counted.to(probabilities.dtype)
    total = counted.sum().clamp(min=1)
    share = probabilities.new_zeros(num_experts)
    share = share.index_add(0, chosen.flatten(), counted.repeat_interleave(chosen.shape[1]))
    mean = (probabilities * counted[:, None]).sum(0) / total
    return num_experts * (share / (total * chosen.shape[1]) * mean).sum()
