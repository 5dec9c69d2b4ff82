"""Recipes and run folders that an earlier version wrote are read today, and a stopped run goes on as it did then."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rxlm.config import ConfigError
from rxlm.data.fact_config import TURN_SHARES
from rxlm.recipes import RECIPES, open_run
from rxlm.recipes.recipe import Recipe
from rxlm.recipes.run_folder import check_recipe

FOLDER = Path(__file__).parent
STOPPED_AFTER = 4
"""Steps of stage `dialogues` that the run had done."""
OF_FACTS = {
    *(f"{stage}.optimizer" for stage in ("language", "interactions", "memory_attention", "dialogues", "streams")),
    *(f"{stage}.{field}" for stage in ("dialogues", "streams") for field in ("steps", "phases", "evaluate_every")),
    "interactions.steps",
    *(name for name in TURN_SHARES if name != "update_share"),
}
TRAINED_OTHERWISE = {
    "babi": {"draws", "dialogues.steps", "dialogues.phases"},
    "tiny": OF_FACTS | {"test_dialogues"},
    "retention": OF_FACTS,
}
"""Fields of recipes that may have other values since."""


def recipe_in(path: Path, name: str) -> Recipe:
    """Return the recipe that a file holds, of the kind that the recipe `name` is."""
    return type(RECIPES[name]()).from_dict(json.loads(path.read_text()))  # type: ignore[return-value]


def value_of(recipe: Recipe, field: str) -> Any:
    """Return the plain value of a field, or of a field of a stage."""
    values = recipe.to_dict()
    stage, dot, name = field.partition(".")
    return values["stages"][stage][name] if dot else values[field]


@pytest.mark.parametrize("name", [name for name in RECIPES if not name.startswith("upcycled")])
def test_a_recipe_of_then_is_the_recipe_of_today(name: str) -> None:
    """But for stages that came since and are trained only where they are named, and what is trained otherwise."""
    then, today = recipe_in(FOLDER / "recipes" / f"{name}.json", name), RECIPES[name]()
    known = {stage.id for stage in then.stages}
    later = [stage for stage in today.stages if stage.id not in known]
    assert all(stage.on_request for stage in later)
    today, changed = today.without_stages(*(stage.id for stage in later)), TRAINED_OTHERWISE.get(name, set())
    assert (then != today) == bool(changed)
    assert then == today.override([f"{field}={json.dumps(value_of(then, field))}" for field in changed])


def test_the_recipe_upcycled_of_then_is_refused_with_what_to_do(tmp_path: Path) -> None:
    for values in (
        json.loads((FOLDER / "recipes" / "upcycled.json").read_text()),
        {"name": "upcycled", "memory_layers": None, "num_slots": 128, "stages": {}},  # as version 0.1.0 wrote it
    ):
        path = tmp_path / "recipe.json"
        path.write_text(json.dumps(values))
        with pytest.raises(ConfigError, match=r"This recipe is of a .* rxlm 0\.1\.0 loads it, and `rxlm upcycle"):
            recipe_in(path, "upcycled")
        with pytest.raises(ConfigError, match="Slots that copy are gone"):
            check_recipe(RECIPES["upcycled"](), tmp_path)


@pytest.mark.parametrize("name", ["tiny", "babi", "llm"])
def test_fields_of_version_0_1_0_that_changed_nothing_are_left_out(name: str) -> None:
    today, then = RECIPES[name](), RECIPES[name]().to_dict()
    for component, fields in (("decoder", {"memory_layers": None, "depth": None}), ("memory", {"write": "attention"})):
        if component in then:
            then[component] |= fields
    for stage in then["stages"].values():
        stage["optimizer"]["decoder_scale"] = 1.0
        if stage["kind"] == "memory_aware":
            stage["settings"] |= {
                "pretrained": False, "learned_share": 0.0, "answer_share": 1.0, "wording_share": 1.0, "keep": 0.0,
                "keep_share": 1.0,
            }  # fmt: skip
    assert type(today).from_dict(then) == today
    if name == "tiny":
        then["stages"]["dialogues"]["settings"]["wording_share"] = 0.5
        with pytest.raises(ConfigError, match="MemoryAwareConfig has no field 'wording_share'"):
            type(today).from_dict(then)


def losses(folder: Path, stage: str) -> list[dict[str, float]]:
    lines = (folder / stage / "metrics.jsonl").read_text().splitlines()
    return [{name: line[name] for name in ("step", "loss", "gradient_norm")} for line in map(json.loads, lines)]


def test_a_stopped_run_goes_on_with_the_same_losses(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(FOLDER / "run", folder)
    assert len(losses(folder, "4-dialogues")) == STOPPED_AFTER
    open_run(recipe_in(folder / "recipe.json", "tiny"), folder).train()

    for stage, wanted in json.loads((FOLDER / "run_continued.json").read_text()).items():
        found = losses(folder, stage)
        assert [each["step"] for each in found] == [each["step"] for each in wanted]
        for each, then in zip(found, wanted, strict=True):
            assert each == pytest.approx(then, rel=1e-6)
