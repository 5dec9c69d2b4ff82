"""The recipe `upcycled` on a tiny language model."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pretrained_models import save_language_model
from rxlm.cli import main
from rxlm.config import ConfigError
from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator
from rxlm.data.records import Interaction
from rxlm.data.world_questions import world_questions
from rxlm.recipes import open_run, tiny
from rxlm.recipes.mixture import MixedDialogues, WithDistractors
from rxlm.recipes.own_conversations import OwnConversations
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.upcycled import UpcycledRun, upcycled, upcycled_gpu
from rxlm.recipes.upcycled_mix import SHARES, UpcycledMix
from rxlm.rxt.models import RxTAlpha
from rxlm.training.config import TrainingConfig
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


def test_generated_dialogues_of_a_phase_have_many_lengths_the_short_ones_more_often(tmp_path: Path) -> None:
    save_language_model("llama", tmp_path / "llama")
    mix = UpcycledMix(open_values=20)
    recipe = upcycled().replace(model=str(tmp_path / "llama"), max_seq_len=64, memory_tokens=80, mix=mix)
    run = UpcycledRun(recipe, tmp_path / "run")
    phase = DialoguePhase(steps=1, num_turns=32, fewest_turns=4)
    batches = run.corpus.dialogues(run.maker(TrainingConfig(batch_size=400)), phase)
    lengths = [len(dialogue) for dialogue in next(batches).dialogues]
    assert (min(lengths), max(lengths)) == (4, 32)
    assert abs(sum(length < 11 for length in lengths) / len(lengths) - 0.48) < 0.09  # ln(11 / 4) / ln(33 / 4)
    even = run.corpus.dialogues(run.maker(TrainingConfig(batch_size=9)), phase.replace(fewest_turns=None))
    assert {len(dialogue) for dialogue in next(even).dialogues} == {32}


def test_generated_dialogues_ask_about_the_world_as_often_as_the_mix_says(tmp_path: Path) -> None:
    save_language_model("llama", tmp_path / "llama")
    queries = {wording.query for wording in world_questions()}
    for share in (0.0, 1.0):
        mix = UpcycledMix(open_values=20, world_share=share)
        recipe = upcycled().replace(model=str(tmp_path / "llama"), max_seq_len=64, memory_tokens=80, mix=mix)
        run = UpcycledRun(recipe, tmp_path / f"run {share}")
        phase = DialoguePhase(steps=1, num_turns=16)
        batch = next(run.corpus.dialogues(run.maker(TrainingConfig(batch_size=40)), phase))
        asked = sum(turn.query in queries for dialogue in batch.dialogues for turn in dialogue.turns)
        assert asked > 20 if share else asked == 0


@pytest.mark.parametrize(
    ("source", "numbers"), [("pages_share", ((8, 3), (2, 2))), ("passages_share", ((8, 2), (2, 2)))]
)
def test_pages_keep_their_number_in_phases_of_longer_dialogues(
    source: str, numbers: tuple[tuple[int, int], ...], tmp_path: Path
) -> None:
    save_language_model("llama", tmp_path / "llama")
    (tmp_path / "data" / "gutenberg-children").mkdir(parents=True)
    for name in ("one", "two", "three"):
        book = "\n\n".join(f"Page {number} tells of a dog." for number in range(200))
        (tmp_path / "data" / "gutenberg-children" / f"{name}.txt").write_text(
            f"*** START OF THIS PROJECT GUTENBERG EBOOK ***\n\n{book}\n\n*** END OF THIS PROJECT GUTENBERG EBOOK ***\n"
        )
    shares = dict.fromkeys(SHARES, 0.0) | {source: 1.0}
    mix = UpcycledMix(open_values=20, page_words=10, passage_words=20, told_turns=3, **shares)
    recipe = upcycled().replace(
        model=str(tmp_path / "llama"), max_seq_len=64, memory_tokens=80, data=str(tmp_path / "data"), mix=mix
    )
    run = UpcycledRun(recipe, tmp_path / "run")
    for turns, pages in numbers:
        batches = run.corpus.dialogues(run.maker(TrainingConfig(batch_size=9)), DialoguePhase(steps=1, num_turns=turns))
        assert {len(dialogue) for dialogue in next(batches).dialogues} == {pages}


def test_only_recipes_of_upcycled_models_draw_the_number_of_turns() -> None:
    phases = (DialoguePhase(steps=1, num_turns=8, fewest_turns=4),)
    with pytest.raises(ConfigError, match=r"phases of dialogues must not have fewest_turns"):
        tiny().with_stage("dialogues", phases=phases, steps=1)
    with pytest.raises(ConfigError, match="fewest_turns must be a whole number from 2 to 8, got 9"):
        DialoguePhase(steps=1, num_turns=8, fewest_turns=9)


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


def told(number: int) -> dict:
    """Return a conversation that tells a name, and says it again four turns later."""
    name = f"Quo{'abcdefghij'[number % 10]}{'klmnopqrst'[number // 10]}o"
    said = [(f"My dog is {name}.", "Fine."), ("It rains.", "Yes."), ("I eat.", "Good."), ("My dog?", f"It is {name}.")]
    messages = [
        {"role": role, "content": text} for pair in said for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    messages[3]["weight"] = 0
    return {"id": str(number), "messages": messages}


def test_own_conversations_are_learnt_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_language_model("llama", tmp_path / "llama")
    file = tmp_path / "chats.jsonl"
    long = {"query": "Well, " * 99, "answer": "Yes."}
    records = [*map(told, range(60)), told(3), long]
    file.write_text("\n".join(map(json.dumps, records)) + "\n{broken\n")
    words = [
        "train", "upcycled", "--model", str(tmp_path / "llama"), "--output", str(tmp_path / "run"),
        "--max-seq-len", "64", "--memory-tokens", "80", "--mix.open-values", "20", "--mix.test-dialogues", "[1, 1]",
        "--mix.test-turns", "[4, 5]", "--mix.evaluation-dialogues", "1", "--retention.settings.sizes", "[80]",
        "--retention.settings.cooling-steps", "1", "--retention.batch-size", "2", "--retention.accumulation", "1",
        "--retention.phases", '[{"steps": 2, "num_turns": 4}]', "--retention.steps", "2",
        "--conversations", str(file), str(tmp_path / "chats.jsonl"),
    ]  # fmt: skip
    assert main(words) == 1
    assert f"{file}, line 63: not a JSON object" in capsys.readouterr().err
    assert not (tmp_path / "run").exists(), "refused before any work"
    assert main([*words, "--bad-records", "skip"]) == 0
    out = capsys.readouterr().out
    assert "Your conversations: 62 with 245 turns" in out
    assert f"1 records cannot be read and are skipped: {file}, line 63" in out
    assert f"1 turns are longer than 64 tokens and are cut: {file}, line 62, turn 1" in out
    assert f"1 conversations are the same as others and left out: {file}, line 61" in out
    tables = json.loads((tmp_path / "run" / "results.json").read_text())["tables"]
    rows = {row[0]: row[1:] for row in tables[0]["rows"]}
    assert {"nothing", "the memory", "everything"} <= set(rows)
    own = OwnConversations.open([str(file)], "skip")
    assert rows["the memory"][2].endswith(f"({len(own.held_out)})"), "each conversation asks for its name"


def test_of_few_conversations_one_is_held_out_where_that_is_possible(tmp_path: Path) -> None:
    for count in range(1, 9):
        (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(told(number)) for number in range(count)))
        own = OwnConversations.open([str(tmp_path)], "stop")
        assert len(own.training) + len(own.held_out) == count
        assert bool(own.held_out) == (count > 1)


def test_own_conversations_are_references_but_those_of_weight_0(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(told(number)) for number in range(60)))
    own = OwnConversations.open([str(tmp_path)], "stop")
    assert 1 <= len(own.held_out) <= 14
    assert len(own.training) + len(own.held_out) == 60
    for dialogue in own.pieces(4):
        assert [turn.is_reference for turn in dialogue.turns] == [True, False, True, True]
        question = dialogue.turns[3].question
        assert question is not None
        assert question.distance == 3
    assert all(turn.question is None for dialogue in own.pieces(3) for turn in dialogue.turns), "told before the piece"
    assert max(map(len, own.pieces(3))) == 3


def test_the_recipe_for_a_gpu_is_the_same_with_longer_dialogues_and_more_of_them() -> None:
    small, large = upcycled(), upcycled_gpu()
    assert type(large).from_dict(json.loads(json.dumps(large.to_dict()))) == large
    stages = small.stages[0], large.stages[0]
    assert large.replace(name=small.name, stages=small.stages) == small
    small_turns, large_turns = (
        sum(phase.steps * (phase.batch_size or stage.batch_size) * phase.num_turns for phase in stage.phases)
        for stage in stages
    )
    assert large_turns > 5 * small_turns
    assert stages[1].settings.longest_dialogue > stages[0].settings.longest_dialogue


def test_a_model_that_cannot_be_trained_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "config.json").write_text('{"engine": "onnx:int8"}')
    for name, said in {
        "exported": "was exported for an engine, which learns nothing",
        "nothing": "There is no folder",
    }.items():
        with pytest.raises(ValueError, match=said):
            open_run(upcycled().replace(model=str(tmp_path / name)), tmp_path / "run")
        assert not (tmp_path / "run").exists()
