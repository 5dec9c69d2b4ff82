"""Recipes and run folders that an earlier version wrote are read today, and a stopped run goes on as it did then."""

import json
import shutil
from pathlib import Path

import pytest

from rxlm.recipes import RECIPES, open_run
from rxlm.recipes.recipe import Recipe

FOLDER = Path(__file__).parent
STOPPED_AFTER = 4
"""Steps of stage `dialogues` that the run had done."""


def recipe_in(path: Path, name: str) -> Recipe:
    """Return the recipe that a file holds, of the kind that the recipe `name` is."""
    return type(RECIPES[name]()).from_dict(json.loads(path.read_text()))  # type: ignore[return-value]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_of_then_is_the_recipe_of_today(name: str) -> None:
    assert recipe_in(FOLDER / "recipes" / f"{name}.json", name) == RECIPES[name]()


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
