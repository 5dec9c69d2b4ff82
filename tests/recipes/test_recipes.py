"""Every recipe is a whole configuration that parses, builds and runs; a run goes on where it stopped."""

import json
from pathlib import Path

import pytest
import torch

from rxlm.cli import main
from rxlm.nn.config import ConfigError
from rxlm.recipes import RECIPES, FactsRecipe, tiny
from rxlm.recipes.facts import DialoguePhase
from rxlm.recipes.run import FactsRun
from rxlm.rxt.models import RxTAlpha


def quick() -> FactsRecipe:
    """The recipe `tiny` with three steps a stage."""
    recipe = tiny()
    size = {"dim": 16, "num_heads": 4, "num_query_heads": 2, "num_kv_heads": 1}
    few = {"steps": 3, "batch_size": 4, "log_every": 1}
    phases = (DialoguePhase(steps=2, num_turns=2), DialoguePhase(steps=1, num_turns=2, streams=True))
    return recipe.replace(
        decoder=recipe.decoder.replace(**size),
        encoder=recipe.encoder.replace(**size),
        memory_attention=recipe.memory_attention.replace(**size),
        language=recipe.language and recipe.language.replace(**few),
        interactions=recipe.interactions and recipe.interactions.replace(**few),
        slots=recipe.slots and recipe.slots.replace(**few),
        dialogues=recipe.dialogues.replace(**few),
        phases=phases,
    )


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_comes_back_from_its_json(name: str) -> None:
    recipe = RECIPES[name]()

    assert FactsRecipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds(name: str) -> None:
    recipe = RECIPES[name]()
    with torch.device("meta"):
        RxTAlpha(recipe.decoder, recipe.encoder, recipe.memory_attention, {}, None, recipe.memory_attention.variant)


def test_a_dry_run_prints_the_whole_recipe_with_its_changes(capsys: pytest.CaptureFixture[str]) -> None:
    change = "dialogues.optimizer.learning_rate=0.5"
    assert main(["train", "tiny", "--dry-run", "--set", change, "interactions=null"]) == 0
    printed = json.loads(capsys.readouterr().out)

    assert printed["dialogues"]["optimizer"]["learning_rate"] == 0.5
    assert printed["interactions"] is None
    assert printed["phases"] == tiny().to_dict()["phases"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["big"], "There is no recipe 'big'; there are tiny, retention"),
        (["tiny", "--set", "dialogues.speed=1"], "has no field 'dialogues.speed'"),
        (["tiny", "--set", "seed"], "has the form field=value"),
        (["tiny", "--set", "dialogues.batch_size=0"], "batch_size must be a whole number of at least 1"),
        (["tiny", "--set", "dialogues.steps=5"], "dialogues.steps is 5"),
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
    FactsRun(quick(), path).train()
    return path


class TestRun:
    def test_every_stage_leaves_its_model_and_its_figures(self, folder: Path) -> None:
        for stage in ("1-language", "2-interactions", "3-slots", "4-dialogues"):
            assert (folder / stage / "model" / "model.safetensors").is_file()
            assert len((folder / stage / "metrics.jsonl").read_text().splitlines()) == 3

    def test_the_finished_model_loads_with_its_tokenizer(self, folder: Path) -> None:
        model = RxTAlpha.from_pretrained(folder)

        assert model.tokenizer is not None
        assert list(model.interact(**model.tokenize_query("Hello!")))[-2:] == [-1, -2]

    def test_each_stage_trains_what_it_should(self, folder: Path) -> None:
        def weights(stage: str) -> dict[str, torch.Tensor]:
            return dict(RxTAlpha.from_pretrained(folder / stage / "model").state_dict())

        before, slots, after = (weights(stage) for stage in ("2-interactions", "3-slots", "4-dialogues"))
        assert {name for name in before if not torch.equal(before[name], slots[name])} == {
            name for name in before if name.startswith("memory_attention.") and name != "memory_attention.initial"
        } | {"memory_attention.initial"}
        changed = {name.split(".")[0] for name in slots if not torch.equal(slots[name], after[name])}
        assert changed == {"decoder", "encoder", "memory_attention"}

    def test_a_finished_run_is_not_trained_again(self, folder: Path) -> None:
        before = (folder / "4-dialogues" / "metrics.jsonl").read_text()
        again = FactsRun(quick(), folder).train()

        assert (folder / "4-dialogues" / "metrics.jsonl").read_text() == before
        mine = RxTAlpha.from_pretrained(folder).state_dict()
        assert all(torch.equal(tensor, mine[name]) for name, tensor in again.state_dict().items())

    def test_another_recipe_is_refused_in_the_same_folder(self, folder: Path) -> None:
        with pytest.raises(ConfigError, match="holds a run of another recipe"):
            FactsRun(quick().replace(seed=1), folder)

    def test_retention_is_measured_by_distance_and_an_empty_memory_knows_nothing(self, folder: Path) -> None:
        run = FactsRun(quick(), folder)
        model = RxTAlpha.from_pretrained(folder)
        row = run.retention(model, 8, 20)

        assert list(row) == ["1-4", "5-7"]
        assert all(0 <= share <= 1 and count > 0 for share, count in row.values())
        assert run.retention(model, 8, 20, control="empty").keys() == row.keys()
