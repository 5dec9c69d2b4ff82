"""Figures with intervals: a bootstrap that resamples whole dialogues, because the answers of one hang together.

Shapes: N dialogues, R resamples.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

RESAMPLES = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure, its 95 % interval, and the number of values (answers, tokens, turns) that it is the mean of."""

    value: float
    low: float
    high: float
    count: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build an estimate from what `to_dict` returned."""
        return cls(**values)

    def map(self, function: Any) -> "Estimate":
        """Return the estimate of an increasing function of the figure."""
        return Estimate(function(self.value), function(self.low), function(self.high), self.count)


Values = Sequence[tuple[Hashable, float]]
"""A dialogue and a value that it gave, such as 1.0 for a right answer; as many a dialogue as there are."""


class Bootstrap:
    """Resamples of the dialogues, the same for every figure: so differences between figures are paired.

    Intervals are percentiles (Efron, 1979) over resamples of dialogues within each stratum, drawn with replacement.
    Where all values are 0, or all 1, resampling sees no spread: the interval is then the exact one-sided bound for as
    many independent dialogues as gave a value (Clopper and Pearson, 1934).

    Args:
        strata: the dialogues of each stratum: of each set of the data.
        seed: of the resamples.
    """

    def __init__(self, strata: Iterable[Sequence[Hashable]], seed: int = 0, resamples: int = RESAMPLES) -> None:
        generator = np.random.default_rng(seed)
        groups = [list(dialogues) for dialogues in strata]
        self._index = {dialogue: n for n, dialogue in enumerate(d for group in groups for d in group)}
        self.weights = np.concatenate(  # (R, N): how often each dialogue is in each resample
            [generator.multinomial(len(group), [1 / len(group)] * len(group), resamples) for group in groups if group],
            axis=1,
        ).astype(float)

    def mean(self, values: Values) -> Estimate | None:
        """Return the mean over all values; None where there are none."""
        return self.ratio([(dialogue, value, 1.0) for dialogue, value in values])

    def ratio(self, values: Sequence[tuple[Hashable, float, float]]) -> Estimate | None:
        """Return the sum of the first numbers over the sum of the second; None where the latter is 0."""
        if not any(under for _, _, under in values):
            return None
        sums = self._sums(values)
        point = sums.sum(0)
        value = float(point[0] / point[1])
        return Estimate(value, *self._interval(self._resampled(sums), sums, value), round(point[1]))

    def quotient(self, values: Sequence[tuple[Hashable, float, float]], count: int) -> Estimate | None:
        """Return the sum of the first numbers over the sum of the second, of amounts of any size and sign.

        None where the second sum may be 0 or less: where it is, or the lower end of its own interval. A quotient of
        sums is no share of answers: it may lie below 0 and above 1, and its ends are always percentiles.

        Args:
            values: a dialogue and two numbers of it.
            count: the number of things that the sums are of.
        """
        sums = self._sums(values)
        over, under = sums.sum(0)
        is_drawn = self.weights @ (sums[:, 1] != 0) > 0
        if under <= 0 or percentiles((self.weights @ sums[:, 1])[is_drawn])[0] <= 0:
            return None
        return Estimate(float(over / under), *percentiles(self._resampled(sums)), count)

    def difference(self, first: Values, second: Values) -> Estimate | None:
        """Return the mean of the first values minus that of the second, over the same resamples of dialogues."""
        means = self.mean(first), self.mean(second)
        if means[0] is None or means[1] is None:
            return None
        draws = [
            self._resampled(self._sums([(dialogue, value, 1.0) for dialogue, value in v])) for v in (first, second)
        ]
        low, high = percentiles(draws[0] - draws[1])
        if low == high:
            low, high = means[0].low - means[1].high, means[0].high - means[1].low
        return Estimate(means[0].value - means[1].value, low, high, means[0].count)

    def table(self, values: Sequence[tuple[Hashable, int, float]], width: int) -> np.ndarray:
        """Return the resampled sums of values by their column, (R, width); the sum itself is in the last row."""
        sums = np.zeros((len(self._index), width))
        for dialogue, column, value in values:
            sums[self._index[dialogue], column] += value
        return np.concatenate([self.weights @ sums, sums.sum(0, keepdims=True)])

    def _sums(self, values: Sequence[tuple[Hashable, float, float]]) -> np.ndarray:
        sums = np.zeros((len(self._index), 2))
        for dialogue, over, under in values:
            sums[self._index[dialogue]] += over, under
        return sums

    def _resampled(self, sums: np.ndarray) -> np.ndarray:
        over, under = (self.weights @ sums).T
        return np.divide(over, under, out=np.full_like(over, np.nan), where=under > 0)  # not a number: none drawn

    def _interval(self, draws: np.ndarray, sums: np.ndarray, value: float) -> tuple[float, float]:
        low, high = percentiles(draws)
        dialogues = int((sums[:, 1] > 0).sum())
        bound = ((1 - CONFIDENCE) / 2) ** (1 / dialogues)
        if low == high == value == 1.0:
            return bound, 1.0
        if low == high == value == 0.0:
            return 0.0, 1 - bound
        return low, high


def percentiles(draws: np.ndarray) -> tuple[float, float]:
    """Return the ends of the 95 % interval of bootstrap draws."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(draws, [tail, 100 - tail])
    return float(low), float(high)


def median(values: Sequence[float], seed: int = 0) -> Estimate:
    """Return the median of measurements, such as times, with the bootstrap interval over them."""
    numbers = np.asarray(values, dtype=float)
    draws = np.random.default_rng(seed).choice(numbers, (RESAMPLES, len(numbers)))
    return Estimate(float(np.median(numbers)), *percentiles(np.median(draws, axis=1)), len(numbers))
