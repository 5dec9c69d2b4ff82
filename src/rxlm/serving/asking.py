"""What is asked of the scheduler, and what it tells."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from rxlm.rxt.turn_engine import RunningTurn
from rxlm.rxt.writer import Piece
from rxlm.serving.memories import Making


class BusyError(Exception):
    """Too many answers wait, or the server is stopping."""


class ModelFaultError(RuntimeError):
    """The model computes what are no numbers; nothing that a client sends can mend it."""


class Written(NamedTuple):
    """What one step wrote of an answer: pieces of text, the token, and its log-probability where that was asked for."""

    pieces: list[Piece]
    token: int
    log_prob: float | None


class Finished(NamedTuple):
    """An answer is complete.

    Fields:
        turn: the turn. pieces: what was held back of its text. reason: "stop" or "length".
        after: the memory after it.
    """

    turn: RunningTurn
    pieces: list[Piece]
    reason: str
    after: Making


class Failed(NamedTuple):
    """There is no answer."""

    error: Exception


Event = Written | Finished | Failed


@dataclass(eq=False)
class Asked:
    """An answer that somebody asks for.

    Fields:
        turn: what is answered, prepared by the engine. before: the memory that it is answered from.
        name: of the node that the turn becomes; None: its memory is kept for nobody.
        sink: takes events, in the model's thread. with_log_probs: whether log-probabilities are wanted.
    """

    turn: RunningTurn
    before: Making
    sink: Callable[[Event], None]
    name: str | None = None
    with_log_probs: bool = False
    cancelled: bool = False
    since: float = field(default_factory=time.monotonic)
