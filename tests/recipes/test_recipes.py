"""Every recipe is a whole configuration that parses, builds and runs; a run goes on where it stopped."""

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from process_groups import Program
from rxlm.cli import main
from rxlm.config import ConfigError
from rxlm.recipes import RECIPES, ReactiveRecipe, tiny
from rxlm.recipes.facts import converse
from rxlm.recipes.phase import DialoguePhase
from rxlm.recipes.reactive_run import ReactiveRun
from rxlm.recipes.stages import StageConfig, steps_of
from rxlm.rxt.models import RxTAlpha
from small_recipes import quick, train_forever
from text_models import tiny_text_model


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_comes_back_from_its_json(name: str) -> None:
    recipe = RECIPES[name]()

    assert type(recipe).from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds(name: str) -> None:
    recipe = RECIPES[name]()
    if not isinstance(recipe, ReactiveRecipe):
        return  # its own tests build it
    with torch.device("meta"):
        RxTAlpha(recipe.decoder, recipe.encoder, recipe.memory, {}, None)


def test_streams_go_on_from_slots_with_all_that_learns(tmp_path: Path) -> None:
    base = quick(tiny())
    waits = {"read_encoded_until": 9, "unfreeze_memory_at": 9, "unfreeze_encoder_at": 9}
    settings = base.stage("dialogues").settings.replace(**waits)
    run = ReactiveRun(base.with_stage("dialogues", settings=settings), tmp_path)
    model = run.new_model()
    for stage in run.recipe.stages:
        if stage.id in ("dialogues", "streams"):
            module = stage.module(model)
            module.start_step(0)
            assert module.reads_encoded == (stage.id == "dialogues")
            for part in (model.memory_writer, model.encoder.layers):
                assert {each.requires_grad for each in part.parameters()} == {stage.id == "streams"}


def test_a_dry_run_prints_the_whole_recipe_with_its_changes(capsys: pytest.CaptureFixture[str]) -> None:
    change = "dialogues.optimizer.learning_rate=0.5"
    assert main(["train", "tiny", "--dry-run", "--set", change, "interactions=null"]) == 0
    printed = json.loads(capsys.readouterr().out)["stages"]

    assert printed["dialogues"]["optimizer"]["learning_rate"] == 0.5
    assert "interactions" not in printed
    assert printed["dialogues"]["phases"] == tiny().to_dict()["stages"]["dialogues"]["phases"]


def test_fields_are_options_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--dialogues.optimizer.learning-rate=0.5", "--set", "interactions=null", "seed=3", "--slots", "null"]
    assert main(["train", "tiny", *options, "--dry-run"]) == 0
    printed = json.loads(capsys.readouterr().out)

    assert printed["stages"]["dialogues"]["optimizer"]["learning_rate"] == 0.5
    assert [*printed["stages"]] == ["language", "dialogues", "streams", "mrl", "feedback", "reward", "rlhf"]
    assert printed["seed"] == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [(".5", 0.5), ("0.50", 0.5), ("5e-1", 0.5), ("1", 1), ("+.5", 0.5)],
)
def test_a_number_may_be_written_in_any_usual_way(text: str, value: float) -> None:
    assert tiny().override([f"repeat_share={text}"]).repeat_share == value


def test_what_is_neither_json_nor_a_number_is_text() -> None:
    for text in ("a tale", "1.5.2", "(", "x" * 200, "{[1]}", "...", "2_0", "b'x'"):
        assert tiny().override([f"name={text}"]).name == text


def test_a_stage_has_the_name_it_had_in_earlier_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "tiny", "--slots.steps", "7", "--memory-attention.batch-size=5", "--dry-run"]) == 0
    stage = json.loads(capsys.readouterr().out)["stages"]["memory_attention"]

    assert (stage["steps"], stage["batch_size"]) == (7, 5)


@pytest.mark.parametrize("name", RECIPES)
def test_stages_have_folders_of_their_own_in_order(name: str) -> None:
    folders = [stage.folder for stage in RECIPES[name]().stages]

    assert folders == sorted(set(folders))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "cooking"}, "kind of a stage must be one of .*joint.*, got 'cooking'"),
        ({"kind": "memory_aware", "folder": "dialogues"}, "folder must be a number, a hyphen and an id"),
        ({"kind": "joint", "folder": "1-language", "data": "tales"}, "data must be one of 'language', 'interactions'"),
        (
            {"kind": "reinforcement", "rewards": [["luck", 1.0]]},
            "rewards must be pairs of a name and a weight",
        ),
    ],
)
def test_a_stage_that_cannot_be_is_refused(values: dict[str, Any], message: str) -> None:
    phases = {"phases": [{"steps": 1, "num_turns": 2}], "steps": 1} if values["kind"] != "joint" else {}
    with pytest.raises(ConfigError, match=message):
        StageConfig.from_dict({**phases, **values})


def test_a_stage_stands_in_a_recipe_once() -> None:
    recipe = tiny()
    with pytest.raises(ConfigError, match="stages must have ids of their own"):
        recipe.replace(stages=[*recipe.stages, recipe.stages[0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["big"],
            "There is no recipe 'big'; there are tiny, retention, babi, stories, nano, micro, mini, alpha, "
            "llm, upcycled",
        ),
        (["tiny", "--set", "dialogues.speed=1"], "has no field 'dialogues.speed'"),
        (["tiny", "--set", "seed"], "has the form field=value"),
        (["tiny", "--set", "dialogues.batch_size=0"], "batch_size must be a whole number of at least 1"),
        (["tiny", "--set", "dialogues.steps=5"], "dialogues.steps is 5"),
        (["tiny", "--dialogues.speed", "1"], "has no field 'dialogues.speed'"),
        (
            ["tiny", "--mrl-settings.kl-weight", "1"],
            "It is now mrl.settings.kl_weight.",
        ),
        (["tiny", "--seed"], "The option --seed needs a value"),
        (["babi"], "needs the folder of the bAbI files: --data FOLDER"),
        (["babi", "--data", "nowhere"], "nowhere"),
        (["babi", "--data", "nowhere", "--tasks", "[1, 21]"], "tasks must be numbers from 1 to 20, got [1, 21]"),
        (["babi", "--data", "nowhere", "--tasks", "[6]"], "first_tasks must have some of tasks, [6], got [1, 12]"),
        (["stories"], "needs the folder of its data: --data FOLDER"),
    ],
)
def test_a_recipe_that_cannot_be_is_explained_before_any_work(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *arguments, "--output", str(tmp_path / "run")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "quick"
    ReactiveRun(quick(tiny()), path).train()
    return path


class TestRun:
    def test_every_stage_leaves_its_model_and_its_figures(self, folder: Path) -> None:
        for stage in ("1-language", "2-interactions", "3-memory_attention", "4-dialogues"):
            assert (folder / stage / "model" / "model.safetensors").is_file()
            log = [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]
            assert [line["step"] for line in log if "loss" in line] == [1, 2, 3]

    def test_the_finished_model_loads_with_its_tokenizer(self, folder: Path) -> None:
        model = RxTAlpha.from_pretrained(folder)

        assert model.tokenizer is not None
        assert list(model.interact(**model.tokenize_query("Hello!")))[-2:] == [-1, -2]

    def test_each_stage_trains_what_it_should(self, folder: Path) -> None:
        def weights(stage: str) -> dict[str, torch.Tensor]:
            return dict(RxTAlpha.from_pretrained(folder / stage / "model").state_dict())

        before, slots, after = (weights(stage) for stage in ("2-interactions", "3-memory_attention", "4-dialogues"))
        assert {name for name in before if not torch.equal(before[name], slots[name])} == {
            name for name in before if name.startswith("memory_writer.") and name != "memory_writer.initial"
        } | {"memory_writer.initial"}
        changed = {name.split(".")[0] for name in slots if not torch.equal(slots[name], after[name])}
        assert changed == {"decoder", "encoder", "memory_writer"}

    def test_a_finished_run_is_not_trained_again(self, folder: Path) -> None:
        before = (folder / "4-dialogues" / "metrics.jsonl").read_text()
        again = ReactiveRun(quick(tiny()), folder).train()

        assert (folder / "4-dialogues" / "metrics.jsonl").read_text() == before
        mine = RxTAlpha.from_pretrained(folder).state_dict()
        assert all(torch.equal(tensor, mine[name]) for name, tensor in again.state_dict().items())

    def test_another_recipe_is_refused_in_the_same_folder(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match=r"holds a run of another recipe .*: seed differ\. Name another folder\."):
            ReactiveRun(quick(tiny()).replace(seed=1), folder)

    def test_a_recipe_that_was_refused_may_be_corrected_and_nothing_of_it_stays(self, tmp_path: Path) -> None:
        recipe = quick(tiny())
        with pytest.raises(ValueError, match="vocab_size"):  # by the tokenizer
            ReactiveRun(recipe.replace(vocab_size=20), tmp_path)
        unequal = recipe.replace(encoder=recipe.encoder.replace(dim=32), vocab_size=400)
        with pytest.raises(ValueError, match="dim"):  # by the model, when the recipe is written already
            ReactiveRun(unequal, tmp_path).train()
        run = ReactiveRun(recipe, tmp_path)
        assert len(run.tokenizer) > 400
        run.train("language")

    def test_two_trainings_do_not_work_in_one_folder(self, tmp_path: Path) -> None:
        recipe, folder, note = quick(tiny()), tmp_path / "run", tmp_path / "note"
        run = ReactiveRun(recipe, folder)
        other = Program(train_forever, folder, note)
        while other.status is None and not note.exists():
            time.sleep(0.01)
        for work in (run.train, lambda: ReactiveRun(recipe, folder)):
            with pytest.raises(ConfigError, match="Another training works in"):
                work()
        os.kill(other.pid, signal.SIGKILL)
        assert other.ended().status == -signal.SIGKILL
        run.train("language")  # the lock ended with its process

    def test_a_stage_whose_save_was_killed_midway_is_not_stuck(self, folder: Path, tmp_path: Path) -> None:
        """Its files were whole, and not yet in their places."""
        path = tmp_path / "run"
        shutil.copytree(folder, path)
        for saved in (path / "tokenizer", path / "1-language" / "model"):
            names = [each.name for each in saved.iterdir()]
            (saved / ".saved").mkdir()
            for name in names:
                (saved / name).rename(saved / ".saved" / name)
        before = (path / "1-language" / "metrics.jsonl").read_text()
        ReactiveRun(quick(tiny()), path).train("language")
        assert (path / "1-language" / "metrics.jsonl").read_text() == before

    def test_stages_that_have_not_begun_may_change(self, tmp_path: Path) -> None:
        recipe = quick(tiny())
        ReactiveRun(recipe, tmp_path).train("interactions")
        later = recipe.without_stages("slots").with_stage("mrl", rewards=(("exact", 1.0),))
        ReactiveRun(later, tmp_path)

        assert json.loads((tmp_path / "recipe.json").read_text()) == json.loads(json.dumps(later.to_dict()))
        with pytest.raises(ConfigError, match=r"language differ\. .* or remove 1-language and the stages after it"):
            ReactiveRun(recipe.without_stages("language"), tmp_path)

    def test_a_run_up_to_a_stage_stops_there_and_goes_on_later(self, folder: Path, tmp_path: Path) -> None:
        run = ReactiveRun(quick(tiny()), tmp_path / "run")
        run.train("interactions")
        trained = [path.name for path in sorted(tmp_path.glob("run/?-*"))]
        assert trained == ["1-language", "2-interactions"]

        model = ReactiveRun(quick(tiny()), tmp_path / "run").train()
        straight = RxTAlpha.from_pretrained(folder).state_dict()
        assert all(torch.equal(tensor, straight[name]) for name, tensor in model.state_dict().items())

    def test_a_stage_that_the_recipe_lacks_is_named(self, tmp_path: Path) -> None:
        run = ReactiveRun(quick(tiny()).without_stages("slots"), tmp_path / "run")
        with pytest.raises(ValueError, match="has no stage 'slots'; it has language, interactions, dialogues"):
            run.train("slots")

    def test_results_are_measured_once_and_kept(self, folder: Path) -> None:
        run = ReactiveRun(quick(tiny()), folder)
        results = run.results(RxTAlpha.from_pretrained(folder))
        kept = json.loads((folder / "results.json").read_text())

        assert [list(row) for row in results.tables[0].rows] == kept["tables"][0]["rows"]
        assert [row[0] for row in results.tables[0].rows] == ["8 turns", "8 turns, empty memory"]
        assert len(results.conversation) == 8
        path = folder / "results.json"
        path.write_text(path.read_text().replace("8 turns, empty memory", "kept"))
        assert run.results(RxTAlpha.from_pretrained(folder)).tables[0].rows[1][0] == "kept"

    def test_retention_is_measured_by_distance_and_an_empty_memory_knows_nothing(self, folder: Path) -> None:
        run = ReactiveRun(quick(tiny()), folder)
        model = RxTAlpha.from_pretrained(folder)
        row = run.corpus.retention(model, 8, 20)

        assert list(row) == ["1-4", "5-7"]
        assert all(0 <= share <= 1 and count > 0 for share, count in row.values())
        assert run.corpus.retention(model, 8, 20, control="empty").keys() == row.keys()

    def test_stage_5_is_trained_where_it_is_named_and_starts_from_stage_4(self, folder: Path, tmp_path: Path) -> None:
        assert not (folder / "5-mrl").exists()
        path = tmp_path / "run"
        shutil.copytree(folder, path)
        recipe = quick(tiny())
        # As a user changes stage 5 of a run whose other stages are done.
        (path / "results.json").write_text(json.dumps({"stages": "of another stage 5"}))
        settings = recipe.stage("mrl").settings.replace(critic_warmup=1)
        phases = steps_of(DialoguePhase(steps=3, num_turns=3))
        few = {"batch_size": 4, "log_every": 1, "evaluate_every": 2}
        recipe = recipe.with_stage("mrl", **few, **phases, settings=settings)
        run = ReactiveRun(recipe, path)
        assert not (path / "results.json").exists()
        before = RxTAlpha.from_pretrained(path).state_dict()
        after = run.train("mrl").state_dict()
        log = [json.loads(line) for line in (path / "5-mrl" / "metrics.jsonl").read_text().splitlines()]

        assert [line["step"] for line in log if "reward" in line] == [1, 2, 3]
        assert any("evaluation/perplexity" in line for line in log)
        assert (path / "5-mrl" / "trajectories.jsonl").is_file()
        assert any(not torch.equal(weight, before[name]) for name, weight in after.items())
        assert RxTAlpha.from_pretrained(path).state_dict().keys() == before.keys()
        assert run.is_finished("mrl")

        with pytest.raises(ConfigError, match=r"mrl\.settings differ\. .* or remove 5-mrl and the stages after it"):
            ReactiveRun(recipe.with_stage("mrl", settings=settings.replace(critic_warmup=2)), path)


def test_a_message_that_is_too_long_for_the_model_is_cut_and_counted_in_the_conversation_of_a_finished_run() -> None:
    talk = converse(tiny_text_model(), ["word " * 60, "Hello"])

    assert talk[0][0].startswith("[its first 219 tokens were cut] word")
    assert talk[1][0] == "Hello"
