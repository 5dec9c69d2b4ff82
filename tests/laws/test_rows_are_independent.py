"""Law 1: rows are independent. What stands in other rows changes nothing in mine: neither tokens nor memory."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import (
    ARCHITECTURES,
    assert_close,
    assert_same_memory,
    pad_at_end,
    padded_batches,
    shared_model,
    some_memory,
    token_rows,
    tokens,
)
from rxlm.memory import MemoryState
from rxlm.rxt.decoding import generate
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.prompt import Prompt
from rxlm.rxt.sampling import SamplingConfig

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
samplings = st.sampled_from(
    [
        SamplingConfig(temperature=0),
        SamplingConfig(temperature=0, repetition_penalty=1.3),
        SamplingConfig(),
        SamplingConfig(temperature=1.5, top_k=7),
        SamplingConfig(temperature=0.8, top_p=0.8),
        SamplingConfig(min_p=0.1),
        SamplingConfig(temperature=2.0, top_k=20, top_p=0.9, min_p=0.02, repetition_penalty=1.2),
    ]
)


def continuations(
    model: RxTAlpha,
    rows: Sequence[Sequence[int]],
    memory: MemoryState,
    seeds: Sequence[int],
    *,
    sampling: SamplingConfig,
    stop_tokens: Sequence[int],
    max_length: int = 14,
) -> list[list[int]]:
    """Generate from a batch of prompts and return each row's tokens without padding."""
    ids, mask, _ = pad_at_end(rows)
    columns = generate(
        model.decoder,
        Prompt.of(ids, mask, pad_token_id=0),
        memory,
        sampling=sampling,
        max_length=max_length,
        pad_token_id=0,
        stop_tokens=stop_tokens,
        seed=seeds,
    )
    produced: list[list[int]] = [[] for _ in rows]
    for column in columns:
        for row, (token, active) in enumerate(zip(column.tokens.tolist(), column.active.tolist(), strict=True)):
            if active:
                produced[row].append(token)
            else:
                assert token == 0  # a finished row is padded
    return produced


@every_architecture
@given(batch=padded_batches(min_rows=2))
@torch.no_grad()
def test_a_row_in_a_batch_equals_the_row_alone(name, batch):
    model, (rows, padded) = shared_model(name), batch
    memory = some_memory(model, range(len(rows)))
    logits = model.decode(padded.ids, memory, padded.mask)
    encoded = model.encode(padded.ids, padded.mask, memory) if model.memory_writer.reads_encoded else None
    updated = model.update_memory(memory, padded.ids, padded.mask)
    for row, ids in enumerate(rows):
        mine, alone = memory.select(row), torch.tensor([ids])
        assert_close(padded.row(logits, row), model.decode(alone, mine)[0])
        if encoded is not None:
            assert_close(padded.row(encoded, row), model.encode(alone, memory=mine)[:, 0])
        assert_same_memory(updated.select(row), model.update_memory(mine, alone))


@every_architecture
@given(batch=padded_batches(min_rows=3), data=st.data())
@torch.no_grad()
def test_permuting_rows_permutes_their_outputs(name, batch, data):
    model, (rows, padded) = shared_model(name), batch
    order = data.draw(st.permutations(range(len(rows))))
    memory = some_memory(model, range(len(rows)))
    shuffled = memory.select(order)
    logits = model.decode(padded.ids, memory, padded.mask)
    updated = model.update_memory(memory, padded.ids, padded.mask)
    assert_close(model.decode(padded.ids[order], shuffled, padded.mask[order]), logits[order])
    assert_same_memory(model.update_memory(shuffled, padded.ids[order], padded.mask[order]), updated.select(order))


@every_architecture
@given(
    rows=token_rows(min_rows=2, max_tokens=9),
    sampling=samplings,
    stop_tokens=st.lists(tokens, max_size=10, unique=True),
)
def test_a_generated_row_equals_the_row_alone_wherever_the_others_stop(name, rows, sampling, stop_tokens):
    """Rows have different lengths, so that some hit the limit on tokens early; others hit a stop token."""
    model = shared_model(name)
    memory, seeds = some_memory(model, range(len(rows))), [10 * row for row in range(len(rows))]
    options = {"sampling": sampling, "stop_tokens": stop_tokens}
    together = continuations(model, rows, memory, seeds, **options)
    for row, prompt in enumerate(rows):
        alone = continuations(model, [prompt], memory.select(row), [seeds[row]], **options)
        assert together[row] == alone[0]
        ended_by_stop_token = together[row][-1] in stop_tokens
        assert ended_by_stop_token or len(prompt) + len(together[row]) == 14
        assert not set(together[row][:-1]) & set(stop_tokens)


@given(rows=token_rows(min_rows=3, max_rows=5), sampling=samplings, data=st.data())
def test_permuting_or_dropping_rows_changes_no_answer(rows, sampling, data):
    model = shared_model("mqa-moe-grouped-static")
    kept = data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1, unique=True))
    memory, seeds = some_memory(model, range(len(rows))), list(range(50, 50 + len(rows)))
    options = {"sampling": sampling, "stop_tokens": range(0, 40, 6)}
    every = continuations(model, rows, memory, seeds, **options)
    some = continuations(model, [rows[i] for i in kept], memory.select(kept), [seeds[i] for i in kept], **options)
    assert some == [every[i] for i in kept]


def test_rows_of_one_length_that_finish_at_different_steps_stay_apart():
    """Aligned rows share their cache positions: a finished row writes there, and nobody may read it."""
    model, rows = shared_model("gqa-window-self-elementwise"), [[9, 10, 11], [12, 13, 14], [15, 16, 17]]
    memory = some_memory(model, range(3))
    free = continuations(model, rows, memory, [1, 2, 3], sampling=SamplingConfig(temperature=2.0), stop_tokens=())
    stop = free[1][2]
    stopped = continuations(
        model, rows, memory, [1, 2, 3], sampling=SamplingConfig(temperature=2.0), stop_tokens=[stop]
    )
    assert stopped[1] == free[1][: free[1].index(stop) + 1]
    lengths = {len(row) for row in stopped}
    assert len(lengths) > 1, "the example must have rows that finish at different steps"
    for row in (0, 2):
        assert stopped[row] == free[row][: len(stopped[row])]


@every_architecture
def test_new_conversations_of_a_batch_are_those_of_smaller_batches(name):
    """Row b of the initial memory depends on its seed only, not on how many conversations start with it."""
    model = shared_model(name)
    four = model.init_memory(4, seed=7)
    assert_same_memory(model.init_memory(2, seed=7), four.select([0, 1]), 0.0)
    assert_same_memory(model.init_memory(2, seed=[9, 8]), four.select([2, 1]), 0.0)
