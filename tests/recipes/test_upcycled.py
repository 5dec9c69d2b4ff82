"""The recipe `upcycled`: a language model's own weights stay, a memory is learnt, and what is asked is new."""

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from pretrained_models import save_language_model
from rxlm.cli import main
from rxlm.config import ConfigError
from rxlm.data.fact_conversations import is_test_value
from rxlm.data.general_questions import general_questions
from rxlm.data.records import Dialogue, Interaction
from rxlm.nn.key_values import KeyValueSource
from rxlm.recipes import UpcycledRecipe, open_run, upcycled
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.upcycled import UpcycledRun
from rxlm.recipes.upcycled_corpus import UpcycledCorpus
from rxlm.recipes.upcycled_mix import UpcycledMix
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.upcycling import reading_is_closed, upcycle
from rxlm.training.config import OptimizerConfig, TrainingConfig
from rxlm.training.memory_aware import MemoryAwareConfig
from small_recipes import note_what_is_asked

FEW = {"batch_size": 4, "log_every": 1, "evaluate_every": None, "checkpoint_every": None}
LATER = (DialoguePhase(steps=1, num_turns=3), DialoguePhase(steps=2, num_turns=3, streams=True))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "llama"
    save_language_model("llama", folder)
    return folder


def quick(model: Path, **changes: Any) -> UpcycledRecipe:
    recipe = upcycled()
    mix = {"replies": 6, "reply_tokens": 4, "open_values": 20, "test_turns": (9,), "test_dialogues": (4,)}
    dialogues, layers = recipe.stage("dialogues"), recipe.stage("layers")
    first = (DialoguePhase(steps=1, num_turns=2), DialoguePhase(steps=1, num_turns=5))
    settings = dialogues.settings.replace(read_encoded_until=1, **changes.pop("settings", {}))
    later = MemoryAwareConfig(pretrained=True, learned_share=0.1, keep=0.5)
    return recipe.replace(
        model=str(model),
        num_slots=4,
        max_seq_len=96,
        mix=recipe.mix.replace(**{**mix, "answer_tokens": 4, **changes.pop("mix", {})}),
        stages=(
            dialogues.replace(steps=2, **FEW, settings=settings, phases=first),
            layers.replace(steps=3, **FEW, settings=later, phases=LATER, optimizer=OptimizerConfig(), seed=0),
        ),
        **changes,
    )


@pytest.fixture(scope="module")
def folder(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "upcycled"
    run = open_run(quick(llama), path)
    run.results(run.train())
    return path


def changed_weights(before: Path, after: Path) -> set[str]:
    """Return the names of weights that differ between two models."""
    old, new = (RxTAlpha.from_pretrained(folder).state_dict() for folder in (before, after))
    return {name for name in old if not torch.equal(old[name], new[name])}


def reads_memory(name: str) -> bool:
    """Tell whether a weight is not the language model's."""
    return "memory" in name or "slot_norm" in name


def test_dialogues_leave_the_language_model_as_it_is(llama: Path, folder: Path) -> None:
    taught = folder / "4-dialogues" / "model"
    changed = changed_weights(folder / "start", taught)
    assert changed
    assert all(map(reads_memory, changed))
    model = RxTAlpha.from_pretrained(taught)
    ids = torch.randint(20, 500, (2, 12))
    with torch.no_grad():
        empty = model.decode(ids, model.init_memory(2))
        torch.testing.assert_close(empty, upcycle(llama).decode(ids, None))


def test_then_its_last_layers_learn_too(folder: Path) -> None:
    changed = changed_weights(folder / "4-dialogues" / "model", folder)
    own = {name for name in changed if not reads_memory(name)}
    assert own < changed
    assert any("layers.6." in name for name in own)
    assert all("layers.6." in name or "final_norm" in name for name in own)


def test_the_seed_makes_a_run_repeatable_from_its_first_weights_on(llama: Path, tmp_path: Path) -> None:
    starts = []
    for name, seed in (("one", 3), ("same", 3), ("other", 4)):
        UpcycledRun(quick(llama, seed=seed), tmp_path / name)
        starts.append(tmp_path / name / "start")
    assert not changed_weights(starts[0], starts[1])
    assert changed_weights(starts[0], starts[2])


def test_every_stage_gets_the_model_on_the_runs_device(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(quick(llama), tmp_path, "meta")
    found = []
    monkeypatch.setattr(run, "train_stage", lambda stage, model: found.append(model.device.type) or model)
    monkeypatch.setattr(run, "save_model", lambda model, folder: None)
    run.train()
    assert found == ["meta", "meta"]


def test_without_layers_only_the_memory_is_learnt(llama: Path, tmp_path: Path) -> None:
    run = open_run(quick(llama).without_stages("layers"), tmp_path)
    run.train()
    assert [stage.id for stage in run.recipe.stages] == ["dialogues"]
    assert all(map(reads_memory, changed_weights(tmp_path / "start", tmp_path)))


def test_reading_of_encoded_turns_is_over_after_the_dialogues(llama: Path, tmp_path: Path) -> None:
    run = UpcycledRun(quick(llama), tmp_path)
    model = run.new_model()
    reads = {}
    for stage in run.recipe.stages:
        module = stage.module(model)
        module.start_step(0)
        reads[stage.id] = module.reads_encoded
    assert reads == {"dialogues": True, "layers": False}


def test_a_run_keeps_its_replies_and_results(folder: Path) -> None:
    replies = json.loads((folder / "replies.json").read_text(encoding="utf-8"))
    assert set(general_questions()) < set(replies)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    table = results["tables"][0]
    assert [row[0] for row in table["rows"]] == ["9 turns", "9 turns, empty memory"]
    assert len(results["conversation"]) > 5


def test_a_model_that_was_upcycled_before_is_taken_as_it_is(llama: Path, tmp_path: Path) -> None:
    assert main(["upcycle", str(llama), str(tmp_path / "model"), "--num-slots", "5", "--max-seq-len", "80"]) == 0
    run = UpcycledRun(quick(tmp_path / "model"), tmp_path / "run")
    assert run.new_model().memory_writer.config.num_slots == 5


def test_what_an_earlier_run_has_taught_is_kept(llama: Path, folder: Path, tmp_path: Path) -> None:
    before, after = RxTAlpha.from_pretrained(folder), UpcycledRun(quick(folder), tmp_path).new_model()
    for name, value in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], value)
    opened = UpcycledRun(quick(llama), tmp_path / "new").new_model()
    assert not reading_is_closed(opened)
    assert reading_is_closed(upcycle(llama))


def test_training_tells_no_value_of_the_test(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, dialogues = UpcycledRun(quick(llama), tmp_path), note_what_is_asked(monkeypatch)
    model = run.new_model().eval()
    assert run.evaluate(model)["recall"] == 0
    evaluated = len(dialogues)
    run.measure(model)
    make, told = run.maker(run.recipe.stage("dialogues")), set()
    batches = run.corpus.dialogues(make, DialoguePhase(steps=1, num_turns=9))
    streams = run.corpus.dialogues(make, DialoguePhase(steps=1, num_turns=9, streams=True))
    for _ in range(20):
        told |= values_asked(turn for dialogue in next(batches).dialogues for turn in dialogue.turns)
        told |= values_asked(turn for row in next(streams).interactions for turn in row)

    for part in (dialogues[:evaluated], dialogues[evaluated:], run.corpus.held_out()):
        asked = values_asked(turn for dialogue in part for turn in dialogue.turns)
        assert asked
        assert all(map(is_test_value, asked))
        assert not told & asked


def values_asked(turns: Iterable[Interaction]) -> set[str]:
    """Return the values that the questions of some turns expect."""
    return {value for turn in turns if turn.question for value in turn.question.expected}


def corpus(**mix: Any) -> UpcycledCorpus:
    corpus = UpcycledCorpus(None, UpcycledMix(replies=0, open_values=1, **mix), seed=0)
    corpus.replies = {query: f"What the model says to {query}" for query in general_questions()}
    return corpus


def first_batches(run: UpcycledRun, told: UpcycledCorpus, phase: DialoguePhase, count: int) -> list[Dialogue]:
    batches = told.dialogues(run.maker(run.recipe.stage("dialogues")), phase)
    return [dialogue for _ in range(count) for dialogue in next(batches).dialogues]


def test_pages_go_on_with_a_tale_and_are_no_references(llama: Path, tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(330)]
    tale = {
        "story": "tale",
        "sections": [" ".join(words[:200]), " ".join(words[200:])],
        "section_ids": ["1", "2"],
        "qa": [],
    }
    (tmp_path / "fairytaleqa").mkdir()
    (tmp_path / "fairytaleqa" / "train.jsonl").write_text(json.dumps(tale) + "\n", encoding="utf-8")
    (tmp_path / "sgd").mkdir()
    with gzip.open(tmp_path / "sgd" / "train.jsonl.gz", "wt") as file:
        file.write(
            json.dumps({"id": "1", "services": [], "turns": [["U", "Hi."], ["S", "Hello."]], "final_state": {}}) + "\n"
        )
    pages = UpcycledCorpus(str(tmp_path), UpcycledMix(), seed=0).pages
    assert len(pages) == 2
    read = [text.split() for page in pages for turn in page.turns for text in (turn.query, turn.answer)]
    assert {len(text) for text in read} == {40}
    assert [word for text in read for word in text] == words[:320]
    assert not any(turn.is_reference for page in pages for turn in page.turns)

    run, phase = UpcycledRun(quick(llama), tmp_path / "run"), DialoguePhase(steps=1, num_turns=9)
    for share, least, most in ((0.0, 0, 0), (0.5, 8, 32)):
        mix = UpcycledMix(replies=0, open_values=1, pages_share=share)
        told = UpcycledCorpus(str(tmp_path), mix, seed=0)
        drawn = first_batches(run, told, phase, 10)
        assert least <= sum(each.turns[0].query.startswith("w") for each in drawn) <= most < len(drawn)


def test_processes_share_a_batch_by_length(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = UpcycledRun(quick(llama), tmp_path).maker(TrainingConfig(steps=1, **FEW))
    long, short = (Dialogue((Interaction("q" * length, "a"),)) for length in (90, 5))
    monkeypatch.setattr("rxlm.training.distributed.world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr("rxlm.training.distributed.rank", lambda rank=rank: rank)
        batch = next(make.dialogues([long] * 4 + [short] * 4, shuffle=False))
        shares.append(sum(dialogue is long for dialogue in batch.dialogues))
    assert shares == [2, 2]


def test_general_questions_take_the_place_of_small_talk(llama: Path, tmp_path: Path) -> None:
    run, phase = UpcycledRun(quick(llama), tmp_path), DialoguePhase(steps=1, num_turns=9)
    for share, least, most in ((0.0, 0, 0), (1.0, 10, 200)):
        turns = [turn for each in first_batches(run, corpus(general_share=share), phase, 10) for turn in each.turns]
        general = [turn for turn in turns if turn.query in general_questions()]
        assert least <= len(general) <= most
        assert all(turn.answer == f"What the model says to {turn.query}" for turn in general)
        assert not any(turn.is_reference for turn in general)
        assert all(turn.is_reference for turn in turns if turn.question is not None)


def test_streams_ask_from_as_far_as_they_are_told_to(llama: Path, tmp_path: Path) -> None:
    run, phase = UpcycledRun(quick(llama), tmp_path), DialoguePhase(steps=1, num_turns=12, streams=True)
    longest = {}
    for far in (3, 24):
        batches = corpus(stream_turns=far, general_share=0.0).dialogues(run.maker(run.recipe.stage("dialogues")), phase)
        turns = [turn for _ in range(12) for row in next(batches).interactions for turn in row]
        longest[far] = max(turn.question.distance or 0 for turn in turns if turn.question)
    assert longest[3] <= 3 < 8 < longest[24] <= 24


def test_a_conversation_is_about_so_many_kinds_of_fact(llama: Path, tmp_path: Path) -> None:
    for most in (1, 6):
        dialogues = corpus(max_facts=most).generator("train", num_turns=24).dialogues(20)
        held = [turn.question.facts_held for each in dialogues for turn in each.turns if turn.question]
        assert max(held) == most


def test_the_recipe_says_how_far_reading_is_opened(llama: Path, tmp_path: Path) -> None:
    model = UpcycledRun(quick(llama, reading=0.25), tmp_path).new_model()
    for layer in model.decoder.memory_layers:
        assert layer.memory_reader is not None
        x, states = torch.randn(2, 1, 5, model.decoder.config.dim)
        read = layer.memory_reader(x, layer.read_memory(KeyValueSource(states)))
        own = layer.attention(x, layer.attention.keys_values(layer.attention_norm(states)))
        torch.testing.assert_close(read, 0.25 * own, atol=1e-5, rtol=1e-4)


def test_two_processes_begin_a_run_together_and_finish_it(llama: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(quick(llama).to_dict()), encoding="utf-8")
    program = Path(__file__).with_name("upcycled_by_two.py")
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", program, recipe, tmp_path / "run"]
    subprocess.run(
        [sys.executable, *map(str, command)],
        check=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mix": {"services_share": 0.9}}, "no more together"),
        ({"mix": {"general_share": 1.5}}, "general_share must be between 0 and 1, got 1.5"),
        ({"settings": {"pretrained": False, "keep": 0.0}}, "pretrained must be true"),
        ({"encoder": "none"}, "encoder must be one of"),
    ],
)
def test_recipes_that_cannot_be_are_refused(llama: Path, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        quick(llama, **changes)


def test_without_a_language_model_the_recipe_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs a language model: --model"):
        open_run(upcycled(), tmp_path)
