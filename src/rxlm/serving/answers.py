"""What is asked and answered, as values: exchanges, options, the place where an answer goes on from, and the answer."""

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from rxlm.rxt.alpha import ThinkingMode
from rxlm.rxt.sampling import SamplingConfig
from rxlm.serving.asking import Asked, Event
from rxlm.serving.keys import Keys
from rxlm.serving.memories import Making
from rxlm.serving.store.records import Node, Tenant


class Said(NamedTuple):
    """A finished exchange that a client sends."""

    query: str
    answer: str
    thought: str | None = None


@dataclass(frozen=True)
class Options:
    """How an answer is written; what is None is as the model says."""

    sampling: SamplingConfig
    seed: int | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    thinking: ThinkingMode | None = None
    with_log_probs: bool = False

    def with_sampling(self, sampling: SamplingConfig) -> "Options":
        """Return the same with another sampling."""
        return replace(self, sampling=sampling)

    def with_seed(self, seed: int) -> "Options":
        """Return the same with another seed."""
        return replace(self, seed=seed % 2**63)


@dataclass
class Place:
    """Where an answer goes on from.

    Fields:
        node: the turn before. before: the memory after it. keys: of it.
        tokens: tokens of the conversation so far. read: how many of them had to be read again.
        stored: whether what follows is stored. unwritten: the beginning, and turns that were read for what follows:
            they are stored together with that, so that nothing is left of a request that comes to nothing.
        makes: whether memories are made on the way; False: tokens are counted and turns noted, and `before` is empty.
    """

    node: Node
    before: Making
    keys: Keys
    tokens: int
    read: int
    stored: bool
    unwritten: tuple[Node, ...] = ()
    makes: bool = True


@dataclass
class Answer:
    """An answer under way, or complete.

    Fields:
        place: where it goes on from. query: the text that is answered. asked: what the scheduler has of it.
        node: the turn that it became, once it is complete. after: the memory after it.
    """

    id: str
    tenant: Tenant
    place: Place
    query: str
    options: Options
    asked: Asked
    events: "asyncio.Queue[Event]"
    created: float = field(default_factory=time.time)
    node: Node | None = None
    after: Making | None = None

    @property
    def num_query_tokens(self) -> int:
        """Tokens of the query, with those of its form."""
        return len(self.asked.turn.prompt)
