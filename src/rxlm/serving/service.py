"""Turns of stored conversations: found again, read again where they must be, answered, and stored.

This is what all interfaces of the server stand on. Its functions block, but for `answer`.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedTokenizerFast

from rxlm.data.templates import interaction_ids, query_ids
from rxlm.rxt.fingerprint import fingerprint
from rxlm.rxt.models import RxTAlpha
from rxlm.rxt.sampling import DEFAULT_SAMPLING
from rxlm.rxt.turn_engine import Query
from rxlm.serving.answers import Answer, Options, Place, Said
from rxlm.serving.asking import Asked, Event, Failed, Finished
from rxlm.serving.keys import Keys, new_id, root_keys, without_reasoning
from rxlm.serving.lengths import Lengths
from rxlm.serving.memories import Making
from rxlm.serving.scheduler import Scheduler
from rxlm.serving.store.records import READ_PREFIX, RECENT, Node, StoredConversation, Tenant
from rxlm.serving.store.store import Store
from rxlm.serving.stored_memories import MODEL_SEED, StoredMemories


class OtherModelError(ValueError):
    """A turn that was made with another model."""


class Service:
    """Answers turns of stored conversations with one model.

    Args:
        model, tokenizer: what answers. name: what clients call it.
        store: where turns and memories are; None: nothing is stored.
        scheduler: has the model.
    """

    def __init__(
        self,
        model: RxTAlpha,
        tokenizer: PreTrainedTokenizerFast,
        scheduler: Scheduler,
        store: Store | None,
        name: str,
    ) -> None:
        self.model, self.tokenizer, self.scheduler, self.store, self.name = model, tokenizer, scheduler, store, name
        self.lengths = Lengths(tokenizer, model.tokenizer_config, scheduler.engine.limit)
        self.sampling = model.sampling or DEFAULT_SAMPLING
        self.memory_tokens = model.init_memory(1, MODEL_SEED).num_tokens
        identity = json.dumps(fingerprint(model, tokenizer), sort_keys=True).encode()
        self.fingerprint = hashlib.sha256(identity).hexdigest()
        self.memories = StoredMemories(model, tokenizer, scheduler, store)
        self.started = time.time()

    # --- where an answer goes on from ----------------------------------------------------------------------------

    def root(self, tenant: Tenant, instructions: str | None, *, stored: bool = True) -> Node:
        """Return the beginning of conversations with these instructions."""
        keys = root_keys(self.fingerprint, tenant.salt, instructions, MODEL_SEED, self.memory_tokens)
        node = Node(
            id=f"root_{keys.key}", tenant=tenant.id, created=time.time(), kind="root", parent=None,
            root=f"root_{keys.key}", depth=0, key=keys.key, alias=keys.alias, query=instructions or "",
            has_instructions=instructions is not None, seed=MODEL_SEED, memory_tokens=self.memory_tokens,
            tokens=0 if instructions is None else self.lengths.count(instructions),
        )  # fmt: skip
        if self.store is None or not stored:
            return node
        there = self.store.node(tenant.id, node.id)
        if there is not None:
            return there
        self.store.add(node)
        return node

    def after_node(self, tenant: Tenant, node: Node, *, stored: bool = True) -> Place:
        """Return the place after a stored turn; `OtherModelError` where another model made it."""
        root = node if node.kind == "root" else self.needed_store.node(tenant.id, node.root)
        own = None if root is None else self._root_key(tenant, root)
        if root is None or own != root.key:
            raise OtherModelError(
                f"{node.id} was answered by another model, or with another size of the memory, and this server goes on "
                f"with those of {self.name} alone. Send the whole conversation, and its turns are read again."
            )
        before, read = self.memories.after(node)
        return Place(node, before, Keys(node.key, node.alias), node.tokens, read, stored)

    def after_turns(
        self,
        tenant: Tenant,
        instructions: str | None,
        turns: Sequence[Said],
        *,
        stored: bool = True,
        conversation: str | None = None,
    ) -> Place:
        """Return the place after turns that a client sends: after as many as are stored, the others are read again."""
        root = self.root(tenant, instructions, stored=stored)
        keys = [Keys(root.key, root.alias)]
        for turn in turns:
            keys.append(keys[-1].after(turn.query, without_reasoning(turn.answer), turn.thought))
        found, count = root, 0
        if self.store is not None:
            for number in range(len(turns), 0, -1):
                node = self.store.newest(tenant.id, keys[number])
                if node is not None:
                    found, count = node, number
                    break
        place = self.after_node(tenant, found, stored=stored)
        return self.read(tenant, place, turns[count:], conversation)

    def said(self, node: Node) -> list[Said]:
        """Return the turns up to a node, oldest first."""
        path = [each for each in self.needed_store.path(node) if each.kind == "turn" and not each.is_piece]
        return [Said(each.query, each.answer, each.thought) for each in reversed(path)]

    def read(self, tenant: Tenant, place: Place, turns: Sequence[Said], conversation: str | None = None) -> Place:
        """Return the place after further turns, which become memories without being answered."""
        for turn in turns:
            parts = self.lengths.fitting(turn.query, without_reasoning(turn.answer))
            for number, part in enumerate(parts):
                last = number == len(parts) - 1
                keys = place.keys.after(turn.query, without_reasoning(turn.answer), turn.thought) if last else None
                place = self._read_part(tenant, place, *part, keys, conversation)
        return place

    def in_pieces(self, tenant: Tenant, place: Place, text: str, answer: int) -> tuple[Place, str]:
        """Return the place after all of a long text but its last piece, and that, which leaves room for an answer."""
        pieces = self.lengths.pieces(text, self.lengths.room(answer))
        for piece in pieces[:-1]:
            place = self._read_part(tenant, place, piece, "", None, None, is_piece=True)
        return place, pieces[-1]

    def _read_part(
        self, tenant: Tenant, place: Place, query: str, answer: str, keys: Keys | None, conversation: str | None,
        *, is_piece: bool = False,
    ) -> Place:  # fmt: skip
        """Return the place after an exchange; without `keys` it is a part of a longer one, which nobody finds."""
        ids = interaction_ids(self.tokenizer, self.model.tokenizer_config, query, answer)
        own = keys or root_keys(new_id("part"), tenant.salt, None, None, None)
        name = new_id(READ_PREFIX.removesuffix("_"))
        node = self._node(place, name, tenant, query, answer, None, ids, conversation)
        node = replace(node, key=own.key, alias=own.alias, is_piece=is_piece)
        return self._after(place, node, keys or place.keys, ids)

    def _after(self, place: Place, node: Node, keys: Keys, ids: Sequence[int]) -> Place:
        if self.store is not None and place.stored:
            self._add(place, node)
        making = self.scheduler.make(
            Making(node.id if place.stored else None, place.before, ids, wanted=True, read=True)
        )
        self.memories.save(node, making, place.stored)
        return Place(node, making, keys, place.tokens + len(ids), place.read + len(ids), place.stored)

    # --- an answer -----------------------------------------------------------------------------------------------

    def ask(
        self, tenant: Tenant, place: Place, query: str, options: Options, name: str, whole: str | None = None
    ) -> Answer:
        """Let a query be answered; ValueError, before anything is done, where it cannot be as it is asked.

        `name` becomes the turn's. `whole` is what the client sent, of which `query` is the last piece.
        """
        self.lengths.check(query)
        turn = self.scheduler.engine.prepare(self.query_of(query, options))
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()

        def sink(event: Event) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(events.put_nowait, event)

        waiting = Asked(turn, place.before, sink, name if place.stored else None, options.with_log_probs)
        self.scheduler.ask(waiting)
        return Answer(name, tenant, place, query if whole is None else whole, options, waiting, events)

    def options(self) -> Options:
        """Return how answers are written unless a client says otherwise."""
        return Options(self.sampling)

    def query_of(self, text: str, options: Options) -> Query:
        """Return a message as the turn engine takes it."""
        return Query(
            query_ids(self.tokenizer, self.model.tokenizer_config, text),
            self.model.opening(options.thinking),
            options.sampling,
            options.seed,
            max_answer_tokens=options.max_tokens,
            stop=options.stop,
        )

    async def events(self, answer: Answer) -> AsyncGenerator[Event]:
        """Yield what is written of an answer; who stops listening before the end ends it, and nothing comes of it."""
        try:
            while True:
                event = await answer.events.get()
                yield event
                if isinstance(event, Finished | Failed):
                    return
        finally:
            self.scheduler.cancel(answer.asked)

    def keep(
        self,
        answer: Answer,
        finished: Finished,
        shown: dict[str, Any],
        conversation: StoredConversation | None = None,
        before: StoredConversation | None = None,
    ) -> None:
        """Store a finished turn, and the conversation that it belongs to; `GoneError` where that was changed."""
        turn, place = finished.turn, answer.place
        assert turn.writer is not None
        written = turn.writer
        keys = place.keys.after(answer.query, written.answer, written.thought)
        node = self._node(
            place, answer.id, answer.tenant, answer.query, written.answer, written.thought, turn.ids,
            None if conversation is None else conversation.id,
        )  # fmt: skip
        answer.node = replace(node, key=keys.key, alias=keys.alias, shown=shown, created=answer.created)
        answer.after = finished.after
        if self.store is not None and place.stored:
            try:
                self._add(place, answer.node, conversation, before)
            except LookupError:
                self.scheduler.cache.drop([answer.id])
                raise
            self.memories.save(answer.node, finished.after, True)

    def _add(
        self, place: Place, node: Node, conversation: StoredConversation | None = None,
        before: StoredConversation | None = None,
    ) -> None:  # fmt: skip
        store = self.needed_store
        if place.node.kind == "root":  # it may have gone meanwhile with all other conversations that began there
            store.add(place.node)
        store.add(node, conversation, before)

    def forget(self, tenant: Tenant, node: Node, first: int, end: int, forgotten: str) -> Node:
        """Return the node after a turn at which the tokens at some positions are forgotten; it is not stored yet."""
        keys = Keys(node.key, node.alias).after_forgetting(first, end)
        return Node(
            id=new_id("resp"), tenant=tenant.id, created=time.time(), kind="forget", parent=node.id, root=node.root,
            depth=node.depth + 1, key=keys.key, alias=keys.alias, tokens=node.tokens, span=(first, end),
            recent=(node.id, *node.recent)[:RECENT], conversation=node.conversation, forgotten=forgotten,
        )  # fmt: skip

    def _node(
        self, place: Place, name: str, tenant: Tenant, query: str, answer: str, thought: str | None,
        ids: Sequence[int], conversation: str | None,
    ) -> Node:  # fmt: skip
        parent = place.node
        return Node(
            id=name, tenant=tenant.id, created=time.time(), kind="turn", parent=parent.id, root=parent.root,
            depth=parent.depth + 1, key="", alias="", query=query, answer=answer, thought=thought, ids=tuple(ids),
            tokens=place.tokens + len(ids), recent=(parent.id, *parent.recent)[:RECENT], conversation=conversation,
        )  # fmt: skip

    def _root_key(self, tenant: Tenant, root: Node) -> str:
        return root_keys(self.fingerprint, tenant.salt, root.instructions, MODEL_SEED, self.memory_tokens).key

    @property
    def needed_store(self) -> Store:
        """The store, where there is one."""
        assert self.store is not None
        return self.store

    def close(self) -> None:
        """Store what is still to be stored, and stop."""
        self.scheduler.stop()
        self.memories.close()
        if self.store is not None:
            self.store.backend.close()
