"""The dialogues of a run: the same ones each time, of each kind, with scorers that pass their audit."""

import json
from pathlib import Path
from typing import Any

import pytest

from memory_oracles import quick
from rxlm.data.records import Dialogue, Interaction, Question, RecordError
from rxlm.data.scoring import Grade
from rxlm.mrq_bench.benchmark_data import load_data
from rxlm.mrq_bench.config import BenchmarkConfig
from rxlm.mrq_bench.own_dialogues import read_own_dialogues
from rxlm.mrq_bench.scoring import ValueScorer, audit
from rxlm.mrq_bench.service_questions import ask_for_service_values

STORIES = """\
1 Mary moved to the bathroom.
2 John went to the hallway.
3 Where is Mary?\tbathroom\t1
4 Mary went to the garden.
5 Where is Mary?\tgarden\t4
1 Sandra went to the office.
2 Where is Sandra?\toffice\t1
"""
TALK: dict[str, Any] = {
    "id": "1",
    "services": ["Restaurants_1"],
    "turns": [
        ["U", "A table in San Jose, please."],
        ["S", "For how many?"],
        ["U", "For 2, at half past 11."],
        ["S", "A table in San Jose at half past 11?"],
        ["U", "Yes. Is San Jose far?"],
        ["S", "San Jose is near. Your table is at Sino."],
    ],
    "final_state": {"Restaurants_1": {"city": ["San Jose"], "time": ["half past 11"], "name": ["Sino", "The Duck"]}},
}


def babi(folder: Path, **changes: Any) -> BenchmarkConfig:
    for task in (1, 4):
        (folder / f"qa{task}_facts_train.txt").write_text(STORIES, encoding="utf-8")
    return BenchmarkConfig(data="babi", source=folder, **changes)


def sgd(folder: Path) -> BenchmarkConfig:
    path = folder / "dev.jsonl"
    path.write_text("\n".join(json.dumps({**TALK, "id": str(number)}) for number in range(3)), encoding="utf-8")
    return BenchmarkConfig(data="sgd", source=path)


def own(folder: Path, *records: dict[str, Any]) -> Path:
    path = folder / "own.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return path


def record(**question: Any) -> dict[str, Any]:
    turn = {"query": "Who is my dog?", "answer": "Your dog is Rex.", "question": question}
    return {"query": "My dog is Rex.", "answer": "Hello Rex.", "interactions": [turn]}


def test_the_same_configuration_gives_the_same_dialogues_and_another_does_not() -> None:
    checksums = [load_data(quick(seed=seed, dialogues=5)).checksum for seed in (0, 0, 1)]

    assert checksums[0] == checksums[1] != checksums[2]


def test_generated_sets_are_those_of_each_length_and_number_of_facts() -> None:
    data = load_data(quick(turns=(4, 6), facts=(2, 5), dialogues=3))

    assert [group.name for group in data.sets] == ["4 turns, 2 facts", "4 turns, 5 facts", "6 turns, 2 facts",
                                                   "6 turns, 5 facts"]  # fmt: skip
    assert {len(dialogue) for dialogue in data.sets[2].dialogues} == {6}
    assert all("test" in dialogue.source for dialogue in data.dialogues)
    assert data.chance == pytest.approx(1 / 20)


@pytest.mark.parametrize("variety", ["small", "full"])
def test_generated_dialogues_pass_the_audit(variety: Any) -> None:
    data = load_data(quick(variety=variety, dialogues=10))

    assert audit(data.dialogues, data.scorer).passed


def test_babi_is_a_set_a_task_scored_by_the_same_words(tmp_path: Path) -> None:
    data = load_data(babi(tmp_path, tasks=(4, 1)))

    assert [(group.name, len(group.dialogues)) for group in data.sets] == [("task 1", 2), ("task 4", 2)]
    assert data.chance == pytest.approx(1 / 3)
    assert audit(data.dialogues, data.scorer).passed
    turn = data.dialogues[0].turns[2]
    assert data.scorer.grade("Bathroom.", turn) is Grade.RIGHT
    assert data.scorer.grade("The bathroom", turn) is Grade.OTHER
    assert data.scorer.grade(" ", turn) is Grade.NOTHING
    assert any("Task 4 is not comparable" in note for note in data.notes)


def test_a_slot_is_asked_for_where_only_an_earlier_turn_names_it(tmp_path: Path) -> None:
    data = load_data(sgd(tmp_path))
    questions = [turn.question for turn in data.dialogues[0].turns]

    assert questions == [None, Question("Restaurants_1.city", ("San Jose",), 1, 1), None]
    assert audit(data.dialogues, data.scorer).passed


def test_of_several_values_the_one_said_longest_ago_is_asked_for() -> None:
    turns = [
        Interaction("To Rome.", "Fine."),
        Interaction("On Monday.", "Fine."),
        Interaction("So?", "Rome on Monday."),
    ]
    found = ask_for_service_values(
        Dialogue(tuple(turns), details={"service_values": {"city": ("Rome",), "day": ("Monday",)}})
    )

    assert found.turns[2].question == Question("city", ("Rome",), 2, 2)


def test_own_dialogues_bring_their_questions(tmp_path: Path) -> None:
    asked = record(kind="dog", expected=["Rex"], distance=1, stale=["Bella"])
    other = record(kind="dog", expected=["Bella"], distance=1)
    unknown = record(expected=[], distance=None)
    path = own(tmp_path, asked, other, unknown, {"messages": [{"role": "user", "content": "Hi"},
                                                              {"role": "assistant", "content": "Hello"}]})  # fmt: skip
    data = load_data(BenchmarkConfig(data="jsonl", source=path))

    assert data.dialogues[0].turns[1].question == Question("dog", ("Rex",), 1, stale=("Bella",))
    assert data.dialogues[2].turns[1].question == Question("question", (), None)
    assert data.scorer.grade("Bella or Rex", data.dialogues[0].turns[1]) is Grade.OTHER
    assert data.chance == pytest.approx(1 / 2)
    assert len(data.dialogues[3]) == 1


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"expected": ["Rex"]}, "must be an object with 'expected' and 'distance'"),
        ({"expected": ["Rex"], "distance": 1, "colour": "red"}, "must be an object with"),
        ({"expected": "Rex", "distance": 1}, "must be lists of texts"),
        ({"expected": ["Rex"], "distance": None}, "has expected values and a distance, or neither"),
        ({"expected": ["Rex"], "distance": 2}, "must be from 1 to 1 turns, got 2"),
    ],
)
def test_a_question_that_does_not_fit_is_named(question: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=message) as error:
        read_own_dialogues(own(tmp_path, record(**question)))
    assert "line 1, turn 2" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": (2,)}, "tasks means something for babi only, data is 'facts'"),
        ({"source": Path("x")}, "source means something for babi and sgd and jsonl and dialogues only"),
        ({"held_out": True}, "held_out means something for babi and sgd and jsonl and dialogues only"),
        ({"data": "babi"}, "data 'babi' needs a source"),
        ({"data": "sgd", "source": Path("x"), "turns": (4,)}, "turns means something for facts only"),
        ({"data": "babi", "source": Path("x"), "tasks": (21,)}, "tasks must be numbers from 1 to 20, got 21"),
        ({"dialogues": 0}, "dialogues must be at least 1, got 0"),
        ({"batch_size": 2}, "batch_size must be at least 3, got 2"),
        ({"turns": ()}, "turns must name at least one"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BenchmarkConfig(**changes)


def test_held_out_dialogues_are_a_part_that_training_can_leave_out(tmp_path: Path) -> None:
    stories = "".join(f"1 Mary moved to room {n}.\n2 Where is Mary?\troom {n}\t1\n" for n in range(100))
    (tmp_path / "qa1_x.txt").write_text(stories, encoding="utf-8")
    held = load_data(BenchmarkConfig(data="babi", source=tmp_path, held_out=True))

    assert 3 <= len(held.dialogues) <= 20


def test_the_audit_finds_a_scorer_that_is_too_kind_or_too_strict() -> None:
    class Kind(ValueScorer):
        def grade(self, answer: str, turn: Interaction) -> Grade:
            return Grade.RIGHT

    class Strict(ValueScorer):
        def grade(self, answer: str, turn: Interaction) -> Grade:
            return Grade.OTHER

    data = load_data(quick(dialogues=2))
    assert isinstance(data.scorer, ValueScorer)
    kind, strict = (audit(data.dialogues, scorer(data.scorer.values)) for scorer in (Kind, Strict))

    assert (kind.gold, kind.wrong, kind.passed) == (1.0, 1.0, False)
    assert (strict.gold, strict.wrong, strict.passed) == (0.0, 0.0, False)
    assert not audit([], data.scorer).passed
