"""The reading phase answers each turn from the encoded turns before it, and memory attention rests meanwhile."""

from pathlib import Path

import pytest
import torch

from rxlm.config import ConfigError
from rxlm.memory import SlotState
from rxlm.training.config import OptimizerConfig
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from rxlm.training.trainer import Trainer
from rxlm.training.turns import Turns
from training_runs import batches, model, trainer

SETTINGS = MemoryAwareConfig(unroll=2, read_encoded_until=3)


def reading_module() -> MemoryAware:
    module = MemoryAware(model(initial_memory="learned").double(), SETTINGS)
    module.start_step(0)
    return module


def conversations(batch: Turns) -> list[list[int]]:
    """The turns of each row's conversations: where each one begins."""
    fresh = torch.zeros(batch.num_turns, batch.batch_size, dtype=torch.bool) if batch.fresh is None else batch.fresh
    return [[0] + [turn for turn in range(1, batch.num_turns) if fresh[turn, row]] for row in range(batch.batch_size)]


@torch.no_grad()
@pytest.mark.parametrize("name", ["memory_aware", "streams"])
def test_the_loss_is_that_of_each_turn_alone_with_its_own_conversation_before_it(name: str) -> None:
    module = reading_module()
    batch: Turns = module.prepare(next(batches(name)), torch.Generator())
    if batch.fresh is not None:
        batch.fresh[1, 0] = True  # a conversation that begins within the batch
    network, total = module.model, 0.0
    for row, starts in enumerate(conversations(batch)):
        for turn in range(batch.num_turns):
            start = max(start for start in starts if start <= turn)
            parts = [network.init_memory(1).slots]
            for before in range(start, turn):
                length = int(batch.mask[before, row].sum())
                parts.append(network.encode(batch.ids[before, row, :length][None]))
            length = int(batch.mask[turn, row].sum())
            ids = batch.ids[turn, row, :length][None]
            log = network.decode(ids, SlotState(torch.cat(parts, dim=2))).log_softmax(-1)[0]
            wanted = batch.answer_mask[turn, row, :length].nonzero().flatten().tolist()
            total -= float(sum(log[place - 1, ids[0, place]] for place in wanted))

    losses = module(batch, module.counts(batch))
    assert float(losses.figures["answer_loss"]) == pytest.approx(total / float(batch.answer_mask.sum()), rel=1e-9)


def test_memory_attention_learns_only_after_the_phase() -> None:
    module = MemoryAware(model(initial_memory="zeros"), SETTINGS)
    batch = module.prepare(next(batches("memory_aware")), torch.Generator())
    for step, learns in ((2, False), (3, True)):
        module.zero_grad()
        module.start_step(step)
        module(batch, module.counts(batch)).total.backward()
        assert any(weight.grad is not None for weight in module.model.memory_writer.parameters()) == learns
        assert all(weight.grad is not None for weight in module.model.encoder.layers[0].parameters())


def test_a_run_goes_from_reading_to_slots_and_resumes_in_either(tmp_path: Path) -> None:
    def run(folder: str, steps: int) -> Trainer:
        loop = {"steps": steps, "optimizer": OptimizerConfig(learning_rate=0.01, schedule="constant")}
        made = trainer("memory_aware", tmp_path / folder, module=MemoryAware(model(), SETTINGS), **loop)
        made.run()
        return made

    straight = run("straight", 5)
    for steps in (2, 4, 5):
        resumed = run("resumed", steps)
    for name, weight in straight.module.state_dict().items():
        assert torch.equal(weight, resumed.module.state_dict()[name]), name


def test_a_negative_step_is_refused() -> None:
    with pytest.raises(ConfigError, match="read_encoded_until"):
        MemoryAwareConfig(read_encoded_until=-1)
