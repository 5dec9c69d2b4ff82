"""The folder of a run: where its files are, who works in it, and whether a recipe is the one that it was begun with."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from rxlm.config import ConfigError, require
from rxlm.file_errors import read_json_object
from rxlm.files import LockedError, locked, remove, write_text
from rxlm.recipes.earlier_versions import stage_folder, translate_recipe
from rxlm.recipes.recipe import Recipe
from rxlm.training import distributed

RECIPE_FILE = "recipe.json"
RESULTS_FILE = "results.json"
LOCK_FILE = ".training"
TOKENIZER, START = MADE_FIRST = "tokenizer", "start"
"""What a run makes before its first stage: the tokenizer, and the model to train, where it is not made of nothing."""


def stage_path(run: Path, folder: str) -> Path:
    """Return the folder of a stage in that of a run: the one that an earlier version made, if there is one."""
    earlier = run / stage_folder(folder)
    return earlier if earlier.is_dir() else run / folder


def check_recipe(recipe: Recipe, folder: Path) -> None:
    """Refuse another recipe than the folder's, except for stages that are later than all that have begun.

    Where none has, any recipe may take the place of the one that is there: it may be what was wrong.
    """
    path = folder / RECIPE_FILE
    if not path.is_file():
        return
    kept, wanted = _kept_recipe(path, type(recipe)), _plain(recipe)
    stages = kept.pop("stages", {})
    settled = _until(stages, [name for name in stages if stage_path(folder, stages[name]["folder"]).is_dir()])
    if not settled:
        return
    of_run = _differences(kept, _without_stages(wanted))
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


def remove_of_another_recipe(recipe: Recipe, folder: Path) -> None:
    """Remove the tokenizer and the first model that another recipe made in a folder where no stage has begun."""
    path = folder / RECIPE_FILE
    if path.is_file() and _without_stages(_kept_recipe(path, type(recipe))) != _without_stages(_plain(recipe)):
        for name in MADE_FIRST:
            remove(folder / name)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder while this is entered, by all processes of one; ConfigError where one is in.

    The lock ends with the process that holds it, the first of them, however that ends.
    """
    with ExitStack() as held:
        is_free = 0.0
        if distributed.rank() == 0:
            path = folder / LOCK_FILE
            path.touch()
            with suppress(LockedError):
                held.enter_context(locked(path, wait=False))
                is_free = 1.0
        if not distributed.sum_over_processes({"free": is_free})["free"]:
            raise ConfigError(f"Another training works in {folder}: wait until it has ended, or name another folder.")
        yield


def _kept_recipe(path: Path, kind: type[Recipe]) -> dict[str, Any]:
    """Return the recipe of a folder as this version would have written it."""
    values = read_json_object(path, ConfigError)
    try:
        try:
            kept = _plain(kind.from_dict(values))
        except ConfigError:  # of another kind, or of a version that knew other fields
            kept = dict(translate_recipe(values))
        for stage in kept.get("stages", {}).values():
            require(isinstance(stage["folder"], str), f"a stage's folder is {stage['folder']!r:.80}.")
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        raise ConfigError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    return kept


def _plain(recipe: Recipe) -> dict[str, Any]:
    return json.loads(json.dumps(recipe.to_dict()))


def _without_stages(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "stages"}


def _until(stages: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return stages up to the last one that has one of the names, without others on request: nothing builds on them."""
    places = [place for place, name in enumerate(stages, 1) if name in names]
    first = list(stages.items())[: max(places, default=0)]
    return {name: stage for name, stage in first if name in names or not stage.get("on_request")}


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
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")
