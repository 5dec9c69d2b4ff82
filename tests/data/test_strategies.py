"""Episodes have the length of their kind, and never ask for what was said before they began."""

from collections.abc import Sequence

import pytest

from rxlm.data.facts import FactGenerator, FactsConfig
from rxlm.data.records import Dialogue, Interaction
from rxlm.data.strategies import EpisodeKind, Episodes, Strategy, configure_facts, curriculum

FACTS = FactGenerator(FactsConfig(num_turns=12, question_share=0.4)).dialogues(40)
CHATS = [
    Dialogue(tuple(Interaction(f"{topic} {turn}?", f"{topic} {turn}.") for turn in range(turns)), source=topic)
    for topic, turns in (("cats", 5), ("dogs", 3), ("tax", 1))
]
KINDS = curriculum(6)


def check_answerable(turns: Sequence[Interaction]) -> None:
    """Every question about something told has its answer in the turn that it says, within the episode."""
    for place, turn in enumerate(turns):
        if turn.question is not None and turn.question.distance is not None:
            assert place - turn.question.distance >= 0
            told = turns[place - turn.question.distance]
            assert turn.question.expected[0] in f"{told.query} {told.answer}"


def test_the_curriculum_goes_from_one_step_to_the_longest() -> None:
    assert curriculum(1) == (EpisodeKind("single"),)
    assert [(kind.strategy, kind.steps) for kind in KINDS] == [
        ("single", 1), ("multi", 2), ("long_range", 2), ("multi", 4), ("long_range", 4), ("multi", 6),
        ("long_range", 6),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_episodes_of_dialogues_with_questions_can_be_answered(kind: EpisodeKind) -> None:
    episodes = Episodes(FACTS, kind)

    for episode in episodes:
        assert len(episode) == kind.steps + 1
        check_answerable(episode.turns)
        question = episode.turns[-1].question
        if kind.strategy != "multi":
            assert question is not None
            assert question.distance == kind.steps


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_generator_makes_the_same_kinds(kind: EpisodeKind) -> None:
    for episode in FactGenerator(configure_facts(FactsConfig(max_distance=5), kind)).dialogues(50):
        assert len(episode) == kind.steps + 1
        check_answerable(episode.turns)
        questions = [turn.question for turn in episode.turns if turn.question is not None]
        if kind.strategy != "multi":
            assert [question.distance for question in questions] == [kind.steps]
            assert episode.turns[-1].question is questions[0]


def test_every_possible_episode_is_there_once() -> None:
    chains = Episodes(CHATS, EpisodeKind("multi", 2))

    assert [episode.turns for episode in chains] == [
        *(CHATS[0].turns[first : first + 3] for first in range(3)),
        CHATS[1].turns,
    ]
    assert len(Episodes(CHATS, EpisodeKind("single"))) == 4 + 2
    assert [episode.turns for episode in chains[1:3]] == [chains[1].turns, chains[2].turns]
    assert chains[-1].turns == chains[3].turns


def test_long_ranges_of_chats_come_back_after_other_topics() -> None:
    kind = EpisodeKind("long_range", 7)
    episodes = list(Episodes(CHATS, kind, seed=1))

    assert len(episodes) == 6
    for episode in episodes:
        topics = [turn.query.split()[0] for turn in episode.turns]
        assert len(topics) == 8
        assert topics[0] == topics[-1]
        assert topics[0] not in topics[1:-1]
    assert episodes[0].turns[0] == CHATS[0].turns[0]
    assert episodes[0].turns[-1] == CHATS[0].turns[1]


def test_a_seed_decides_the_topics_in_between() -> None:
    kind = EpisodeKind("long_range", 7)
    drawn = {seed: [episode.turns for episode in Episodes(CHATS, kind, seed)] for seed in (0, 0, 1)}

    assert drawn[0] == [episode.turns for episode in Episodes(CHATS, kind)]
    assert drawn[0] != drawn[1]
    assert Episodes(CHATS, kind)[-1].turns == Episodes(CHATS, kind)[5].turns


@pytest.mark.parametrize(
    ("dialogues", "kind", "message"),
    [
        (CHATS, EpisodeKind("multi", 5), "3 dialogues hold no episode .*'multi' with 5 steps: none has 6 turns"),
        (CHATS[:1], EpisodeKind("long_range", 2), "it takes two dialogues"),
        (FACTS, EpisodeKind("long_range", 12), "none asks for a fact 12 turns after it"),
        ([], EpisodeKind("single"), "The 0 dialogues hold no episode"),
    ],
)
def test_data_without_such_episodes_are_refused(dialogues: Sequence[Dialogue], kind: EpisodeKind, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Episodes(dialogues, kind)


@pytest.mark.parametrize(
    ("strategy", "steps", "message"),
    [
        ("double", 1, "strategy must be one of 'single', 'multi', 'long_range', got 'double'"),
        ("single", 2, "steps must be 1 for 'single', got 2"),
        ("multi", 1, "steps must be a whole number of at least 2 for 'multi', got 1"),
        ("long_range", 2.5, "at least 2 for 'long_range', got 2.5"),
    ],
)
def test_a_kind_that_cannot_be_is_refused(strategy: Strategy, steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EpisodeKind(strategy, steps)
    with pytest.raises(ValueError, match="longest is 0"):
        curriculum(0)
