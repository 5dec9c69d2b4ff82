"""Preferences of every form become the same pairs, or say where they stand and what is wrong."""

import json

import pytest

from rxlm.data.preference_files import read_preferences
from rxlm.data.preference_records import feedback_of
from rxlm.data.preferences import Preference, Rated
from rxlm.data.records import Interaction, RecordError

BEFORE = (Interaction("My dog is Rex.", "Nice."),)
QUERY, GOOD, BAD = "What is my dog called?", "Rex.", "Max."
PAIR = Preference(BEFORE, (Interaction(QUERY, GOOD),), (Interaction(QUERY, BAD),))


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


PROMPT = [user("My dog is Rex."), assistant("Nice."), user(QUERY)]
SPOKEN = f"\n\nHuman: My dog is Rex.\n\nAssistant: Nice.\n\nHuman: {QUERY}\n\nAssistant:"
FORMS = {
    "TRL, messages": {"prompt": PROMPT, "chosen": [assistant(GOOD)], "rejected": [assistant(BAD)]},
    "TRL, the prompt in both": {"chosen": [*PROMPT, assistant(GOOD)], "rejected": [*PROMPT, assistant(BAD)]},
    "TRL, messages as JSON text": {
        "prompt": json.dumps(PROMPT), "chosen": json.dumps([assistant(GOOD)]), "rejected": json.dumps([assistant(BAD)]),
    },
    "our server's": {
        "prompt": PROMPT, "chosen": [assistant(GOOD)], "rejected": [assistant(BAD)], "id": "fb_1", "created": 7,
    },
    "Anthropic-HH": {"chosen": f"{SPOKEN} {GOOD}", "rejected": f"{SPOKEN} {BAD}"},
    "query and interactions": {
        "interactions": [{"query": "My dog is Rex.", "answer": "Nice."}],
        "query": QUERY, "chosen": GOOD, "rejected": BAD,
    },
    "ranked": {"prompt": PROMPT, "ranked": [GOOD, BAD]},
    "a prompt, and the whole conversation in both": {
        "prompt": PROMPT, "chosen": [*PROMPT, assistant(GOOD)], "rejected": [*PROMPT, assistant(BAD)],
    },
    "Anthropic-HH with a prompt": {"prompt": SPOKEN, "chosen": f" {GOOD}", "rejected": f" {BAD}"},
    "prompt and interactions": {
        "interactions": [{"query": "My dog is Rex.", "answer": "Nice."}],
        "prompt": QUERY, "chosen": GOOD, "rejected": BAD,
    },
}  # fmt: skip


def without_source(found):
    return [Preference(each.before, each.chosen, each.rejected, each.differs, each.margin) for each in found]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_pair_is_read(form):
    assert without_source(feedback_of(FORMS[form], "here")) == [PAIR]


def test_texts_with_and_without_their_prompt_are_read():
    explicit = feedback_of({"prompt": "The sky is", "chosen": "blue.", "rejected": "green."}, "here")
    implicit = feedback_of({"chosen": "The sky is blue.", "rejected": "The sky is green."}, "here")
    expected = Preference((), (Interaction("The sky is", "blue."),), (Interaction("The sky is", "green."),))
    assert without_source(explicit) == without_source(implicit) == [expected]


def test_a_system_message_goes_before_the_first_query():
    record = {"prompt": [{"role": "system", "content": "Be brief."}, *PROMPT], "chosen": GOOD, "rejected": BAD}
    (found,) = feedback_of(record, "here")
    assert found.before[0].query == "Be brief.\n\nMy dog is Rex."


def test_of_a_list_each_answer_is_better_than_all_after_it():
    found = feedback_of({"prompt": "Hi.", "ranked": ["a", "b", "c"]}, "here")
    assert [(each.chosen[0].answer, each.rejected[0].answer) for each in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [each.source for each in found] == ["here, 1 over 2", "here, 1 over 3", "here, 2 over 3"]


def test_conversations_are_compared_from_where_they_part():
    better = [*PROMPT, assistant(GOOD), user("Thanks."), assistant("Always.")]
    worse = [*PROMPT, assistant(BAD), user("No!"), assistant("Sorry.")]
    (found,) = feedback_of({"chosen": better, "rejected": worse}, "here")
    assert found.before == BEFORE
    assert found.chosen == (Interaction(QUERY, GOOD), Interaction("Thanks.", "Always."))
    assert found.rejected == (Interaction(QUERY, BAD), Interaction("No!", "Sorry."))


@pytest.mark.parametrize(("label", "is_good"), [(True, True), (False, False), (1, True), ("False", False)])
def test_rated_answers_are_read(label, is_good):
    (found,) = feedback_of({"prompt": PROMPT, "completion": [assistant(GOOD)], "label": label}, "here")
    assert found == Rated(BEFORE, (Interaction(QUERY, GOOD),), is_good, "here")
    more = [assistant(GOOD), user("Thanks."), assistant("Always.")]
    (longer,) = feedback_of({"prompt": PROMPT, "completion": more, "label": label}, "here")
    assert (longer.before, len(longer.said)) == (BEFORE, 2)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prompt": "Hi.", "chosen": "a", "rejected": " a "}, "here: chosen and rejected are the same"),
        ({"prompt": "Hi.", "chosen": "", "rejected": "b"}, "here: field 'chosen' is ''; expected a text that is not"),
        ({"prompt": "Hi.", "chosen": [assistant(" ")], "rejected": "b"}, r"chosen\[0\]: field 'content' is ' '"),
        ({"prompt": "Hi.", "chosen": [], "rejected": "b"}, "field 'chosen' is an empty list"),
        ({"prompt": "Hi.", "chosen": None, "rejected": "b"}, "field 'chosen' is None; expected a text or a list"),
        ({"prompt": "Hi.", "chosen": [user("a")], "rejected": "b"}, "here, chosen: the last message must be an answer"),
        ({"prompt": [assistant("a")], "chosen": "a", "rejected": "b"}, "'prompt' must end with what is to be answered"),
        ({"chosen": "Yes.", "rejected": "No."}, "here: chosen and rejected have no common prompt"),
        ({"chosen": [user("a"), assistant("b")], "rejected": [user("c"), assistant("d")]}, "no common prompt"),
        ({"chosen": [user("a"), assistant("b")], "rejected": [*[user("a"), assistant("b")] * 2]}, "number of turns"),
        ({"prompt": "Hi.", "completion": "a", "label": "good"}, "field 'label' is 'good'; expected true or false"),
        ({"completion": "a", "label": True}, "field 'prompt' is missing"),
        ({"prompt": "Hi.", "ranked": ["a"]}, "field 'ranked' has 1 answers; expected two or more"),
        ({"prompt": "Hi.", "chosen": "a", "rejected": "b", "margin": -1}, "field 'margin' is -1; expected a number"),
        ({"prompt": "Hi.", "chosen": "a", "rejected": "b", "margin": 10**400}, "expected a number from 0 to 1,000,000"),
        ({"prompt": "Hi.", "chosen": "a", "rejected": "b", "margin": float("nan")}, "field 'margin' is nan"),
        ({"prompt": "Hi.", "answer": "a"}, "here: no preference: expected .* the fields are: 'prompt', 'answer'"),
    ],
)
def test_what_is_no_preference_is_refused(record, message):
    with pytest.raises(RecordError, match=message):
        feedback_of(record, "here")


def test_a_table_holds_margins_and_labels_as_text(tmp_path):
    (tmp_path / "p.csv").write_text("prompt,chosen,rejected,margin\nHi.,a,b,2.5\nHi.,a,b,\n")
    (tmp_path / "r.csv").write_text("prompt,completion,label\nHi.,a,True\nHi.,b,false\n")
    found = read_preferences([tmp_path / "p.csv", tmp_path / "r.csv"])
    assert [pair.margin for pair in found.pairs] == [2.5, None]
    assert [each.is_good for each in found.rated] == [True, False]


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_bad_records_stop_or_are_skipped_with_their_place(tmp_path, turn_tokenizer):
    long = {"prompt": "Hi.", "chosen": "well " * 60, "rejected": "b"}
    same = {"prompt": "Hi.", "chosen": "a", "rejected": "a"}
    file = write(tmp_path / "p.jsonl", FORMS["our server's"], same, long, {"query": "Hi."})
    with pytest.raises(RecordError, match=r"p\.jsonl, line 2: chosen and rejected are the same"):
        read_preferences(file, turn_tokenizer)
    found = read_preferences(file, turn_tokenizer, bad_records="skip")
    assert (without_source(found.pairs), found.rated) == ([PAIR], [])
    assert [text.partition(": ")[0] for text in found.skipped] == [f"{file}, line {n}" for n in (2, 3, 4)]
    assert "tokens; the model's longest turn has 48" in found.skipped[1]
    assert len(read_preferences(file, bad_records="skip").pairs) == 2, "without a tokenizer nothing is too long"


def test_nothing_to_learn_from_is_an_error_with_the_first_bad_record(tmp_path):
    file = write(tmp_path / "p.jsonl", {"prompt": "Hi."})
    with pytest.raises(ValueError, match=r"holds no preference: .*line 1: no preference"):
        read_preferences([file], bad_records="skip")
    with pytest.raises(FileNotFoundError, match="none"):
        read_preferences(tmp_path / "none")
    with pytest.raises(ValueError, match="bad_records must be"):
        read_preferences(file, bad_records="drop")  # type: ignore[arg-type]


def test_a_good_and_a_bad_answer_to_the_same_query_are_a_pair(tmp_path):
    rated = [
        {"prompt": PROMPT, "completion": [assistant(text)], "label": label}
        for text, label in ((GOOD, True), (BAD, False), (GOOD, False))
    ]
    other = {"prompt": [user("Hi.")], "completion": [assistant(BAD)], "label": False}
    found = read_preferences(write(tmp_path / "p.jsonl", *rated, other))
    assert without_source(found.compared) == [PAIR]
    assert (found.pairs, len(found.rated)) == ([], 4)


def test_many_ratings_of_one_greeting_are_as_many_pairs_and_not_all_combinations(tmp_path):
    rated = [{"prompt": "Hi.", "completion": f"{number}", "label": number % 3 == 0} for number in range(300)]
    found = read_preferences(write(tmp_path / "p.jsonl", *rated)).compared
    assert len(found) == 200
    said = {turn.answer for pair in found for (turn,) in pair.answers}
    assert said == {f"{number}" for number in range(300)}
