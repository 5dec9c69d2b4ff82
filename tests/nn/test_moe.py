"""Mixtures of experts: every way to compute them gives what one token at a time, one expert at a time, gives."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from helpers import assert_close, randomise
from rxlm.config import ConfigError
from rxlm.nn import moe
from rxlm.nn.feed_forward import ACTIVATIONS, FeedForwardConfig
from rxlm.nn.moe import EXPERT_BIASES, Experts, ExpertsConfig, MixtureOfExperts, Routing

DIM, HIDDEN, EXPERTS = 8, 12, 5

MIXTURES = {
    "plain": {},
    "one choice": {"experts_per_token": 1},
    "all chosen": {"experts_per_token": EXPERTS},
    "not gated": {"gated": False, "activation": "gelu"},
    "local bias": {"bias": "local"},
    "global bias": {"bias": "global"},
    "one shared": {"num_shared_experts": 1},
    "one shared, biases": {"num_shared_experts": 1, "bias": "global", "shared_bias": "local", "gated": False},
    "three shared": {"num_shared_experts": 3, "shared_ff_dim": 4},
    "weighted shared": {"num_shared_experts": 2, "weighted_shared": True, "bias": "global", "shared_bias": "global"},
    "weighted, none shared": {"weighted_shared": True},
}
every_mixture = pytest.mark.parametrize("name", MIXTURES)


def make(name: str = "plain", **options: object) -> MixtureOfExperts:
    arguments = {"experts_per_token": 2} | MIXTURES[name] | options
    return randomise(ExpertsConfig(num_experts=EXPERTS, ff_dim=HIDDEN, **arguments).build(DIM).double())


def some_tokens(count: int) -> Tensor:
    return torch.randn(count, DIM, dtype=torch.float64)


def run_expert(experts: Experts, index: int, token: Tensor) -> Tensor:
    hidden = token @ experts.w_in[index] + (0 if experts.b_in is None else experts.b_in[index])
    if experts.gated:
        value, gate = hidden[: len(hidden) // 2], hidden[len(hidden) // 2 :]
        hidden = value * experts.activation(gate)
    else:
        hidden = experts.activation(hidden)
    return hidden @ experts.w_out[index] + (0 if experts.b_out is None else experts.b_out[index])


def naive_mixture(layer: MixtureOfExperts, x: Tensor, *, weighted: bool) -> Tensor:
    """y = k/(k+G) * sum of p_e expert_e(x) + bias + G/(k+G) * (sum of q_g shared_g(x) + bias), without the scales
    unless weighted."""
    rows, k = [], layer.experts_per_token
    shared = 0 if layer.shared_experts is None else layer.shared_experts.w_in.shape[0]
    for token in x:
        probabilities = (token @ layer.router.weight.T).softmax(-1)
        best = sorted(range(EXPERTS), key=lambda e: -float(probabilities[e]))[:k]
        total = sum(probabilities[e] for e in best)
        row = sum(probabilities[e] / total * run_expert(layer.experts, e, token) for e in best)
        row = row * k / (k + shared) if weighted else row
        row = row if layer.bias is None else row + layer.bias
        if shared:
            mix = torch.ones(1) if layer.shared_gate is None else (token @ layer.shared_gate.weight.T).softmax(-1)
            extra = sum(mix[g] * run_expert(layer.shared_experts, g, token) for g in range(shared))
            extra = extra if layer.shared_bias is None else extra + layer.shared_bias
            row = row + (extra * shared / (k + shared) if weighted else extra)
        rows.append(row)
    return torch.stack(rows)


class OnGpu(Tensor):
    """A tensor on the CPU that says it is on a GPU, so that the ways taken there are computed here."""

    @property
    def is_cuda(self) -> bool:
        return True


@every_mixture
@pytest.mark.parametrize("count", [1, 2, 40])
@torch.no_grad()
def test_a_mixture_equals_one_token_and_one_expert_at_a_time(name, count):
    layer, x = make(name), some_tokens(count)
    expected = naive_mixture(layer, x, weighted=MIXTURES[name].get("weighted_shared", False))
    assert_close(layer(x), expected)
    assert_close(layer(x.view(1, count, DIM)), expected[None])


@every_mixture
@pytest.mark.parametrize("count", [1, 9, 30, 90], ids=["one", "gathered", "all experts on all", "sorted"])
@torch.no_grad()
def test_the_ways_of_a_gpu_give_what_the_ways_of_a_cpu_give(name, count, monkeypatch):
    monkeypatch.setattr(moe, "GATHER_LIMIT", 50)
    monkeypatch.setattr(moe, "DENSE_LIMIT", 60)
    layer, x = make(name), some_tokens(count)
    actual = layer(x.as_subclass(OnGpu))
    assert isinstance(actual, OnGpu)
    assert_close(actual.as_subclass(Tensor), layer(x))


@every_mixture
@torch.no_grad()
def test_the_grouped_kernel_gives_what_the_loop_gives(name, monkeypatch):
    layer, x = make(name).float(), some_tokens(50).float()
    expected = layer(x)
    monkeypatch.setattr(moe, "_has_grouped_kernel", lambda tokens, experts: True)
    assert_close(layer(x), expected, 1e-5)


@pytest.mark.parametrize(("dim", "hidden", "fits"), [(16, 24, True), (16, 20, False), (20, 24, False)])
def test_the_grouped_kernel_is_left_alone_where_rows_do_not_begin_at_16_bytes(dim, hidden, fits):
    experts = Experts(2, dim, hidden, gated=True, activation="silu", bias=False).bfloat16()
    tokens, rows, counts = torch.randn(6, dim).bfloat16(), torch.tensor([0, 0, 1, 1, 1, 1]), torch.tensor([2, 4])
    assert moe._has_grouped_kernel(tokens.as_subclass(OnGpu), experts) is fits
    if fits:
        assert experts.grouped(tokens, rows, counts).shape == (6, dim)
    else:
        with pytest.raises(RuntimeError, match="16 bytes"):
            experts.grouped(tokens, rows, counts)


@pytest.mark.parametrize("counts", [[3, 0, 4, 1, 2], [0, 0, 0, 0, 10], [2, 2, 2, 2, 2]], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@torch.no_grad()
def test_all_ways_to_run_experts_agree(counts, bias):
    experts = randomise(Experts(EXPERTS, DIM, HIDDEN, gated=True, activation="silu", bias=bias))
    x, of_row = torch.randn(10, DIM), torch.arange(EXPERTS).repeat_interleave(torch.tensor(counts))
    expected = torch.cat([experts.one(x[n : n + 1], int(of_row[n])) for n in range(10)])
    for row, expert in enumerate(of_row.tolist()):
        assert_close(expected[row], run_expert(experts, expert, x[row]), 1e-5)
    assert_close(experts.each(x, of_row), expected, 1e-5)
    assert_close(experts.looped(x, counts), expected, 1e-5)
    assert_close(experts.grouped(x, of_row, torch.tensor(counts)), expected, 1e-5)
    assert_close(experts.all(x)[of_row, torch.arange(10)], expected, 1e-5)


@every_mixture
@pytest.mark.parametrize("spread", [1, 3, 8])
@torch.no_grad()
def test_a_token_gets_the_same_whether_experts_share_the_tokens_evenly_or_not(name, spread):
    """Few tokens run through all experts at once, padded to the longest list, unless that list is too long."""
    layer, x = make(name), some_tokens(spread)
    one_by_one = torch.cat([layer(token[None]) for token in x])
    assert_close(layer(x.repeat(24 // spread, 1)), one_by_one.repeat(24 // spread, 1))


@every_mixture
def test_gradients_do_not_depend_on_the_way(name):
    """One token alone takes another way than two equal ones together."""
    layer, x = make(name), some_tokens(1)

    def gradients(tokens: Tensor) -> list[Tensor]:
        loss = layer(tokens).square().sum() / len(tokens)
        return torch.autograd.grad(loss, [p for p in layer.parameters() if p is not layer.router.weight])

    for one, two in zip(gradients(x), gradients(x.expand(2, -1)), strict=True):
        assert_close(one, two)


def test_a_token_does_not_see_its_neighbours():
    layer, x = make("three shared"), some_tokens(12)
    with torch.no_grad():
        order = torch.randperm(12)
        assert_close(layer(x[order]), layer(x)[order])


@given(seed=st.integers(0, 500), count=st.integers(1, 30), k=st.integers(1, EXPERTS))
@torch.no_grad()
def test_the_load_balancing_loss_is_experts_times_share_times_probability(seed, count, k):
    layer = make(experts_per_token=k)
    x = torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    layer(x, routing := Routing())
    probabilities = (x @ layer.router.weight.T).softmax(-1)
    chosen = torch.zeros(EXPERTS, dtype=torch.float64)
    for row in probabilities:
        chosen[row.topk(k).indices] += 1
    expected = EXPERTS * sum(chosen[e] / (count * k) * probabilities[:, e].mean() for e in range(EXPERTS))
    assert_close(routing.loss(), expected)


@torch.no_grad()
def test_the_load_balancing_loss_is_one_when_even_and_the_number_of_experts_when_all_go_to_one():
    layer = make("one choice")
    layer.router.weight.copy_(torch.eye(EXPERTS, DIM) * 20)
    even, uneven = torch.eye(EXPERTS, DIM, dtype=torch.float64), torch.eye(1, DIM, dtype=torch.float64).expand(9, -1)
    layer(even, first := Routing())
    layer(uneven, second := Routing())
    assert_close(first.loss(), torch.tensor(1.0, dtype=torch.float64))
    assert_close(second.loss(), torch.tensor(float(EXPERTS), dtype=torch.float64), 1e-6)


@given(data=st.data())
@torch.no_grad()
def test_masked_tokens_do_not_count_in_the_loss(data):
    layer, x = make(), some_tokens(8)
    real = torch.tensor(data.draw(st.lists(st.booleans(), min_size=8, max_size=8).filter(any)))
    layer(x.view(2, 4, DIM), masked := Routing(mask=real.view(2, 4)))
    layer(x[real], alone := Routing())
    assert_close(masked.loss(), alone.loss())


@torch.no_grad()
def test_without_any_real_token_the_loss_is_a_number():
    make()(some_tokens(3), routing := Routing(mask=torch.zeros(3, dtype=torch.bool)))
    assert routing.loss() == 0


def test_routing_is_the_mean_over_layers_and_none_without_expert_layers():
    assert Routing().loss() is None
    routing = Routing()
    FeedForwardConfig(ff_dim=HIDDEN).build(DIM)(torch.randn(2, DIM), routing)
    assert routing.loss() is None
    layers, x = [make(), make("one choice")], some_tokens(6)
    for layer in layers:
        layer(x, routing)
    assert len(routing.losses) == 2
    assert_close(routing.loss(), torch.stack(routing.losses).mean())


def test_the_loss_pulls_a_crowded_router_apart():
    layer, x = make("one choice"), some_tokens(64).abs()
    optimizer = torch.optim.SGD([layer.router.weight], lr=0.5)
    losses = []
    for _ in range(60):
        layer(x, routing := Routing())
        losses.append(routing.loss())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("k", [0, EXPERTS + 1])
def test_more_choices_than_experts_are_refused(k):
    with pytest.raises(ConfigError, match=rf"experts_per_token must be .*, got {k}\."):
        make(experts_per_token=k)


def test_biases_stand_where_they_are_asked_for():
    for bias in EXPERT_BIASES:
        names = set(dict(make(bias=bias, num_shared_experts=1, shared_bias=bias).named_parameters()))
        assert ("bias" in names, "shared_bias" in names) == (bias == "global",) * 2
        assert ("experts.b_in" in names, "shared_experts.b_out" in names) == (bias == "local",) * 2


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("gated", [True, False])
@torch.no_grad()
def test_a_dense_feed_forward_is_its_formula(activation, gated):
    config = FeedForwardConfig(ff_dim=HIDDEN, gated=gated, activation=activation, bias=True)
    layer = randomise(config.build(DIM).double())
    x = some_tokens(3)
    hidden = x @ layer.in_proj.weight.T + layer.in_proj.bias
    act = ACTIVATIONS[activation]
    hidden = hidden[:, :HIDDEN] * act(hidden[:, HIDDEN:]) if gated else act(hidden)
    assert_close(layer(x), hidden @ layer.out_proj.weight.T + layer.out_proj.bias)
