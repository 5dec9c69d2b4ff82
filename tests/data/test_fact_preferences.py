"""Pairs about generated dialogues: only the conversation tells which answer is better, and graders agree."""

import pytest

from rxlm.data.fact_config import FactsConfig
from rxlm.data.fact_kinds import values_by_kind
from rxlm.data.fact_preferences import DIFFERENCES, FROM_MEMORY, FactPreferences
from rxlm.data.facts import FactGenerator
from rxlm.data.scoring import Grade, grade

GRADES = {
    "never told": {Grade.OTHER},
    "told": {Grade.ABSTAINED},
    "stale": {Grade.STALE},
    "value": {Grade.OTHER},
    "fluent": {Grade.NOTHING},
}
CONFIGS = {
    "small": FactsConfig(seed=3),
    "full": FactsConfig(variety="full", values="disjoint", num_turns=9),
    "full, test": FactsConfig(variety="full", values="disjoint", split="test", num_turns=9),
    "small, plain": FactsConfig(answer_wording="plain"),
    "full, plain": FactsConfig(variety="full", values="disjoint", num_turns=9, answer_wording="plain"),
}


def pairs(config, count=100, **more):
    return FactPreferences(FactGenerator(config), count, **more)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_better_answer_is_right_and_the_other_wrong_in_the_way_that_is_named(name):
    config = CONFIGS[name]
    values = values_by_kind(config.variety)
    for number, pair in enumerate(pairs(config)):
        (better,), (worse,) = pair.chosen, pair.rejected
        assert pair.differs == DIFFERENCES[number % 5]
        assert better.question is not None
        competitors = values[better.question.kind]
        assert grade(better.answer, better.question, competitors) is Grade.RIGHT
        assert grade(worse.answer, better.question, competitors) in GRADES[pair.differs], (pair.differs, worse)


def test_pairs_are_the_same_each_time_and_others_with_another_seed():
    first, again = list(pairs(CONFIGS["small"], 20)), pairs(CONFIGS["small"], 20)[:]
    assert first == again
    assert first != list(pairs(CONFIGS["small"].replace(seed=4), 20))


def test_without_the_conversation_each_answer_is_as_good_as_the_other():
    """Values and the wording that nothing was told stand on either side about as often."""
    chosen = dict.fromkeys(FROM_MEMORY, 0)
    found = list(pairs(CONFIGS["small"], 400, differences=FROM_MEMORY))
    for pair in found:
        chosen[pair.differs] += "not told" in pair.chosen[0].answer
    assert chosen == {"never told": 100, "told": 0, "stale": 0, "value": 0}
    assert sum("not told" in pair.rejected[0].answer for pair in found) == 100


def test_plain_answers_that_are_wrong_are_plain_too():
    found = list(pairs(CONFIGS["full, plain"], 60, differences=("told", "never told")))
    assert len({pair.rejected[0].answer for pair in found if pair.differs == "told"}) == 1
    assert {pair.rejected[0].answer.split()[0] for pair in found if pair.differs == "never told"} <= {"You", "Your"}


@pytest.mark.parametrize("name", ["full", "full, plain"])
def test_a_wrong_value_is_said_in_the_words_of_the_right_one(name):
    for pair in pairs(CONFIGS[name], 30, differences=("value", "stale")):
        (better,), (worse,) = pair.chosen, pair.rejected
        same = set(better.answer.split()) & set(worse.answer.split())
        assert len(same) >= len(better.answer.split()) - 5


@pytest.mark.parametrize("differences", [(), ("tone",)])
def test_unknown_differences_are_refused(differences):
    with pytest.raises(ValueError, match="differences must be of never told"):
        pairs(CONFIGS["small"], differences=differences)


def test_what_dialogues_do_not_have_is_said_and_not_looked_for_without_end():
    short = pairs(FactsConfig(num_turns=2), 5)
    with pytest.raises(ValueError, match="dialogues of 2 turns none has a question whose answers differ by 'stale'"):
        list(short)
    with pytest.raises(ValueError, match="count of pairs must be at least 1, got 0"):
        pairs(FactsConfig(), 0)
