"""How the next token is chosen from the logits, as pure functions.

Shapes: R rows, V vocabulary.
"""

import torch
from torch import Tensor

from rxlm.config import Config, config, require, require_int
from rxlm.shapes import Bool, Float, Int

SMALLEST = 1e-6
"""Of temperatures and probabilities: float32 has no room for logits that are divided by much less."""
STRONGEST_PENALTY = 1000


@config
class SamplingConfig(Config):
    """How the next token is chosen from the logits.

    Fields:
        temperature: divides the logits, by 1e-6 at least; 0 takes the likeliest token.
        top_k: keep the k likeliest tokens. top_p: keep the fewest of the likeliest tokens that together reach this
            probability (Holtzman et al., 2019). min_p: keep tokens of at least this share of the likeliest one's
            probability (Nguyen et al., 2024). None keeps all; together they apply in this order.
        repetition_penalty: divides positive, multiplies negative logits of tokens that stand in the prompt, in what a
            memory of tokens keeps, or in the answer so far (Keskar et al., 2019); 1 is none.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        require_int(self, "top_k")
        require(self.temperature >= 0, f"temperature must not be negative, got {self.temperature}.")
        require(
            self.temperature == 0 or SMALLEST <= self.temperature <= 1 / SMALLEST,
            f"temperature must be 0, or between {SMALLEST} and {1 / SMALLEST:,.0f}, got {self.temperature}.",
        )
        require(
            self.repetition_penalty > 0,
            f"repetition_penalty must be positive, got {self.repetition_penalty}.",
        )
        require(
            1 / STRONGEST_PENALTY <= self.repetition_penalty <= STRONGEST_PENALTY,
            f"repetition_penalty must be between {1 / STRONGEST_PENALTY} and {STRONGEST_PENALTY}, got "
            f"{self.repetition_penalty}.",
        )
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            require(value is None or 0 < value <= 1, f"{name} must be above 0 and at most 1, got {value}.")
            require(value is None or value >= SMALLEST, f"{name} must be at least {SMALLEST}, got {value}.")


DEFAULT_SAMPLING = SamplingConfig(temperature=0.7, top_p=0.95)
"""Of a chat with a model that says nothing of its own."""
GREEDY = SamplingConfig(temperature=0.0)
"""Takes the likeliest token."""


def penalise_repetition(
    logits: Float[Tensor, "R V"], seen: Bool[Tensor, "R V"], penalty: float
) -> Float[Tensor, "R V"]:
    """Return logits (R, V), lower at the tokens that a row has `seen`, True in (R, V)."""
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def choose_tokens(
    logits: Float[Tensor, "R V"], sampling: SamplingConfig, noise: Float[Tensor, " R"] | None = None
) -> Int[Tensor, " R"]:
    """Return the next tokens (R,).

    Args:
        logits: (R, V).
        sampling: which tokens are kept, and the temperature; the repetition penalty is `penalise_repetition`'s.
        noise: uniform in [0, 1), (R,): where the cumulative distribution of the kept tokens is inverted. None is
            allowed at temperature 0.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1)
    assert noise is not None
    choices = None
    if sampling.top_k is not None:
        logits, choices = logits.topk(min(sampling.top_k, logits.shape[-1]), dim=-1)
    elif sampling.top_p is not None:
        logits, choices = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = (logits.float() / sampling.temperature).softmax(-1)
    if sampling.top_p is not None:
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.masked_fill(before >= sampling.top_p, 0.0)
    if sampling.min_p is not None:
        floor = sampling.min_p * probabilities.amax(-1, keepdim=True)
        probabilities = probabilities.masked_fill(probabilities < floor, 0.0)
    cumulative = probabilities.cumsum(-1)
    # The last tokens can have probability 0: stay below the total, or the search would run past the kept ones.
    target = noise[:, None] * cumulative[:, -1:] * (1 - 2**-20)
    drawn = torch.searchsorted(cumulative, target, right=True)
    return (drawn if choices is None else choices.gather(1, drawn))[:, 0]


def log_probabilities(
    logits: Float[Tensor, "R V"], tokens: Int[Tensor, " R"], temperature: float
) -> Float[Tensor, " R"]:
    """Return the log-probabilities (R,) of tokens (R,) under the whole distribution of logits (R, V)."""
    scores = (logits.float() / (temperature or 1.0)).log_softmax(-1)
    return scores.gather(1, tokens[:, None])[:, 0]
