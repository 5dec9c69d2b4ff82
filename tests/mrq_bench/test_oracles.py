"""What the benchmark says of models whose memory is known: perfect, none, a window, too small, stuck."""

from pathlib import Path
from typing import Any

import pytest

from memory_oracles import Constant, Oracle, quick
from rxlm.mrq_bench.benchmark_data import load_data
from rxlm.mrq_bench.config import BenchmarkConfig
from rxlm.mrq_bench.results import measure


def reports_of(oracle: Oracle, folder: Path, config: BenchmarkConfig) -> Any:
    return measure("oracle", oracle, load_data(config), config, folder)["reports"]  # type: ignore[arg-type]


def test_a_perfect_oracle_scores_100_percent_and_its_controls_nothing(tmp_path: Path) -> None:
    reports = reports_of(Oracle(), tmp_path, quick())

    assert reports["retention"]["overall"]["value"] == 1.0
    assert all(point["recall"]["value"] == 1.0 for point in reports["retention"]["curves"]["none"])
    assert {name: found["right"]["value"] for name, found in reports["updates"].items() if name != "never told"} == {
        "first": 1.0,
        "overwritten": 1.0,
    }
    assert reports["updates"]["never told"]["abstained"]["value"] == 1.0
    assert reports["controls"]["recall"]["empty"]["value"] == 0.0
    assert reports["controls"]["gain"]["empty"]["value"] == 1.0
    assert reports["controls"]["recall"]["shuffled"]["value"] < 0.2
    assert all(row[-1]["value"] == 1.0 for row in reports["retention"]["map"]["cells"] if row[-1])


def test_a_constant_answerer_scores_chance(tmp_path: Path) -> None:
    reports = reports_of(Constant(), tmp_path, quick(dialogues=120, controls=()))
    overall = reports["retention"]["overall"]

    assert reports["retention"]["chance"] == pytest.approx(1 / 20)
    assert overall["low"] <= 1 / 20 <= overall["high"]
    assert overall["high"] - overall["low"] < 0.04
    assert reports["retention"]["forgetting"] is None or overall["value"] > 1 / 20


@pytest.mark.parametrize("window", [3, 8, 16])
def test_a_window_falls_off_exactly_at_its_edge(window: int, tmp_path: Path) -> None:
    curve = reports_of(Oracle(window=window), tmp_path, quick(controls=()))["retention"]["curves"]["none"]

    assert {point["recall"]["value"] for point in curve if point["to"] <= window} == {1.0}
    assert {point["recall"]["value"] for point in curve if point["from"] > window} == {0.0}
    assert any(point["to"] == window for point in curve), "the edge of the window is an edge of a range"


def test_a_memory_that_is_too_small_fails_where_more_is_held(tmp_path: Path) -> None:
    config = quick(controls=(), turns=(3, 8, 24))
    by_facts = reports_of(Oracle(capacity=2), tmp_path, config)["capacity"]["all distances"]

    assert by_facts["1"]["value"] == by_facts["2"]["value"] == 1.0
    assert by_facts["3"]["high"] < 1.0
    assert by_facts["6"]["value"] < by_facts["3"]["value"]


def test_one_that_never_takes_a_change_in_answers_with_stale_values(tmp_path: Path) -> None:
    found = reports_of(Oracle(keeps_first=True), tmp_path, quick(controls=()))["updates"]

    assert found["first"]["right"]["value"] == 1.0
    assert found["overwritten"]["stale"]["value"] > 0.9, "all but those that were changed back"
    assert found["overwritten"]["right"]["value"] + found["overwritten"]["stale"]["value"] == pytest.approx(1.0)


def test_shares_of_what_answers_are_worth_add_up(tmp_path: Path) -> None:
    found = reports_of(Oracle(window=5), tmp_path, quick(controls=()))["updates"]

    for shares in found.values():
        assert sum(share["value"] for share in shares.values()) == pytest.approx(1.0)
