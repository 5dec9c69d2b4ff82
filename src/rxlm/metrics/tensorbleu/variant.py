"""The choices that change a BLEU score, checked, and written as a signature."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

VERSION = "1"
"""Changes whenever the same ids and choices may get another score."""

Library = Literal["nltk", "sacrebleu"]
Level = Literal["sentence", "corpus"]

# The TensorBLEU paper's names, and the smoothing functions of NLTK that they mean.
ALIASES = {"none": "method0", "floor": "method1", "add-k": "method2", "exp": "method3"}
METHODS = {
    "nltk": tuple(f"method{number}" for number in range(8)),
    "sacrebleu": tuple(ALIASES),
}
# The one number that each method reads, where it reads one.
PARAMETERS = {
    "method1": "smoothing_epsilon",
    "method2": "smoothing_k",
    "method4": "method4_k",
    "method6": "method6_alpha",
    "method7": "method4_k",
    "floor": "smoothing_epsilon",
    "add-k": "smoothing_k",
}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """All that a score depends on, apart from the ids; see `tensor_sentence_bleu` for what each field means."""

    max_n: int = 4
    weights: Sequence[float] | None = None
    smoothing_method: str = "exp"
    smoothing_epsilon: float = 0.1
    smoothing_k: float = 1.0
    method4_k: float = 5.0
    method6_alpha: float = 5.0
    variant: Library = "nltk"
    effective_order: bool | None = None
    level: Level = "sentence"

    def __post_init__(self) -> None:
        _require(self.variant in METHODS, "variant", self.variant, "'nltk' or 'sacrebleu'")
        _require(self.level in ("sentence", "corpus"), "level", self.level, "'sentence' or 'corpus'")
        whole = isinstance(self.max_n, int) and not isinstance(self.max_n, bool)
        _require(whole and self.max_n >= 1, "max_n", self.max_n, "a whole number of at least 1")
        allowed = METHODS[self.variant] + (tuple(ALIASES) if self.variant == "nltk" else ())
        _require(self.smoothing_method in allowed, "smoothing_method", self.smoothing_method, f"one of {allowed}")
        for name in ("smoothing_epsilon", "smoothing_k", "method4_k", "method6_alpha"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value > 0, name, value, "a number above 0")
        self._check_weights()
        if self.variant == "nltk" and self.effective_order is not None:
            raise ValueError("effective_order belongs to variant='sacrebleu'; NLTK has no such option")

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        if self.variant == "sacrebleu":
            raise ValueError("weights belong to variant='nltk'; sacreBLEU's are always equal")
        if len(self.weights) != self.max_n:
            raise ValueError(
                f"weights has {len(self.weights)} numbers and max_n is {self.max_n}: "
                "one weight is needed for each order from 1 to max_n"
            )
        fits = all(math.isfinite(weight) and weight >= 0 for weight in self.weights)
        _require(fits and sum(self.weights) > 0, "weights", self.weights, "numbers from 0 on, not all 0")

    @property
    def method(self) -> str:
        """The smoothing method, by the name that the library itself uses."""
        return (
            ALIASES.get(self.smoothing_method, self.smoothing_method)
            if self.variant == "nltk"
            else self.smoothing_method
        )

    @property
    def order_weights(self) -> tuple[float, ...]:
        """One weight for each order from 1 to `max_n`."""
        return (1 / self.max_n,) * self.max_n if self.weights is None else tuple(self.weights)

    @property
    def counted_orders(self) -> int:
        """The longest n-grams that are counted: NLTK's methods 5 and 7 use 5-grams, whatever `max_n` is."""
        return max(self.max_n, 5) if self.method in ("method5", "method7") else self.max_n

    @property
    def uses_effective_order(self) -> bool:
        """Whether sacreBLEU's mean stops at the longest n-grams that the candidate has; for sentences, by default."""
        return self.level == "sentence" if self.effective_order is None else self.effective_order

    @property
    def signature(self) -> str:
        """A line that names everything that the score depends on."""
        smoothing = self.method
        if self.method in PARAMETERS:
            smoothing += f"[{getattr(self, PARAMETERS[self.method]):g}]"
        fields = {"level": self.level, "n": str(self.max_n), "smooth": smoothing}
        if self.variant == "nltk":
            fields["w"] = "equal" if self.weights is None else ",".join(f"{weight:g}" for weight in self.weights)
        else:
            fields["eff"] = "yes" if self.uses_effective_order else "no"
        fields |= {"tok": "ids", "version": VERSION}
        return "|".join([f"tensorbleu:{self.variant}", *(f"{name}:{value}" for name, value in fields.items())])


class BleuOptions(TypedDict, total=False):
    """The choices of `tensor_sentence_bleu` and `tensor_corpus_bleu`, as keyword arguments."""

    max_n: int
    weights: Sequence[float] | None
    smoothing_method: str
    smoothing_epsilon: float
    smoothing_k: float
    method4_k: float
    method6_alpha: float
    variant: Library
    effective_order: bool | None


def bleu_signature(*, level: Level = "sentence", **options: Unpack[BleuOptions]) -> str:
    """Return the line to print with a score: variant, order, smoothing, weights and version.

    The same pair of texts scores 0.0, 0.2, 0.3 or 0.4 under common variants; a BLEU without its signature says little.
    Takes the choices that `tensor_sentence_bleu` was given (or `tensor_corpus_bleu`, with `level="corpus"`).

    >>> bleu_signature(smoothing_method="floor")
    'tensorbleu:nltk|level:sentence|n:4|smooth:method1[0.1]|w:equal|tok:ids|version:1'
    """
    return Variant(level=level, **options).signature


def _require(condition: bool, name: str, value: object, allowed: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {value!r}; it must be {allowed}")
