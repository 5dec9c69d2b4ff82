"""Meetings: told without loss, in windows that have what their questions need."""

import json
from itertools import chain

import pytest

from rxlm.data.meetings import Meeting, MeetingQuestion, meeting_dialogues, meeting_of, read_meetings, tellings
from rxlm.data.records import RecordError

SPEAKERS = ("Ann", "Bob", "Project Manager")
SPANS = [((0, 4),), ((12, 19),), ((13, 14), (17, 19)), ((18, 90),), ((95, 99),), ((60, 60),), ((61, 62),), ((7, 7),)]


def utterance(number):
    if number == 7:
        return SPEAKERS[1], ""  # a noise
    return SPEAKERS[number % 7 % 3], " ".join(f"Utterance {number} part {part}." for part in range(number % 5 + 1))


MEETING = Meeting(
    "hens",
    tuple(map(utterance, range(100))),
    tuple(MeetingQuestion(f"Question {number}?", f"Answer {number}.", spans) for number, spans in enumerate(SPANS)),
)
SETTINGS = {"max_words": 24, "least": 4, "most": 8, "max_questions": 2}


def words_without_names(text):
    lines = (line for line in text.split("\n") if line)
    return [word for line in lines for word in line.split(": ", 1)[1].split()]


@pytest.mark.parametrize("max_words", [4, 12, 24, 50, 10_000])
def test_tellings_say_the_whole_meeting_in_its_order(max_words):
    told = tellings(MEETING, max_words)
    said = [word for telling in told for word in words_without_names(telling.text)]
    assert said == " ".join(text for _, text in MEETING.utterances).split()
    assert all(len(words_without_names(telling.text)) <= max_words for telling in told)


def test_every_line_names_its_speaker_once():
    meeting = Meeting("m", (("Ann", "Hi."), ("Bob", " "), ("Ann", "Well."), ("Bob", "One two. Three four.")), ())
    assert [telling.text for telling in tellings(meeting, 4)] == ["Ann: Hi. Well.", "Bob: One two. Three four."]
    assert [telling.utterances for telling in tellings(meeting, 4)] == [(0, 2), (3,)]
    assert [telling.text for telling in tellings(meeting, 3)] == ["Ann: Hi. Well.", "Bob: One two.", "Bob: Three four."]


def asked_in(dialogue):
    return [turn for turn in dialogue.turns if turn.question is not None]


@pytest.mark.parametrize("seed", range(20))
def test_window_has_all_that_answers_its_questions_from_the_turn_that_distance_names(seed):
    questions = {question.text: question for question in MEETING.questions}
    for dialogue in meeting_dialogues(MEETING, seed=seed, **SETTINGS):
        for place, turn in enumerate(dialogue.turns):
            if turn.question is None:
                continue
            assert turn.answer == questions[turn.query].answer == turn.question.expected[0]
            told = " ".join(earlier.query for earlier in dialogue.turns[place - turn.question.distance : place])
            spans = questions[turn.query].spans
            for number in chain.from_iterable(range(first, last + 1) for first, last in spans):
                assert all(f"Utterance {number} part {part}." in told for part in range(number % 5 + 1)) or number == 7
            assert f"Utterance {spans[0][0]} part" in dialogue.turns[place - turn.question.distance].query


@pytest.mark.parametrize("seed", range(20))
def test_dialogues_are_as_long_as_allowed_and_ask_each_question_once(seed):
    dialogues = meeting_dialogues(MEETING, seed=seed, **SETTINGS)
    for dialogue in dialogues:
        asked = asked_in(dialogue)
        assert 4 <= len(dialogue) - len(asked) <= 8
        assert 1 <= len(asked) <= 2
        assert list(dialogue.turns[-len(asked) :]) == asked
    # Question 3 needs more than eight tellings, and question 7 is about a noise.
    names = sorted(turn.query for dialogue in dialogues for turn in asked_in(dialogue))
    assert names == [f"Question {number}?" for number in (0, 1, 2, 4, 5, 6)]


def test_question_may_need_as_many_tellings_as_a_dialogue_has_but_no_more():
    lines = tuple((SPEAKERS[number % 2], f"Line {number}.") for number in range(9))
    for needed, asks in ((3, True), (4, True), (5, False)):
        question = MeetingQuestion("What?", "That.", ((2, 1 + needed),))
        dialogues = meeting_dialogues(Meeting("m", lines, (question,)), max_words=2, least=2, most=4)
        assert len(dialogues) == asks


def test_seed_draws_the_windows():
    drawn = [meeting_dialogues(MEETING, seed=seed, **SETTINGS) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    windows = {meeting_dialogues(MEETING, seed=seed, **SETTINGS)[1].details["utterances"] for seed in range(30)}
    assert len(windows) > 5


def test_short_meeting_is_told_whole():
    meeting = Meeting("short", MEETING.utterances[:5], MEETING.questions[:1])
    (dialogue,) = meeting_dialogues(meeting)
    assert [turn.query for turn in dialogue.turns] == [*(told.text for told in tellings(meeting)), "Question 0?"]
    assert dialogue.details == {"id": "short", "utterances": (0, 4)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"least": 0}, "least must be at least 1, got 0"),
        ({"most": 3}, "most must be at least least=8, got 3"),
        ({"max_questions": 0}, "max_questions must be at least 1"),
        ({"max_words": -1}, "max_words must be at least 1"),
    ],
)
def test_impossible_length_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        meeting_dialogues(MEETING, **settings)


RECORD = {
    "id": "hens",
    "utterances": [["Ann", "We 're on - line , are n't we ?"], ["Bob", "  'Kay , the L_C_D_ is ."]],
    "queries": [{"query": " Who? ", "answer": "Bob.", "spans": [[0, 1]]}],
}


def test_file_gives_text_as_people_write_it(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(RECORD))
    (meeting,) = read_meetings(tmp_path)
    assert meeting.name == "hens"
    assert meeting.utterances == (("Ann", "We're on-line, aren't we?"), ("Bob", "'Kay, the LCD is."))
    assert meeting.questions == (MeetingQuestion("Who?", "Bob.", ((0, 1),)),)


QUERY = RECORD["queries"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"utterances": None}, "field 'utterances' is None; expected a list"),
        ({"utterances": [["Ann"]]}, r"utterances\[0\]: expected \[speaker, text\], found \['Ann'\]"),
        ({"queries": "Who?"}, "field 'queries' is 'Who\\?'; expected a list"),
        ({"queries": [{**QUERY, "answer": " "}]}, r"queries\[0\]: expected"),
        ({"queries": [{**QUERY, "spans": []}]}, r"queries\[0\]: expected"),
        (
            {"queries": [QUERY, {**QUERY, "spans": [[0, 2]]}]},
            r"queries\[1\]: a span is .* of utterances 0 to 1; found \[0, 2\]",
        ),
        ({"queries": [{**QUERY, "spans": [[1, 0]]}]}, "found \\[1, 0\\]"),
        ({"queries": [{**QUERY, "spans": [["0", "1"]]}]}, "found \\['0', '1'\\]"),
    ],
)
def test_broken_meeting_is_located(change, message):
    with pytest.raises(RecordError, match=f"a.jsonl, line 1.*{message}"):
        meeting_of({**RECORD, **change}, "a.jsonl, line 1")
