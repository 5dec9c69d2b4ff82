"""After how many turns is half of what was known forgotten? A maximum-likelihood fit of exponential forgetting.

Shapes: R resamples, C distances.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rxlm.mrq_bench.statistics import Bootstrap, Estimate, percentiles

STARTS = np.linspace(0.01, 1.0, 50)
HALF_LIVES_TRIED = 120
SHORTEST = 0.25
REACH = 16
"""Half-lives of up to so many times the greatest distance are told apart."""


class Outcome(NamedTuple):
    """One answer: of which dialogue, at which distance, and whether it was right."""

    dialogue: Hashable
    distance: int
    is_right: bool


@dataclass(frozen=True)
class Forgetting:
    """accuracy(d) = chance + (start - chance) * 2^(-d / half_life), d the distance in turns.

    Fields:
        half_life: in turns; `beyond` where the data do not bound it from above.
        start: accuracy at distance 0.
        beyond: the longest half-life that this data could tell; an interval that ends there is open.
    """

    half_life: Estimate
    start: float
    beyond: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {"half_life": self.half_life.to_dict(), "start": self.start, "beyond": self.beyond}


def fit_half_life(outcomes: Sequence[Outcome], chance: float, bootstrap: Bootstrap) -> Forgetting | None:
    """Fit the curve of forgetting to single answers; None where nothing is known better than by chance."""
    distances = sorted({outcome.distance for outcome in outcomes})
    if len(distances) < 2 or np.mean([outcome.is_right for outcome in outcomes]) <= chance:
        return None
    column = {distance: number for number, distance in enumerate(distances)}
    right = bootstrap.table([(o.dialogue, column[o.distance], float(o.is_right)) for o in outcomes], len(distances))
    wrong = bootstrap.table([(o.dialogue, column[o.distance], float(not o.is_right)) for o in outcomes], len(distances))
    beyond = float(REACH * distances[-1])
    half_lives = np.geomspace(SHORTEST, beyond, HALF_LIVES_TRIED)
    best = _likeliest(right, wrong, _curves(np.array(distances), half_lives, chance))
    half_life = half_lives[best % len(half_lives)]
    interval = percentiles(half_life[:-1])
    start = float(max(STARTS[best[-1] // len(half_lives)], chance))
    return Forgetting(Estimate(float(half_life[-1]), *interval, len(outcomes)), start, beyond)


def _curves(distances: np.ndarray, half_lives: np.ndarray, chance: float) -> np.ndarray:
    """Return the accuracy at each distance for all starts and half-lives, (starts x half-lives, C)."""
    decay = 2.0 ** (-distances[None, :] / half_lives[:, None])
    starts = np.maximum(STARTS, chance)
    curves = chance + (starts[:, None, None] - chance) * decay[None]
    return np.clip(curves.reshape(-1, len(distances)), 1e-6, 1 - 1e-6)


def _likeliest(right: np.ndarray, wrong: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Return the number of the likeliest curve for each resample, (R,)."""
    log_right, log_wrong = np.log(curves), np.log1p(-curves)
    rows = [
        (log_right @ right[start : start + 100].T + log_wrong @ wrong[start : start + 100].T).argmax(0)
        for start in range(0, len(right), 100)
    ]
    return np.concatenate(rows)


def curve_at(fit: dict[str, Any], distances: Sequence[float], chance: float) -> list[float]:
    """Return the fitted accuracy at some distances, from what `Forgetting.to_dict` returned."""
    half_life, start = fit["half_life"]["value"], fit["start"]
    return [chance + (start - chance) * 2 ** (-distance / half_life) for distance in distances]
