"""Recalling tells earlier turns of the same conversation from the memory before the telling one."""

from pathlib import Path

import pytest
import torch

from rxlm.config import ConfigError
from rxlm.training.memory_aware import MemoryAware, MemoryAwareConfig
from rxlm.training.recall import draw_recalls, recall_targets
from rxlm.training.turns import Turns
from training_runs import batches, model, trainer

SETTINGS = MemoryAwareConfig(unroll=4, recall=1.0, recall_share=1.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def turns(fresh: torch.Tensor | None = None, num_turns: int = 5, batch_size: int = 3) -> Turns:
    mask = torch.ones(num_turns, batch_size, 4, dtype=torch.bool)
    mask[3:, 1] = False  # a dialogue that has ended
    return Turns(mask.long(), mask, mask, fresh)


def test_what_is_told_is_earlier_real_and_of_the_same_conversation() -> None:
    fresh = torch.zeros(5, 3, dtype=torch.bool)
    fresh[0] = fresh[2, 0] = True
    seen = set()
    for seed in range(50):
        readers, sources = draw_recalls(turns(fresh), 1.0, generator(seed))
        seen |= {(int(r) // 3, int(s) // 3, int(r) % 3) for r, s in zip(readers, sources, strict=True)}
        assert torch.equal(readers % 3, sources % 3)

    assert {(r, s) for r, s, dialogue in seen if dialogue == 0} == {(1, 0), (3, 2), (4, 2), (4, 3)}
    assert {(r, s) for r, s, dialogue in seen if dialogue == 1} == {(1, 0), (2, 0), (2, 1)}
    assert len({(r, s) for r, s, dialogue in seen if dialogue == 2}) == 10


def test_a_share_of_the_turns_is_told_and_the_same_ones_for_a_seed() -> None:
    many = turns(batch_size=400)
    readers, sources = draw_recalls(many, 0.25, generator())

    assert 300 < len(readers) < 500
    again = draw_recalls(many, 0.25, generator())
    assert torch.equal(again.readers, readers)
    assert torch.equal(again.sources, sources)


def test_everything_behind_the_cue_is_told() -> None:
    mask = torch.tensor([[True, True, True, True, False]])
    assert recall_targets(mask).tolist() == [[False, False, True, True, False]]


@torch.no_grad()
def test_the_loss_is_that_of_telling_each_turn_alone() -> None:
    module = MemoryAware(model().double(), SETTINGS)
    batch = module.prepare(next(batches("memory_aware")), generator())
    losses = module(batch, module.counts(batch))
    memories = module.memories(batch).slots
    ids, mask = batch.ids.flatten(0, 1), batch.mask.flatten(0, 1)
    assert batch.recalls is not None
    total = count = 0.0
    for reader, source in zip(*(part.tolist() for part in batch.recalls), strict=True):
        length = int(mask[source].sum())
        row = ids[source, :length][None]
        memory = type(module.model.init_memory())(memories[:, [reader]])
        log = module.model.decode(row, memory).log_softmax(-1)[0]
        total -= float(sum(log[place - 1, row[0, place]] for place in range(2, length)))
        count += length - 2

    assert float(losses.figures["recall_loss"]) == pytest.approx(total / count, rel=1e-6)
    assert float(losses.total) == pytest.approx(float(losses.figures["answer_loss"]) + total / count, rel=1e-6)


def test_recalling_counts_over_microbatches_and_resumes(tmp_path: Path) -> None:
    runs = []
    for name in ("straight", "again"):
        run = trainer("memory_aware", tmp_path / name, steps=3)
        run.module.settings = SETTINGS
        run.run()
        runs.append(run.module.state_dict())

    assert all(torch.equal(tensor, runs[1][name]) for name, tensor in runs[0].items())


@pytest.mark.parametrize(("field", "value"), [("recall", -1.0), ("recall_share", 0.0), ("recall_share", 1.5)])
def test_impossible_settings_are_named(field: str, value: float) -> None:
    with pytest.raises(ConfigError, match=field):
        MemoryAwareConfig(**{field: value})
