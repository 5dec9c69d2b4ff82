"""Law 1 over time: rows join and leave a running batch, and each gives what it would give alone."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import ARCHITECTURES, assert_same_memory, shared_model, some_memory, tokens
from rxlm.memory import MemoryState
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import GREEDY, SamplingConfig
from rxlm.rxt.turn_engine import Opening, Query, RunningTurn, TurnEngine
from text_models import tiny_text_model

samplings = st.sampled_from(
    [
        GREEDY,
        SamplingConfig(temperature=0, repetition_penalty=1.3),
        SamplingConfig(),
        SamplingConfig(temperature=0.8, top_p=0.8),
        SamplingConfig(temperature=2.0, top_k=20, min_p=0.02, repetition_penalty=1.2),
    ]
)
openings = st.sampled_from([Opening(appended=(6,)), Opening(choices=(6, 9)), Opening()])
queries = st.builds(
    Query,
    ids=st.lists(tokens, min_size=1, max_size=8),
    opening=openings,
    sampling=samplings,
    seed=st.integers(0, 50),
    max_answer_tokens=st.none() | st.integers(1, 6),
    ignore_eos=st.booleans(),
)


class Played(NamedTuple):
    """What became of a turn: its tokens, the memory after it, and whether it left before its end."""

    ids: list[int]
    memory: MemoryState
    left_early: bool


def alone(model: RxTAlpha, query: Query, memory: MemoryState) -> Played:
    engine = TurnEngine(model, 1)
    turn = engine.prepare(query)
    engine.begin([turn], memory)
    for _ in engine.run():
        pass
    return Played([], engine.finish([turn], memory), False)._replace(ids=turn.ids)


def play(
    model: RxTAlpha, asked: list[Query], memories: MemoryState, num_rows: int, data: st.DataObject
) -> list[Played]:
    """Answer all queries in a table of few rows, whose number changes; what happens next is drawn."""
    engine, waiting, played = TurnEngine(model, num_rows), list(range(len(asked))), {}
    running: dict[int, RunningTurn] = {}
    while waiting or running:
        if data.draw(st.integers(0, 3)) == 0:
            num_rows = data.draw(st.integers(max(1, len(running)), 5))
            engine.resize(num_rows)
        free = num_rows - len(running)
        if waiting and free and (not running or data.draw(st.booleans())):
            chosen = waiting[: data.draw(st.integers(1, free))]
            del waiting[: len(chosen)]
            turns = [engine.prepare(asked[number]) for number in chosen]
            engine.begin(turns, memories.select(chosen))
            running |= dict(zip(chosen, turns, strict=True))
        engine.step()
        over = {number: engine.is_over(turn) for number, turn in running.items()}
        leaving = [number for number in running if over[number] or data.draw(st.integers(0, 9)) == 0]
        if leaving:
            turns = [running.pop(number) for number in leaving]
            after = engine.finish(turns, memories.select(leaving))
            for place, (number, turn) in enumerate(zip(leaving, turns, strict=True)):
                played[number] = Played(turn.ids, after.select(place), not over[number])
    return [played[number] for number in range(len(asked))]


@pytest.mark.parametrize("name", ARCHITECTURES)
@given(asked=st.lists(queries, min_size=2, max_size=6), num_rows=st.integers(1, 4), data=st.data())
@torch.no_grad()
def test_a_row_that_joins_and_leaves_a_running_batch_equals_the_row_alone(name, asked, num_rows, data):
    model = shared_model(name)
    memories = some_memory(model, range(len(asked)))
    for number, found in enumerate(play(model, asked, memories, num_rows, data)):
        own = memories.select(number)
        expected = alone(model, asked[number], own)
        if found.left_early:
            assert found.ids == expected.ids[: len(found.ids)]
            whole = torch.tensor([found.ids])
            expected = expected._replace(memory=model.update_memory(own, whole))
        else:
            assert found.ids == expected.ids
        assert_same_memory(found.memory, expected.memory)


@given(data=st.data())
@torch.no_grad()
def test_each_row_stops_at_its_own_texts(data):
    """Half of the rows stop at a text that stands in what they would have said; the others are not disturbed."""
    model = tiny_text_model()
    codec = model.codec
    assert codec is not None
    words = ["My dog is called Rex.", "Hello!", "What is my dog called?", "I live in Paris."]
    opening = Opening(appended=model.tokenizer_config.before_answer)
    asked = [Query(codec.query(text, 48), opening, SamplingConfig(), seed) for seed, text in enumerate(words)]
    memories = model.init_memory(len(asked), seed=3)

    def texts(queries: list[Query]) -> list[str]:
        engine = TurnEngine(model, len(queries), tokenizer=codec.tokenizer, streams=True)
        turns = [engine.prepare(query) for query in queries]
        engine.begin(turns, memories)
        pieces = [""] * len(turns)
        for _ in engine.run():
            for row, turn in enumerate(turns):
                pieces[row] += "".join(piece.text for piece in turn.writer.take())
        engine.leave(turns)
        for row, turn in enumerate(turns):
            turn.writer.flush()
            pieces[row] += "".join(piece.text for piece in turn.writer.take())
            assert pieces[row] == turn.writer.answer
        return pieces

    free = texts(asked)
    stops = []
    for text in free:
        place = data.draw(st.integers(0, max(0, len(text) - 1)))
        size = data.draw(st.integers(1, 4))
        stops.append((text[place : place + size],) if text and data.draw(st.booleans()) else ())
    stopping = [Query(**{**vars(query), "stop": stop}) for query, stop in zip(asked, stops, strict=True)]
    for found, whole, stop in zip(texts(stopping), free, stops, strict=True):
        assert found == (whole[: whole.index(stop[0])] if stop else whole)
