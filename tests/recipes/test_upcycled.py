"""The recipe `upcycled` on a tiny language model."""

from collections.abc import Iterator
from pathlib import Path

from pretrained_models import save_language_model
from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator
from rxlm.data.records import Interaction
from rxlm.recipes.mixture import MixedDialogues, WithDistractors
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.upcycled import UpcycledRun, upcycled
from rxlm.recipes.upcycled_mix import UpcycledMix
from rxlm.rxt.models import RxTAlpha
from rxlm.training.retention.config import RetentionConfig


def test_adapters_are_merged_before_the_stage_s_model_is_saved(tmp_path: Path) -> None:
    save_language_model("llama", tmp_path / "llama")
    recipe = upcycled()
    phases = (DialoguePhase(steps=2, num_turns=3),)
    stage = recipe.stages[0].replace(
        phases=phases, steps=2, batch_size=2, accumulation=1, settings=RetentionConfig(lora_rank=2, sizes=(80,))
    )
    recipe = recipe.replace(
        model=str(tmp_path / "llama"),
        max_seq_len=64,
        memory_tokens=80,
        stages=(stage,),
        mix=UpcycledMix(open_values=20),
    )
    model = UpcycledRun(recipe, tmp_path / "run").train()
    for folder in (tmp_path / "run", tmp_path / "run" / "4-retention" / "model"):
        loaded = RxTAlpha.from_pretrained(folder)
        assert list(loaded.state_dict()) == list(model.state_dict())
        assert not any("lora" in name for name in loaded.state_dict())


def facts(number: int) -> Iterator[Interaction]:
    return iter(FactGenerator(FactsConfig(variety="full", num_turns=8, unknown_share=0.05)).dialogue(number).turns)


def asks_what_it_has_not_told(turns: tuple[Interaction, ...]) -> bool:
    return any(turn.question is not None and not turn.question.was_told for turn in turns)


def test_turns_of_another_dialogue_stand_before_some_and_leave_answers_right() -> None:
    """Every conversation ends as its own does, always the same way; none with distractors asks for the untold."""
    mixed = MixedDialogues(WithDistractors(facts, 8, 0.5, seed=3), 8)
    again = MixedDialogues(WithDistractors(facts, 8, 0.5, seed=3), 8)
    lengths = []
    for number in range(120):
        turns, own = mixed[number].turns, tuple(facts(number))
        assert turns == again[number].turns
        assert len(turns) == 8
        if turns == own:
            lengths.append(0)
            continue
        length = next(count for count in range(1, 5) if turns[count:] == own[: 8 - count])
        assert turns[0] not in own
        assert not asks_what_it_has_not_told(turns[length:])
        lengths.append(length)
    assert set(lengths) == {0, 1, 2, 3, 4}
    untold = [asks_what_it_has_not_told(tuple(facts(number))) for number in range(120)]
    assert 20 < sum(map(bool, lengths)) < 60
    assert any(untold)


def test_without_the_share_every_dialogue_is_its_own() -> None:
    mixed = MixedDialogues(WithDistractors(facts, 8, 0.0, seed=3), 8)
    assert all(mixed[number].turns == tuple(facts(number)) for number in range(20))
