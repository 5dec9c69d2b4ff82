"""The turn engine: what it refuses, what a row leaves for the next one, and where stop texts end an answer."""

import copy

import pytest
import torch

from rxlm.memory import MemoryState
from rxlm.rxt.config import RxTAlphaTokenizerConfig
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.decoding import DecodingState, RowSettings
from rxlm.rxt.prompt import Prompt
from rxlm.rxt.sampling import GREEDY
from rxlm.rxt.turn_engine import Opening, Query, RunningTurn, TurnEngine, write_turns
from rxlm.rxt.writer import AnswerWriter
from text_models import tiny_text_model, tiny_tokenizer

MODEL = tiny_text_model()
TOKENS = RxTAlphaTokenizerConfig(think_token_id=7)
ANSWER, THINK = 6, 7


def query(length: int = 4, **options) -> Query:
    return Query([2, 5, *range(20, 18 + length)], Opening(appended=(ANSWER,)), GREEDY, **options)


def begun(engine: TurnEngine, count: int = 1) -> list[RunningTurn]:
    turns = [engine.prepare(query()) for _ in range(count)]
    engine.begin(turns, MODEL.init_memory(count, seed=1))
    return turns


def written(text: str, *stop: str, appended=(ANSWER,), before=()) -> AnswerWriter:
    """Return what a writer makes of a text that comes a byte a token."""
    tokenizer = tiny_tokenizer()
    writer = AnswerWriter(tokenizer, TOKENS, appended, stop)
    for token in [*before, *(token for byte in text for token in tokenizer.encode(byte, add_special_tokens=False))]:
        if not writer.is_stopped:
            writer.push(token)
    writer.flush()
    assert "".join(piece.text for piece in writer.take() if not piece.is_thought) == writer.answer
    return writer


def test_the_stop_text_that_is_complete_first_ends_the_answer_wherever_tokens_end():
    tokenizer = tiny_tokenizer()
    whole = AnswerWriter(tokenizer, TOKENS, (ANSWER,), ("My dog is", "dog"))
    for token in tokenizer.encode("My dog is", add_special_tokens=False):
        whole.push(token)
        if whole.is_stopped:
            break
    assert written("My dog is", "My dog is", "dog").answer == whole.answer == "My "
    one_piece = AnswerWriter(tokenizer, TOKENS, (ANSWER,), ("My dog is", "dog"))
    one_piece._add("My dog is")
    assert one_piece.answer == "My "


@pytest.mark.parametrize(
    ("appended", "before", "kept"),
    [((ANSWER,), (), 0), ((), (ANSWER,), 1), ((), (THINK, 30, 31, ANSWER), 4), ((THINK,), (30, ANSWER), 2)],
)
def test_a_stop_text_at_the_very_start_leaves_thought_and_answer_token_in_the_turn(appended, before, kept):
    writer = written("dog", "dog", appended=appended, before=before)

    assert writer.answer == ""
    assert writer.kept_tokens == kept


def test_a_character_of_several_tokens_can_be_a_stop_text():
    assert written("dog \N{DOG FACE} dog", "\N{DOG FACE}").answer == "dog "


def test_an_answer_of_a_form_without_a_sign_before_it_keeps_its_first_token():
    assert written("dog", appended=()).answer == "dog"


@pytest.mark.parametrize("stop", ["dog", ("",), ("dog", "")])
def test_a_stop_that_is_no_list_of_texts_is_refused(stop):
    with pytest.raises(ValueError, match="stop must be a list of texts"):
        Conversation(MODEL).send("Hello", stop=stop)


@pytest.mark.parametrize("most", [0, -3])
def test_an_answer_without_tokens_is_refused(most):
    with pytest.raises(ValueError, match=f"max_answer_tokens must be at least 1, or None, got {most}"):
        TurnEngine(MODEL, 1).prepare(query(max_answer_tokens=most))


@pytest.mark.parametrize("limit", range(1, 7))
def test_a_query_is_cut_down_to_its_form_and_no_further(limit):
    """The form takes three tokens, and an answer needs one: less is refused before anything is done."""
    engine = TurnEngine(MODEL, 1, max_seq_len=limit)
    if limit < 4:
        with pytest.raises(
            ValueError, match=f"max_seq_len must be at least 4, got {limit}: the form of a turn takes 3 tokens"
        ):
            engine.prepare(query(9), "cut")
    else:
        turn = engine.prepare(query(9), "cut")
        engine.begin([turn], MODEL.init_memory(1, seed=1))
        assert turn.prompt[:2] == [2, 5]
        assert turn.prompt[-1] == ANSWER
        assert turn.cut == 10 - len(turn.prompt)


def test_only_turns_under_way_leave_and_each_once():
    engine = TurnEngine(MODEL, 2)
    first, second = begun(engine, 2)
    with pytest.raises(ValueError, match="each of them once"):
        engine.leave([first, first])
    engine.leave([first])
    with pytest.raises(ValueError, match="each of them once"):
        engine.leave([first])
    with pytest.raises(ValueError, match="A turn begins once"):
        engine.begin([second], MODEL.init_memory(1))
    with pytest.raises(ValueError, match="There are 1 free rows of 2, and 2 are to join"):
        begun(engine, 2)
    assert list(engine.turns.values()) == [second]


def test_a_step_without_a_row_that_can_go_on_is_refused_and_a_loop_over_none_ends():
    engine = TurnEngine(MODEL, 1)
    engine.begin([], MODEL.init_memory(1))
    assert list(engine.run()) == []
    with pytest.raises(ValueError, match="No row can go on"):
        engine.step()
    engine.leave(begun(engine))
    assert list(engine.run()) == []


def test_a_memory_of_another_number_of_conversations_is_refused_and_the_rows_stay_free():
    engine = TurnEngine(MODEL, 2)
    with pytest.raises(ValueError, match="holds 2 conversations"):
        engine.begin([engine.prepare(query())], MODEL.init_memory(2))
    assert engine.state.free_rows == [0, 1]


def test_what_an_answer_had_to_begin_with_does_not_bind_the_next_one_in_its_row():
    state = DecodingState(MODEL.decoder, 1, 20, pad_token_id=0)
    prompt, memory = Prompt(torch.tensor([[2, 5, 20]]), [3]), MODEL.init_memory(1, seed=1)
    state.admit(prompt, memory, [RowSettings(GREEDY, None, 20)])
    expected = int(state.step().tokens[0])
    state.evict([0])
    state.admit(prompt, memory, [RowSettings(GREEDY, None, 20, first_tokens=(0 if expected else 1,))])
    state.evict([0])
    state.admit(prompt, memory, [RowSettings(GREEDY, None, 20)])

    assert int(state.step().tokens[0]) == expected


@pytest.mark.parametrize("count", [1, 2])
def test_empty_turns_alone_change_no_memory(count):
    memory = MODEL.init_memory(count, seed=1)

    assert torch.equal(write_turns(MODEL, memory, [[]] * count).slots, memory.slots)


def test_a_memory_that_turns_were_written_to_can_be_trained_on():
    written = write_turns(MODEL, MODEL.init_memory(1, seed=1), [[5, 8, 9, 6, 10, 3]])

    assert not written.slots.is_inference()


def test_a_memory_of_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ValueError, match="kind of memory must be one of "):
        MemoryState.from_state_dict({"kind": "pebbles", "tensors": {}})


def test_a_conversation_reads_its_memory_with_the_weights_of_the_moment(tmp_path):
    model = tiny_text_model()
    chat = Conversation(model, sampling=GREEDY, seed=1)
    list(chat.send("My dog is called Rex."))
    chat._history._state.value.update.wait()
    with torch.no_grad():
        for layer in model.decoder.memory_layers:
            for parameter in layer.parameters():
                parameter.add_(0.3)
    other = Conversation(model, sampling=GREEDY, seed=1)
    chat.save(tmp_path / "chat")
    other.load(tmp_path / "chat")

    assert list(chat.send("Hello")) == list(other.send("Hello"))


def test_a_copy_of_a_model_goes_on_from_a_memory_of_its_own():
    model = tiny_text_model()
    asked = model.tokenize_query("My dog is called Rex.")
    list(model.interact(**asked, temperature=0))
    twin, memory = copy.deepcopy(model), model.export_stm_state()

    assert twin.current.model is twin
    assert list(twin.interact(**asked, temperature=0)) == list(model.interact(**asked, temperature=0))
    twin.reset_stm_state()
    assert not torch.equal(model.export_stm_state(), memory)


def test_turns_leave_together_or_none_does(monkeypatch):
    model = tiny_text_model()
    engine = TurnEngine(model, 2, tokenizer=model.tokenizer, streams=True)
    ids = model.tokenize_query("You")["input_ids"][0].tolist()
    turns = [engine.prepare(Query(ids, model.opening(None), GREEDY)) for _ in range(2)]
    engine.begin(turns, model.init_memory(2))
    list(engine.run())

    def failing():
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(turns[1].writer, "flush", failing)
        with pytest.raises(MemoryError):
            engine.leave(turns)
    assert list(engine.turns.values()) == turns
    engine.leave(turns)
    assert not engine.turns
