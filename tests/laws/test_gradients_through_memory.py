"""Law 7: a gradient reaches the encoder through k memory updates when the unroll says k, and not through k+1.

Every turn of these dialogues has tokens that no other turn has. The encoder has looked at turn i; so the gradient
of the embeddings of its tokens tells whether the gradient came that far.
"""

import pytest
import torch

from helpers import WITH_SLOTS, build, shared_model, some_memory
from rxlm.memory import SlotState

TURNS = 5
QUESTION = torch.tensor([[38, 39]])


def turn_tokens(turn: int) -> torch.Tensor:
    return torch.arange(8 + 3 * turn, 11 + 3 * turn)[None]


def reached_turns(name: str, detach_before: int | None = None) -> list[bool]:
    """Unroll a dialogue, ask at the end, and say which turns' interactions received a gradient."""
    model = build(name)
    model.encoder.embedding = torch.nn.Embedding.from_pretrained(
        model.decoder.embedding.weight.detach().clone(), freeze=False
    )  # of its own, so that only the encoder's reading counts
    memory = model.init_memory(1, seed=0)
    for turn in range(TURNS):
        if turn == detach_before:
            memory = memory.detach()
        memory = model.update_memory(memory, turn_tokens(turn))
    model.decode(QUESTION, memory).square().mean().backward()
    gradient = model.encoder.embedding.weight.grad
    return [bool(gradient[turn_tokens(turn)].abs().sum() > 0) for turn in range(TURNS)]


@pytest.mark.parametrize("name", WITH_SLOTS)
def test_a_gradient_reaches_every_turn_of_the_unroll(name):
    assert reached_turns(name) == [True] * TURNS


@pytest.mark.parametrize("name", WITH_SLOTS)
@pytest.mark.parametrize("turns_back", [1, 3])
def test_a_gradient_does_not_pass_a_detached_memory(name, turns_back):
    assert reached_turns(name, TURNS - turns_back) == [False] * (TURNS - turns_back) + [True] * turns_back


@pytest.mark.parametrize("name", WITH_SLOTS)
def test_all_weights_that_take_part_in_a_turn_learn(name):
    """Nothing is cut off: after one update every parameter of the model has a gradient that is a number."""
    model = build(name).train()
    memory, ids = some_memory(model, [0, 1]), torch.arange(8, 32).reshape(2, 12)
    model.decode(ids, model.update_memory(memory, ids)).log_softmax(-1)[..., 9].sum().backward()
    weights = {name: weight for name, weight in model.named_parameters() if name != "memory_writer.initial"}
    assert [name for name, weight in weights.items() if weight.grad is None or not weight.grad.any()] == []
    assert all(weight.grad.isfinite().all() for weight in weights.values())


def test_a_learned_initial_memory_learns():
    model = build("mha-simple-content")
    model.decode(QUESTION.expand(3, -1), model.init_memory(3)).square().mean().backward()
    assert model.memory_writer.initial.grad.abs().amin(dim=(1, 2)).gt(0).all()


@torch.no_grad()
def test_the_gradient_is_the_slope():
    """Along a random direction in the memory, the gradient through update and answer equals a difference quotient."""
    model = shared_model("moe-encoder-reads-memory-linear")
    slots = some_memory(model, [0]).slots
    direction, step = torch.randn_like(slots), 1e-6

    def loss(at: torch.Tensor) -> torch.Tensor:
        memory = model.update_memory(SlotState(at), turn_tokens(0))
        return model.decode(QUESTION, memory).square().mean()

    with torch.enable_grad():
        leaf = slots.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    slope = (loss(slots + step * direction) - loss(slots - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-7)
