"""What a store holds, as values that become JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

RECENT = 8
"""Memories of a branch that are kept, the newest ones; of older turns every `EVERY`-th."""
EVERY = 16
READ_PREFIX = "turn_"
"""Of the ids of turns that were read and not answered."""


@dataclass(frozen=True)
class Record:
    """Something that is stored, by its id, for a tenant."""

    id: str
    tenant: str
    created: float

    def to_bytes(self) -> bytes:
        """Return the record as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return the record that `to_bytes` made; fields of later versions are left out."""
        known = {each.name for each in fields(cls)}
        values: Any = {name: value for name, value in json.loads(data).items() if name in known}
        for name, value in values.items():
            values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)


@dataclass(frozen=True)
class Node(Record):
    """A place in the tree of conversations: its beginning, a turn, or that a turn was forgotten.

    Fields:
        kind: "root", "turn" or "forget".
        parent: the node before; None for a root. root: the beginning. depth: nodes before this one.
        key, alias: see `rxlm.serving.keys`.
        query, answer, thought: what was said; a root's query are the instructions (`has_instructions`).
        ids: the turn's tokens, as the memory takes them. tokens: tokens of the conversation up to here.
        recent: the nodes before, the nearest first, at most `RECENT`.
        seed, memory_tokens: of a root.
        conversation: the conversation that it belongs to, and is listed in.
        within: a conversation that it goes with but is not listed in, see `owner`.
        is_piece: whether it is a piece of the exchange of the turn after it, which has the whole.
        origin: the turn that it repeats, read again after other instructions, and with which it is deleted.
        messages: ids and texts of the messages that the query is made of, where they were added one by one.
        span: positions of the tokens that were forgotten. forgotten: the turn that they are of.
        shown: what a client is shown of the response besides.
    """

    kind: Literal["root", "turn", "forget"]
    parent: str | None
    root: str
    depth: int
    key: str
    alias: str
    query: str = ""
    answer: str = ""
    thought: str | None = None
    has_instructions: bool = False
    ids: tuple[int, ...] = ()
    tokens: int = 0
    recent: tuple[str, ...] = ()
    seed: int | None = None
    memory_tokens: int | None = None
    conversation: str | None = None
    within: str | None = None
    is_piece: bool = False
    origin: str | None = None
    messages: tuple[Mapping[str, Any], ...] = ()
    span: tuple[int, int] | None = None
    forgotten: str | None = None
    shown: Mapping[str, Any] = field(default_factory=dict)

    @property
    def instructions(self) -> str | None:
        """A root's instructions."""
        return self.query if self.has_instructions else None

    @property
    def owner(self) -> str | None:
        """The conversation that it goes with when that is deleted: its own, or the one that it was forked out of.

        A turn and the turn before it have the same owner: no conversation stands on turns of another one or of none,
        and what belongs to none on no conversation's, however equal their texts are. Equal memories are copied.
        """
        return self.conversation or self.within

    @property
    def first(self) -> str:
        """The turn that it repeats, or itself."""
        return self.origin or self.id

    @property
    def is_read(self) -> bool:
        """Whether it was read beside what was asked, and belongs to no conversation: no client knows its name."""
        return self.id.startswith(READ_PREFIX) and self.conversation is None

    def keeps_memory(self) -> bool:
        """Whether the memory after it stays when it is no longer one of the newest."""
        return self.depth % EVERY == 0


@dataclass(frozen=True)
class StoredConversation(Record):
    """A movable head with metadata.

    Fields:
        head: the last turn; None before the first. root: the beginning; None before the first.
        updated: when it was changed last.
        waiting: messages that were added and that no answer has followed yet, with their ids.
    """

    updated: float
    metadata: Mapping[str, str] = field(default_factory=dict)
    head: str | None = None
    root: str | None = None
    instructions: str | None = None
    waiting: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Tenant(Record):
    """Somebody whose conversations nobody else can see; `id` and `tenant` are the same.

    Fields:
        name: for people. salt: goes into every key.
        tokens_per_minute: tokens that may be read and written in a minute. max_bytes: bytes of turns, memories and
            feedback that are stored. None: no limit.
    """

    name: str
    salt: str
    tokens_per_minute: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True)
class Feedback(Record):
    """What somebody said of an answer.

    Fields:
        node: the turn. rating: "up" or "down". edit: the answer that would have been better.
        better_than: another answer to the same query, than which this one is better.
    """

    node: str
    rating: Literal["up", "down"] | None = None
    edit: str | None = None
    better_than: str | None = None
