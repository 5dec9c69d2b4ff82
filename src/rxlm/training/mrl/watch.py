"""Watches the figures of a stage for what commonly goes wrong in reinforcement learning, and warns once."""

import logging
from collections import deque
from collections.abc import Mapping

LOGGER = logging.getLogger(__name__)

REWARD, EXACT = "frac_reward_zero_std", "rewards/exact/mean"
ENTROPY, LENGTH = "entropy", "completions/mean_length"
PREFERENCE = "rewards/preference/mean"
WATCHED = (REWARD, EXACT, ENTROPY, LENGTH, PREFERENCE)

DEAD_SHARE = 0.9
LEAST_ENTROPY = 0.1
LENGTH_CHANGE = 0.25
EXACT_CHANGE = 0.02
PREFERENCE_CHANGE = 0.02


class Watch:
    """Warns when there is nothing to learn from, when the policy stops exploring, and when a reward is gamed.

    A figure counts by its mean over the last `window` records, against its mean over the first `window`; a figure that
    is not logged is not watched. Each warning comes once, and once again after it was taken back.

    Args:
        window: records.
    """

    def __init__(self, window: int = 20) -> None:
        if window < 1:
            raise ValueError(f"window is {window!r}; it must be at least 1.")
        self.window = window
        self._recent: dict[str, deque[float]] = {name: deque(maxlen=window) for name in WATCHED}
        self._first: dict[str, float] = {}
        self._active: set[str] = set()

    def __call__(self, step: int, figures: Mapping[str, float]) -> None:
        """Look at the figures of a step."""
        for name, recent in self._recent.items():
            if name in figures:
                recent.append(figures[name])
            if name not in self._first and len(recent) == self.window:
                self._first[name] = self._now(name)
        self._say(step, "reward", self._reward_is_dead())
        self._say(step, "entropy", self._entropy_collapsed())
        self._say(step, "length", self._length_is_gamed())
        self._say(step, "reward model", self._reward_model_is_gamed())

    def _reward_is_dead(self) -> str | None:
        if REWARD not in self._first or self._now(REWARD) <= DEAD_SHARE:
            return None
        return (
            f"the rewards of a group are all the same in {self._now(REWARD):.0%} of groups, so that there is next to "
            "nothing to learn from. Raise the temperature, or take dialogues that the model sometimes gets right."
        )

    def _entropy_collapsed(self) -> str | None:
        if ENTROPY not in self._first or self._now(ENTROPY) >= LEAST_ENTROPY * self._first[ENTROPY]:
            return None
        return (
            f"the policy's entropy fell from {self._first[ENTROPY]:.3g} to {self._now(ENTROPY):.3g}: it hardly tries "
            "anything else any more. Raise the weight of the entropy or of the KL, or lower the learning rate."
        )

    def _length_is_gamed(self) -> str | None:
        if LENGTH not in self._first or EXACT not in self._first or not self._first[LENGTH]:
            return None
        change = self._now(LENGTH) / self._first[LENGTH] - 1
        gain = self._now(EXACT) - self._first[EXACT]
        if abs(change) <= LENGTH_CHANGE or gain > EXACT_CHANGE:
            return None
        return (
            f"answers are {abs(change):.0%} {'longer' if change > 0 else 'shorter'} than at first, and no more of them "
            f"are right ({self._first[EXACT]:.1%} then, {self._now(EXACT):.1%} now). Read the trajectories, and lower "
            "the weight of the reward that pays for this."
        )

    def _reward_model_is_gamed(self) -> str | None:
        if PREFERENCE not in self._first or EXACT not in self._first:
            return None
        liked, right = (self._now(name) - self._first[name] for name in (PREFERENCE, EXACT))
        if liked <= PREFERENCE_CHANGE or right >= -EXACT_CHANGE:
            return None
        return (
            f"the reward model likes answers better ({self._first[PREFERENCE]:.2f} then, {self._now(PREFERENCE):.2f} "
            f"now), and fewer of them are right ({self._first[EXACT]:.1%} then, {self._now(EXACT):.1%} now): they "
            "please and are wrong. Raise the weight of exact or of the KL, or train the reward model on such answers."
        )

    def _say(self, step: int, topic: str, trouble: str | None) -> None:
        if trouble is not None and topic not in self._active:
            self._active.add(topic)
            LOGGER.warning("Step %d: %s", step, trouble)
        elif trouble is None and topic in self._active:
            self._active.remove(topic)
            # A warning as well: by default Python shows nothing less, and who saw the first should see its end.
            LOGGER.warning("Step %d: the trouble with the %s is over.", step, topic)

    def _now(self, name: str) -> float:
        return sum(self._recent[name]) / len(self._recent[name])
