"""The adapter of Reactive Transformers: a batch is what its dialogues are alone, and a control what its name says."""

from collections.abc import Sequence

import pytest
import torch

from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.templates import interaction_ids
from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.replies import batches_of, replies_of
from rxlm.mrq_bench.rxt_model import RxTRespondent
from rxlm.rxt.models import RxTAlpha
from text_models import SENTENCES, tiny_text_model

ASKED = Question("dog", ("Rex",), 1)


def dialogue(*queries: str) -> Dialogue:
    return Dialogue(tuple(Interaction(query, "ok", question=ASKED) for query in queries))


DIALOGUES = (
    dialogue(*SENTENCES),
    dialogue("Hello", "What is my dog called?"),
    dialogue("You are kind.", "Tell me a story.", "I am Rex.", "Who am I?", "And now?", "Good night"),
)


@pytest.fixture
def model() -> RxTAlpha:
    return tiny_text_model().double()


def answers_of(respondent: RxTRespondent, dialogues: Sequence[Dialogue], control: Control = "none") -> list[list[str]]:
    found: list[list[str]] = [[] for _ in dialogues]
    for row, _, _, answer in replies_of(respondent, dialogues, control):
        found[row].append(answer)
    return found


def test_a_batch_of_dialogues_of_any_lengths_is_what_each_is_alone(model: RxTAlpha) -> None:
    respondent = RxTRespondent(model)
    together = answers_of(respondent, DIALOGUES)

    assert together == [answers_of(respondent, [alone])[0] for alone in DIALOGUES]
    assert [len(answers) for answers in together] == [4, 2, 6]


def test_answers_are_those_of_the_models_own_methods(model: RxTAlpha) -> None:
    model.reset_stm_state(seed=0)
    expected = []
    for query in SENTENCES:
        ids = list(model.interact(**model.tokenize_query(query), temperature=0))[:-2]
        expected.append(model.stringify_batch([ids])[0])

    assert answers_of(RxTRespondent(model), DIALOGUES[:1]) == [expected]


def test_an_answer_ends_after_so_many_tokens_in_every_row(model: RxTAlpha) -> None:
    whole = answers_of(RxTRespondent(model), DIALOGUES)
    short = answers_of(RxTRespondent(model, max_answer_tokens=3), DIALOGUES)

    assert all(whole[row][0].startswith(short[row][0]) for row in range(3))
    assert any(len(whole[row][0]) > len(short[row][0]) for row in range(3))


@pytest.mark.parametrize("control", ["empty", "never-updated"])
def test_without_memory_every_turn_is_answered_like_a_first_one(control: Control, model: RxTAlpha) -> None:
    respondent = RxTRespondent(model)
    again = dialogue("What is my dog called?", "Hello", "What is my dog called?")
    first, _, last = answers_of(respondent, [again, *DIALOGUES], control)[0]

    assert first == last == answers_of(respondent, [dialogue("What is my dog called?")])[0][0]
    assert answers_of(respondent, [again])[0][2] != last, "the memory makes a difference in this model"


def test_shuffled_answers_from_the_memory_of_the_next_dialogue(model: RxTAlpha) -> None:
    """Both dialogues are led as they would have been; only what is said comes from the other's memory."""
    respondent = RxTRespondent(model)
    one, other = dialogue("Hello", "You are kind.", "Who am I?"), dialogue("I am Rex.", "Good night", "And you?")
    crossed = answers_of(respondent, [one, other], "shuffled")
    for number in range(3):
        mixed = Dialogue((*other.turns[:number], one.turns[number]))
        assert crossed[0][number] == answers_of(respondent, [mixed])[0][number]
    assert crossed != answers_of(respondent, [one, other])


@torch.no_grad()
def test_losses_are_those_of_a_naive_computation(model: RxTAlpha) -> None:
    respondent = RxTRespondent(model)
    turns = [("Hello", "You are kind."), ("What is my dog called?", "Rex")]
    respondent.reset(2)
    respondent.follow(["Hello", None], ["You are kind.", None])
    found = respondent.losses([turns[1][0], turns[1][0]], ["Rex", "You are a knight."])

    for row, answer in enumerate(["Rex", "You are a knight."]):
        memory = model.init_memory(1, seed=row)
        tokenizer, tokens = model.needed_tokenizer(), model.tokenizer_config
        if row == 0:
            memory = model.update_memory(memory, torch.tensor([interaction_ids(tokenizer, tokens, *turns[0])]))
        ids = interaction_ids(tokenizer, tokens, turns[1][0], answer)
        logits = model.decode(torch.tensor([ids]), memory)[0].log_softmax(-1)
        start = ids.index(tokens.answer_token_id) + 1
        nats = -sum(float(logits[place - 1, ids[place]]) for place in range(start, len(ids) - 1))
        assert found[row].nats == pytest.approx(nats, abs=1e-9)
        assert found[row].tokens == len(ids) - 1 - start


def test_a_query_that_is_too_long_loses_its_beginning(model: RxTAlpha) -> None:
    respondent = RxTRespondent(model)
    asked = "What is my dog called?"
    long = [dialogue(opening * 60 + asked) for opening in ("word ", "other ")]

    assert respondent.cuts("word " * 60)
    assert not respondent.cuts(asked)
    assert len(answers_of(respondent, long)) == 2
    room = model.max_seq_len - model.max_seq_len // 2 - 3  # the answer may take half of a turn
    words = model.needed_tokenizer()("word " * 60 + asked)["input_ids"][-room:]
    kept = model.needed_tokenizer().decode(words)
    assert answers_of(respondent, long[:1]) == answers_of(respondent, [dialogue(kept)])
    respondent.reset(1)
    answer = model.needed_tokenizer()("answer " * 60)["input_ids"]
    room = model.max_seq_len - 4  # what training leaves of such a turn: the answer, as far as it fits, and no query
    assert respondent.losses(["word " * 60], ["answer " * 60])[0].tokens == min(len(answer), room)


def test_embeddings_are_means_of_token_embeddings(model: RxTAlpha) -> None:
    found = RxTRespondent(model).embed(["dog", ""])
    ids = model.needed_tokenizer()("dog")["input_ids"]

    assert torch.allclose(found[0], model.decoder.embedding.weight[ids].mean(0).float())
    assert not found[1].any()


def test_measuring_remembers_nothing_and_counts_the_memory(model: RxTAlpha) -> None:
    respondent = RxTRespondent(model)
    respondent.reset(1)
    before = respondent.losses(["Hello"], ["Rex"])
    cost = respondent.measure("Hello", 5)

    assert respondent.losses(["Hello"], ["Rex"]) == before
    assert cost.session_bytes == model.init_memory(1).num_bytes
    assert min(cost.first_token, cost.tokens_per_second, cost.update or 0.0) > 0


def test_dialogues_are_divided_evenly_and_none_is_left_alone() -> None:
    assert [list(rows) for rows in batches_of(7, 3)] == [[0, 1], [2, 3], [4, 5, 6]]
    assert batches_of(0, 3) == []
    for count in range(2, 40):
        for size in range(3, 12):
            batches = batches_of(count, size)
            assert [row for rows in batches for row in rows] == list(range(count))
            assert all(2 <= len(rows) <= size for rows in batches)


def test_controls_that_cannot_be_are_refused(model: RxTAlpha) -> None:
    respondent = RxTRespondent(model)
    with pytest.raises(ValueError, match="batch_size must be at least 2 for control 'shuffled', got 1"):
        respondent.reset(1, "shuffled")
    with pytest.raises(ValueError, match="control must be one of none, empty, shuffled, never-updated for this model"):
        respondent.reset(1, "full-history")
