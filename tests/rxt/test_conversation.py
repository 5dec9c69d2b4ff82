"""A conversation does what its methods say, and an interrupted turn leaves everything as it was (laws 4 and 5)."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from rxlm.data.tokenizer import train_tokenizer
from rxlm.memory import MemoryState
from rxlm.rxt import history as history_module
from rxlm.rxt.conversation import Conversation, ConversationError
from rxlm.rxt.models import RxTAlpha, RxTBeta
from rxlm.rxt.sampling import SamplingConfig
from text_models import tiny_text_model, tiny_tokenizer

MODEL = tiny_text_model()
GREEDY = SamplingConfig(temperature=0.0)


def talk(conversation: Conversation, *texts: str) -> list[str]:
    return ["".join(conversation.send(text)) for text in texts]


def same(one: MemoryState, other: MemoryState) -> bool:
    return bool((one.slots == other.slots).all())


@pytest.fixture
def chat() -> Conversation:
    return Conversation(MODEL, system="You are kind.", seed=3)


class TestTurns:
    def test_the_pieces_are_the_answer_and_the_transcript_keeps_it(self, chat: Conversation) -> None:
        answers = talk(chat, "My dog is called Rex.", "What is my dog called?")

        assert [turn.answer for turn in chat.turns] == answers
        assert [turn.query for turn in chat.turns] == ["My dog is called Rex.", "What is my dog called?"]

    def test_the_memory_is_the_update_with_the_whole_interaction(self, chat: Conversation) -> None:
        before = chat.memory
        talk(chat, "My dog is called Rex.")

        ids = torch.tensor([chat.turns[0].ids])
        assert ids[0, :2].tolist() == [2, 5]  # [BOS][Q]
        assert 6 in ids[0].tolist()  # [A]
        with torch.no_grad():
            assert same(chat.memory, MODEL.update_memory(before, ids))

    def test_it_answers_as_interact_does(self) -> None:
        MODEL.init_stm_state(**MODEL.tokenize_full_interaction("You are kind.", ""))
        talker = Conversation(MODEL, system="You are kind.", sampling=GREEDY)

        for text in ("My dog is called Rex.", "What is my dog called?"):
            ids = list(MODEL.interact(**MODEL.tokenize_query(text), temperature=0))[:-2]
            assert talk(talker, text) == MODEL.stringify_batch([ids])
        assert (talker.memory.slots == MODEL.export_stm_state()).all()

    def test_a_seed_makes_the_whole_conversation_repeatable(self) -> None:
        one, two, other = (talk(Conversation(MODEL, seed=seed), "Hello", "Hello") for seed in (1, 1, 2))

        assert one == two
        assert one != other
        assert one[0] != one[1]  # each turn draws anew

    def test_half_characters_are_held_back_and_nothing_is_lost(self, chat: Conversation) -> None:
        pieces = list(chat.send("Tell me", sampling=SamplingConfig(temperature=5.0), seed=5))
        ids = list(chat.turns[0].ids)
        answer = ids[ids.index(6) + 1 :]

        assert "".join(pieces) == tiny_tokenizer().decode(answer, skip_special_tokens=True)

    def test_many_conversations_share_one_model(self) -> None:
        alone = talk(Conversation(MODEL, seed=1), "Hello", "My dog")
        one, two = Conversation(MODEL, seed=1), Conversation(MODEL, seed=2)
        mixed = []
        for text in ("Hello", "My dog"):
            mixed += talk(one, text)
            talk(two, text)

        assert mixed == alone


class TestInterruption:
    def test_a_closed_generator_leaves_everything_as_before_the_turn(self, chat: Conversation) -> None:
        talk(chat, "My dog is called Rex.")
        memory, turns = chat.memory, chat.turns
        answer = chat.send("What is my dog called?")
        next(answer)
        answer.close()

        assert same(chat.memory, memory)
        assert chat.turns == turns

    @given(st.integers(0, 10))
    def test_a_failure_in_mid_turn_leaves_everything_as_before_the_turn(self, step: int) -> None:
        model = tiny_text_model()
        chat = Conversation(model, seed=3)
        untouched = Conversation(model, seed=3)
        expected = talk(untouched, "Hello", "What is my dog called?")
        talk(chat, "Hello")
        memory, turns = chat.memory, chat.turns
        calls = 0
        head = model.decoder.head.forward

        def failing(x: torch.Tensor) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if calls > step:
                raise RuntimeError("out of luck")
            return head(x)

        model.decoder.head.forward = failing  # type: ignore[method-assign]
        with pytest.raises(RuntimeError, match="out of luck"):
            talk(chat, "What is my dog called?")
        model.decoder.head.forward = head  # type: ignore[method-assign]

        assert same(chat.memory, memory)
        assert chat.turns == turns
        assert talk(chat, "What is my dog called?") == expected[1:]

    def test_a_failing_memory_update_takes_the_turn_back_and_says_so(
        self, chat: Conversation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        talk(chat, "Hello")
        memory, turns = chat.memory, chat.turns

        def failing(*_: object) -> None:
            raise RuntimeError("no space")

        with monkeypatch.context() as patch:
            patch.setattr(MODEL, "encode", failing)
            talk(chat, "My dog is called Rex.")
            with pytest.raises(ConversationError, match=r"after 'My dog is called Rex.' failed.*no space"):
                chat.wait()

        assert chat.turns == turns
        assert same(chat.memory, memory)
        assert talk(chat, "Hello again")

    def test_bad_arguments_raise_at_the_call_and_change_nothing(self, chat: Conversation) -> None:
        with pytest.raises(ValueError, match=r"takes \d+ tokens"):
            chat.send("word " * 100)
        with pytest.raises(ValueError, match="max_seq_len must be between 1 and the model's 48, got 500"):
            chat.send("Hello", max_seq_len=500)
        with pytest.raises(ValueError, match="is for RxTBeta"):
            chat.send("Hello", thinking_mode="fast")

        assert chat.turns == ()
        assert talk(chat, "Hello")

    def test_a_second_turn_waits_for_the_first_to_be_read(self, chat: Conversation) -> None:
        first = chat.send("Hello")
        next(first)
        for action in (lambda: next(chat.send("Hello")), chat.undo, chat.fork, chat.reset):
            with pytest.raises(ConversationError, match="An answer is being written"):
                action()
        list(first)
        assert talk(chat, "Hello")


class TestBackgroundUpdate:
    def test_the_caller_is_free_before_the_update_is_done(
        self, chat: Conversation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        may_go_on = threading.Event()
        encode = MODEL.encode

        def slow(*arguments: object) -> torch.Tensor:
            assert may_go_on.wait(timeout=30)
            return encode(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(MODEL, "encode", slow)
        talk(chat, "Hello")  # returns though the update cannot have run
        assert len(chat.turns) == 1
        may_go_on.set()
        assert not same(chat.memory, Conversation(MODEL, seed=3).memory)

    def test_the_next_turn_reads_the_updated_memory(self, chat: Conversation) -> None:
        talk(chat, "Hello")
        waited = Conversation(MODEL, system="You are kind.", seed=3)
        talk(waited, "Hello")
        waited.wait()

        assert talk(chat, "What is my dog called?") == talk(waited, "What is my dog called?")


class TestGoingBack:
    @given(st.integers(1, 4), st.integers(0, 4))
    def test_undo_is_as_if_the_turns_had_never_been(self, kept: int, undone: int) -> None:
        chat, short = Conversation(MODEL, seed=1), Conversation(MODEL, seed=1)
        talk(chat, *(f"Turn {n}" for n in range(kept + undone)))
        talk(short, *(f"Turn {n}" for n in range(kept)))
        chat.undo(undone)

        assert chat.turns == short.turns
        assert same(chat.memory, short.memory)

    def test_undo_goes_back_further_than_states_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(history_module, "KEPT_STATES", 2)
        chat = Conversation(MODEL, seed=1)
        memories = [chat.memory]
        for n in range(6):
            talk(chat, f"Turn {n}")
            memories.append(chat.memory)
        assert len(chat._history.present().memories) <= 4
        chat.undo(4)

        assert same(chat.memory, memories[2])

    def test_undoing_more_turns_than_there_are_is_refused(self, chat: Conversation) -> None:
        talk(chat, "Hello")
        with pytest.raises(ConversationError, match="There are 1 turns to undo, and 2 were asked for"):
            chat.undo(2)
        assert len(chat.turns) == 1

    def test_reset_returns_to_the_memory_after_the_system_prompt(self, chat: Conversation) -> None:
        first = chat.memory
        talk(chat, "Hello", "Hello")
        chat.reset()

        assert chat.turns == ()
        assert same(chat.memory, first)
        assert not same(chat.memory, Conversation(MODEL, seed=3).memory)  # that one had no system prompt

    def test_a_fork_goes_its_own_way(self, chat: Conversation) -> None:
        talk(chat, "Hello")
        fork = chat.fork()
        memory, turns = chat.memory, chat.turns
        assert same(fork.memory, memory)
        talk(fork, "My dog is called Rex.")
        fork.undo(2)
        talk(fork, "What?")

        assert same(chat.memory, memory)
        assert chat.turns == turns

    def test_retry_answers_the_same_query_from_the_same_memory(self, chat: Conversation) -> None:
        talk(chat, "Hello", "My dog is called Rex.")
        twin = chat.fork()
        again = "".join(chat.retry(seed=11))
        twin.undo()
        expected = "".join(twin.send("My dog is called Rex.", seed=11))

        assert again == expected
        assert chat.turns == twin.turns
        assert same(chat.memory, twin.memory)

    def test_an_interrupted_retry_keeps_the_old_answer(self, chat: Conversation) -> None:
        talk(chat, "Hello", "My dog is called Rex.")
        memory, turns = chat.memory, chat.turns
        answer = chat.retry()
        next(answer)
        answer.close()

        assert chat.turns == turns
        assert same(chat.memory, memory)

    def test_a_retry_whose_memory_update_fails_keeps_the_old_answer(
        self, chat: Conversation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        talk(chat, "Hello")
        memory, turns = chat.memory, chat.turns

        def failing(*_: object) -> None:
            raise RuntimeError("no space")

        with monkeypatch.context() as patch:
            patch.setattr(MODEL, "encode", failing)
            list(chat.retry())
            with pytest.raises(ConversationError, match="no space"):
                chat.wait()

        assert chat.turns == turns
        assert same(chat.memory, memory)

    def test_there_must_be_a_turn_to_retry(self, chat: Conversation) -> None:
        with pytest.raises(ConversationError, match="no turn to retry"):
            chat.retry()


class TestFiles:
    def test_a_loaded_conversation_goes_on_as_if_never_interrupted(self, chat: Conversation, tmp_path: Path) -> None:
        talk(chat, "My dog is called Rex.", "Hello")
        chat.save(tmp_path / "chat.safetensors")
        loaded = Conversation(MODEL)
        loaded.load(tmp_path / "chat.safetensors")

        assert loaded.turns == chat.turns
        assert loaded.system == chat.system
        assert same(loaded.memory, chat.memory)
        assert talk(loaded, "What is my dog called?") == talk(chat, "What is my dog called?")
        assert same(loaded.memory, chat.memory)
        loaded.undo(3)
        chat.undo(3)
        assert same(loaded.memory, chat.memory)

    def test_the_file_is_safetensors_with_the_memory_in_it(self, chat: Conversation, tmp_path: Path) -> None:
        from safetensors.torch import load_file

        talk(chat, "Hello")
        chat.save(tmp_path / "chat.safetensors")

        assert (load_file(tmp_path / "chat.safetensors")["memory.1.memory"] == chat.memory.slots).all()

    @pytest.mark.parametrize(
        ("other", "what"),
        [
            (lambda: tiny_text_model(seed=1), "the weights differ"),
            (lambda: tiny_text_model(num_layers=3), "decoder_config.num_layers is 2 there and 3 here"),
            (lambda: tiny_text_model(RxTBeta), "architecture is 'RxTAlpha' there and 'RxTBeta' here"),
        ],
    )
    def test_another_model_refuses_it_and_says_what_differs(
        self, other: type, what: str, chat: Conversation, tmp_path: Path
    ) -> None:
        talk(chat, "Hello")
        chat.save(tmp_path / "chat.safetensors")
        stranger = Conversation(other(), seed=1)
        expected = Conversation(stranger.model, seed=1)

        with pytest.raises(ConversationError, match=rf"chat\.safetensors: This conversation .*{what}"):
            stranger.load(tmp_path / "chat.safetensors")
        assert talk(stranger, "Hello") == talk(expected, "Hello")

    def test_another_tokenizer_refuses_it(self, chat: Conversation, tmp_path: Path) -> None:
        chat.save(tmp_path / "chat.safetensors")
        other = Conversation(MODEL, train_tokenizer(["Quite other words."] * 3, 280))

        with pytest.raises(ConversationError, match="the tokenizer differs"):
            other.load(tmp_path / "chat.safetensors")

    @pytest.mark.parametrize(
        "damage", ["missing", "cut", "text", "plain tensors", "another kind", "no memory", "no turns"]
    )
    def test_a_damaged_file_is_refused_and_the_conversation_stays(
        self, damage: str, chat: Conversation, tmp_path: Path
    ) -> None:
        talk(chat, "Hello")
        path = tmp_path / "chat.safetensors"
        chat.save(path)
        if damage == "missing":
            path.unlink()
        elif damage == "cut":
            path.write_bytes(path.read_bytes()[:-100])
        elif damage == "text":
            path.write_text("hello")
        elif damage in ("another kind", "no memory", "no turns"):
            with safe_open(path, framework="pt") as file:
                metadata = {"conversation": file.metadata()["conversation"]}  # without the digest
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            record = json.loads(tensors["conversation"].numpy().tobytes())
            if damage == "another kind":
                record["kind"] = "pebbles"
            elif damage == "no memory":
                del tensors["memory.1.memory"]
            else:
                del record["turns"]
            tensors["conversation"] = torch.frombuffer(bytearray(json.dumps(record).encode()), dtype=torch.uint8)
            save_file(tensors, path, metadata)
        else:
            chat.memory.save(path)
        turns = chat.turns

        with pytest.raises(ConversationError, match=r"chat\.safetensors"):
            chat.load(path)
        assert chat.turns == turns
        assert talk(chat, "Hello")


class TestThinking:
    @pytest.fixture
    def thinker(self) -> Conversation:
        return Conversation(tiny_text_model(RxTBeta), seed=1)

    def test_thoughts_go_to_the_callback_and_answers_to_the_caller(self, thinker: Conversation) -> None:
        thoughts: list[str] = []
        answer = "".join(thinker.send("Hello", thinking_mode="extended", on_thought=thoughts.append))
        turn = thinker.turns[0]

        assert turn.thought == "".join(thoughts)
        assert turn.answer == answer
        assert 7 in turn.ids  # [T]

    def test_fast_has_no_thought(self, thinker: Conversation) -> None:
        list(thinker.send("Hello", thinking_mode="fast"))

        assert thinker.turns[0].thought is None
        assert 7 not in thinker.turns[0].ids[: thinker.turns[0].ids.index(6)]

    def test_auto_lets_the_model_choose(self, thinker: Conversation) -> None:
        thoughts = []
        for seed in range(12):
            list(thinker.send("Hello", seed=seed, sampling=SamplingConfig(temperature=50.0)))
            thoughts.append(thinker.turns[0].thought is not None)
            thinker.undo()

        assert set(thoughts) == {True, False}

    def test_a_system_prompt_stands_under_the_models_title(self) -> None:
        titled = tiny_text_model(RxTBeta, system_prompt_title="Rules")
        with torch.no_grad():
            ids = titled.tokenize_full_interaction("Rules", "You are kind.")["input_ids"]
            expected = titled.update_memory(titled.init_memory(), ids)

        assert same(Conversation(titled, system="You are kind.").memory, expected)


def test_a_model_without_tokenizer_needs_one() -> None:
    model = tiny_text_model()
    model.codec = None

    with pytest.raises(ValueError, match="has no tokenizer"):
        Conversation(model)
    assert talk(Conversation(model, tiny_tokenizer()), "Hello")


def test_a_tokenizer_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="they do not belong together"):
        Conversation(
            MODEL, train_tokenizer(["twelve blue foxes quickly jumped over my lazy neighbour"], 340, min_frequency=1)
        )


def test_a_system_prompt_that_is_too_long_is_refused() -> None:
    with pytest.raises(ConversationError, match=r"system prompt takes \d+ tokens; the limit is 48"):
        Conversation(MODEL, system="kind " * 60)


@pytest.fixture(autouse=True)
def fresh_memory() -> Iterator[None]:
    MODEL.reset_stm_state()
    yield
    assert isinstance(MODEL, RxTAlpha)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (5, {}, "text must be a string, got 5"),
        ("a\ud800", {}, "text has half of a character"),
        ("Hi.", {"fit": "cutt"}, "fit must be one of 'refuse', 'cut', got 'cutt'"),
        ("Hi.", {"stop": (5,)}, "stop must be a list of texts"),
        ("Hi.", {"stop": "five"}, "stop must be a list of texts"),
    ],
)
def test_what_is_asked_of_a_turn_is_checked_by_name(text: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Conversation(MODEL).send(text, **options)
