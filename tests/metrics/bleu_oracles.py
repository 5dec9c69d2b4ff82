"""What the BLEU tests compare with: NLTK, sacreBLEU and a count by the definition; and the sentences they draw."""

import warnings
from collections import Counter
from collections.abc import Sequence

import sacrebleu
import torch
from hypothesis import strategies as st
from nltk.translate.bleu_score import SmoothingFunction, corpus_bleu, sentence_bleu

Ids = list[int]
Pair = tuple[Ids, list[Ids]]
"""A candidate and its references."""

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
# What NLTK raises where its method 6 cannot go on.
REFUSES = (AssertionError, IndexError)


def nltk_sentence(pair: Pair, weights: Sequence[float], method: str, **parameters: float) -> float:
    smoothing = getattr(SmoothingFunction(**parameters), method)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where nothing matches
        return float(sentence_bleu(pair[1], pair[0], tuple(weights), smoothing))


def nltk_corpus(pairs: list[Pair], weights: Sequence[float], method: str) -> float:
    smoothing = getattr(SmoothingFunction(), method)
    candidates, references = zip(*pairs, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(corpus_bleu(references, candidates, tuple(weights), smoothing))


def sacrebleu_score(pairs: list[Pair], effective_order: bool, **options: object) -> float:
    """Return the corpus score of sacreBLEU, without tokenisation, from 0 to 1."""
    metric = sacrebleu.BLEU(tokenize="none", force=True, effective_order=effective_order, **options)
    count = max(len(references) for _, references in pairs)
    # Its references come as streams; None stands for a reference that a sentence does not have.
    streams = [
        [" ".join(map(str, references[index])) if index < len(references) else None for _, references in pairs]
        for index in range(count)
    ]
    return metric.corpus_score([" ".join(map(str, candidate)) for candidate, _ in pairs], streams).score / 100


def clipped_matches(pair: Pair, max_n: int) -> list[int]:
    """Count matches by the definition."""
    matches = []
    for order in range(1, max_n + 1):
        counts, *others = (
            Counter(tuple(ids[start : start + order]) for start in range(len(ids) - order + 1))
            for ids in (pair[0], *pair[1])
        )
        matches.append(sum(min(count, max(other[gram] for other in others)) for gram, count in counts.items()))
    return matches


@st.composite
def batches(draw: st.DrawFn, max_rows: int = 4) -> list[Pair]:
    """Draw pairs with much in common: few different ids, repeats, pieces of a reference copied into the candidate."""
    ids = draw(st.lists(st.integers(0, 2**31 - 1) | st.integers(0, 9), min_size=1, max_size=5))
    if draw(st.booleans()):
        ids += [0, 2**31 - 1]
    sentence = st.lists(st.sampled_from(ids), max_size=draw(st.sampled_from([3, 12, 40])))
    pairs = []
    for _ in range(draw(st.integers(1, max_rows))):
        references = draw(st.lists(sentence, min_size=1, max_size=4))
        candidate = draw(sentence)
        if draw(st.booleans()):
            source = draw(st.sampled_from(references))
            begin, end = sorted(draw(st.tuples(*[st.integers(0, len(source))] * 2)))
            candidate = candidate[: draw(st.integers(0, 5))] + source[begin:end]
        pairs.append((candidate, references))
    return pairs


def split(pairs: list[Pair]) -> tuple[list[Ids], list[list[Ids]]]:
    return [candidate for candidate, _ in pairs], [references for _, references in pairs]
