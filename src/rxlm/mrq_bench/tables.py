"""BenchmarkResults as tables of text, for the terminal and for the page."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rxlm.mrq_bench.arms import ARM_NAMES, Arm
from rxlm.mrq_bench.results import BenchmarkResults

CONTROL_NAMES = {
    "none": "the model",
    "empty": "empty memory",
    "shuffled": "another dialogue's memory",
    "never-updated": "memory never updated",
    "full-history": "full history",
    "everything": "everything kept",
    "newest": "newest tokens only",
}
"""Controls in words; for a stateless model "memory" is its history."""

DISTANCE_TITLE = "exact recall by distance in turns, in %, ± half of the 95 % interval"


RECOVERED = {
    "memory": "recovered by memory",
    "newest": "recovered by newest",
    "difference": "difference of the two",
}
"""Shares of what the history is worth, in words."""

WORTH_TITLE = "worth of history: recovered shares, and nats a token of the reference answers after the first turn"

ANSWERED_TITLE = "answers to questions at the end of what was told; known: those that everything kept answers"


class Table(NamedTuple):
    """A table of text: what stands over its columns, and its rows."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def distance_table(results: BenchmarkResults) -> Table:
    """Return recall in percent by set (rows) and distance in turns (columns), and half of its 95 % interval."""
    by_set = (results["reports"].get("retention") or {}).get("by_set", {})
    ranges = _in_order(by_set)
    rows = [[name, *(_share_of(cells.get(column)) for column in ranges)] for name, cells in by_set.items() if cells]
    return Table(["dialogues", *ranges], rows)


def summary_table(results: Sequence[BenchmarkResults]) -> Table:
    """Return the headline figures with their 95 % intervals, a column a model; rows that nobody has are left out."""
    rows = []
    for label, cell in FIGURES:
        cells = [cell(result["reports"]) for result in results]
        if any(cells):
            rows.append([label, *(text or "" for text in cells)])
    return Table(["", *(str(result["name"]) for result in results)], rows)


def worth_table(results: BenchmarkResults) -> Table:
    """Return recovered shares and nats a token in each arm (columns) of parts of the reference answers (rows)."""
    report = results["reports"].get("worth")
    if report is None:
        return Table([], [])
    named = {
        "all": report["all"],
        "where history matters": report["matters"],
        **{f"turn {name}": part for name, part in report["by_turn"].items()},
        "questions": report["questions"],
        **{f"distance {name}": part for name, part in report["by_distance"].items()},
        **report["by_set"],
    }
    parts = {name: part for name, part in named.items() if part}
    arms = [arm for arm in ARM_NAMES if arm in report["arms"]]
    shares = [name for name in RECOVERED if any(name in (part["recovered"] or ()) for part in parts.values())]
    header = ["answers", "tokens", *(RECOVERED[name] for name in shares), *(ARM_NAMES[arm] for arm in arms)]
    rows = [
        [
            name,
            f"{part['tokens']:,}",
            *(_whole_percent((part["recovered"] or {}).get(share)) for share in shares),
            *(f"{part['nats'][arm]['value']:.3f}" for arm in arms),
        ]
        for name, part in parts.items()
    ]
    return Table(header, rows)


def answered_table(results: BenchmarkResults) -> Table:
    """Return F1 and exact answers by arm (rows) to questions at the end of what was told."""
    report = (results["reports"].get("worth") or {}).get("answers")
    if report is None:
        return Table([], [])
    parts = {name: part for name, part in report.items() if part}
    arms = [arm for arm in ARM_NAMES if arm in report["all"]]
    header = ["answers from", *(f"{score}, {name}" for name in parts for score in ("F1", "exact"))]
    rows = [
        [ARM_NAMES[arm], *(percent(part[arm][score]) for part in parts.values() for score in ("f1", "exact"))]
        for arm in arms
    ]
    return Table(header, rows)


def percent(estimate: Mapping[str, Any] | None) -> str:
    """Return "85.3 % (83.7 to 86.9)"."""
    if estimate is None:
        return ""
    return f"{100 * estimate['value']:.1f} % ({100 * estimate['low']:.1f} to {100 * estimate['high']:.1f})"


def number(estimate: Mapping[str, Any] | None) -> str:
    """Return "3.21 (3.1 to 3.4)"."""
    if estimate is None:
        return ""
    value, low, high = (_short(estimate[name]) for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


def nats(estimate: Mapping[str, Any] | None) -> str:
    """Return "0.312 (0.251 to 0.370)"."""
    if estimate is None:
        return ""
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def byte_count(count: float) -> str:
    """Return a number of bytes as people write it: "16.4 kB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"


def half_life(forgetting: Mapping[str, Any] | None) -> str:
    """Return the half-life in turns; an end of the interval that the data do not bound is "over" what they can tell."""
    if forgetting is None:
        return ""
    estimate, beyond = forgetting["half_life"], forgetting["beyond"]
    texts = [
        f"over {beyond:.0f}" if value >= 0.99 * beyond else f"{value:.3g}"
        for value in (estimate["value"], estimate["low"], estimate["high"])
    ]
    return f"{texts[0]} turns ({texts[1]} to {texts[2]})"


def _points(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None:
        return ""
    return f"{100 * estimate['value']:+.1f} points ({100 * estimate['low']:+.1f} to {100 * estimate['high']:+.1f})"


def _whole_percent(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None:
        return ""
    return f"{100 * estimate['value']:.0f} % ({100 * estimate['low']:.0f} to {100 * estimate['high']:.0f})"


def _share_of(estimate: Mapping[str, Any] | None) -> str:
    if estimate is None:
        return ""
    return f"{100 * estimate['value']:.1f} ±{50 * (estimate['high'] - estimate['low']):.1f}"


def _in_order(by_set: Mapping[str, Mapping[str, Any]]) -> list[str]:
    ranges = dict.fromkeys(name for cells in by_set.values() for name in cells)
    return sorted(ranges, key=lambda name: int(name.split("-")[0].split(" ")[0]))


Figure = tuple[str, Callable[[Mapping[str, Any]], str]]


def _at(reports: Mapping[str, Any], *path: str) -> Any:
    """Return what is at a path of nested mappings; None where it breaks off."""
    value: Any = reports
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _recall_under(control: str) -> Figure:
    return f"recall, {CONTROL_NAMES[control]}", lambda reports: percent(_at(reports, "controls", "recall", control))


def _perplexity_with(control: str) -> Figure:
    path = ("language", "perplexity", control, "perplexity of answers to questions")
    memory = "own memory" if control == "none" else CONTROL_NAMES[control]
    return f"question perplexity, {memory}", lambda reports: number(_at(reports, *path))


def _nats_from(arm: Arm) -> Figure:
    return f"nats a token from {ARM_NAMES[arm]}", lambda reports: nats(_at(reports, "worth", "all", "nats", arm))


def _recovered_by(name: str) -> Figure:
    path = ("worth", "all", "recovered", name)
    return f"worth of history: {RECOVERED[name]}", lambda reports: percent(_at(reports, *path))


def _chance(reports: Mapping[str, Any]) -> str:
    chance = _at(reports, "retention", "chance")
    return "" if chance is None else f"{100 * chance:.1f} %"


def _composite(reports: Mapping[str, Any]) -> str:
    found = _at(reports, "language", "composite")
    if not found:
        return ""
    return f"{number(found['mean'])}; least {found['least']['value']:.3g}, greatest {found['greatest']['value']:.3g}"


def _first_and_last(name: str, unit: str) -> Callable[[Mapping[str, Any]], str]:
    def cell(reports: Mapping[str, Any]) -> str:
        series = _at(reports, "cost", name)
        if not series or series[0] is None:
            return ""
        return f"{_short(series[0]['value'])} to {_short(series[-1]['value'])} {unit}"

    return cell


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1e-4 else "0"


def _session(reports: Mapping[str, Any]) -> str:
    series = _at(reports, "cost", "session_bytes")
    return f"{byte_count(series[0])} to {byte_count(series[-1])}" if series else ""


FIGURES: Sequence[Figure] = (
    ("recall of facts told", lambda reports: percent(_at(reports, "retention", "overall"))),
    *(_recall_under(control) for control in CONTROL_NAMES if control != "none"),
    ("memory gain", lambda reports: _points(_at(reports, "controls", "gain", "empty"))),
    ("chance of a guess", _chance),
    ("half-life of recall", lambda reports: half_life(_at(reports, "retention", "forgetting"))),
    ("overwritten facts: right", lambda reports: percent(_at(reports, "updates", "overwritten", "right"))),
    ("overwritten facts: stale value", lambda reports: percent(_at(reports, "updates", "overwritten", "stale"))),
    ("never told: says so", lambda reports: percent(_at(reports, "updates", "never told", "abstained"))),
    ("BLEU of answers", lambda reports: number(_at(reports, "language", "bleu", "sentence"))),
    ("embedding cosine of answers", lambda reports: number(_at(reports, "language", "cosine"))),
    *(_perplexity_with(control) for control in ("none", "empty", "shuffled")),
    (
        "bits per character, own memory",
        lambda r: number(_at(r, "language", "perplexity", "none", "bits per character")),
    ),
    ("composite score, 0 to 10", _composite),
    *(_nats_from(arm) for arm in ARM_NAMES),
    ("nats a token saved over another's memory", lambda reports: nats(_at(reports, "worth", "all", "own"))),
    ("nats a token saved over the newest tokens", lambda reports: nats(_at(reports, "worth", "all", "over_newest"))),
    *(_recovered_by(name) for name in RECOVERED),
    ("recovered by memory where history matters", lambda r: percent(_at(r, "worth", "matters", "recovered", "memory"))),
    ("first token, turn 1 to 64", _first_and_last("first_token_ms", "ms")),
    ("speed, turn 1 to 64", _first_and_last("tokens_per_second", "tokens/s")),
    ("memory update, turn 1 to 64", _first_and_last("update_ms", "ms")),
    ("session, turn 1 to 64", _session),
)
"""The rows of the summary: a label, and how its cell is found in the reports ("" where it is not there)."""
