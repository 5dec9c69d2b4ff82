"""What the benchmark asks of a model: to answer dialogues turn by turn, many at once.

Shapes: B dialogues in the batch, D embedding dimension.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, Self

import torch
from torch import Tensor

Control = Literal["none", "empty", "shuffled", "never-updated", "full-history", "everything", "newest"]
"""What a dialogue is answered from.

none: from what was said in it, the model's own answers included: no control at all. empty: from nothing, as if each
turn were the first one. shuffled: from what was said in another dialogue of the batch. never-updated: from the memory
that the conversation began with (it differs from "empty" for initial memories that are drawn at random).
full-history: from the whole dialogue, for a model that is otherwise given a part.
everything: from the whole dialogue, kept by the same weights in a memory that never fills up.
newest: from the newest tokens alone, as many as the memory keeps, by the same weights.
"""

WITHOUT_HISTORY: tuple[Control, ...] = ("empty", "never-updated")
"""Controls under which an answer depends on its query alone: turns that ask nothing can be left out."""

TOKENS_AT_ONCE = 512
"""Tokens whose probabilities are computed at once."""

Queries = Sequence[str | None]
"""One query a dialogue; None if nothing is said, for example because the dialogue is over."""


class Respondent(Protocol):
    """Whatever answers dialogues: all that reports 1 to 4 (and an oracle in a test) need."""

    @property
    def controls(self) -> tuple[Control, ...]:
        """The controls it can answer under, "none" among them."""

    def describe(self) -> Mapping[str, Any]:
        """Return, as plain values, what its answers depend on: weights, tokenizer, settings."""

    def cuts(self, query: str) -> bool:
        """Tell whether a query is too long for the model, so that it loses its beginning."""

    def reset(self, batch_size: int, control: Control = "none") -> None:
        """Begin `batch_size` new dialogues."""

    def respond(self, queries: Queries) -> list[str]:
        """Answer the next turn of every dialogue and remember it; "" where nothing was said."""


@dataclass(frozen=True)
class Loss:
    """How badly given answers were predicted: summed negative log-likelihood in nats, over so many tokens."""

    nats: float
    tokens: int

    @classmethod
    def of(cls, nats: Tensor) -> Self:
        """Sum the nats of each token."""
        return cls(float(nats.sum()), len(nats))


class TurnCost(NamedTuple):
    """What one turn cost.

    Fields:
        first_token: seconds from the query to the first token of the answer.
        tokens_per_second: speed of the tokens after the first one.
        update: seconds of the memory update after the answer; None where there is none.
        session_bytes: what the model attends to of the conversation: its memory, or the keys and values of its history.
    """

    first_token: float
    tokens_per_second: float
    update: float | None
    session_bytes: int


class LanguageRespondent(Respondent, Protocol):
    """A respondent whose probabilities, embeddings and speed can be measured, too: reports 5 and 6."""

    def follow(self, queries: Queries, answers: Sequence[str | None]) -> None:
        """Remember a turn as if these answers had been given."""

    def token_losses(self, queries: Queries, answers: Sequence[str | None]) -> list[Tensor]:
        """Return the nats of each token of these answers to the next queries, (tokens,) double, on the CPU.

        One tensor a dialogue, empty where nothing is said; nothing is remembered. An answer has the same tokens under
        every control.
        """

    def losses(self, queries: Queries, answers: Sequence[str | None]) -> list[Loss]:
        """Return the sums of `token_losses`; `SumsLosses` does that."""

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the mean of the token embeddings of each text, (len(texts), D); zeros for an empty one."""

    def measure(self, query: str, num_tokens: int) -> TurnCost:
        """Answer one query, of a batch of one, with `num_tokens` tokens against the clock; nothing is remembered."""


class SumsLosses:
    """Gives a respondent that knows `token_losses` its `losses`."""

    def token_losses(self, queries: Queries, answers: Sequence[str | None]) -> list[Tensor]:
        """Return the nats of each token; see `LanguageRespondent`."""
        raise NotImplementedError

    def losses(self, queries: Queries, answers: Sequence[str | None]) -> list[Loss]:
        """Return the loss of these answers to the next queries, a dialogue each; nothing is remembered."""
        return [Loss.of(nats) for nats in self.token_losses(queries, answers)]


def token_nats(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log-likelihood of each target in nats, (N,) double, of logits (N, V).

    Some tokens at a time: in double precision the logits of all answers of a batch would fill the machine.
    """
    parts = zip(logits.split(TOKENS_AT_ONCE), targets.split(TOKENS_AT_ONCE), strict=True)
    return torch.cat([-torch.log_softmax(part.double(), -1).gather(1, wanted[:, None])[:, 0] for part, wanted in parts])


def by_dialogue(nats: Tensor, lengths: Sequence[int], queries: Queries) -> list[Tensor]:
    """Divide nats (N,) by the lengths of the answers that are given; a dialogue in which nothing is said has none."""
    answers = iter(nats.cpu().split(list(lengths)))
    return [nats.new_zeros(0, device="cpu") if query is None else next(answers) for query in queries]


def check_respondent(respondent: object, *, answers: bool, language: bool) -> None:
    """Raise TypeError, which names what is missing, unless a respondent can do what is asked of it.

    `answers`: it leads dialogues (`Respondent`). `language`: it is a `LanguageRespondent`, too.
    """
    needed = ["controls", "describe", "cuts", *(["reset", "respond"] if answers or language else [])]
    needed += ["follow", "token_losses", "losses", "embed", "measure"] if language else []
    missing = [name for name in needed if not hasattr(respondent, name)]
    if missing:
        raise TypeError(
            f"{type(respondent).__name__} has no {', '.join(missing)}; see rxlm.mrq_bench.protocol: controls is a "
            "tuple of those it can answer under, 'none' first."
        )


def check_control(control: Control, respondent: Respondent) -> None:
    """Raise ValueError unless the respondent can answer under this control."""
    if control not in respondent.controls:
        raise ValueError(f"control must be one of {', '.join(respondent.controls)} for this model, got {control!r}.")


def check_batch(batch_size: int, control: Control) -> None:
    """Raise ValueError unless so many dialogues can be answered under this control."""
    least = 2 if control == "shuffled" else 1
    if batch_size < least:
        raise ValueError(f"batch_size must be at least {least} for control {control!r}, got {batch_size}.")
