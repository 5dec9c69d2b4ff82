"""bAbI: a turn a line, answers with the distance to what supports them, and stories held out for good."""

import pytest

from rxlm.data.babi import HEADLINE_TASKS, TASK_NOTES, hold_out, read_babi
from rxlm.data.records import Question, RecordError

LINES = """1 Mary moved to the bathroom.
2 John went to the hallway.
3 Where is Mary? \tbathroom\t1
4 Where is everybody?\tbathroom,hallway\t2 1
1 Sandra travelled to the office.
2 Where is Sandra? \toffice\t1
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "qa1_single-supporting-fact_train.txt").write_text(LINES)
    (tmp_path / "qa4_two-arg-relations_train.txt").write_text(LINES)
    (tmp_path / "README.txt").write_text("about")
    return tmp_path


def test_every_line_is_a_turn_and_questions_know_their_distance(folder):
    first, second = read_babi(folder, tasks=[1])
    assert [turn.query for turn in first.turns][2:] == ["Where is Mary?", "Where is everybody?"]
    assert [turn.answer for turn in first.turns] == ["Okay.", "Okay.", "bathroom", "bathroom,hallway"]
    assert [turn.question for turn in first.turns][2:] == [
        Question("task 1", ("bathroom",), 2),
        Question("task 1", ("bathroom,hallway",), 3),
    ]
    assert (first.details, second.details) == ({"task": 1, "story": 1}, {"task": 1, "story": 2})
    assert second.source == "qa1_single-supporting-fact_train.txt, line 5"


def test_tasks_that_are_not_comparable_say_why(folder):
    (dialogue, _) = read_babi(folder, tasks=[4])
    assert "741 of the 1,000 stories" in dialogue.details["note"]
    assert set(TASK_NOTES) == {3, 4}
    assert len(HEADLINE_TASKS) == 18


def test_missing_and_impossible_tasks_are_named(folder):
    with pytest.raises(FileNotFoundError, match="no file of task 2, 3 in"):
        read_babi(folder, tasks=[1, 2, 3])
    with pytest.raises(ValueError, match="from 1 to 20, got 21"):
        read_babi(folder, tasks=[21])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1 A.\n3 B.\n", "line 2: the line numbers of a story count up from 1, found 3"),
        ("Mary moved.\n", "line 1: expected a line number"),
        ("1 A.\n2 B?\tx\n", "line 2: a question has an answer and the numbers"),
        ("1 A.\n2 B?\tx\t2\n", "line 2: a question, its answer or the lines that support it are missing"),
        ("1 A.\n2 B?\t\t1\n", "line 2: a question, its answer"),
    ],
)
def test_line_that_does_not_fit_is_located(tmp_path, lines, message):
    (tmp_path / "qa1_x_train.txt").write_text(lines)
    with pytest.raises(RecordError, match=message):
        read_babi(tmp_path, tasks=[1])


def words(dialogue):
    return tuple((turn.query, turn.answer) for turn in dialogue.turns)


def test_held_out_stories_stay_held_out_whatever_else_there_is(folder):
    dialogues = read_babi(folder, tasks=[1, 4])
    train, validation = hold_out(dialogues, 0.5)
    assert len(train) + len(validation) == 4
    assert not {words(d) for d in train} & {words(d) for d in validation}, "equal stories are on one side"
    again, _ = hold_out(list(reversed(dialogues[:2])), 0.5)
    assert {words(d) for d in again} == {words(d) for d in train}
    with pytest.raises(ValueError, match="share must be between 0 and 1, got 1"):
        hold_out(dialogues, 1)


def test_real_files_are_read(real_data):
    dialogues = read_babi(real_data / "babi" / "train", tasks=[1, 8, 19, 20])
    questions = [turn for dialogue in dialogues for turn in dialogue.turns if turn.question]
    assert len(questions) == 40_000
    assert max(turn.question.distance for turn in questions) == 30
    train, validation = hold_out(dialogues, 0.1)
    assert len(validation) / len(dialogues) == pytest.approx(0.1, abs=0.01)
    assert not {words(d) for d in train} & {words(d) for d in validation}
