"""Generated dialogues: true answers, known distances, combinations kept apart, and the same ones every time."""

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxlm.data.fact_config import FactsConfig
from rxlm.data.fact_conversations import is_test_value
from rxlm.data.fact_kinds import fact_kinds, values_by_kind
from rxlm.data.facts import FactGenerator, texts_of
from rxlm.data.records import Dialogue
from rxlm.data.scoring import Grade, grade, wrong_answers
from rxlm.data.small_talk import chatter
from rxlm.data.world_questions import world_questions
from told_facts import pairs_held, readings, told_facts


def generator(**changes):
    return FactGenerator(FactsConfig(**changes))


@pytest.fixture(scope="module")
def small():
    return readings("small")


configs = st.builds(
    FactsConfig,
    num_turns=st.integers(2, 24),
    max_facts=st.integers(1, 8),
    question_share=st.floats(0, 0.42),
    repeat_share=st.floats(0, 1),
    unknown_share=st.floats(0, 0.08),
    chatter_share=st.floats(0, 0.08),
    update_share=st.floats(0, 1),
    split=st.sampled_from(["train", "test"]),
    values=st.sampled_from(["shared", "disjoint"]),
    world_share=st.floats(0, 1),
    distance_law=st.sampled_from(["uniform", "log-uniform"]),
    seed=st.integers(0, 3),
)


@given(config=configs, index=st.integers(0, 10**9))
def test_every_answer_is_what_was_told_last_at_the_distance_it_says(small, config, index):
    dialogue = FactGenerator(config).dialogue(index)
    assert len(dialogue) == config.num_turns
    history = told_facts(dialogue, small)
    mentions: dict[str, int] = {}
    for number, turn in enumerate(dialogue.turns):
        question, facts = turn.question, history[number]
        mentions |= {kind: told for kind, (_, told) in facts.items() if told == number}
        if question is None:
            continue
        assert question.facts_held == len(facts) <= config.max_facts
        if not question.was_told:
            assert question.kind not in facts
            assert question.expected == ()
            continue
        value, told = facts[question.kind]
        assert (question.kind, value) in small["ask"][turn.query, turn.answer]
        assert question.expected == (value,)
        assert question.distance == number - told
        assert question.mention_distance == number - mentions[question.kind]
        mentions[question.kind] = number
        earlier = [past[question.kind][0] for past in history[:told] if question.kind in past]
        assert set(question.stale) == set(earlier) - {value}
        if question.stale:
            assert question.stale[0] == earlier[-1], "the latest of the old values comes first"


@pytest.mark.parametrize("variety", ["small", "full"])
def test_dialogue_depends_on_seed_and_number_alone(variety):
    some = generator(variety=variety, seed=3)
    again = generator(variety=variety, seed=3)
    numbers = [5, 0, 7]
    assert [some.dialogue(i) for i in numbers] == [again.dialogue(i) for i in reversed(numbers)][::-1]
    assert list(islice(some.stream(4), 50)) == list(islice(again.stream(4), 50))
    assert some.dialogue(0).turns != some.dialogue(1).turns != generator(variety=variety, seed=4).dialogue(1).turns
    assert list(some.dialogues(4)) == [some.dialogue(i) for i in range(4)]
    assert list(some.dialogues(9)[2:8:3]) == [some.dialogue(2), some.dialogue(5)]


def test_a_dialogue_of_another_length_is_that_of_a_generator_of_this_length():
    some = generator(num_turns=32, min_distance=2)
    for turns in (3, 9, 32, 40):
        assert some.dialogue(5, turns) == generator(num_turns=turns, min_distance=2).dialogue(5)
    with pytest.raises(ValueError, match="num_turns must be more than min_distance, which is 2, got 2"):
        some.dialogue(5, 2)


def test_known_dialogue_stays_as_it_is():
    # The benchmark's data: a change here makes all published figures incomparable.
    assert [turn.query for turn in generator().dialogue(0).turns] == KNOWN_DIALOGUE


KNOWN_DIALOGUE = [
    "I have a flat in Oslo.",
    "I am an actor by trade.",
    "How are you?",
    "I am a bit tired.",
    "People call me Emma.",
    "I will go shopping on Saturday.",
    "Do you know what my job is?",
    "Do you know where my home is?",
]


def test_test_dialogues_hold_combinations_that_training_never_holds(small):
    train = set().union(*(pairs_held(dialogue, small) for dialogue in generator().dialogues(1500)))
    tested = 0
    for dialogue in generator(split="test").dialogues(300):
        pairs = pairs_held(dialogue, small)
        assert not pairs or pairs - train
        tested += bool(pairs)
    assert tested > 290
    stream = Dialogue(tuple(islice(generator(max_facts=8, max_distance=64).stream(0), 1000)))
    held_out = set().union(
        *(pairs_held(dialogue, small) - train for dialogue in generator(split="test").dialogues(100))
    )
    seen = pairs_held(stream, small)
    assert not seen & {pair for pair in held_out if is_held_out(pair)}


def is_held_out(pair):
    """The rule itself, written once more: the residues of two values and their kinds' numbers add up to none."""
    kinds = {kind.name: (number, kind.values) for number, kind in enumerate(fact_kinds("small"))}
    (first, first_values), (second, second_values) = (kinds[name] for name, _ in pair)
    total = first_values.index(pair[0][1]) + second_values.index(pair[1][1]) + first * second + first + second
    return total % 10 == 0


def test_every_fact_of_a_test_dialogue_is_part_of_an_unseen_pair(small):
    for dialogue in generator(split="test", num_turns=16).dialogues(100):
        before = {}
        for facts in told_facts(dialogue, small):
            for kind, fact in facts.items():
                others = [(other, value) for other, (value, _) in before.items() if other != kind]
                if before.get(kind) != fact and others:
                    assert any(is_held_out(((kind, fact[0]), other)) for other in others)
            before = facts


def test_values_can_be_disjoint():
    used = {}
    for split in ("train", "test"):
        dialogues = generator(split=split, values="disjoint").dialogues(600)
        turns = [turn.question for dialogue in dialogues for turn in dialogue.turns if turn.question]
        used[split] = {(question.kind, value) for question in turns for value in question.expected}
    assert not used["train"] & used["test"]
    assert len(used["train"]) + len(used["test"]) == 8 * 20
    assert all(sum(kind == known for known, _ in used["test"]) >= 3 for kind, _ in used["train"])


def test_a_value_for_test_is_in_no_kind_for_training():
    values = {value for kind in fact_kinds("full") for value in kind.values}
    told = {"train": set(), "test": set()}
    for split, found in told.items():
        for dialogue in generator(variety="full", split=split, values="disjoint").dialogues(1500):
            found.update(value for turn in dialogue.turns if turn.question for value in turn.question.expected)
    assert told["test"] <= {value for value in values if is_test_value(value)}
    assert not any(map(is_test_value, told["train"]))


def test_open_values_are_told_in_training_only_where_values_are_disjoint():
    more = {kind.name: ("Quorl", "Zintan") for kind in fact_kinds("small")}
    config = FactsConfig(values="disjoint")
    asked = [
        turn.question.expected[0]
        for dialogue in FactGenerator(config, more).dialogues(400)
        for turn in dialogue.turns
        if turn.question and turn.question.was_told
    ]
    share = sum(value in ("Quorl", "Zintan") for value in asked) / len(asked)
    assert 0.6 < share < 0.9
    with pytest.raises(ValueError, match="more_values are for training"):
        FactGenerator(config.replace(split="test"), more)


@pytest.mark.parametrize("num_turns", [8, 16, 64, 256])
@pytest.mark.parametrize("law", ["uniform", "log-uniform"])
def test_distances_follow_their_law_up_to_the_whole_dialogue(num_turns, law):
    count = 20_000 // num_turns
    counts = Counter(
        turn.question.distance
        for dialogue in generator(num_turns=num_turns, distance_law=law).dialogues(count)
        for turn in dialogue.turns
        if turn.question and turn.question.was_told
    )
    total = counts.total()
    longest = num_turns - 1
    weights = {d: 1.0 if law == "uniform" else 1 / d for d in range(1, longest + 1)}
    parts = [range(1, 3), range(3, num_turns // 2), range(num_turns // 2, num_turns)]
    for part in parts:
        expected = sum(weights[d] for d in part) / sum(weights.values())
        assert sum(counts[d] for d in part) / total == pytest.approx(expected, abs=0.08)
    assert total / count > (4 if num_turns > 8 else 2.8)


def test_distances_keep_to_their_bounds():
    config = {"num_turns": 40, "min_distance": 17, "max_distance": 32}
    dialogues = generator(**config).dialogues(50)
    distances = {t.question.distance for d in dialogues for t in d.turns if t.question and t.question.was_told}
    assert min(distances) == 17
    assert max(distances) == 32


@pytest.mark.parametrize("form", ["dialogues", "stream"])
def test_shares_of_turns_are_those_asked_for(small, form):
    config = FactsConfig(
        num_turns=20, question_share=0.3, repeat_share=0.3, unknown_share=0.1, chatter_share=0.2, max_distance=8
    )
    made = FactGenerator(config)
    turns = (
        [turn for dialogue in made.dialogues(300) for turn in dialogue.turns]
        if form == "dialogues"
        else list(islice(made.stream(0), 6000))
    )
    questions = [turn.question for turn in turns if turn.question]
    first = [q for q in questions if q.was_told and q.mention_distance == q.distance]
    again = [q for q in questions if q.was_told and q.mention_distance != q.distance]
    small_talk = {tuple(wording) for wording in chatter("small")}
    assert len(first) / len(turns) == pytest.approx(0.21, abs=0.02)
    assert len(again) / len(turns) == pytest.approx(0.09, abs=0.02)
    assert sum(not q.was_told for q in questions) / len(turns) == pytest.approx(0.1, abs=0.02)
    talked = sum((turn.query, turn.answer) in small_talk for turn in turns)
    assert talked / len(turns) == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("variety", ["small", "full"])
def test_plain_answers_have_one_wording_and_their_first_word_says_whether_it_was_told(variety):
    shares = {"variety": variety, "num_turns": 20, "unknown_share": 0.1}
    varied, plain = (generator(**shares, answer_wording=wording).dialogues(50) for wording in ("varied", "plain"))
    kinds = {kind.name: kind for kind in fact_kinds(variety)}
    known, unknown, changed = set(), set(), 0
    for others, turns in zip(varied, plain, strict=True):
        for other, turn in zip(others.turns, turns.turns, strict=True):
            assert (turn.query, turn.question) == (other.query, other.question), "only answers differ"
            changed += turn.answer != other.answer
            if turn.question is None:
                assert turn == other
            elif turn.question.was_told:
                wording = kinds[turn.question.kind].ask[0]
                assert turn.answer == wording.fill(turn.question.expected[0])[1]
                known.add(turn.answer.split()[0])
            else:
                unknown.add(turn.answer)
    assert changed
    assert len(unknown) == 1
    assert unknown.pop().split()[0] not in known


def test_small_talk_asks_about_the_world_as_often_as_is_configured():
    queries = {wording.query for wording in world_questions()}
    assert len(queries) == len(world_questions()) > 100
    assert not queries & {wording.query for wording in chatter("full")}
    assert all(wording.answer.split()[0] != "I" for wording in world_questions())
    some = generator(variety="full", num_turns=20, question_share=0.3, chatter_share=0.2, world_share=0.7)
    said = [turn for dialogue in some.dialogues(60) for turn in dialogue.turns if turn.question is None]
    chat = {wording.query for wording in chatter("full")}
    asked, other = (sum(turn.query in which for turn in said) for which in (queries, chat))
    assert 0.6 < asked / (asked + other) < 0.8


def test_stream_is_a_dialogue_that_does_not_end(small):
    turns = tuple(islice(generator(max_distance=50, distance_law="log-uniform").stream(1), 2000))
    history = told_facts(Dialogue(turns), small)
    for number, turn in enumerate(turns):
        if turn.question and turn.question.was_told:
            value, told = history[number][turn.question.kind]
            assert (turn.question.expected, turn.question.distance) == ((value,), number - told)
    distances = [turn.question.distance for turn in turns if turn.question and turn.question.was_told]
    assert max(distances) >= 45
    assert any(turn.question and turn.question.stale for turn in turns)


@pytest.mark.parametrize("variety", ["small", "full"])
def test_reference_answers_are_right_and_wrong_ones_are_not(variety):
    values = values_by_kind(variety)
    for dialogue in generator(variety=variety).dialogues(100):
        for turn in dialogue.turns:
            if turn.question is not None:
                others = values[turn.question.kind]
                assert grade(turn.answer, turn.question, others) is Grade.RIGHT
                wrong = wrong_answers(turn, others)
                assert all(grade(text, turn.question, others) is not Grade.RIGHT for text in wrong)


@pytest.mark.parametrize("variety", ["small", "full"])
def test_wordings_can_be_read_back_and_are_plain_sentences(variety):
    for role in ("tell", "update", "ask"):
        for kind in fact_kinds(variety):
            assert getattr(kind, role)
            for wording in getattr(kind, role):
                query, answer = wording.fill(kind.values[0], kind.values[1])
                assert kind.values[0] in answer or role != "ask"
                assert (role == "ask") == query.endswith("?") or "?" in query
                for text in (query, answer):
                    assert "{" not in text
                    assert "  " not in text
                    assert not text[0].islower()
                    assert text[-1] in ".?!"
    names = [kind.name for kind in fact_kinds(variety)]
    assert len(set(names)) == len(names)
    assert all(len(set(kind.values)) == len(kind.values) > 9 for kind in fact_kinds(variety))


def test_small_kinds_share_no_value_and_no_sentence(small):
    values = [value for kind in fact_kinds("small") for value in kind.values]
    assert len(set(values)) == len(values) == 160
    for role in small.values():
        assert all(len(meanings) == 1 for meanings in role.values())
    assert not {tuple(wording) for wording in chatter("small")} & (small["tell"].keys() | small["ask"].keys())


def test_texts_of_dialogues_are_their_turns():
    dialogue = generator().dialogue(0)
    assert list(texts_of([dialogue])) == [text for turn in dialogue.turns for text in (turn.query, turn.answer)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variety": "huge"}, "variety must be one of 'small', 'full', got 'huge'"),
        ({"split": "dev"}, "split must be one of"),
        ({"num_turns": 1}, "num_turns must be a whole number of at least 2, got 1"),
        ({"max_facts": 9}, "max_facts must be a whole number from 1 to 8, got 9"),
        ({"question_share": 1.5}, "question_share must be between 0 and 1, got 1.5"),
        ({"question_share": 0.6}, r"must leave as many turns .* \(60%\), and leave 25%"),
        ({"min_distance": 8}, "min_distance must be a whole number from 1 to 7, got 8"),
        ({"min_distance": 4, "max_distance": 3}, "max_distance must be a whole number of at least 4, got 3"),
        ({"distance_law": "normal"}, "distance_law must be one of"),
        ({"answer_wording": "brief"}, "answer_wording must be one of 'varied', 'plain', got 'brief'"),
    ],
)
def test_impossible_configuration_says_what_is_allowed(changes, message):
    with pytest.raises(ValueError, match=message):
        FactsConfig(**changes)


def test_configuration_survives_a_round_trip():
    config = FactsConfig(num_turns=12, split="test")
    assert FactsConfig(**config.to_dict()) == config.replace(split="test")
