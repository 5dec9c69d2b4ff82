"""What changed between two runs of benchmarks, beyond noise.

    python benchmarks/compare.py OLD NEW        # or: make bench-compare OLD=... NEW=...

OLD and NEW are files that benchmarks wrote, or folders of them. A figure has changed where its median moved further
than two standard errors of both medians, and than what runs on one machine differ by anyway (`BETWEEN_RUNS`). Figures
that depend on the machine are compared on the same one only, and files with other settings where `--any-settings` is
given. The exit status is 1 where something got worse, or where nothing could be compared.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import hypot, inf, sqrt
from pathlib import Path
from statistics import median, stdev
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from rxlm.file_errors import parse_json

BETWEEN_RUNS = {"ratio": 0.05, "measured": 0.20, "exact": 0.0}
"""Share by which a figure of each kind differs from run to run though nothing changed, on a virtual machine."""
ERROR_OF_A_MEDIAN = 1.2533
"""Its standard error, in those of the mean of the same samples."""
ALIKE = ("processor", "cores", "gpu", "threads")


@dataclass(frozen=True)
class Change:
    """A figure in both runs: medians, how many times the old one the new one is, noise as a share, and what that is."""

    name: str
    unit: str
    old: float
    new: float
    times: float
    noise: float
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to compare.

    Args:
        old, new: a file that a benchmark wrote, or a folder of such files.
        all: show figures that did not change, too.
        any_settings: compare what was measured with other settings, too: of another model, for example.
    """

    old: Annotated[Path, tyro.conf.Positional]
    new: Annotated[Path, tyro.conf.Positional]
    all: bool = False
    any_settings: bool = False


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return the figures that both records have, where they may be compared."""
    measured = same_machine(old, new)
    changes = []
    for name, before in old["figures"].items():
        after = new["figures"].get(name)
        if after is not None and is_same_figure(before, after) and (measured or before["kind"] != "measured"):
            changes.append(change(name, before, after))
    return changes


def is_same_figure(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Tell whether two figures of a name are of one unit and kind."""
    return (before["unit"], before["kind"]) == (after["unit"], after["kind"])


def change(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change:
    """Return what became of a figure."""
    old, new = median(before["samples"]), median(after["samples"])
    times = new / old if old else (1.0 if new == old else inf)
    errors = hypot(error(before["samples"]), error(after["samples"]))
    noise = max(BETWEEN_RUNS[before["kind"]], 2 * errors)
    verdict = "same"
    if abs(times - 1) > max(noise, 1e-9):
        direction = "more" if new > old else "less"
        verdict = {None: "changed", direction: "better"}.get(before["better"], "worse")
    return Change(name, before["unit"], old, new, times, noise, verdict)


def error(samples: Sequence[float]) -> float:
    """Return the standard error of the samples' median, as a share of it; 0 for a single one: unknown."""
    middle = abs(median(samples))
    return ERROR_OF_A_MEDIAN * stdev(samples) / sqrt(len(samples)) / middle if len(samples) > 1 and middle else 0.0


def same_machine(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Tell whether figures that depend on the machine may be compared."""
    return all(old["machine"].get(name) == new["machine"].get(name) for name in ALIKE)


def notes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield what else is different."""
    for part in ("machine", "versions", "settings"):
        names = dict.fromkeys([*old[part], *new[part]])
        found = [f"{n} {old[part].get(n)} -> {new[part].get(n)}" for n in names if old[part].get(n) != new[part].get(n)]
        if found:
            yield f"{part}: {', '.join(found)}"
    if not same_machine(old, new):
        yield "Another machine: what was measured in seconds is not compared."
    for word, one, other in (("gone", old, new), ("new", new, old)):
        if missing := [name for name in one["figures"] if name not in other["figures"]]:
            yield f"{word}: {', '.join(missing)}"
    both = [(name, each, new["figures"].get(name)) for name, each in old["figures"].items()]
    if others := [name for name, before, after in both if after is not None and not is_same_figure(before, after)]:
        yield f"of another unit or kind, not compared: {', '.join(others)}"


def records(path: Path) -> dict[str, dict[str, Any]]:
    """Return the records of a file, or of a folder by their places in it; ValueError where there are none."""
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    found = {}
    for file in files:
        try:
            values = parse_json(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is no JSON: {error}") from None
        if isinstance(values, dict) and "figures" in values:
            check(values, file)
            found[str(file.relative_to(path)) if path.is_dir() else ""] = values
    if not found:
        raise ValueError(
            f"{path} has no figures of a benchmark: name a file that one wrote, or a folder of such files."
        )
    return found


def check(values: Mapping[str, Any], file: Path) -> None:
    """Raise ValueError where a record is not one that a benchmark wrote, or a figure is no number."""
    parts = {"benchmark": str, "machine": dict, "versions": dict, "settings": dict, "figures": dict}
    for part, kind in parts.items():
        if not isinstance(values.get(part), kind):
            raise ValueError(f"{file}: {part} must be a {kind.__name__}, got {values.get(part)!r:.80}.")
    for name, figure in values["figures"].items():
        samples = figure.get("samples") if isinstance(figure, dict) else None
        if not isinstance(samples, list) or not samples or not all(_is_number(each) for each in samples):
            raise ValueError(f"{file}: samples of {name} must be finite numbers, got {samples!r:.80}.")
        allowed = {"kind": [*BETWEEN_RUNS], "better": ["more", "less", None]}
        for part, choices in allowed.items():
            if part not in figure or figure[part] not in choices:
                words = ", ".join(map(json.dumps, choices))
                raise ValueError(f"{file}: {part} of {name} must be one of {words}, got {figure.get(part)!r:.80}.")
        if not isinstance(figure.get("unit"), str):
            raise ValueError(f"{file}: unit of {name} must be a str, got {figure.get('unit')!r:.80}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def show(name: str, old: Mapping[str, Any], new: Mapping[str, Any], console: Console, settings: Settings) -> bool:
    """Print a record's changes; return whether something got worse, or could not be compared."""
    if old["benchmark"] != new["benchmark"]:
        raise ValueError(f"{name or 'The files'}: one is of {old['benchmark']}, the other of {new['benchmark']}.")
    is_alike = settings.any_settings or old["settings"] == new["settings"]
    changes = compare(old, new) if is_alike else []
    table = Table("figure", "unit", "old", "new", "times", "noise", "", title=f"{new['benchmark']} {name}".strip())
    for each in changes:
        if settings.all or each.verdict != "same":
            cells = (
                f"{each.old:,.4g}",
                f"{each.new:,.4g}",
                f"{each.times:.3f}" if 0 <= each.times < inf else "",
                f"{each.noise:.0%}",
                each.verdict,
            )
            table.add_row(escape(each.name), escape(each.unit), *cells)
    if table.row_count:
        console.print(table)
    console.print(f"{table.title}: {sum(each.verdict != 'same' for each in changes)} of {len(changes)} figures changed")
    for note in notes(old, new):
        console.print(f"  {note}", markup=False)
    if not is_alike:
        console.print("  Other settings: nothing is compared; --any-settings compares all the same.", markup=False)
    return not changes or any(each.verdict == "worse" for each in changes)


def main(settings: Settings) -> int:
    """Compare, and print."""
    old, new = records(settings.old), records(settings.new)
    if settings.old.is_file() and settings.new.is_file():
        old, new = {"": next(iter(old.values()))}, {"": next(iter(new.values()))}
    both = [name for name in old if name in new]
    if not both:
        raise ValueError(f"{settings.old} and {settings.new} have no file of the same name.")
    console = Console(highlight=False)
    for place, ones, others in ((settings.old, old, new), (settings.new, new, old)):
        if alone := [name for name in ones if name not in others]:
            console.print(f"In {place} alone: {', '.join(alone)}", markup=False)
    worse = [show(name, old[name], new[name], console, settings) for name in both]
    return int(any(worse))


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Settings, description=__doc__)))
    except (OSError, ValueError) as problem:
        sys.exit(f"compare.py: {problem}")
