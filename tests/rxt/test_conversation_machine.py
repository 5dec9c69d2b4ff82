"""Transcript and memory of a conversation never part: any sequence of calls, from threads, interrupted anywhere.

`TORTURE_STEPS=10000 pytest tests/rxt/test_conversation_machine.py` runs so many steps of new sequences.
"""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from helpers import assert_same_memory
from rxlm import files
from rxlm.memory import MemoryState, tensor_file
from rxlm.rxt import background, conversation, conversation_file, current_memory, history, shared_history, turn_engine
from rxlm.rxt.conversation import Conversation, ConversationError, Turn
from rxlm.rxt.models import RxTAlpha
from text_models import tiny_retained_model, tiny_text_model

STEPS = int(os.environ.get("TORTURE_STEPS", "0"))
IN_A_SEQUENCE = 50 if STEPS else 15
LIMIT = 16
"""Tokens of a turn: short, for many steps."""

OURS = {
    str(module.__file__)
    for module in (
        background, conversation, conversation_file, current_memory, files, history, shared_history, tensor_file,
        turn_engine,
    )
}  # fmt: skip
OPERATIONS = ("say", "retry", "undo", "reset", "fork", "save", "load", "memory")
texts = st.sampled_from(["Hi", "You", "My dog"])
operations = st.sampled_from(OPERATIONS)


class Machine(RuleBasedStateMachine):
    """One conversation, the turns that it has to have, and a file of it."""

    model: RxTAlpha
    busy_timeout = 0.0
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.fails = False
        self.write_turns = history.write_turns
        history.write_turns = self._gated  # type: ignore[assignment]
        self.folder = tempfile.TemporaryDirectory()
        self.file = Path(self.folder.name) / "saved"
        self.chat = Conversation(self.model, seed=1, busy_timeout=self.busy_timeout)
        self.chat.save(self.file)
        self.turns: tuple[Turn, ...] = ()
        self.saved: tuple[Turn, ...] = ()
        self.others: list[tuple[Conversation, tuple[Turn, ...]]] = []

    def _gated(self, *arguments: Any) -> MemoryState:
        if threading.current_thread().name.startswith("rxlm-memory-update"):
            assert self.gate.wait(20)
            if self.fails:
                raise RuntimeError("no space")
        return self.write_turns(*arguments)

    def teardown(self) -> None:
        self.gate.set()
        try:
            self.remembers()
            for chat, turns in self.others[-2:]:
                assert chat.turns == turns
                assert_remembers(chat)
        finally:
            history.write_turns = self.write_turns
            self.folder.cleanup()

    def do(self, name: str, text: str) -> None:
        if name == "say":
            list(self.chat.send(text, max_seq_len=LIMIT))
        elif name == "retry" and self.chat.turns:
            list(self.chat.retry(max_seq_len=LIMIT))
        elif name == "undo" and self.chat.turns:
            self.chat.undo()
        elif name == "reset":
            self.chat.reset()
        elif name == "fork":
            self.others.append((self.chat.fork(), self.chat.turns))
        elif name == "save":
            self.chat.save(self.file)
        elif name == "load":
            self.chat.load(self.file)
        elif name == "memory":
            assert self.chat.memory is not None

    def is_done(self, name: str, text: str) -> bool:
        """Tell whether the transcript is that of before with the operation done."""
        before, now = self.turns, self.chat.turns
        if name == "say":
            return now[:-1] == before and now[-1:] != () and now[-1].query == text
        if name == "retry" and before:
            return now[:-1] == before[:-1] and now[-1].query == before[-1].query
        return now == {"undo": before[:-1], "reset": (), "load": self.saved}.get(name, before)

    def settle(self) -> None:
        """Take what the conversation is now for what it has to be."""
        Machine.steps += 1
        self.turns = self.chat.turns
        read = conversation_file.SavedConversation.read(self.file)
        assert read.turns in (self.saved, self.turns)
        self.saved = read.turns

    def say_and_hold_the_update(self) -> None:
        """Let the memory take in another turn when the gate opens."""
        self.chat.wait()
        self.gate.clear()
        self.call("say", "You")

    # --- what can happen -----------------------------------------------------------------------------------------

    @rule(name=operations, text=texts)
    def call(self, name: str, text: str) -> None:
        self.do(name, text)
        assert self.is_done(name, text)
        self.settle()

    @rule(text=texts, pieces=st.integers(0, 4), throws=st.booleans())
    def stop_reading(self, text: str, pieces: int, throws: bool) -> None:
        answer = self.chat.send(text, max_seq_len=LIMIT)
        read = [piece for piece, _ in zip(answer, range(pieces), strict=False)]
        if throws and read:
            with pytest.raises(KeyboardInterrupt):
                answer.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
        answer.close()  # type: ignore[attr-defined]
        assert self.chat.turns == self.turns or self.is_done("say", text)
        self.settle()

    @rule(name=operations, text=texts, pending=st.booleans(), line=st.integers(1, 400))
    def interrupt_at_a_line(self, name: str, text: str, pending: bool, line: int) -> None:
        if pending:
            self.call("say", "You")
        with interrupt_at(line) as is_interrupted:
            self.do(name, text)
        assert self.is_done(name, text) or (is_interrupted() and self.chat.turns == self.turns)
        self.settle()

    @rule(name=operations, text=texts)
    def interrupt_a_wait(self, name: str, text: str) -> None:
        """Ctrl-C while the memory still takes in the last turn: only a reset has no need of it."""
        if threading.current_thread() is not threading.main_thread() or name == "reset":
            return
        self.say_and_hold_the_update()
        with pytest.raises(KeyboardInterrupt), ctrl_c():
            self.do(name, text)
        self.gate.set()
        assert self.chat.turns == self.turns
        self.settle()

    @rule(name=operations, text=texts)
    def fail_an_update(self, name: str, text: str) -> None:
        before = self.turns
        self.say_and_hold_the_update()
        self.fails = True
        self.gate.set()
        try:
            with pytest.raises(ConversationError, match="'You' failed, the turn is taken back: no space"):
                self.chat.wait()
        finally:
            self.fails = False
        assert self.chat.turns == before
        self.turns = before
        self.call(name, text)

    @rule(names=st.tuples(operations, operations), words=st.tuples(texts, texts))
    def call_from_two_threads(self, names: tuple[str, str], words: tuple[str, str]) -> None:
        """Both begin while the memory takes in a turn."""
        self.say_and_hold_the_update()
        self.saved = self.saved if "save" not in names else ()
        errors: list[Exception | None] = [None, None]

        def attempt(number: int) -> None:
            try:
                self.do(names[number], words[number])
            except Exception as error:
                errors[number] = error

        threads = [threading.Thread(target=attempt, args=(number,)) for number in range(2)]
        with quick_changes_of_threads():
            for thread in threads:
                thread.start()
            self.gate.set()
            for thread in threads:
                thread.join(60)
                assert not thread.is_alive()
        assert all(error is None or isinstance(error, ConversationError) for error in errors)
        if set(names) == {"say"}:
            if self.busy_timeout:
                assert errors == [None, None]
            said = [text for text, error in zip(words, errors, strict=True) if error is None]
            assert self.chat.turns[: len(self.turns)] == self.turns
            assert sorted(turn.query for turn in self.chat.turns[len(self.turns) :]) == sorted(said)
        self.others = [(chat, chat.turns) for chat, _ in self.others]
        self.saved = conversation_file.SavedConversation.read(self.file).turns
        self.settle()
        self.remembers()

    @rule(name=operations, text=texts, finishes=st.booleans())
    def call_while_an_answer_is_written(self, name: str, text: str, finishes: bool) -> None:
        if self.busy_timeout:
            return None
        answer = self.chat.send("My dog", max_seq_len=LIMIT)
        if next(answer, None) is None or self.chat.turns != self.turns:
            return self.settle()
        if name == "memory" or (name in ("retry", "undo") and not self.turns):
            self.do(name, text)
        else:
            with pytest.raises(ConversationError, match="An answer is being written"):
                self.do(name, text)
        assert self.chat.turns == self.turns
        list(answer) if finishes else answer.close()  # type: ignore[attr-defined]
        assert self.is_done("say", "My dog") if finishes else self.chat.turns == self.turns
        return self.settle()

    @rule(place=st.floats(0, 1), bit=st.integers(0, 7))
    def load_a_damaged_file(self, place: float, bit: int) -> None:
        data = bytearray(self.file.read_bytes())
        data[int(place * (len(data) - 1))] ^= 1 << bit
        damaged = self.file.with_name("damaged")
        damaged.write_bytes(data)
        try:
            self.chat.load(damaged)
        except ConversationError:
            assert self.chat.turns == self.turns
        else:
            assert self.chat.turns == self.saved
        self.settle()

    @rule()
    def remembers(self) -> None:
        assert self.chat.turns == self.turns
        assert_remembers(self.chat)


def assert_remembers(chat: Conversation) -> None:
    """Check that the memory is the one that the transcript gives."""
    replayed = replay(chat.model, tuple(turn.ids for turn in chat.turns))
    assert_same_memory(chat.memory, replayed, 1e-5)


@cache
@torch.no_grad()
def replay(model: RxTAlpha, turns: tuple[tuple[int, ...], ...]) -> MemoryState:
    if not turns:
        return model.init_memory(1, seed=1)
    return model.update_memory(replay(model, turns[:-1]), torch.tensor([turns[-1]]))


@contextmanager
def interrupt_at(line: int) -> Iterator[Callable[[], bool]]:
    """Raise KeyboardInterrupt at the so-many-th line of our modules that this thread runs, and catch it."""
    left = line

    def lines(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        # Python lets no signal in between the end of such a block and the release of its lock.
        if frame.f_code is background.Cell.replace.__code__ or event != "line":
            return lines
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return lines

    before = sys.gettrace()
    sys.settrace(lambda frame, event, _: lines if frame.f_code.co_filename in OURS else None)
    try:
        yield lambda: left <= 0
    except KeyboardInterrupt:
        assert left <= 0
    finally:
        sys.settrace(before)


@contextmanager
def quick_changes_of_threads() -> Iterator[None]:
    """Let another thread go on after every few instructions, so that what is checked is seldom what is changed."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def ctrl_c() -> Iterator[None]:
    """Send this thread, the main one, the signal of Ctrl-C in a moment."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.02, lambda: signal.pthread_kill(main, signal.SIGINT))
    try:
        timer.start()
        yield
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


MODELS = {"slots": tiny_text_model, "retained": tiny_retained_model}


@pytest.mark.parametrize("busy_timeout", [0.0, 60.0], ids=["refused", "waits"])
@pytest.mark.parametrize("kind", MODELS)
def test_the_memory_is_always_the_one_that_the_transcript_gives(kind: str, busy_timeout: float) -> None:
    model = MODELS[kind]().double()
    machine = type("Talk", (Machine,), {"model": model, "busy_timeout": busy_timeout})
    options = settings(
        max_examples=4, stateful_step_count=IN_A_SEQUENCE, deadline=None, derandomize=not STEPS, database=None,
        suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
    )  # fmt: skip
    end = Machine.steps + STEPS // 4
    run_state_machine_as_test(machine, settings=options)
    while Machine.steps < end:
        run_state_machine_as_test(machine, settings=options)
