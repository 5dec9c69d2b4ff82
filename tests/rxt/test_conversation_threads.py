"""A conversation in several threads, and in processes that were forked after it had talked."""

import math
import multiprocessing
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import pytest
import torch

from helpers import assert_same_memory, build, some_ids
from rxlm.rxt import background
from rxlm.rxt.background import Job
from rxlm.rxt.conversation import Conversation, ConversationError
from rxlm.rxt.shared_history import SharedHistory, State
from text_models import tiny_retained_model, tiny_text_model

MODEL = tiny_text_model()
KINDS = pytest.mark.parametrize("kind", [tiny_text_model, tiny_retained_model])


def talk(chat: Conversation, text: str) -> str:
    return "".join(chat.send(text))


def in_threads(*actions: object) -> list[Exception | None]:
    errors: list[Exception | None] = [None] * len(actions)

    def attempt(number: int) -> None:
        try:
            actions[number]()  # type: ignore[operator]
        except Exception as error:
            errors[number] = error

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return errors


@pytest.mark.parametrize("busy_timeout", [0.0, math.inf])
def test_of_two_threads_that_see_the_same_moment_one_begins(
    busy_timeout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find the conversation free before either begins: what was checked is not what is changed."""
    chat, both, ready = Conversation(MODEL, busy_timeout=busy_timeout), threading.Barrier(2), SharedHistory._ready
    came = threading.local()

    def at_the_same_moment(history: SharedHistory) -> State:
        state = ready(history)
        if not hasattr(came, "before"):
            came.before = True
            both.wait(30)
        return state

    with monkeypatch.context() as patch:
        patch.setattr(SharedHistory, "_ready", at_the_same_moment)
        errors = in_threads(lambda: talk(chat, "Hi"), lambda: talk(chat, "You"))

    if busy_timeout:
        assert errors == [None, None]
    said = [text for text, error in zip(("Hi", "You"), errors, strict=True) if error is None]
    assert said
    assert sorted(turn.query for turn in chat.turns) == sorted(said)
    replayed = MODEL.init_memory(1)
    for turn in chat.turns:
        replayed = MODEL.update_memory(replayed, torch.tensor([turn.ids]))
    assert_same_memory(chat.memory, replayed.detach())


def test_who_waits_for_an_answer_is_refused_after_the_time_it_gave() -> None:
    chat = Conversation(MODEL, busy_timeout=0.05)
    answer = chat.send("Hello")
    next(answer)
    with pytest.raises(ConversationError, match="An answer is being written"):
        chat.undo()
    answer.close()  # type: ignore[attr-defined]
    assert talk(chat, "Hello")


@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_a_time_to_wait_is_checked(value: float) -> None:
    with pytest.raises(ValueError, match="busy_timeout must be seconds, at least 0"):
        Conversation(MODEL, busy_timeout=value)


def test_system_prompt_and_seed_are_those_that_the_memory_has() -> None:
    chat = Conversation(MODEL, system="You are kind.", seed=3)
    assert (chat.system, chat.seed) == ("You are kind.", 3)
    for name in ("system", "seed"):
        with pytest.raises(AttributeError):
            setattr(chat, name, None)


def test_of_two_turns_from_one_current_memory_the_second_is_refused() -> None:
    """The same of the stateful methods: a turn never replaces a memory that it was not answered from."""
    model = build()
    model.reset_stm_state()
    turns = [model.interact(some_ids(1, 4, seed=seed), seed=seed) for seed in (1, 2)]
    for turn in turns:
        next(turn)
    list(turns[0])
    memory = model.export_stm_state()
    with pytest.raises(ValueError, match="The memory was replaced while this turn was answered"):
        list(turns[1])
    assert torch.equal(model.export_stm_state(), memory)


# --- fork ----------------------------------------------------------------------------------------------------------


def _report(pipe: Connection, chat: Conversation, text: str) -> None:
    answer, memory = talk(chat, text), {name: tensor.numpy() for name, tensor in chat.memory.tensors().items()}
    pipe.send((answer, [turn.query for turn in chat.turns], memory, torch.get_num_threads()))


def in_child(chat: Conversation, text: str) -> tuple[str, list[str], dict[str, torch.Tensor], int]:
    """Return answer, queries, memory and threads of a forked process that goes on with a conversation."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that this process has threads is what is tested
        child = fork.Process(target=_report, args=(there, chat, text))
        child.start()
    try:
        assert here.poll(60), "the child waits"
        answer, queries, memory, threads = here.recv()
    finally:
        child.join(10)
        child.kill()
        child.join()
    assert child.exitcode == 0
    return answer, queries, {name: torch.from_numpy(values) for name, values in memory.items()}, threads


@contextmanager
def a_busy_worker() -> Iterator[None]:
    """Let no update begin."""
    may_go_on = threading.Event()
    background._worker.submit(may_go_on.wait, 60)
    try:
        yield
    finally:
        may_go_on.set()


@KINDS
def test_a_forked_process_goes_on(kind: type) -> None:
    chat = Conversation(kind(), seed=1)
    talk(chat, "My dog is called Rex.")
    chat.wait()
    answer, queries, memory, _ = in_child(chat, "Hello")

    assert (answer, queries) == (talk(chat, "Hello"), ["My dog is called Rex.", "Hello"])
    assert all(torch.equal(memory[name], tensor) for name, tensor in chat.memory.tensors().items())


@KINDS
def test_a_process_forked_before_an_update_was_done_does_it_itself(kind: type) -> None:
    chat = Conversation(kind(), seed=1)
    with a_busy_worker():
        talk(chat, "My dog is called Rex.")
        answer, queries, memory, _ = in_child(chat, "Hello")

    assert (answer, queries) == (talk(chat, "Hello"), ["My dog is called Rex.", "Hello"])
    assert all(torch.equal(memory[name], tensor) for name, tensor in chat.memory.tensors().items())


def test_a_process_forked_while_an_answer_is_written_is_free_of_it() -> None:
    chat = Conversation(MODEL, seed=1)
    answer = chat.send("Hello")
    next(answer)
    _, queries, _, _ = in_child(chat, "You")

    assert queries == ["You"]
    list(answer)
    assert [turn.query for turn in chat.turns] == ["Hello"]


def test_a_process_forked_by_one_with_several_threads_computes_with_one() -> None:
    """With more, it would wait for ever: PyTorch's threads do not survive a fork."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        large = torch.ones(600, 600)
        assert large @ large is not None
        assert in_child(Conversation(MODEL), "Hello")[3] == 1
    finally:
        torch.set_num_threads(threads)


def test_work_that_fails_in_any_way_is_told_and_not_raised_in_the_wait() -> None:
    def leave() -> None:
        raise SystemExit

    job = Job(leave)
    job.wait()
    assert isinstance(job.error, SystemExit)
