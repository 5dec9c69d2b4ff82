"""TensorBLEU is NLTK's BLEU, sentence by sentence and for a corpus; where NLTK raises or errs, it is what we say."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nltk.translate.bleu_score import corpus_bleu

from bleu_oracles import REFUSES, TOLERANCE, Pair, batches, nltk_corpus, nltk_sentence, split
from rxlm.metrics.tensorbleu import tensor_corpus_bleu, tensor_sentence_bleu

METHODS = [f"method{number}" for number in range(8)]
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def equal_weights(max_n: int) -> tuple[float, ...]:
    return (1 / max_n,) * max_n


@DTYPES
@pytest.mark.parametrize("method", METHODS)
@given(pairs=batches(), max_n=st.integers(1, 6))
def test_sentences_score_as_in_nltk(method: str, dtype: torch.dtype, pairs: list[Pair], max_n: int) -> None:
    scores = tensor_sentence_bleu(*split(pairs), max_n=max_n, smoothing_method=method, dtype=dtype)

    assert scores.dtype == dtype
    for pair, score in zip(pairs, scores.tolist(), strict=True):
        try:
            expected = nltk_sentence(pair, equal_weights(max_n), method)
        except REFUSES:
            assert method == "method6"
            continue
        assert score == pytest.approx(expected, rel=0, abs=TOLERANCE[dtype])


@DTYPES
@pytest.mark.parametrize("method", METHODS[:5])
@given(pairs=batches(), max_n=st.integers(1, 6))
def test_a_corpus_scores_as_in_nltk(method: str, dtype: torch.dtype, pairs: list[Pair], max_n: int) -> None:
    score = tensor_corpus_bleu(*split(pairs), max_n=max_n, smoothing_method=method, dtype=dtype)

    expected = nltk_corpus(pairs, equal_weights(max_n), method)
    assert score.item() == pytest.approx(expected, rel=0, abs=TOLERANCE[dtype])


@pytest.mark.parametrize("method", METHODS[:6])
@given(pairs=batches(), weights=st.lists(st.integers(0, 5), min_size=1, max_size=6).filter(any))
def test_weights_count_as_in_nltk(method: str, pairs: list[Pair], weights: list[int]) -> None:
    shares = [weight / sum(weights) for weight in weights]
    scores = tensor_sentence_bleu(
        *split(pairs), max_n=len(weights), weights=shares, smoothing_method=method, dtype=torch.float64
    )

    expected = [nltk_sentence(pair, shares, method) for pair in pairs]
    assert scores.tolist() == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize(
    ("method", "ours", "nltk"),
    [
        ("method1", {"smoothing_epsilon": 0.3}, {"epsilon": 0.3}),
        ("method4", {"method4_k": 2.5}, {"k": 2.5}),
        ("method6", {"method6_alpha": 1.5}, {"alpha": 1.5}),
        ("method7", {"method4_k": 2.5}, {"k": 2.5}),
    ],
)
def test_the_numbers_of_the_methods_are_nltks(method: str, ours: dict[str, float], nltk: dict[str, float]) -> None:
    pair = ([1, 2, 3, 9, 4, 5], [[1, 2, 3, 4, 5, 6, 7]])
    score = tensor_sentence_bleu(*split([pair]), smoothing_method=method, dtype=torch.float64, **ours)

    expected = nltk_sentence(pair, equal_weights(4), method, **nltk)
    assert score.item() == pytest.approx(expected, rel=0, abs=1e-12)
    assert expected != pytest.approx(nltk_sentence(pair, equal_weights(4), method))


@pytest.mark.parametrize(
    ("name", "method"), [("none", "method0"), ("floor", "method1"), ("add-k", "method2"), ("exp", "method3")]
)
@given(pairs=batches())
def test_the_papers_names_are_methods_of_nltk(name: str, method: str, pairs: list[Pair]) -> None:
    one, other = (tensor_sentence_bleu(*split(pairs), smoothing_method=each) for each in (name, method))

    assert torch.equal(one, other)


def test_add_k_adds_k() -> None:
    score = tensor_sentence_bleu([[1, 2, 9]], [[[1, 2, 3]]], max_n=2, smoothing_method="add-k", smoothing_k=0.5)

    assert score.item() == pytest.approx((2 / 3 * 1.5 / 2.5) ** 0.5)


def test_common_variants_of_one_pair_differ() -> None:
    pair = ([1, 2, 3, 8], [[1, 2, 3, 4, 5]])
    scores = [tensor_sentence_bleu(*split([pair]), smoothing_method=method).item() for method in METHODS]

    assert all(abs(one - other) > 1e-3 for one, other in itertools.combinations(scores[:4], 2))


# --- where NLTK raises or errs: see docs/tensorbleu.md ---------------------------------------------------------------


@pytest.mark.parametrize("method", ["method5", "method6", "method7"])
@given(pairs=batches())
def test_methods_5_to_7_see_the_whole_corpus_where_nltk_sees_its_last_sentence(method: str, pairs: list[Pair]) -> None:
    scores = [
        tensor_corpus_bleu(*split(order), smoothing_method=method, dtype=torch.float64).item()
        for order in (pairs, pairs[::-1])
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-12)

    try:
        expected = nltk_corpus(pairs[:1], equal_weights(4), method)
    except REFUSES:
        return
    alone = tensor_corpus_bleu(*split(pairs[:1]), smoothing_method=method, dtype=torch.float64).item()
    assert alone == pytest.approx(expected, rel=0, abs=1e-12)


def test_nltks_methods_5_to_7_depend_on_the_order_of_sentences() -> None:
    pairs = [([1, 2, 3, 4, 5, 6], [[1, 2, 3, 4, 5, 6]]), ([1, 2, 3, 4, 7, 8, 9], [[1, 2, 3, 4, 5, 8, 6]])]
    for method in ("method5", "method6", "method7"):
        one, other = (nltk_corpus(order, equal_weights(4), method) for order in (pairs, pairs[::-1]))
        assert abs(one - other) > 1e-4


def test_method_6_goes_on_without_trigrams_where_nltk_raises() -> None:
    no_trigram = ([1, 2, 9, 4], [[1, 2, 3, 4]])
    with pytest.raises(AssertionError):
        nltk_sentence(no_trigram, equal_weights(4), "method6")

    # p = 3/4, 1/3; then (m + alpha p_(n-1)^2 / p_(n-2)) / (l + alpha), with alpha = 5
    third = 5 * (1 / 3) ** 2 / (3 / 4) / 7
    fourth = 5 * third**2 / (1 / 3) / 6
    expected = (3 / 4 * 1 / 3 * third * fourth) ** 0.25
    score = tensor_sentence_bleu(*split([no_trigram]), smoothing_method="method6", dtype=torch.float64)
    assert score.item() == pytest.approx(expected, rel=1e-12)


def test_method_6_without_bigrams_scores_0_where_nltk_raises() -> None:
    no_bigram = ([1, 9, 2, 8], [[1, 2, 3, 4]])
    with pytest.raises(AssertionError):
        nltk_sentence(no_bigram, equal_weights(4), "method6")

    score = tensor_sentence_bleu(*split([no_bigram]), smoothing_method="method6", dtype=torch.float64)
    assert score.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("max_n", [1, 2])
def test_method_6_below_trigrams_smooths_nothing_where_nltk_raises(max_n: int) -> None:
    pair = ([1, 2, 9, 4], [[1, 2, 3, 4]])
    with pytest.raises(IndexError):
        nltk_sentence(pair, equal_weights(max_n), "method6")

    scores = [tensor_sentence_bleu(*split([pair]), max_n=max_n, smoothing_method=name) for name in ("method6", "none")]
    assert torch.equal(*scores)


def test_a_sentence_without_references_scores_0_where_nltk_raises() -> None:
    with pytest.raises(KeyError):
        nltk_sentence(([1, 2], []), equal_weights(4), "method3")

    assert tensor_sentence_bleu([[1, 2], [1, 2]], [[], [[1, 2]]], max_n=2).tolist() == [0.0, 1.0]


def test_an_empty_corpus_scores_0_where_nltk_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        corpus_bleu([], [])

    assert tensor_corpus_bleu([], []).item() == 0.0
    assert tensor_sentence_bleu([], []).shape == (0,)


def test_one_token_is_enough_for_method_4_as_in_nltk() -> None:
    assert tensor_sentence_bleu([[7]], [[[7]]], smoothing_method="method4").item() == 1.0
    assert nltk_sentence(([7], [[7]]), equal_weights(4), "method4") == 1.0


def test_methods_5_and_7_can_exceed_1_as_in_nltk() -> None:
    pair = ([1, 2, 3, 4, 5, 6], [[1, 2, 3, 4, 5, 6]])
    for method in ("method5", "method7"):
        assert tensor_sentence_bleu(*split([pair]), smoothing_method=method).item() > 1.1
        assert nltk_sentence(pair, equal_weights(4), method) > 1.1
