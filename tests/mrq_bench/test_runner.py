"""A run that was interrupted goes on where it was, asks nothing twice, and is not mixed with another one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from memory_oracles import Oracle, quick
from rxlm.mrq_bench.answers import STAMPS, AnswerLog
from rxlm.mrq_bench.benchmark_data import load_data
from rxlm.mrq_bench.results import measure
from rxlm.mrq_bench.runner import ANSWERS_FILE, answer_all, run_identity, stamp_of

CONFIG = quick(turns=(6, 12), dialogues=20, batch_size=7)
DATA = load_data(CONFIG)


class StoppedError(Exception):
    pass


def stop_after(batches: int):
    seen = []

    def progress(done: int, total: int, label: str) -> None:
        seen.append(done)
        if len(seen) == 2 * batches:
            raise StoppedError

    return progress


@pytest.mark.parametrize("batches", [1, 7, 13])
def test_a_resumed_run_equals_a_straight_one(batches: int, tmp_path: Path) -> None:
    straight = measure("oracle", Oracle(), DATA, CONFIG, tmp_path / "straight")  # type: ignore[arg-type]
    with pytest.raises(StoppedError):
        answer_all(Oracle(), DATA, CONFIG, tmp_path / "resumed", progress=stop_after(batches))
    resumed = measure("oracle", Oracle(), DATA, CONFIG, tmp_path / "resumed")  # type: ignore[arg-type]

    assert resumed == straight
    assert contents(tmp_path / "resumed") == contents(tmp_path / "straight")


@pytest.mark.parametrize("cut", [1, 400, 5000])
def test_a_file_that_was_cut_off_anywhere_is_made_whole(cut: int, tmp_path: Path) -> None:
    answer_all(Oracle(), DATA, CONFIG, tmp_path)
    whole = contents(tmp_path)
    (tmp_path / ANSWERS_FILE).write_bytes(whole[:-cut])
    answer_all(Oracle(), DATA, CONFIG, tmp_path)

    assert contents(tmp_path) == whole


def test_what_is_answered_is_not_asked_again(tmp_path: Path) -> None:
    first, second = Oracle(), Oracle()
    answer_all(first, DATA, CONFIG, tmp_path)
    answer_all(second, DATA, CONFIG, tmp_path)

    assert first.calls > 0
    assert second.calls == 0


def test_a_control_can_be_added_later(tmp_path: Path) -> None:
    answer_all(Oracle(), DATA, replace(CONFIG, controls=()), tmp_path)
    before = contents(tmp_path)
    log = answer_all(Oracle(), DATA, replace(CONFIG, controls=("empty",)), tmp_path)

    assert contents(tmp_path).startswith(before)
    assert log.of("empty")
    assert all(answer.question is not None for answer in log.of("empty")), "no other turn depends on the memory"


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"seed": 1}, "seed is 0 there and 1 here"), ({"batch_size": 9}, "batch_size is 7 there and 9 here")],
)
def test_another_configuration_is_refused(changes: dict, message: str, tmp_path: Path) -> None:
    answer_all(Oracle(), DATA, CONFIG, tmp_path)
    other = replace(CONFIG, **changes)
    with pytest.raises(ValueError, match=message):
        answer_all(Oracle(), load_data(other), other, tmp_path)


def test_another_model_and_other_answers_are_refused(tmp_path: Path) -> None:
    answer_all(Oracle(), DATA, CONFIG, tmp_path)
    with pytest.raises(ValueError, match=r"model\.window is 1000000000 there and 3 here"):
        answer_all(Oracle(window=3), DATA, CONFIG, tmp_path)
    with pytest.raises(ValueError, match="line 1: of another run"):
        AnswerLog(tmp_path / ANSWERS_FILE, stamp_of(run_identity(Oracle(window=3), DATA, CONFIG)))


def test_every_line_says_which_run_it_belongs_to(tmp_path: Path) -> None:
    answer_all(Oracle(), DATA, CONFIG, tmp_path)
    lines = [json.loads(line) for line in contents(tmp_path).splitlines()]
    turns = sum(len(dialogue) for dialogue in DATA.dialogues)

    assert {tuple(line[name] for name in STAMPS) for line in lines} == {
        tuple(stamp_of(run_identity(Oracle(), DATA, CONFIG)).values())
    }
    assert sum(line["control"] == "none" for line in lines) == turns
    assert len({tuple(line[name] for name in ("set", "control", "dialogue", "turn")) for line in lines}) == len(lines)


def test_a_line_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / ANSWERS_FILE).write_text('{"hello": 1}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 1: not an answer of this benchmark"):
        AnswerLog(tmp_path / ANSWERS_FILE, dict.fromkeys(STAMPS, ""))


def test_a_control_that_a_model_does_not_have_is_refused_before_it_is_asked(tmp_path: Path) -> None:
    oracle = Oracle()
    with pytest.raises(ValueError, match="control must be one of none, empty, shuffled for this model, got 'never-"):
        answer_all(oracle, DATA, replace(CONFIG, controls=("never-updated",)), tmp_path)
    assert oracle.calls == 0


def contents(folder: Path) -> bytes:
    return (folder / ANSWERS_FILE).read_bytes()
