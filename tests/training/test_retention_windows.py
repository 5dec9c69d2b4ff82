"""Long dialogues in windows: each is read after what a memory keeps of those before it, without gradients to them."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from retention_models import SIZE, batch_of, facts, gated, generator, language_model, learns, trainer
from rxlm.config import ConfigError
from rxlm.data.batches import DialogueBatch
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.windows import WindowedDialogues
from rxlm.memory.retained.gate import Granularity
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.stages import MemoryAwareStage, RetentionStage
from rxlm.rxt.models import RxTAlpha
from rxlm.training.retention import dialogues
from rxlm.training.retention.config import RetentionConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return language_model(tmp_path_factory.mktemp("models") / "llama")


class Endless:
    """The same batch again and again."""

    def __init__(self, batch: DialogueBatch) -> None:
        self.batch = batch

    def __next__(self) -> DialogueBatch:
        return self.batch

    def state_dict(self) -> dict[str, int]:
        return {}


def talks(model: RxTAlpha) -> DialogueBatch:
    """Return dialogues of five, five, and three turns: facts, and natural ones."""
    turns = tuple(Interaction(f"I like {word}.", "So do I.", is_reference=False) for word in "abcde")
    return batch_of(model, [facts(model).dialogues[0], Dialogue(turns), Dialogue(turns[:3])])


def windows(batch: DialogueBatch, size: int) -> list[DialogueBatch]:
    """Return the windows of a batch of five turns."""
    found = WindowedDialogues(Endless(batch), size)
    return [next(found) for _ in range(-(-5 // size))]


@pytest.mark.parametrize("granularity", get_args(Granularity))
@torch.no_grad()
def test_a_window_after_a_kept_memory_gives_what_the_conversation_does(granularity: Granularity, folder: Path) -> None:
    """Though the memory is soon full; and dialogues end in different windows."""
    model = gated(folder, granularity=granularity).double()
    module, batch = learns(model), talks(model)
    module.temperature = None
    whole = module.prepare(batch, generator())
    expected = module.states(whole.ids, whole.turns, SIZE, None)
    assert (whole.turns >= 0).sum(1).min() > SIZE
    kept = None
    for number, part in enumerate(windows(batch, 2)):
        window = module.prepare(part, generator()).window
        hidden, kept = module._read(window, kept)
        for row in range(batch.batch_size):
            count = int((window.turns[row] >= 0).sum())
            begin = int(((whole.turns[row] >= 0) & (whole.turns[row] < 2 * number)).sum())
            assert window.ids[row, :count].tolist() == whole.ids[row, begin : begin + count].tolist()
            torch.testing.assert_close(hidden[row, :count], expected[row, begin : begin + count])
        assert (kept is None) == (number == 2)
        if kept is not None:
            assert int(kept.num_kept.max()) <= SIZE


def test_dialogues_of_unlike_length_are_read_apart_and_give_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses, gradients, and what further windows need."""
    model = gated(folder).double()
    module, batch = learns(model), talks(model)
    module.settings = module.settings.replace(keep=2.0)
    results = []
    for most in (dialogues.MOST, 0.0):
        monkeypatch.setattr(dialogues, "MOST", most)
        drawn, sizes, found = generator(), [], []
        for part in windows(batch, 2):
            window = module.prepare(part, drawn)
            sizes.append(len(window.of_like_length()))
            losses = module(window, module.counts(window))
            found += [losses.total, *losses.figures.values()]
            found += torch.autograd.grad(losses.total, [each for each in module.parameters() if each.requires_grad])
            if module.carried is not None:
                found += module.carried.select([0, 1]).tensors().values()  # the third has no further turns
        results.append(found)
        assert (max(sizes) > 1) == (most > 0)
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


def test_groups_have_every_row_once_and_empty_ones_stand_beside_others(folder: Path) -> None:
    model = gated(folder)
    module, batch = learns(model), talks(model)
    for part in windows(batch, 2):
        window = module.prepare(part, generator())
        groups = window.of_like_length()
        assert sorted(row for group in groups for row in group) == [0, 1, 2]
        assert all(window.select(group).window.ids.shape[1] > 0 for group in groups)


@pytest.mark.parametrize("history_weight", [None, 1.05])
def test_where_everything_fits_losses_are_those_of_the_whole_dialogue(
    history_weight: float | None, folder: Path
) -> None:
    """With temperature: the windows' losses add up, and none has a gradient to what came before."""
    model = gated(folder).double()
    module = learns(model, wording_share=1.0, history_weight=history_weight)
    with torch.no_grad():  # the model is no longer the language model that it was
        model.decoder.layers[-1].attention.out_proj.weight.mul_(1.5)
    module.settings = module.settings.replace(sizes=(1000,))
    module.form = replace(module.form, settings=module.settings)
    batch = talks(model)
    whole = module.prepare(batch, generator())
    totals = module.counts(whole)
    assert min(totals.values()) > 0
    expected = module(whole, totals)
    assert min(expected.figures[name] for name in ("answer_loss", "keeping_loss")) > 0.001
    losses, figures = torch.zeros(()).double(), dict.fromkeys(expected.figures, 0.0)
    counts = dict.fromkeys(totals, 0.0)
    for part in windows(batch, 2):
        window = module.prepare(part, generator())
        counts = {name: value + counts[name] for name, value in module.counts(window).items()}
        found = module(window, totals)
        found.total.backward()
        losses = losses + found.total.detach()
        figures = {name: value + float(found.figures.get(name, 0.0)) for name, value in figures.items()}
        assert module.carried is None or not any(each.requires_grad for each in module.carried.tensors().values())
    assert counts == pytest.approx(totals)
    torch.testing.assert_close(losses, expected.total.detach())
    assert figures == pytest.approx({name: float(value) for name, value in expected.figures.items()})


def test_a_run_that_resumes_within_a_dialogue_equals_the_straight_one(folder: Path, tmp_path: Path) -> None:
    """Law 8: the memory of the windows before and the place within the dialogue are kept."""
    settings = RetentionConfig(sizes=(SIZE, SIZE + 8))
    straight = trainer(gated(folder), settings, tmp_path / "straight", steps=4, window_turns=2)
    straight.run()
    trainer(gated(folder), settings, tmp_path / "resumed", steps=3, window_turns=2).run()
    resumed = trainer(gated(folder), settings, tmp_path / "resumed", steps=4, window_turns=2)
    resumed.run()
    others = resumed.module.state_dict()
    assert all(torch.equal(each, others[name]) for name, each in straight.module.state_dict().items())
    assert resumed.batches.state_dict() == straight.batches.state_dict()


def test_windows_have_every_turn_once(folder: Path) -> None:
    batch = talks(gated(folder))
    parts = windows(batch, 2)
    assert [(part.first_turn, part.num_turns, part.goes_on) for part in parts] == [
        (0, 2, True), (2, 4, True), (4, 5, False)
    ]  # fmt: skip
    assert sum(part.num_tokens for part in parts) == batch.num_tokens


def test_only_retention_takes_windows() -> None:
    phases = (DialoguePhase(steps=1, num_turns=8, window_turns=4),)
    RetentionStage(steps=1, phases=phases)
    with pytest.raises(ConfigError, match=r"dialogues\.phases must not have window_turns"):
        MemoryAwareStage(steps=1, phases=phases)
    with pytest.raises(ConfigError, match="window_turns must be a whole number of at least 1, got 0"):
        DialoguePhase(steps=1, num_turns=8, window_turns=0)
