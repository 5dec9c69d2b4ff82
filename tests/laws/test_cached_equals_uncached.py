"""Law 3: cached decoding equals uncached decoding, token for token and logit for logit; streaming equals batch.

The reference is `naive_turn`: it reads everything anew for each token, for one conversation, without a cache, a
mask or a batch.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from helpers import (
    ALPHA_TOKENS,
    ARCHITECTURES,
    MAX_SEQ_LEN,
    VOCAB,
    all_read,
    assert_close,
    assert_same_memory,
    pad_at_end,
    shared_model,
    some_ids,
    some_memory,
    token_rows,
    tokens,
)
from rxlm.memory import MemoryState
from rxlm.rxt.current_memory import MEMORY_UPDATE_DONE, MEMORY_UPDATE_STARTS
from rxlm.rxt.models import RxTAlpha

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
options_of_a_turn = st.sampled_from(
    [
        {"temperature": 0},
        {"temperature": 1.0},
        {"temperature": 1.4, "top_k": 9},
        {"temperature": 0.9, "top_p": 0.85},
        {"temperature": 1.3, "min_p": 0.05},
        {"temperature": 1.3, "top_k": 30, "top_p": 0.95, "min_p": 0.01},
    ]
)


def naive_choice(
    logits: Tensor, uniform: float, temperature: float, top_k: int = VOCAB, top_p: float = 1.0, min_p: float = 0.0
) -> int:
    """Choose a token the slow way: sort, keep, walk along the kept ones until their probability exceeds the draw."""
    if temperature == 0:
        return int(logits.argmax())
    filtered = top_k < VOCAB or top_p < 1
    order = sorted(range(VOCAB), key=lambda token: -float(logits[token])) if filtered else list(range(VOCAB))
    order = order[:top_k]
    weights = ((logits[order] - logits.max()) / temperature).exp()
    probabilities = (weights / weights.sum()).tolist()
    kept, mass = {}, 0.0
    for token, probability in zip(order, probabilities, strict=True):
        if mass < top_p and probability >= min_p * max(probabilities):
            kept[token] = probability
        mass += probability
    target, passed = uniform * sum(kept.values()), 0.0
    for token, probability in kept.items():
        passed += probability
        if passed > target:
            return token
    return token


@torch.no_grad()
def naive_turn(
    model: RxTAlpha, query: list[int], memory: MemoryState, seed: int, max_seq_len: int, **options: float
) -> tuple[list[int], Tensor, MemoryState]:
    """Answer one query without cache or batch: the answer, the logits of each step, and the memory after."""
    ids = [*query, ALPHA_TOKENS.answer_token_id]
    prompt_length, all_logits = len(ids), []
    draws = torch.rand(max_seq_len, generator=torch.Generator().manual_seed(seed)).tolist()
    while len(ids) < max_seq_len and (len(ids) == prompt_length or ids[-1] != ALPHA_TOKENS.eos_token_id):
        logits = model.decode(torch.tensor([ids]), memory)[0, -1]
        all_logits.append(logits)
        ids.append(naive_choice(logits, draws[len(ids) - prompt_length], **options))
    answer = [token for token in ids[prompt_length:] if token != ALPHA_TOKENS.eos_token_id]
    return answer, torch.stack(all_logits), model.update_memory(memory, torch.tensor([ids]))


@every_architecture
@given(rows=token_rows(max_tokens=7), steps=st.integers(1, 6), data=st.data())
@torch.no_grad()
def test_logits_of_a_ragged_cached_batch_equal_those_of_one_pass(name, rows, steps, data):
    """Prompts of different lengths, then one token at a time: every row at its own position."""
    model, memory = shared_model(name), some_memory(shared_model(name), range(len(rows)))
    following = [data.draw(st.lists(tokens, min_size=steps, max_size=steps)) for _ in rows]
    padded, lengths = pad_at_end(rows), [len(row) for row in rows]
    memory = all_read(memory)
    reading = model.read_memory(memory)
    cache = model.decoder.new_cache(len(rows), max(lengths) + steps, reading.past)
    hidden = model.decoder.hidden_states(padded.ids, reading, cache=cache)
    cache.advance_prompt(lengths)
    pieces = [[padded.row(model.decoder.head(hidden), row)] for row in range(len(rows))]
    for step in range(steps):
        column = torch.tensor([[row[step]] for row in following])
        logits = model.decoder.head(model.decoder.hidden_states(column, reading, cache=cache))
        cache.advance_prompt([1] * len(cache.filled))
        for row in range(len(rows)):
            pieces[row].append(logits[row])
    for row, ids in enumerate(rows):
        whole = model.decode(torch.tensor([ids + following[row]]), memory.select(row))[0]
        assert_close(torch.cat(pieces[row]), whole)


@every_architecture
@given(cuts=st.lists(st.integers(1, 5), min_size=1, max_size=4), lengths=st.permutations([4, 2, 4]))
@torch.no_grad()
def test_reading_in_chunks_through_the_cache_equals_one_pass(name, cuts, lengths):
    """Chunks of several tokens after a filled cache: causal within the chunk, everything before it visible."""
    model, memory = shared_model(name), some_memory(shared_model(name), range(3))
    prompts = [some_ids(1, length, seed=length)[0].tolist() for length in lengths]
    rest = some_ids(3, sum(cuts), seed=9)
    for ragged in (False, True):
        rows = prompts if ragged else [prompt[:2] for prompt in prompts]
        padded = pad_at_end(rows)
        memory = all_read(memory)
        cache = model.decoder.new_cache(3, padded.ids.shape[1] + sum(cuts), memory.read().past)
        model.decoder.hidden_states(padded.ids, memory, cache=cache)
        cache.advance_prompt([len(row) for row in rows])
        pieces = []
        for chunk in rest.split(cuts, dim=1):
            pieces.append(model.decoder.hidden_states(chunk, memory, cache=cache))
            cache.advance_prompt([chunk.shape[1]] * len(cache.filled))
        for row, ids in enumerate(rows):
            whole = model.decoder.hidden_states(torch.tensor([ids + rest[row].tolist()]), memory.select(row))
            assert_close(torch.cat(pieces, dim=1)[row], whole[0, len(ids) :])


@every_architecture
@given(rows=token_rows(max_rows=3, max_tokens=6), options=options_of_a_turn, limit=st.integers(8, 16))
def test_streaming_equals_batch_equals_a_naive_loop(name, rows, options, limit):
    model, start = shared_model(name), some_memory(shared_model(name), range(len(rows)))
    expected = [naive_turn(model, row, start.select(i), 30 + i, limit, **options) for i, row in enumerate(rows)]

    model.set_batch_mode(True, len(rows))
    model.load_stm_state(start)
    ids, mask, _ = pad_at_end(rows)
    answers = model.batch_interactions(ids, mask, max_seq_len=limit, seed=30, **options)
    assert answers == [answer for answer, _, _ in expected]
    assert_same_memory(model.current.get(), MemoryState.join([memory for _, _, memory in expected]))

    model.set_batch_mode(False)
    for row, query in enumerate(rows):
        model.load_stm_state(start.select(row))
        stream = list(model.interact(torch.tensor([query]), max_seq_len=limit, seed=30 + row, **options))
        assert stream == [*expected[row][0], MEMORY_UPDATE_STARTS, MEMORY_UPDATE_DONE]
        assert_same_memory(model.current.get(), expected[row][2])


@every_architecture
def test_a_conversation_of_many_turns_equals_the_naive_one(name):
    """Small differences would grow from turn to turn, through the memory."""
    model, memory = shared_model(name), shared_model(name).init_memory(1, seed=3)
    model.set_batch_mode(False)
    model.reset_stm_state(seed=3)
    for turn in range(4):
        query = some_ids(1, 3 + turn, seed=turn)
        answer, _, memory = naive_turn(model, query[0].tolist(), memory, turn, MAX_SEQ_LEN, temperature=1.0)
        assert list(model.interact(query, seed=turn))[:-2] == answer
        assert_same_memory(model.current.get(), memory, 1e-7)


def test_a_turn_that_writes_eos_ends_there_and_remembers_it():
    """[EOS] is not part of the answer, but of the interaction that the memory reads."""
    model = shared_model("moe-encoder-reads-memory-linear")
    model.set_batch_mode(False)
    memory, query = some_memory(model, [0]), some_ids(1, 3)
    endings = set()
    for seed in range(40):
        model.load_stm_state(memory)
        answer = list(model.interact(query, max_seq_len=20, temperature=3.0, seed=seed))[:-2]
        naive, _, after = naive_turn(model, query[0].tolist(), memory, seed, 20, temperature=3.0)
        assert answer == naive
        assert_close(model.export_stm_state(), after.slots)
        endings.add("eos" if 3 + 1 + len(answer) < 20 else "limit")
    assert endings == {"eos", "limit"}


def test_rows_that_write_eos_at_different_steps_answer_and_remember_as_alone():
    model = shared_model("sqa-qknorm-interlayer-slotlinear")
    memory, queries = some_memory(model, range(16)), some_ids(16, 3)
    model.set_batch_mode(True, 16)
    model.load_stm_state(memory)
    answers = model.batch_interactions(queries, max_seq_len=20, temperature=3.0, seed=0)
    after = model.export_stm_state()
    assert len({len(answer) for answer in answers}) > 3, "the example must have rows that end at different steps"
    for row, answer in enumerate(answers):
        alone, _, remembered = naive_turn(model, queries[row].tolist(), memory.select(row), row, 20, temperature=3.0)
        assert answer == alone
        assert_close(after[:, row : row + 1], remembered.slots)


def test_ignore_eos_goes_on_to_the_limit_through_eos():
    model = shared_model("moe-encoder-reads-memory-linear")
    model.set_batch_mode(False)
    query, eos_was_written = some_ids(1, 3), False
    for seed in range(20):
        model.reset_stm_state()
        answer = list(model.interact(query, max_seq_len=20, temperature=3.0, seed=seed, ignore_eos=True))[:-2]
        assert len(answer) == 20 - 3 - 1
        eos_was_written |= ALPHA_TOKENS.eos_token_id in answer[:-1]
    assert eos_was_written
