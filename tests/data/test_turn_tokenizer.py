"""Encoding and batches: the form of an interaction, what is predicted, truncation and padding."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.templates import interaction_ids
from rxlm.data.tokenizer import encode_text
from rxlm.data.turn_tokenizer import TurnTokenizer

texts = st.text("abc .?", min_size=1, max_size=40)
interactions = st.builds(Interaction, texts, texts, st.none() | texts)


def special(tokens):
    return {tokens.bos_token_id, tokens.query_token_id, tokens.answer_token_id, tokens.think_token_id}


@given(interaction=interactions)
def test_encoding_has_the_form_of_the_template(tokenizer, tokens, interaction):
    encoded = TurnTokenizer(tokenizer, tokens, max_tokens=1000).encode(interaction)
    form = interaction_ids(tokenizer, tokens, interaction.query, interaction.answer, interaction.thought)
    assert list(encoded.ids) == form
    opening = tokens.answer_token_id if interaction.thought is None else tokens.think_token_id
    assert form[encoded.first_target - 1] == opening
    assert encoded.end_of_targets == len(form)


@given(interaction=interactions, max_tokens=st.integers(5, 60))
def test_truncation_takes_the_start_of_the_query_first_and_no_special_token(tokenizer, tokens, interaction, max_tokens):
    turn_tokenizer = TurnTokenizer(tokenizer, tokens, max_tokens=max_tokens)
    if interaction.thought is not None and max_tokens < 8:
        interaction = Interaction(interaction.query, interaction.answer)
    whole = TurnTokenizer(tokenizer, tokens, max_tokens=1000).encode(interaction)
    cut = turn_tokenizer.encode(interaction)
    excess = max(len(whole.ids) - max_tokens, 0)
    assert len(cut.ids) == len(whole.ids) - excess
    assert [t for t in cut.ids if t in special(tokens)] == [t for t in whole.ids if t in special(tokens)]
    assert cut.ids[:2] == whole.ids[:2]
    assert cut.ids[-1] == tokens.eos_token_id
    special_tokens = 4 + (interaction.thought is not None)
    answer_length = len(encode_text(tokenizer, interaction.answer))
    if excess <= whole.first_target - 3:
        assert cut.ids[2:] == whole.ids[2 + excess :], "the rest is untouched"
    if special_tokens + answer_length > max_tokens:
        assert cut.end_of_targets == len(cut.ids) - 1, "nobody learns to stop where the text was cut"
    else:
        assert cut.end_of_targets == len(cut.ids)


def test_first_cut_is_logged(turn_tokenizer, caplog):
    turn_tokenizer.encode(Interaction("Hi.", "Hello!"))
    assert not caplog.messages
    for _ in range(2):
        turn_tokenizer.encode(Interaction("I live in Paris. " * 20, "Hello!"))
    (message,) = caplog.messages
    assert message.startswith(f"max_tokens={turn_tokenizer.max_tokens}: an interaction is ")
    assert "0 from the end of its answer" in message


def test_a_model_that_does_not_think_is_trained_as_it_is_asked(tokenizer, tokens, caplog):
    turn_tokenizer = TurnTokenizer(tokenizer, tokens.replace(think_token_id=None), max_tokens=48)
    for _ in range(2):
        assert turn_tokenizer.encode(Interaction("Who?", "I.", "Hm.")) == turn_tokenizer.encode(
            Interaction("Who?", "I.")
        )
    assert turn_tokenizer.num_thoughts == 2
    assert caplog.messages == ["Interactions have thoughts, and the model does not think: they are left out."]


@given(rows=st.lists(interactions, min_size=1, max_size=5))
def test_batch_holds_each_row_padded_at_the_end(tokenizer, tokens, rows):
    turn_tokenizer = TurnTokenizer(tokenizer, tokens, max_tokens=30)
    batch = turn_tokenizer.interaction_batch(rows)
    assert batch.ids.shape == batch.mask.shape == batch.answer_mask.shape
    assert batch.ids.shape[1] == max(int(batch.mask.sum(1).max()), 1)
    for row, interaction in enumerate(rows):
        encoded = turn_tokenizer.encode(interaction)
        length = len(encoded.ids)
        assert batch.ids[row, :length].tolist() == list(encoded.ids)
        assert (batch.ids[row, length:] == tokens.pad_token_id).all()
        assert batch.mask[row].tolist() == [place < length for place in range(batch.ids.shape[1])]
        predicted = range(encoded.first_target, encoded.end_of_targets)
        assert batch.answer_mask[row].nonzero()[:, 0].tolist() == list(predicted)


def test_dialogues_that_have_ended_go_on_with_padding(turn_tokenizer, tokens):
    turn = Interaction("Who?", "I.")
    batch = turn_tokenizer.dialogue_batch([Dialogue((turn,) * count) for count in (1, 3, 2)])
    assert (batch.batch_size, batch.num_turns) == (3, 3)
    assert [turn.present.tolist() for turn in batch.turns] == [[1, 1, 1], [0, 1, 1], [0, 1, 0]]
    last = batch.turns[2]
    assert (last.ids[0] == tokens.pad_token_id).all()
    assert not last.answer_mask[0].any()
    assert batch.num_tokens == 6 * len(turn_tokenizer.encode(turn).ids)


def test_turn_is_the_same_in_any_company(turn_tokenizer):
    short, long = Interaction("Who?", "I."), Interaction("Where do I live?", "You live in Paris, I think.")
    alone, together = turn_tokenizer.interaction_batch([short]), turn_tokenizer.interaction_batch([long, short])
    width = alone.ids.shape[1]
    assert torch.equal(together.ids[1, :width], alone.ids[0])
    assert torch.equal(together.answer_mask[1, :width], alone.answer_mask[0])
    assert not together.mask[1, width:].any()


@pytest.mark.parametrize(
    ("answer", "expected", "named"),
    [
        ("You live in Paris.", ("Paris",), [" Paris."]),
        ("paris, of course. Paris!", ("Paris",), ["paris,", " Paris!"]),
        ("It is dark blue.", ("dark blue",), [" dark blue."]),
        ("They are Anna, and Bob.", ("Bob", "Anna"), [" Anna,", " Bob."]),
        ("He is an Annapolitan.", ("Anna",), []),
        ("It is Anna", ("Anna",), [" Anna[EOS]"]),
        ("I do not know.", (), []),
    ],
)
def test_tokens_that_name_what_is_asked_for_are_marked_and_the_one_behind_them(
    turn_tokenizer, tokenizer, answer, expected, named
):
    question = Question("home", expected, 1 if expected else None)
    batch = turn_tokenizer.interaction_batch(
        [Interaction("Hi.", "Paris."), Interaction("Where?", answer, question=question)]
    )
    assert batch.value_mask is not None
    assert not batch.value_mask[0].any()
    assert not (batch.value_mask & ~batch.answer_mask).any()
    assert tokenizer.decode(batch.ids[1][batch.value_mask[1]]) == "".join(named)


def test_a_value_behind_the_cut_of_a_long_answer_is_not_marked(tokenizer, tokens):
    asked = Interaction("Who?", "My dear friend, it is Anna.", question=Question("name", ("Anna",), 1))
    for max_tokens in range(5, 30):
        batch = TurnTokenizer(tokenizer, tokens, max_tokens=max_tokens).interaction_batch([asked])
        assert batch.value_mask is not None
        assert not (batch.value_mask & ~batch.answer_mask).any()


def test_too_few_tokens_for_a_text_are_refused(tokenizer, tokens):
    with pytest.raises(ValueError, match="max_tokens=4 must be at least 5"):
        TurnTokenizer(tokenizer, tokens, max_tokens=4)


def test_special_tokens_in_a_text_stay_text(turn_tokenizer, tokens):
    ids = turn_tokenizer.encode(Interaction("Say [A] and [EOS].", "[Q]")).ids
    assert sum(token in special(tokens) for token in ids) == 3
    assert ids.count(tokens.eos_token_id) == 1


def test_batches_move_between_devices(turn_tokenizer):
    turn = Interaction("Who?", "I.")
    batch = turn_tokenizer.dialogue_batch([Dialogue((turn, turn))])
    assert torch.equal(batch.to("cpu").turns[1].ids, batch.turns[1].ids)
    moved = batch.to("meta").turns[0]
    assert all(getattr(moved, name).device.type == "meta" for name in ("ids", "mask", "answer_mask", "value_mask"))
