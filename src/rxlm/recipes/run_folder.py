"""The folder of a run: where its files are, and whether a recipe is the one that it was begun with."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from rxlm.config import ConfigError, require
from rxlm.file_errors import read_json_object
from rxlm.files import write_atomically
from rxlm.recipes.earlier_versions import stage_folder, translate_recipe
from rxlm.recipes.recipe import Recipe
from rxlm.training import distributed

RECIPE_FILE = "recipe.json"
RESULTS_FILE = "results.json"


def stage_path(run: Path, folder: str) -> Path:
    """Return the folder of a stage in that of a run: the one that an earlier version made, if there is one."""
    earlier = run / stage_folder(folder)
    return earlier if earlier.is_dir() else run / folder


def check_recipe(recipe: Recipe, folder: Path) -> None:
    """Refuse another recipe than the folder's, except for stages that are later than all that have begun."""
    path = folder / RECIPE_FILE
    if not path.is_file():
        return
    kept, wanted = _kept_recipe(path, type(recipe)), json.loads(json.dumps(recipe.to_dict()))
    stages = kept.pop("stages", {})
    settled = _until(stages, [name for name in stages if stage_path(folder, stages[name]["folder"]).is_dir()])
    of_run = _differences(kept, {name: value for name, value in wanted.items() if name != "stages"})
    of_stages = list(_stage_differences(settled, _until(wanted["stages"], settled)))
    if of_run or of_stages:
        first = settled.get(of_stages[0].partition(".")[0]) if of_stages and not of_run else None
        anew = f", or remove {first and first['folder']} and the stages after it from this one, to train them again"
        raise ConfigError(
            f"{folder} holds a run of another recipe (see {path}): {', '.join([*of_run, *of_stages])} differ. "
            f"Name another folder{'' if first is None else anew}."
        )
    if stages != wanted["stages"] and distributed.rank() == 0:
        (folder / RESULTS_FILE).unlink(missing_ok=True)  # may be those of stages that were taken away


def _kept_recipe(path: Path, kind: type[Recipe]) -> dict[str, Any]:
    """Return the recipe of a folder as this version would have written it."""
    values = read_json_object(path, ConfigError)
    try:
        try:
            kept = json.loads(json.dumps(kind.from_dict(values).to_dict()))
        except ConfigError:  # of another kind, or of a version that knew other fields
            kept = dict(translate_recipe(values))
        for stage in kept.get("stages", {}).values():
            require(isinstance(stage["folder"], str), f"a stage's folder is {stage['folder']!r:.80}.")
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise ConfigError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    return kept


def _until(stages: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return stages up to the last one that has one of the names."""
    places = [place for place, name in enumerate(stages, 1) if name in names]
    return dict(list(stages.items())[: max(places, default=0)])


def _stage_differences(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys([*kept, *wanted]):
        if name in kept and name in wanted:
            yield from (f"{name}.{field}" for field in _differences(kept[name], wanted[name]))
        else:
            yield name


def _differences(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return names of fields that differ, or that one of both lacks."""
    names = {*kept, *wanted}
    return sorted(name for name in names if name not in kept or name not in wanted or kept[name] != wanted[name])


def write_json(path: Path, values: Any) -> None:
    """Write plain values to a JSON file that is whole or not there."""
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
