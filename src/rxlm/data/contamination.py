"""Find texts for evaluation within texts for training, by runs of words that both contain."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

PROBE_WORDS = 10


def contamination(
    evaluation: Mapping[str, str], training: Iterable[str], *, probe_words: int = PROBE_WORDS
) -> dict[str, float]:
    """Return, for each evaluation text, the share of its runs of `probe_words` words that training texts contain.

    Case and punctuation do not matter. The share is near 1 for a text that training texts contain, and near 0 for
    others, which share stock phrases only. `contaminated` applies a threshold.
    """
    probes = {name: set(_runs(_words(text), probe_words)) for name, text in evaluation.items()}
    wanted = set().union(*probes.values())
    found: set[tuple[str, ...]] = set()
    for text in training:
        found.update(run for run in _runs(_words(text), probe_words) if run in wanted)
    return {name: len(runs & found) / max(len(runs), 1) for name, runs in probes.items()}


def contaminated(
    evaluation: Mapping[str, str],
    training: Iterable[str],
    *,
    threshold: float = 0.05,
    probe_words: int = PROBE_WORDS,
) -> list[str]:
    """Return the names of the evaluation texts whose share (see `contamination`) is at least `threshold`."""
    shares = contamination(evaluation, training, probe_words=probe_words)
    return [name for name, share in shares.items() if share >= threshold]


def without(
    texts: Iterable[str], evaluation: Iterable[str], *, probe_words: int = PROBE_WORDS, gap: int = 12
) -> Iterator[str]:
    """Yield training texts without the passages that evaluation texts contain.

    Paragraphs are separated by blank lines. A paragraph is removed if it shares a run of `probe_words` words with an
    evaluation text. Up to `gap` paragraphs between two removed ones are removed, too: they may be too short for a run.
    """
    wanted = {run for other in evaluation for run in _runs(_words(other), probe_words)}
    for text in texts:
        paragraphs = re.split(r"\n\s*\n", text)
        shared = [
            number
            for number, paragraph in enumerate(paragraphs)
            if not wanted.isdisjoint(_runs(_words(paragraph), probe_words))
        ]
        dropped = set(shared)
        for first, second in pairwise(shared):
            if second - first <= gap:
                dropped.update(range(first, second))
        yield "\n\n".join(paragraph for number, paragraph in enumerate(paragraphs) if number not in dropped)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.casefold().replace("\u2019", "'"))


def _runs(words: list[str], length: int) -> Iterable[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(length)), strict=False)
