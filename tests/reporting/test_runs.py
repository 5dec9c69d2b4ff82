"""A run is read as it went: whatever was logged twice, cut off, or is not there yet."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logged_runs import RECIPE, RESULTS, dialogue_records, record, write_run
from rxlm.reporting.runs import Series, read_run, read_stage


def log(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def lines(*records: dict[str, float]) -> str:
    return "".join(json.dumps(one) + "\n" for one in records)


def test_a_log_is_read_as_it_was_written(tmp_path: Path) -> None:
    stage = read_stage(log(tmp_path / "1-language", lines(record(10, loss=3.0, rate=0.1), record(20, loss=2.0))))

    assert stage.name == "1-language"
    assert stage.figures == {"loss": Series((10, 20), (3.0, 2.0)), "rate": Series((10,), (0.1,))}
    assert stage.last_step == 20
    assert stage.unreadable == 0


def test_of_a_step_that_was_logged_twice_the_later_record_counts(tmp_path: Path) -> None:
    text = lines(
        record(1, loss=3.0), record(2, loss=2.0), record(3, loss=1.0), record(2, loss=20.0), record(3, loss=10.0)
    )

    assert read_stage(log(tmp_path, text)).figures["loss"] == Series((1, 2, 3), (3.0, 20.0, 10.0))


def test_steps_that_a_resumed_run_has_not_reached_again_do_not_count(tmp_path: Path) -> None:
    text = lines(record(10, loss=3.0), record(20, loss=2.0), record(30, loss=1.0), record(15, loss=2.5))

    assert read_stage(log(tmp_path, text)).figures["loss"] == Series((10, 15), (3.0, 2.5))


def test_evaluation_at_a_step_adds_to_its_record(tmp_path: Path) -> None:
    figures = read_stage(log(tmp_path, lines(record(5, loss=1.0), record(5) | {"evaluation/recall": 0.5}))).figures

    assert figures == {"loss": Series((5,), (1.0,)), "evaluation/recall": Series((5,), (0.5,))}


@given(st.integers(0, 6), st.integers(1, 60))
def test_a_kill_in_the_middle_of_a_line_costs_that_line_only(
    tmp_path_factory: pytest.TempPathFactory, killed_at: int, written: int
) -> None:
    records = [record(step, loss=1.0 / step) for step in range(1, 8)]
    torn = lines(records[killed_at])[:-1][:written]
    whole = torn.endswith("}")
    path = log(tmp_path_factory.mktemp("run"), lines(*records[:killed_at]) + torn)
    left = read_stage(path)
    path.write_text(path.read_text() + lines(*records[killed_at:]))  # the next process appends to the torn line
    resumed = read_stage(path)

    assert left.unreadable == 0
    assert left.last_step == killed_at + whole
    assert resumed.figures["loss"] == Series(tuple(range(1, 8)), tuple(1.0 / step for step in range(1, 8)))
    assert resumed.unreadable == (not whole)


def test_values_that_are_no_numbers_are_no_figures(tmp_path: Path) -> None:
    stage = read_stage(log(tmp_path, '{"step": 1, "loss": NaN, "note": "hot", "rate": null}\n[1]\n\n{"loss": 3}\n'))

    assert list(stage.figures) == ["loss"]
    assert math.isnan(stage.figures["loss"].values[0])
    assert stage.unreadable == 2


def test_the_time_of_a_stage_is_that_of_its_steps(tmp_path: Path) -> None:
    pace = {"seconds_per_step": 0.5}
    text = lines(record(10) | pace, record(20) | pace, record(21) | {"seconds_per_step": 3.0})

    assert read_stage(log(tmp_path, text)).seconds == pytest.approx(10 * 0.5 + 10 * 0.5 + 3.0)


def test_the_final_value_is_a_mean_of_the_last_finite_ones() -> None:
    values = (9.0,) * 38 + (1.0, math.nan, 3.0)

    assert Series(tuple(range(41)), values).final() == 2.0
    assert math.isnan(Series((1,), (math.inf,)).final())


def test_stages_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = ["10-feedback", "2-interactions", "extra", "1-language"]
    run = read_run(write_run(tmp_path / "run", {name: dialogue_records([1]) for name in names}))

    assert [stage.name for stage in run.stages] == ["1-language", "2-interactions", "10-feedback", "extra"]


def test_results_and_recipe_are_read_whole(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    (table,) = run.tables

    assert {"title": table.title, "note": table.note, "header": [*table.header], "rows": [*map(list, table.rows)]} == (
        RESULTS["tables"][0]
    )
    assert [list(turn) for turn in run.conversation] == RESULTS["conversation"]
    assert run.settings(run.stages[0])["steps"] == 40
    assert run.phases(run.stages[0]) == [(10, "dialogues of 2 turns"), (40, "streams, 4 turns at a time")]


def test_a_recipe_holds_settings_and_phases_by_stage(tmp_path: Path) -> None:
    stage = {"steps": 40, "phases": RECIPE["phases"]}
    run = read_run(write_run(tmp_path / "run", recipe={"name": "small", "stages": {"dialogues": stage}}))

    assert run.settings(run.stages[0]) == stage
    assert [end for end, _ in run.phases(run.stages[0])] == [10, 40]


@pytest.mark.parametrize("recipe", [None, {}, {"dialogues": None}, {"dialogues": {"steps": 5}, "phases": None}])
def test_a_run_without_a_recipe_has_no_settings_and_no_phases(tmp_path: Path, recipe: dict[str, None] | None) -> None:
    run = read_run(write_run(tmp_path / "run", recipe=recipe))

    assert run.phases(run.stages[0]) == []


def test_a_run_may_have_results_and_no_log(tmp_path: Path) -> None:
    assert read_run(write_run(tmp_path / "run", {})).stages == ()


def test_what_is_no_run_is_told_what_a_run_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no folder .*nothing\. A run's folder has recipe\.json"):
        read_run(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"is not a run\. A run's folder has .*metrics\.jsonl.*results\.json"):
        read_run(tmp_path)
    with pytest.raises(ValueError, match="holds no figures yet"):
        read_run(write_run(tmp_path / "begun", {"1-language": []}, results=None))


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], "must hold a JSON object, and holds a list"),
        ({"tables": [{"title": "x", "header": ["a"]}]}, r"tables\[0\] must have a title, a header and rows"),
        ({"tables": [{"title": "x", "header": [], "rows": []}]}, r"tables\[0\] must have"),
        ({"tables": [{"title": "x", "header": ["a"], "rows": ["b"]}]}, r"tables\[0\] must have"),
        ({"tables": [{"title": "x", "header": ["a"], "rows": [[1, 2]]}]}, r"has 1 columns, and the row \[1, 2\]"),
        ({"conversation": [["only a query"]]}, r"conversation\[0\] must be a query and its answer"),
    ],
)
def test_results_of_another_form_are_refused_by_place(tmp_path: Path, results: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_run(write_run(tmp_path / "run", results=results))


def test_results_that_are_not_json_are_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "results.json").write_text('{"tables": [')

    with pytest.raises(ValueError, match=r"results\.json is not JSON"):
        read_run(folder)
