"""Values beyond the generator's lists, made from the words of a tokenizer's vocabulary.

A model can learn a few values by heart; to remember any name or number, it must see many. An open value is a value of
the kind with another last word: "in the blue box" becomes "in the blue lantern", "New York" becomes "New Harvest", and
room 17 becomes room 4093. Some words consist of several tokens, as rare names do.
"""

import random
import re
from collections.abc import Collection, Mapping, Sequence

from transformers import PreTrainedTokenizerFast

from rxlm.data.fact_kinds import FactKind

_WORD_STARTS = ("\u0120", "\u2581")
"""First character of a token at the beginning of a word, in byte-level and in SentencePiece vocabularies."""
_LONGEST_NUMBER = 9999


class WordSource:
    """Draws words in lower case or with a capital, and numbers.

    Args:
        tokenizer: the words come from its vocabulary.
        excluded: words that are never drawn, in upper or lower case, for example those of test values.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, excluded: Collection[str] = ()) -> None:
        self.excluded = {word.casefold() for word in excluded}
        starts, self._endings = [], []
        for token in sorted(tokenizer.get_vocab()):
            if token.startswith(_WORD_STARTS):
                starts.append(token[1:])
            elif re.fullmatch("[a-z]{2,4}", token):
                self._endings.append(token)
        self._lower = [word for word in starts if re.fullmatch("[a-z]{4,}", word)]
        self._capital = [word for word in starts if re.fullmatch("[A-Z][a-z]{2,}", word)]
        if not (self._lower and self._capital and self._endings):
            raise ValueError("The tokenizer's vocabulary has no whole words: open values cannot be made of it.")

    def like(self, word: str, rng: random.Random) -> str:
        """Draw a word of the same form: a number, with a capital, or in lower case."""
        while True:
            if word.isdigit():
                drawn = str(int(10 ** rng.uniform(1, len(str(_LONGEST_NUMBER)))))
            else:
                drawn = rng.choice(self._capital if word[0].isupper() else self._lower)
                if rng.random() < 0.4:
                    drawn = drawn[: rng.randint(3, 6)] + rng.choice(self._endings)
            if drawn.casefold() not in self.excluded:
                return drawn


def open_values(
    kinds: Sequence[FactKind], words: WordSource, count: int, *, seed: int = 0
) -> Mapping[str, tuple[str, ...]]:
    """Return `count` different values per kind, by its name; none is in the kind's own list."""
    return {kind.name: _open_values(kind, words, count, random.Random(f"{seed}/{kind.name}")) for kind in kinds}


def _open_values(kind: FactKind, words: WordSource, count: int, rng: random.Random) -> tuple[str, ...]:
    made: dict[str, None] = {}
    known = set(kind.values)
    for _ in range(20 * count):
        before, _, last = rng.choice(kind.values).rpartition(" ")
        value = " ".join(filter(None, (before, words.like(last, rng))))
        if value not in known:
            made[value] = None
        if len(made) == count:
            break
    return tuple(made)
