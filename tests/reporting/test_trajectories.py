"""The page of trajectories shows each episode turn by turn, and the report of a run links to it."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from html_pages import Reader
from logged_runs import record, write_run
from rxlm.reporting.report import write_report
from rxlm.reporting.trajectories import MOST_STEPS, read_trajectories, write_trajectories
from rxlm.training.mrl.trajectories import TrajectoryLog, TrajectoryTurn


def turn(answer: str, reward: float | None = None, **figures: Any) -> dict[str, Any]:
    return {"query": "<b>Who?</b>", "answer": answer, "reference": "Rex", "reward": reward, **figures}


def episode(step: int, *turns: Mapping[str, Any], number: int = 0) -> dict[str, Any]:
    return {"step": step, "episode": number, "turns": turns or (turn("Max", 1.0),)}


def write(folder: Path, episodes: Iterable[Any]) -> Path:
    path = folder / "trajectories.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in episodes), encoding="utf-8")
    return path


def test_an_episode_is_a_table_of_its_turns(tmp_path: Path) -> None:
    first = turn("Hello")
    second = turn("Max", 2.5, rewards={"exact": 0.0, "style": None}, memory_drift=0.25, value=3.0, advantage=-0.5)
    log = write(tmp_path, [episode(10, first, second), episode(20, turn("Rex", 7.5, rewards={"exact": 1.0}))])
    reader = Reader(write_trajectories(log, tmp_path / "page.html").read_text(encoding="utf-8"))
    overview, before, after = reader.tables()

    assert overview == [
        ["step", "episodes", "reward", "exact", "style"], ["10", "1", "2.5", "0.0", ""], ["20", "1", "7.5", "1.0", ""]
    ]  # fmt: skip
    assert before == [
        ["turn", "query", "answer", "reference", "reward", "exact", "style", "drift", "value", "advantage"],
        ["0", "<b>Who?</b>", "Hello", "Rex", "", "", "", "", "", ""],
        ["1", "<b>Who?</b>", "Max", "Rex", "2.5", "0.0", "", "0.25", "3.0", "-0.5"],
    ]
    assert after[0] == ["turn", "query", "answer", "reference", "reward", "exact"]
    assert reader.texts["caption"][1:] == ["Episode 0: mean reward 2.5", "Episode 0: mean reward 7.5"]


def test_the_page_reads_what_training_writes(tmp_path: Path) -> None:
    said = TrajectoryTurn("Who?", "Max\u2028or Rex", "Rex", 2.5, {"exact": 0.0}, memory_drift=0.25)
    log = TrajectoryLog(tmp_path, every=1)
    log.append(1, [[said], [said, said]])
    reader = Reader(write_trajectories(log.path, tmp_path / "page.html").read_text(encoding="utf-8"))

    assert [len(table) - 1 for table in reader.tables()] == [1, 1, 2]
    assert reader.tables()[1][1] == ["0", "Who?", "Max\u2028or Rex", "Rex", "2.5", "0.0", "0.25"]


def test_a_resumed_run_replaces_what_it_logs_again(tmp_path: Path) -> None:
    log = write(tmp_path, [episode(10), episode(20), episode(30), episode(20, number=1), episode(20)])
    with log.open("a") as file:
        file.write('{"step": 30, "epi\n')

    assert [(one["step"], one["episode"]) for one in read_trajectories(log)] == [(10, 0), (20, 0), (20, 1)]


def test_a_long_run_is_shown_by_steps_from_the_first_to_the_last(tmp_path: Path) -> None:
    log = write(tmp_path, [episode(step) for step in range(1, 101)])
    reader = Reader(write_trajectories(log, tmp_path / "page.html").read_text(encoding="utf-8"))

    headings = reader.texts["h2"]
    assert len(headings) == MOST_STEPS
    assert (headings[0], headings[-1]) == ("Step 1", "Step 100")
    assert any(text.startswith(f"Shown are {MOST_STEPS} of 100 logged steps") for text in reader.texts["p"])


def test_a_line_that_is_no_episode_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"trajectories\.jsonl, line 2: an episode must have a step"):
        read_trajectories(write(tmp_path, [episode(1), {"step": 2}]))


def test_the_report_of_a_run_links_to_its_trajectories(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a run", {"5-mrl": [record(1, loss=1.0)], "1-language": [record(1, loss=1.0)]})
    write(folder / "5-mrl", [episode(1)])
    reader = Reader(write_report(folder).read_text(encoding="utf-8"))
    (target,) = (link["href"] for link in reader.attributes("a") if "trajectories" in str(link["href"]))

    page = Reader((folder / str(target)).read_text(encoding="utf-8"))
    assert page.texts["h1"] == ["Trajectories of 5-mrl"]


def test_a_log_without_an_episode_yet_spoils_no_report(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {"5-mrl": [record(1, loss=1.0)]})
    (folder / "5-mrl" / "trajectories.jsonl").write_text('{"step": 1, "epi')
    write_report(folder)

    page = Reader((folder / "report" / "5-mrl-trajectories.html").read_text(encoding="utf-8"))
    assert page.texts["p"] == ["No episode has been logged yet."]
