"""A comparison puts the runs' results and figures together, and says which is which."""

from pathlib import Path
from typing import Any

import pytest

from html_pages import Reader
from logged_runs import RECIPE, RESULTS, dialogue_records, record, write_run
from rxlm.reporting.comparison import write_comparison

SMALL = {"1-language": [record(1, loss=1.0)]}


def compare(*folders: Path) -> Reader:
    return Reader(write_comparison(folders).read_text(encoding="utf-8"))


def results(**rows: str) -> dict[str, Any]:
    return {"tables": [{"title": "Recall", "header": ["memory", "1-4"], "rows": [list(row) for row in rows.items()]}]}


def test_tables_of_a_title_stand_side_by_side(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", {}, results=results(true="90%", empty="3%"))
    two = write_run(tmp_path / "two", {}, results=results(true="95%", shuffled="5%"))

    assert compare(one, two).tables()[0] == [
        ["memory", "run", "1-4"],
        ["true", "one", "90%"],
        ["true", "two", "95%"],
        ["empty", "one", "3%"],
        ["shuffled", "two", "5%"],
    ]


def test_tables_with_other_columns_stay_apart(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", {}, results=results(true="90%"))
    two = write_run(tmp_path / "two", {}, results=RESULTS | {"conversation": []})

    assert [table[0] for table in compare(one, two).tables()[:2]] == [
        ["memory", "run", "1-4"],
        ["memory", "run", "1-4", "5-7"],
    ]


def test_answers_to_the_same_messages_stand_side_by_side(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", {}, results={"conversation": [["Who?", "Rex."], ["Where?", "Here."]]})
    two = write_run(tmp_path / "two", {}, results={"conversation": [["Who?", "Max."], ["Where?", "There."]]})

    assert compare(one, two).tables()[0] == [
        ["person", "one", "two"],
        ["Who?", "Rex.", "Max."],
        ["Where?", "Here.", "There."],
    ]


def test_each_figure_of_a_stage_is_drawn_with_a_line_for_each_run(tmp_path: Path) -> None:
    one = write_run(
        tmp_path / "one", {"1-language": [record(1, loss=2.0, extra=1.0)], "3-slots": [record(1, loss=1.0)]}
    )
    two = write_run(tmp_path / "two", {"1-language": [record(1, loss=3.0)]})
    reader = compare(one, two)

    assert [image["alt"] for image in reader.attributes("img")] == [
        "Line charts against the step. 1-language: total loss: one, two.",
        "Line charts against the step. 3-slots: total loss: one.",
        "Line charts against the step. 1-language: extra: one.",
    ]
    assert {path.name for path in (tmp_path / "comparison").iterdir()} == {
        "losses-1-language.png",
        "losses-3-slots.png",
        "other-1-language.png",
    }


def test_many_layers_are_drawn_as_their_mean(tmp_path: Path) -> None:
    def layers(count: int) -> list[dict[str, Any]]:
        return [record(1) | {f"gate/layer_{layer}": layer / 10 for layer in range(count)}]

    few = write_run(tmp_path / "few", {"4-dialogues": layers(2)}, results=None)
    many = write_run(tmp_path / "many", {"4-dialogues": layers(12)}, results=None)

    assert compare(few, many).attributes("img")[0]["alt"] == (
        "Line charts against the step. 4-dialogues: layer 0: few; 4-dialogues: layer 1: few; "
        "4-dialogues: mean of layers: many."
    )


def test_differences_of_the_recipes_are_listed_and_nothing_else(tmp_path: Path) -> None:
    changed = {
        **RECIPE,
        "dialogues": {"steps": 40, "optimizer": {"learning_rate": 0.5, "max_grad_norm": 1.0}, "precision": "auto"},
        "phases": None,
        "slots": {"steps": 3},
    }
    one = write_run(tmp_path / "one", SMALL, results=None, recipe={**RECIPE, "slots": None})
    two = write_run(tmp_path / "two", SMALL, results=None, recipe=changed)

    assert compare(one, two).tables()[0] == [
        ["field", "one", "two"],
        ["dialogues.optimizer.learning_rate", "0.001", "0.5"],
        ["dialogues.precision", "", '"auto"'],
        ["phases", '[{"steps": 10, "num_turns": 2}, {"steps": 30, "num_turns": 4, "streams": true}]', "null"],
        ["slots", "null", "settings"],
    ]


def test_runs_of_one_recipe_differ_in_nothing(tmp_path: Path) -> None:
    reader = compare(write_run(tmp_path / "one", {}), write_run(tmp_path / "two", {}))

    assert "Nothing: the runs have the same configuration." in reader.texts["p"]


def test_stages_of_the_runs_stand_together(tmp_path: Path) -> None:
    stages = {"4-dialogues": dialogue_records(), "1-language": [record(5, loss=1.0)]}
    one = write_run(tmp_path / "one", stages, results=None)
    two = write_run(tmp_path / "two", {"4-dialogues": dialogue_records(factor=2)}, results=None)

    assert [row[:4] for row in compare(one, two).tables()[0][1:]] == [
        ["1-language", "one", "5", "1.000"],
        ["4-dialogues", "one", "40 of 40", "0.076"],
        ["4-dialogues", "two", "40 of 40", "0.152"],
    ]


def test_runs_of_the_same_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    one, two = write_run(tmp_path / "a" / "run", {}), write_run(tmp_path / "b" / "run", {})

    assert compare(one, two).texts["h1"] == [f"Runs {one}, {two}"]


def test_a_run_is_not_compared_with_itself(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")

    with pytest.raises(ValueError, match="named twice"):
        write_comparison([folder, tmp_path / "." / "run"])


def test_more_runs_than_lines_can_show_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at most 21 runs, got 22"):
        write_comparison([tmp_path / str(number) for number in range(22)])
