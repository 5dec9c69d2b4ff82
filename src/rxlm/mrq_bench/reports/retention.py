"""Report 1: exact recall against the distance in turns between a fact and the question about it."""

from typing import Any

from rxlm.mrq_bench.half_life import Outcome, fit_half_life
from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.ranges import DISTANCE_RANGES, FACT_RANGES, FINE_DISTANCES, in_ranges, label
from rxlm.mrq_bench.reports.recall import Findings, dialogue_of, distance_of, facts_of, plain


def retention(findings: Findings, controls: tuple[Control, ...]) -> dict[str, Any]:
    """Return recall in all, by set and distance, as a curve for each control, as a map, and its half-life.

    "map" has recall by the number of facts held (rows) and distance (columns); it is None where the data do not say
    how many facts are held.
    """
    answers, chance = findings.told(), findings.data.chance
    forgetting = fit_half_life(
        [Outcome(dialogue_of(a), distance_of(a), a.is_right) for a in answers], chance or 0.0, findings.bootstrap
    )
    return {
        "overall": plain(findings.share(answers)),
        "chance": chance,
        "by_set": {group.name: _by_distance(findings, group.name) for group in findings.data.sets},
        "curves": {control: _curve(findings, control) for control in controls},
        "map": _map(findings),
        "forgetting": None if forgetting is None else forgetting.to_dict(),
    }


def _by_distance(findings: Findings, group: str) -> dict[str, Any]:
    answers = [answer for answer in findings.told() if answer.place.set == group]
    return {
        label(bounds): plain(findings.share(inside))
        for bounds, inside in in_ranges(answers, DISTANCE_RANGES, distance_of).items()
    }


def _curve(findings: Findings, control: Control) -> list[dict[str, Any]]:
    """Return recall at each range of distances; `distance` is the mean of those in it."""
    ranges = in_ranges(findings.told(control), FINE_DISTANCES, distance_of)
    return [
        {
            "from": bounds[0],
            "to": bounds[1],
            "distance": sum(map(distance_of, inside)) / len(inside),
            "recall": plain(findings.share(inside)),
        }
        for bounds, inside in ranges.items()
    ]


def _map(findings: Findings) -> dict[str, Any] | None:
    answers = findings.told()
    rows = in_ranges(answers, FACT_RANGES, facts_of)
    columns = in_ranges(answers, DISTANCE_RANGES, distance_of)
    if not rows:
        return None
    cells = [
        [plain(findings.share(a for a in inside if low <= distance_of(a) <= high)) for low, high in columns]
        for inside in rows.values()
    ]
    return {"facts": [label(row) for row in rows], "distances": [label(column) for column in columns], "cells": cells}
