"""The variant "sacrebleu" is sacreBLEU on ids, divided by 100."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bleu_oracles import TOLERANCE, Pair, batches, sacrebleu_score, split
from rxlm.metrics.tensorbleu import tensor_corpus_bleu, tensor_sentence_bleu

SMOOTHING: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "none": ({}, {}),
    "exp": ({}, {}),
    "floor": ({"smoothing_epsilon": 0.2}, {"smooth_value": 0.2}),
    "add-k": ({"smoothing_k": 0.7}, {"smooth_value": 0.7}),
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("method", SMOOTHING)
@given(pairs=batches(), max_n=st.integers(1, 6), effective_order=st.booleans())
def test_scores_are_sacrebleus(
    method: str, dtype: torch.dtype, pairs: list[Pair], max_n: int, effective_order: bool
) -> None:
    ours, theirs = SMOOTHING[method]
    choices: dict[str, Any] = {
        "variant": "sacrebleu", "smoothing_method": method, "max_n": max_n, "effective_order": effective_order,
        "dtype": dtype, **ours,
    }  # fmt: skip

    def expected(some: list[Pair]) -> float:
        return sacrebleu_score(some, effective_order, smooth_method=method, max_ngram_order=max_n, **theirs)

    scores = tensor_sentence_bleu(*split(pairs), **choices).tolist()
    assert scores == pytest.approx([expected([pair]) for pair in pairs], rel=0, abs=TOLERANCE[dtype])
    corpus = tensor_corpus_bleu(*split(pairs), **choices).item()
    assert corpus == pytest.approx(expected(pairs), rel=0, abs=TOLERANCE[dtype])


def test_effective_order_is_sacrebleus_default_for_sentences_and_not_for_a_corpus() -> None:
    pair = ([1, 2], [[1, 2, 3]])
    sentence = tensor_sentence_bleu(*split([pair]), variant="sacrebleu", dtype=torch.float64)
    corpus = tensor_corpus_bleu(*split([pair]), variant="sacrebleu", dtype=torch.float64)

    assert sentence.item() == pytest.approx(sacrebleu_score([pair], effective_order=True))
    assert sentence.item() > 0.5
    assert corpus.item() == sacrebleu_score([pair], effective_order=False) == 0.0
