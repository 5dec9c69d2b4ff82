"""The scheduler: rows that join and leave, memories that are made, and what becomes of faults."""

import copy
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from running_server import REPEATABLE, context_over
from rxlm.memory import MemoryState
from rxlm.rxt.conversation import Conversation
from rxlm.rxt.models import RxTAlpha
from rxlm.serving import memories
from rxlm.serving.answers import Place, Said
from rxlm.serving.asking import Asked, BusyError, Event, Failed, Finished, ModelFaultError, Written
from rxlm.serving.keys import new_id
from rxlm.serving.memories import Making
from rxlm.serving.scheduler import Scheduler
from rxlm.serving.service import Service
from rxlm.serving.store import names
from rxlm.serving.store.backend import Changes
from rxlm.serving.store.records import Tenant
from rxlm.serving.store.sqlite import SQLiteBackend

TEXTS = ["My dog is called Rex.", "Hello!", "You are kind.", "What is my dog called?"]
LIMIT = 5
KINDS = ("slots", "retained")


@contextmanager
def service_over(model: RxTAlpha, **options) -> Iterator[tuple[Service, Tenant]]:
    context = context_over(model, SQLiteBackend(":memory:"), **options)
    try:
        yield context.service, context.tenants.named("ann")
    finally:
        context.service.close()


class Listening:
    """An answer that is asked for, and what is told of it."""

    def __init__(self, service: Service, before: Making, text: str, seed: int | None = None, **options) -> None:
        self.told: queue.Queue[Event] = queue.Queue()
        own = replace(service.options(), max_tokens=LIMIT, seed=seed)
        if seed is not None:
            own = own.with_sampling(REPEATABLE.replace(temperature=1.0))
        turn = service.scheduler.engine.prepare(service.query_of(text, own))
        self.asked = Asked(turn, before, self.told.put, **options)
        service.scheduler.ask(self.asked)

    def end(self) -> Finished | Failed:
        while True:
            event = self.told.get(timeout=60)
            if not isinstance(event, Written):
                return event

    def finished(self) -> Finished:
        event = self.end()
        assert isinstance(event, Finished), event
        return event


@contextmanager
def held(scheduler: Scheduler) -> Iterator[None]:
    """Keep the model's thread from working."""
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(30)

    scheduler.call(hold)
    held.wait(30)
    try:
        yield
    finally:
        go.set()


def same(first: MemoryState, second: MemoryState) -> bool:
    return first.to_bytes() == second.to_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_join_and_leave_answer_as_alone(models, kind: str):
    with service_over(models[kind], num_rows=3) as (service, ann):
        start = service.after_node(ann, service.root(ann, None)).before
        other = service.after_node(ann, service.root(ann, "You are kind.")).before
        befores = [start, other]
        alone = {}
        for place, before in enumerate(befores):
            for number, text in enumerate(TEXTS):
                done = Listening(service, before, text, seed=number).finished()
                service.scheduler.need(done.after, 30) if done.after.name else memories.make(
                    service.model, [done.after]
                )
                alone[place, number] = done.turn.ids, done.after.state

        @given(
            asked=st.lists(
                st.tuples(st.sampled_from(sorted(alone)), st.booleans(), st.integers(0, 3)), min_size=1, max_size=8
            )
        )
        def check(asked):
            running = []
            for (place, number), cancels, waits in asked:
                one = Listening(service, befores[place], TEXTS[number], seed=number)
                for _ in range(waits):  # others have gone on, or ended, before the next one joins
                    one.told.get(timeout=60)
                if cancels:
                    service.scheduler.cancel(one.asked)
                else:
                    running.append(((place, number), one))
            for name, one in running:
                done = one.finished()
                ids, memory = alone[name]
                assert done.turn.ids == ids
                memories.make(service.model, [done.after])
                assert torch.allclose(_numbers(done.after.state), _numbers(memory), atol=1e-5)

        check()
        assert service.scheduler.drain(30)
        assert not service.scheduler.engine.turns


def _numbers(state: MemoryState | None) -> torch.Tensor:
    assert state is not None
    parts = [part for part in vars(state).values() if isinstance(part, torch.Tensor) and part.is_floating_point()]
    assert parts
    return torch.cat([part.flatten() for part in parts])


def test_updates_that_somebody_waits_for_come_first(models, monkeypatch):
    order: list[str | None] = []
    real = memories.make

    def noted(model, makings):
        order.extend(making.name for making in makings)
        real(model, makings)

    with service_over(models["slots"], num_rows=2) as (service, ann):
        start = service.after_node(ann, service.root(ann, None)).before
        service.scheduler.need(start, 30)
        monkeypatch.setattr("rxlm.serving.scheduler.make", noted)
        monkeypatch.setattr("rxlm.serving.scheduler.LONGEST_BATCH_OF_UPDATES", 1)
        ids = Listening(service, start, TEXTS[0]).finished().turn.ids
        with held(service.scheduler):
            made = [service.scheduler.make(Making(f"resp_{number}", start, ids)) for number in range(4)]
            waiting = Listening(service, made[3], TEXTS[1])
        waiting.finished()
        service.scheduler.drain(30)
    assert order[0] == "resp_3"
    assert sorted(order[1:], key=str) == ["resp_0", "resp_1", "resp_2"]


def test_a_failed_update_is_told_to_the_next_turn_and_tried_again(models, monkeypatch):
    with service_over(models["slots"]) as (service, ann):
        place = service.after_node(ann, service.root(ann, None))
        service.scheduler.need(place.before, 30)
        real, failures = memories.write_turns, [RuntimeError("no room")]

        def write(*given, **options):
            if failures:
                raise failures.pop()
            return real(*given, **options)

        monkeypatch.setattr(memories, "write_turns", write)
        after = service.write(service.read(place, [Said(TEXTS[0], "Rex.")]))
        told = Listening(service, after.before, TEXTS[1]).end()
        assert isinstance(told, Failed)
        assert "no room" in str(told.error)
        again = service.after_node(ann, after.node)
        Listening(service, again.before, TEXTS[1]).finished()
        assert again.read == len(after.node.ids)


def test_one_memory_that_cannot_be_made_fails_no_other(models, monkeypatch):
    with service_over(models["slots"]) as (service, ann):
        start = service.after_node(ann, service.root(ann, None)).before
        ids = Listening(service, start, TEXTS[0]).finished().turn.ids
        with held(service.scheduler):
            good, bad = Making(None, start, ids), Making(None, start, [10**9])
            for making in (good, bad):
                service.scheduler.make(making)
        assert service.scheduler.need(good, 30).num_bytes
        with pytest.raises(Exception, match="vocabulary"):
            service.scheduler.need(bad, 30)


@pytest.mark.parametrize("kind", KINDS)
def test_lost_memories_are_computed_again_and_the_answer_is_equal(models, kind: str):
    with service_over(models[kind]) as (service, ann):
        place = _after_exchanges(service, ann, 11)
        expected = Listening(service, place.before, TEXTS[3]).finished().turn.ids
        service.scheduler.drain(30)
        service.memories._saving.submit(lambda: None).result(30)
        backend = service.needed_store.backend
        stored = backend.members(names.MEMORIES, 100)
        assert len(stored) == 9  # the root's and the newest 8
        for lost in (stored[:3], stored):  # the newest, then all
            service.scheduler._draining = False
            for member in lost:
                changes = Changes()
                service.needed_store.drop_memory(changes, *member.split("/"))
                backend.apply(changes)
            service.scheduler.cache.drop([member.split("/")[1] for member in stored])
            again = service.after_node(ann, place.node)
            assert Listening(service, again.before, TEXTS[3]).finished().turn.ids == expected
            assert again.read > 0
            service.scheduler.drain(30)
            service.memories._saving.submit(lambda: None).result(30)


def _after_exchanges(service: Service, tenant: Tenant, count: int) -> Place:
    place = service.after_node(tenant, service.root(tenant, "You are kind."))
    said = [Said(TEXTS[number % 4], f"Rex {number}.") for number in range(count)]
    return service.write(service.read(place, said))


def test_stored_turns_answer_as_a_conversation_does(models):
    model = models["retained"]
    with service_over(model) as (service, ann):
        conversation = Conversation(model, service.tokenizer, sampling=service.sampling, seed=0)
        place = service.after_node(ann, service.root(ann, None))
        for text in TEXTS[:3]:
            done = Listening(service, place.before, text, name=new_id("resp")).finished()
            limit = LIMIT + len(done.turn.prompt)
            assert "".join(conversation.send(text, max_seq_len=limit)) == done.turn.writer.answer
            place = replace(place, before=done.after)


def test_a_fault_of_the_model_is_named_and_the_next_answer_comes(models):
    model = copy.deepcopy(models["slots"])
    with service_over(model) as (service, ann):
        start = service.after_node(ann, service.root(ann, None)).before
        expected = Listening(service, start, TEXTS[0]).finished().turn.ids
        weight = next(iter(model.decoder.parameters()))
        whole = weight.detach().clone()
        weight.data.fill_(float("nan"))
        told = Listening(service, start, TEXTS[0]).end()
        assert isinstance(told, Failed)
        assert isinstance(told.error, ModelFaultError)
        weight.data.copy_(whole)
        assert Listening(service, start, TEXTS[0]).finished().turn.ids == expected


def test_a_broken_memory_ends_its_own_answer_alone(models):
    with service_over(models["slots"]) as (service, ann):
        start = service.after_node(ann, service.root(ann, None)).before
        state = service.scheduler.need(start, 30)
        expected = Listening(service, start, TEXTS[0]).finished().turn.ids
        broken = MemoryState.from_bytes(state.to_bytes())
        for part in vars(broken).values():
            if isinstance(part, torch.Tensor) and part.is_floating_point():
                part.fill_(float("nan"))
        with held(service.scheduler):
            bad = Listening(service, Making.of(broken), TEXTS[0])
            good = Listening(service, start, TEXTS[0])
        assert isinstance(bad.end(), Failed)
        assert good.finished().turn.ids == expected


@pytest.mark.parametrize("place", ["begin", "step", "leave"])
def test_whatever_fails_in_the_model_is_told_to_everybody(models, monkeypatch, place: str):
    with service_over(models["slots"], num_rows=2) as (service, ann):
        start = service.after_node(ann, service.root(ann, None)).before
        service.scheduler.need(start, 30)

        def fail(*given):
            raise RuntimeError("out of memory")

        with held(service.scheduler):
            monkeypatch.setattr(service.scheduler.engine, place, fail)
            monkeypatch.setattr(service.scheduler.engine, "resize", lambda rows: None)
            asked = [Listening(service, start, text) for text in TEXTS[:1]]
        for one in asked:
            told = one.end()
            assert isinstance(told, Failed)
            assert "out of memory" in str(told.error)
        assert Listening(service, start, TEXTS[0]).finished().reason in ("stop", "length")


def test_too_many_wait_and_a_draining_scheduler_takes_nothing(models):
    with service_over(models["slots"], num_rows=1, max_waiting=2) as (service, ann):
        start = service.after_node(ann, service.root(ann, None)).before
        service.scheduler.need(start, 30)
        with held(service.scheduler):
            asked = [Listening(service, start, text) for text in TEXTS[:2]]
            with pytest.raises(BusyError, match="wait"):
                Listening(service, start, TEXTS[2])
        ended = threading.Thread(target=service.scheduler.drain, args=(30,))
        ended.start()
        while not service.scheduler.is_draining:
            ended.join(0.001)
        with pytest.raises(BusyError, match="stopping"):
            Listening(service, start, TEXTS[2])
        ended.join()
        assert [one.finished().reason for one in asked]


def test_turns_that_a_client_sends_and_leaves_are_not_read(models, monkeypatch):
    made: list[Making] = []
    real = memories.make
    with service_over(models["slots"]) as (service, ann):
        start = service.after_node(ann, service.root(ann, None))
        service.scheduler.need(start.before, 30)
        monkeypatch.setattr("rxlm.serving.scheduler.make", lambda model, some: (made.extend(some), real(model, some)))
        with held(service.scheduler):
            place = service.read(start, [Said(TEXTS[0], "Rex.")])
            needed = Listening(service, place.before, TEXTS[1])
            longer = service.read(place, [Said(text, "Rex.") for text in TEXTS * 5])
            service.scheduler.cancel(Listening(service, longer.before, TEXTS[1]).asked)
        needed.finished()
        service.scheduler.drain(30)
        assert [making.name for making in made if making.read] == [place.node.id]
        service.scheduler._draining = False
        service.write(longer)
        again = service.after_node(ann, longer.node)
        assert again.read == longer.read - len(place.node.ids)
        Listening(service, again.before, TEXTS[1]).finished()


def test_memories_that_are_made_together_are_bounded_as_soon_as_they_are_there(models):
    with service_over(models["retained"]) as (service, ann):
        start = service.after_node(ann, service.root(ann, None)).before
        size = service.scheduler.need(start, 30).num_bytes
        ids = Listening(service, start, TEXTS[0]).finished().turn.ids
        cache, made = service.scheduler.cache, [start]
        cache.max_bytes = 3 * size
        with held(service.scheduler):
            for number in range(12):
                made.append(service.scheduler.make(Making(f"resp_{number}", made[-1], ids, wanted=True)))
        service.scheduler.need(made[-1], 30)
        assert 0 < cache.num_bytes <= 4 * size
        assert cache.get("resp_11") is made[-1]
