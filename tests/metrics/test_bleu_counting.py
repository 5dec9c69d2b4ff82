"""Both ways to count matches are the definition's, whatever the ids, lengths and the size of the work."""

import tracemalloc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bleu_oracles import Pair, batches, clipped_matches, split
from rxlm.metrics.tensorbleu import counting_cpu, counting_torch, tensor_corpus_bleu, tensor_sentence_bleu
from rxlm.metrics.tensorbleu.sentences import Sentences, read_candidates, read_references

CPU = torch.device("cpu")
BOTH = pytest.mark.parametrize("counting", [counting_cpu, counting_torch], ids=["cpu", "torch"])


def read(pairs: list[Pair]) -> tuple[Sentences, Sentences]:
    candidates, references = split(pairs)
    return read_candidates(candidates, None, None), read_references(references, None, None, CPU)


def random_pairs(rows: int, tokens: int, largest_id: int, references: int = 1) -> list[Pair]:
    """Draw candidates that are their references with a token in twenty replaced."""
    pairs = []
    for _ in range(rows):
        sources = torch.randint(largest_id + 1, (references, tokens)) // torch.randint(1, 1000, (references, 1))
        replaced = torch.where(torch.rand(tokens) < 0.05, torch.randint(largest_id + 1, (tokens,)), sources[0])
        pairs.append((replaced.tolist(), sources.tolist()))
    return pairs


@BOTH
@given(pairs=batches(), max_n=st.integers(1, 8))
def test_matches_are_the_definitions(counting, pairs: list[Pair], max_n: int) -> None:
    matches = counting.count_matches(*read(pairs), max_n)

    assert matches.tolist() == [clipped_matches(pair, max_n) for pair in pairs]


@BOTH
@pytest.mark.parametrize("references", [1, 3])
# From keys that hold all tokens to such that hold one, and from one sort to as many as there are orders.
@pytest.mark.parametrize("largest_id", [3, 8190, 32_767, 50_256, 151_935, 2**31 - 1])
@pytest.mark.parametrize("tokens", [60, 700])
def test_matches_are_exact_for_every_width_of_id(counting, largest_id: int, tokens: int, references: int) -> None:
    pairs = random_pairs(3, tokens, largest_id, references)
    matches = counting.count_matches(*read(pairs), 6)

    assert matches.tolist() == [clipped_matches(pair, 6) for pair in pairs]


@BOTH
def test_a_sentence_longer_than_a_block_is_counted_whole(counting) -> None:
    pairs = random_pairs(2, 2 * counting_cpu.BLOCK // 3, 31_999)

    assert counting.count_matches(*read(pairs), 5).tolist() == [clipped_matches(pair, 5) for pair in pairs]


@pytest.mark.parametrize("largest_id", [31_999, 2**31 - 1])
def test_memory_depends_on_neither_ids_nor_rows_beyond_a_block(largest_id: int) -> None:
    def peak(rows: int) -> int:
        candidates, references = torch.randint(largest_id, (2, rows, 256))
        tracemalloc.start()
        tensor_sentence_bleu(candidates, references[:, None])
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(2)
    assert peak(512) < 1.2 * peak(128) < 24 * 8 * counting_cpu.BLOCK


def test_rows_are_independent_of_their_batch() -> None:
    pairs = random_pairs(4 * counting_cpu.BLOCK // 500, 200, 40_000)
    together = tensor_sentence_bleu(*split(pairs))

    assert together.tolist() == [tensor_sentence_bleu(*split([pair])).item() for pair in pairs]


@pytest.mark.parametrize("method", [f"method{number}" for number in range(8)])
def test_on_an_accelerator_nothing_is_read_back_to_the_host(method: str) -> None:
    # A meta tensor has no values: reading one, branching on one or copying it to the CPU raises.
    candidates = torch.zeros(4, 9, dtype=torch.int64, device="meta")
    references = torch.zeros(4, 3, 7, dtype=torch.int64, device="meta")
    sentence = tensor_sentence_bleu(candidates, references, smoothing_method=method, max_n=6)
    corpus = tensor_corpus_bleu(candidates, references, variant="sacrebleu")

    assert (sentence.shape, sentence.device.type) == ((4,), "meta")
    assert (corpus.shape, corpus.device.type) == ((), "meta")
    with pytest.raises(RuntimeError):
        bool(sentence.any())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_scores_of_the_cpu_without_a_sync() -> None:
    (candidates, references) = (texts.ids for texts in read(random_pairs(16, 300, 2**31 - 1, 3)))
    for pad, lengths in ((0, None), (None, torch.arange(16))):
        expected = tensor_sentence_bleu(candidates, references, pad, candidate_lengths=lengths)
        on_gpu = candidates.cuda(), references.cuda(), None if lengths is None else lengths.cuda()
        torch.cuda.set_sync_debug_mode("error")
        try:
            scores = tensor_sentence_bleu(on_gpu[0], on_gpu[1], pad, candidate_lengths=on_gpu[2])
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.allclose(scores.cpu(), expected, rtol=0, atol=1e-6)
