"""Episodes are logged a line each, whole, and what JSON has no word for is None."""

import json
from pathlib import Path

import pytest

from rxlm.training.mrl.trajectories import TrajectoryLog, TrajectoryTurn

TURNS = [
    TrajectoryTurn("My dog is Rex.", "Ok\u2028ay", "Fine."),
    TrajectoryTurn(
        "Who?", "Max", "Rex", reward=2.5, rewards={"exact": 0.0, "length": float("nan")}, memory_drift=0.25,
        value=float("inf"), advantage=-1.5,
    ),
]  # fmt: skip


def lines(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "trajectories.jsonl").read_text("utf-8").strip("\n").split("\n")]


def test_an_episode_is_a_line_with_all_its_turns(tmp_path: Path) -> None:
    log = TrajectoryLog(tmp_path / "stage", every=10, episodes=2)
    log.append(10, [TURNS, TURNS[:1], TURNS])
    log.append(20, [TURNS])
    found = lines(tmp_path / "stage")

    assert [(line["step"], line["episode"]) for line in found] == [(10, 0), (10, 1), (20, 0)]
    assert found[2]["turns"] == [
        {
            "query": "My dog is Rex.", "answer": "Ok\u2028ay", "reference": "Fine.", "reward": None, "rewards": None,
            "memory_drift": None, "value": None, "advantage": None,
        },
        {
            "query": "Who?", "answer": "Max", "reference": "Rex", "reward": 2.5,
            "rewards": {"exact": 0.0, "length": None}, "memory_drift": 0.25, "value": None, "advantage": -1.5,
        },
    ]  # fmt: skip


def test_a_torn_line_spoils_none_that_follows(tmp_path: Path) -> None:
    (tmp_path / "trajectories.jsonl").write_text('{"step": 1, "epi')
    TrajectoryLog(tmp_path, every=1).append(2, [TURNS])
    torn, whole = (tmp_path / "trajectories.jsonl").read_text("utf-8").strip("\n").split("\n")

    assert torn == '{"step": 1, "epi'
    assert json.loads(whole)["step"] == 2


def test_every_so_many_steps_are_due(tmp_path: Path) -> None:
    log = TrajectoryLog(tmp_path, every=25)

    assert [step for step in range(1, 101) if log.is_due(step)] == [25, 50, 75, 100]
    with pytest.raises(ValueError, match="every is 0; it must be at least 1"):
        TrajectoryLog(tmp_path, every=0)
    with pytest.raises(ValueError, match="episodes is 0"):
        TrajectoryLog(tmp_path, every=1, episodes=0)
