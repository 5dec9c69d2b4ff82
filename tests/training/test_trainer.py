"""The loop trains, resumes bit for bit (law 8), and counts an accumulated step as one larger batch."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from process_groups import group
from runs_in_processes import train_share
from rxlm.data.records import Dialogue, Interaction
from rxlm.training import memory_aware
from rxlm.training.memory_attention import MemoryAttentionTrainingConfig
from rxlm.training.trainer import NotFiniteError, Trainer
from training_runs import STAGES, batches, encoder, model, stage, trainer


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_learns(name: str, tmp_path: Path) -> None:
    trainer(name, tmp_path, steps=30, checkpoint_every=None).run()
    log = losses(tmp_path)

    assert len(log) == 30
    assert sum(log[-5:]) < sum(log[:5])


@pytest.mark.parametrize("name", STAGES)
def test_a_resumed_run_is_the_straight_one_bit_for_bit(name: str, tmp_path: Path) -> None:
    straight = trainer(name, tmp_path / "straight")
    straight.run()
    first = trainer(name, tmp_path / "resumed")
    first.config = first.config.replace(steps=4, optimizer=first.config.optimizer)
    _stop_after(first, 4)
    second = trainer(name, tmp_path / "resumed", network=model(seed=9))
    second.run()

    assert_same(weights(second.module), weights(straight.module))


def _stop_after(run: Trainer, steps: int) -> None:
    """Run with the schedule of the whole run, and be cut off behind a step."""
    run.config = run.config.replace(steps=6)
    train_step = run._train_step

    def failing() -> tuple[dict[str, float], Any]:
        if run.step == steps:
            raise KeyboardInterrupt
        return train_step()

    run._train_step = failing  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.run()


@pytest.mark.parametrize("name", ["memory_attention", "memory_aware"])
def test_an_accumulated_step_equals_one_larger_batch(name: str, tmp_path: Path) -> None:
    large = trainer(name, tmp_path / "large", network=model().double(), batch_size=8, steps=3)
    small = trainer(name, tmp_path / "small", network=model().double(), batch_size=4, accumulation=2, steps=3)
    if name == "memory_attention":  # noise would be other noise in other batches
        for run in (large, small):
            run.module.settings = MemoryAttentionTrainingConfig(noise=0.0, weight_noise=0.0)
    large.run()
    small.run()

    for (key, one), other in zip(weights(large.module).items(), weights(small.module).values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9, msg=key)


def test_two_processes_equal_one_with_the_doubled_batch(tmp_path: Path) -> None:
    alone = trainer("memory_aware", tmp_path / "alone", network=model().double(), batch_size=8, steps=3)
    alone.run()
    ended = group(train_share, tmp_path / "two")
    assert [process.status for process in ended] == [0, 0], ended

    torch.testing.assert_close(losses(tmp_path / "two"), losses(tmp_path / "alone"), atol=1e-9, rtol=1e-9)
    lines = (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()
    assert all(1 < json.loads(line)["answer_loss_empty"] < 10 for line in lines)
    two = trainer("memory_aware", tmp_path / "two", network=model(seed=5).double(), batch_size=8, steps=3)
    two.run()  # loads the last checkpoint, and has nothing left to do
    for (key, one), other in zip(weights(alone.module).items(), weights(two.module).values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9, msg=key)


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_learnt_from(tmp_path: Path) -> None:
    run = trainer("memory_aware", tmp_path)
    before = weights(run.module)
    with torch.no_grad():
        run.module.model.decoder.final_norm.weight[0] = math.nan
    with pytest.raises(NotFiniteError, match="Step 0 of stage memory_aware gave loss nan"):
        run.run()

    after = weights(run.module)
    assert_same(
        {k: v for k, v in before.items() if "final_norm" not in k},
        {k: v for k, v in after.items() if "final_norm" not in k},
    )


def test_old_checkpoints_go_and_the_best_stays(tmp_path: Path) -> None:
    run = trainer("memory_aware", tmp_path, steps=10, checkpoint_every=1, keep_last=2, evaluate_every=1)
    scores = iter([1, 5, 2, 2, 3, 1, 1, 2, 1, 0])
    run.evaluation = lambda: {"score": float(next(scores))}
    run.run()

    assert run.checkpoints.steps() == [2, 9, 10]


def test_a_run_that_no_longer_improves_stops_with_its_best_weights(tmp_path: Path) -> None:
    run = trainer("memory_aware", tmp_path, steps=10, evaluate_every=1, patience=3)
    scores = iter([1, 2, 2, 1, 2, 9])
    seen = []

    def evaluation() -> dict[str, float]:
        seen.append(weights(run.module))
        return {"score": float(next(scores))}

    run.evaluation = evaluation
    run.run()

    assert run.step == 5
    assert_same(weights(run.module), seen[1])
    again = trainer("memory_aware", tmp_path, network=model(seed=9), steps=10, evaluate_every=1, patience=3)
    again.run()
    assert_same(weights(again.module), seen[1])


def test_evaluation_does_not_change_what_training_draws(tmp_path: Path) -> None:
    plain, watched = trainer("joint", tmp_path / "plain"), trainer("joint", tmp_path / "watched", evaluate_every=1)
    watched.evaluation = lambda: {"score": float(torch.rand(()))}
    plain.run()
    watched.run()

    assert_same(weights(plain.module), weights(watched.module))


@torch.no_grad()
@pytest.mark.parametrize("name", ["memory_aware", "streams"])
def test_the_memories_of_stage_4_are_those_of_one_update_after_the_other(name: str) -> None:
    module = stage(name, model().double())
    turns = module.prepare(next(batches(name)), torch.Generator())
    turns.mask[1, 2] = False  # a conversation that says nothing here
    memories = module.memories(turns).slots.unflatten(1, (turns.num_turns, turns.batch_size))
    for row in range(turns.batch_size):
        memory = module.model.init_memory(1)
        for turn in range(turns.num_turns):
            if turns.fresh is not None and turns.fresh[turn, row]:
                memory = module.model.init_memory(1)
            torch.testing.assert_close(memories[:, turn, row], memory.slots[:, 0])
            ids = turns.ids[turn, row][turns.mask[turn, row]][None]
            memory = module.model.update_memory(memory, ids) if ids.numel() else memory


def test_what_is_no_reference_is_not_predicted_in_stage_4() -> None:
    said = Interaction("It is raining again.", "Dogs are animals.", is_reference=False)
    told = Interaction("My dog is called Rex.", "I would like to meet Rex.")
    batch = encoder().dialogue_batch([Dialogue((told, said)), Dialogue((said,))])
    turns = stage("memory_aware", model()).prepare(batch, torch.Generator())
    assert turns.answer_mask.any(dim=2).tolist() == [[True, False], [False, False]]


def test_the_gradient_flows_through_as_many_updates_as_the_unroll_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 7, for the chain that stage 4 builds: turn t reads what turn s wrote, and learns from it if not detached."""
    module = stage("memory_aware", model())  # unroll 2
    turns = module.prepare(next(batches("memory_aware")), torch.Generator())
    encoded: list[torch.Tensor] = []
    encode_turns = memory_aware.encode_turns

    def watched(*arguments: Any, **options: Any) -> torch.Tensor:
        result = encode_turns(*arguments, **options)
        result.retain_grad()
        encoded.append(result)
        return result

    monkeypatch.setattr(memory_aware, "encode_turns", watched)
    memories = module.memories(turns).slots.unflatten(1, (turns.num_turns, turns.batch_size))
    reached = {}
    for reader in range(turns.num_turns):
        encoded[0].grad = None
        memories[:, reader].sum().backward(retain_graph=True) if memories[:, reader].requires_grad else None
        grad = encoded[0].grad
        for writer in range(turns.num_turns - 1):  # nothing reads what the last turn would write: it is not encoded
            written = None if grad is None else grad[:, writer]
            reached[reader, writer] = written is not None and bool(written.abs().sum() > 0)

    for (reader, writer), flows in reached.items():
        same_window = (reader - 1) // 2 == writer // 2
        assert flows == (writer < reader and same_window), (reader, writer)
