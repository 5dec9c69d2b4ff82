"""Find texts for evaluation within texts for training, by runs of words that both contain."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

PROBE_WORDS = 10  # words of a run
THRESHOLD = 0.05  # share of runs
GAP = 12  # paragraphs


def contamination(evaluation: Mapping[str, str], training: Iterable[str]) -> dict[str, float]:
    """Return, for each evaluation text, the share of its runs of ten words that training texts contain.

    Case and punctuation do not matter. The share is near 1 for a text that training texts contain, and near 0 for
    others, which share stock phrases only. `contaminated` applies a threshold.
    """
    probes = {name: set(_runs(_words(text))) for name, text in evaluation.items()}
    wanted = set().union(*probes.values())
    found: set[tuple[str, ...]] = set()
    for text in training:
        found.update(run for run in _runs(_words(text)) if run in wanted)
    return {name: len(runs & found) / max(len(runs), 1) for name, runs in probes.items()}


def contaminated(evaluation: Mapping[str, str], training: Iterable[str]) -> list[str]:
    """Return the names of the evaluation texts whose share (see `contamination`) is at least 5 %."""
    return [name for name, share in contamination(evaluation, training).items() if share >= THRESHOLD]


def without(texts: Iterable[str], evaluation: Iterable[str]) -> Iterator[str]:
    """Yield training texts without the passages that evaluation texts contain.

    Paragraphs are separated by blank lines. A paragraph is removed if it shares a run of ten words with an
    evaluation text. Up to eleven paragraphs between two removed ones are removed, too: they may be too short for a run.
    """
    wanted = {run for other in evaluation for run in _runs(_words(other))}
    for text in texts:
        paragraphs = re.split(r"\n\s*\n", text)
        shared = [
            number for number, paragraph in enumerate(paragraphs) if not wanted.isdisjoint(_runs(_words(paragraph)))
        ]
        dropped = set(shared)
        for first, second in pairwise(shared):
            if second - first <= GAP:
                dropped.update(range(first, second))
        yield "\n\n".join(paragraph for number, paragraph in enumerate(paragraphs) if number not in dropped)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.casefold().replace("\u2019", "'"))


def _runs(words: list[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(PROBE_WORDS)), strict=False)
