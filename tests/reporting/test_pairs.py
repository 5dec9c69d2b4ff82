"""The page of pairs shows what a stage learnt from and what it made of it; the report of a run links to it."""

import json
from pathlib import Path
from typing import Any

import pytest

from html_pages import Reader
from logged_runs import record, write_run
from rxlm.reporting.pairs import write_pairs
from rxlm.reporting.report import write_report

PAIR = {
    "turns": [["I am Rex.", "Hello Rex!"]], "query": "<b>Who?</b>", "chosen": "Rex", "rejected": "Max",
    "differs": "value", "before": -1.25, "after": 2.5,
}  # fmt: skip
RATED = {"turns": [], "query": "Hi!", "rejected": "No.", "before": 3.0, "after": 9.0}


def write(folder: Path, *records: Any) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    return path


def test_a_pair_is_a_row_with_its_margins_and_the_turns_before(tmp_path: Path) -> None:
    reader = Reader(write_pairs(write(tmp_path, PAIR, RATED), tmp_path / "page.html").read_text(encoding="utf-8"))
    (table,) = reader.tables()
    assert table == [
        ["query", "better answer", "other answer", "differs", "before", "after", "turns before"],
        ["<b>Who?</b>", "Rex", "Max", "value", "-1.25", "2.5", "I am Rex.\nHello Rex!"],
        ["Hi!", "", "No.", "", "3.0", "9.0", ""],
    ]
    assert reader.texts["caption"] == ["Of 1 pairs the better answer was ahead in 0 before, and in 1 after."]


def test_a_line_that_is_no_pair_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pairs\.jsonl, line 2: a pair must have a query"):
        write_pairs(write(tmp_path, PAIR, {"query": "?"}), tmp_path / "page.html")


def test_the_report_of_a_run_links_to_its_pairs(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a run", {"6-feedback": [record(1, loss=1.0)]})
    write(folder / "6-feedback", PAIR)
    reader = Reader(write_report(folder).read_text(encoding="utf-8"))
    (target,) = (link["href"] for link in reader.attributes("a") if "pairs" in str(link["href"]))
    assert Reader((folder / str(target)).read_text(encoding="utf-8")).texts["h1"] == ["Pairs of 6-feedback"]
