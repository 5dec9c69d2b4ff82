"""Sentence BLEU and corpus BLEU, the two functions that users call."""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import counting_cpu, counting_torch
from .scores import Statistics, score
from .sentences import MAX_TOKENS, Sentence, Sentences, check_on_host, read_candidates, read_references
from .variant import Library, Variant

Candidates = Tensor | Sequence[Sentence]
References = Tensor | Sequence[Sequence[Sentence] | Tensor]
Lengths = Tensor | Sequence[int]
ReferenceLengths = Tensor | Sequence[Sequence[int]]


def tensor_sentence_bleu(
    candidates: Candidates,
    references: References,
    pad_token_id: int | None = 0,
    max_n: int = 4,
    weights: Sequence[float] | None = None,
    smoothing_method: str = "exp",
    smoothing_epsilon: float = 0.1,
    smoothing_k: float = 1,
    *,
    candidate_lengths: Lengths | None = None,
    reference_lengths: ReferenceLengths | None = None,
    method4_k: float = 5.0,
    method6_alpha: float = 5.0,
    variant: Library = "nltk",
    effective_order: bool | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the BLEU of each candidate against its references, on the device of the ids.

    BLEU = BP * exp(sum over n of w_n log p_n), with the brevity penalty BP = min(1, exp(1 - r / c)) of c tokens against
    r in the closest reference, and p_n the share of the candidate's n-grams that a reference holds (Papineni et al.,
    2002). Ids are compared as they are, so a score depends on the tokenizer; print `bleu_signature` with it.

    Args:
        candidates: (B, Tc) token ids from 0 to 2^31 - 1, any integer dtype; or a list of B sentences without padding.
        references: (B, R, Tr) token ids; or a list of B items, each a list of sentences without padding or a padded
            (R, T) tensor. Their number and lengths may differ from item to item.
        pad_token_id: cut off at both ends of each row of a tensor; *between* other tokens it counts as a token. A
            reference of padding alone is no reference. None: there is no padding. Lengths, where given, decide alone.
        max_n: longest n-grams.
        weights: w_1 to w_max_n; all 1 / max_n if not given.
        smoothing_method: "method0" to "method7" as in NLTK; "none", "floor", "add-k" and "exp" are methods 0 to 3. In
            variant "sacrebleu" these four names are sacreBLEU's own methods.
        smoothing_epsilon: what "method1" or "floor" counts in place of 0 matches.
        smoothing_k: what "method2" or "add-k" adds from 2-grams on; NLTK's is 1.
        candidate_lengths: (B,) tokens of each row that count, from the left.
        reference_lengths: (B, R), the same; -1 where there is no such reference.
        method4_k: k of NLTK's methods 4 and 7.
        method6_alpha: alpha of NLTK's method 6.
        variant: "nltk", or "sacrebleu", whose scores are divided by 100 here.
        effective_order: for "sacrebleu", whether the mean ends with the longest n-grams that the candidate has; yes for
            sentences and no for a corpus if not given, as in sacreBLEU.
        dtype: of the computation and the result, torch.float32 or torch.float64.

    Returns:
        (B,) scores. 0 without a match, a candidate or a reference. On an accelerator, where a check would make the host
        wait, a sentence with an id or length out of range scores NaN.

    Raises:
        ValueError: for ids or lengths that are out of range (on the CPU), no whole numbers, of other shapes or on
            another device; and for choices that are unknown or do not fit each other.
    """
    choices = Variant(
        max_n=max_n,
        weights=weights,
        smoothing_method=smoothing_method,
        smoothing_epsilon=smoothing_epsilon,
        smoothing_k=smoothing_k,
        method4_k=method4_k,
        method6_alpha=method6_alpha,
        variant=variant,
        effective_order=effective_order,
    )
    return _bleu(_read(candidates, references, pad_token_id, candidate_lengths, reference_lengths), choices, dtype)


def tensor_corpus_bleu(
    candidates: Candidates,
    references: References,
    pad_token_id: int | None = 0,
    max_n: int = 4,
    weights: Sequence[float] | None = None,
    smoothing_method: str = "exp",
    smoothing_epsilon: float = 0.1,
    smoothing_k: float = 1,
    *,
    candidate_lengths: Lengths | None = None,
    reference_lengths: ReferenceLengths | None = None,
    method4_k: float = 5.0,
    method6_alpha: float = 5.0,
    variant: Library = "nltk",
    effective_order: bool | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return one BLEU, a scalar, of all candidates: counts and lengths are added up before they are divided.

    Takes and raises what `tensor_sentence_bleu` does. NLTK's methods 5, 6 and 7 look at the last sentence of a corpus;
    here they look at all of it, so the order of sentences does not matter. An empty batch scores 0.
    """
    choices = Variant(
        max_n=max_n,
        weights=weights,
        smoothing_method=smoothing_method,
        smoothing_epsilon=smoothing_epsilon,
        smoothing_k=smoothing_k,
        method4_k=method4_k,
        method6_alpha=method6_alpha,
        variant=variant,
        effective_order=effective_order,
        level="corpus",
    )
    return _bleu(_read(candidates, references, pad_token_id, candidate_lengths, reference_lengths), choices, dtype)


def _read(
    candidates: Candidates,
    references: References,
    pad_token_id: int | None,
    candidate_lengths: Lengths | None,
    reference_lengths: ReferenceLengths | None,
) -> tuple[Sentences, Sentences]:
    """Return the candidates, (B, Tc), and the references, (B, R, Tr), checked."""
    one = read_candidates(candidates, candidate_lengths, pad_token_id)
    many = read_references(references, reference_lengths, pad_token_id, one.ids.device)
    if len(one.ids) != len(many.ids):
        raise ValueError(f"references are of {len(many.ids)} candidates; there are {len(one.ids)}")
    if many.ids.shape[1] == 0:
        raise ValueError(f"references have shape {tuple(many.ids.shape)}; R must be at least 1")
    if one.ids.shape[-1] + many.ids.shape[-1] > MAX_TOKENS:
        widths = f"{one.ids.shape[-1]} and {many.ids.shape[-1]}"
        raise ValueError(f"rows of candidates and references have {widths} tokens; {MAX_TOKENS} together is the most")
    if _is_on_host(one):
        check_on_host("candidates", one)
        check_on_host("references", many)
    return one, many


def _bleu(texts: tuple[Sentences, Sentences], choices: Variant, dtype: torch.dtype) -> Tensor:
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype is {dtype}; it must be torch.float32 or torch.float64")
    candidates, references = texts
    counting = counting_cpu if _is_on_host(candidates) else counting_torch
    statistics = _statistics(counting.count_matches(*texts, choices.counted_orders), candidates, references, choices)
    scores = score(statistics, choices, dtype)
    if _is_on_host(candidates):
        return scores  # checked before
    is_bad = candidates.is_bad | references.is_bad.any(-1)
    return scores.masked_fill(is_bad if choices.level == "sentence" else is_bad.any(), torch.nan)


def _is_on_host(sentences: Sentences) -> bool:
    return sentences.ids.device.type == "cpu"


def _statistics(matches: Tensor, candidates: Sentences, references: Sentences, choices: Variant) -> Statistics:
    """Return the counts that the scores are made of, a sentence each or, for a corpus, added up."""
    shorter = torch.arange(choices.counted_orders, device=matches.device)
    totals = (candidates.lengths[:, None] - shorter).clamp(min=0)
    closest = _closest_length(candidates.lengths, references)
    counts = (matches, totals, totals.clamp(min=1), candidates.lengths, closest)
    return Statistics(*counts) if choices.level == "sentence" else Statistics(*(count.sum(0) for count in counts))


def _closest_length(lengths: Tensor, references: Sentences) -> Tensor:
    """Return the length of the reference closest in length to each candidate, the shorter of two, 0 of none; (B,)."""
    distance = (references.lengths - lengths[:, None]).abs()
    # Distance first, then length, in one number.
    rank = distance * 2**32 + references.lengths
    return rank.masked_fill(~references.present, 2**62).amin(1) % 2**32
