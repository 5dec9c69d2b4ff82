"""Turns of stored conversations: found again, read again where they must be, answered, and stored.

This is what all interfaces of the server stand on. Its functions block, but for `answer`.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile, zip_longest
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
        """Return the beginning of conversations with these instructions, which is stored with what comes after it."""
        keys = root_keys(self.fingerprint, tenant.salt, instructions, MODEL_SEED, self.memory_tokens)
        node = Node(
            id=f"root_{keys.key}", tenant=tenant.id, created=time.time(), kind="root", parent=None,
            root=f"root_{keys.key}", depth=0, key=keys.key, alias=keys.alias, query=instructions or "",
            has_instructions=instructions is not None, seed=MODEL_SEED, memory_tokens=self.memory_tokens,
            tokens=0 if instructions is None else self.lengths.count(instructions),
        )  # fmt: skip
        there = None if self.store is None or not stored else self.store.node(tenant.id, node.id)
        return node if there is None else there

    def after_node(self, tenant: Tenant, node: Node, *, stored: bool = True, makes: bool = True) -> Place:
        """Return the place after a stored turn; `OtherModelError` where another model made it."""
        root = node if node.kind == "root" else self.needed_store.node(tenant.id, node.root)
        own = None if root is None else self._root_key(tenant, root)
        if root is None or own != root.key:
            raise OtherModelError(
                f"{node.id} was answered by another model, or with another size of the memory, and this server goes on "
                f"with those of {self.name} alone. Send the whole conversation, and its turns are read again."
            )
        before, read = self.memories.after(node) if makes else (Making(), 0)
        unwritten = (node,) if node.kind == "root" else ()
        return Place(node, before, Keys(node.key, node.alias), node.tokens, read, stored, unwritten, makes)

    def after_turns(
        self,
        tenant: Tenant,
        instructions: str | None,
        turns: Sequence[Said],
        *,
        stored: bool = True,
        conversation: str | None = None,
        repeated: Sequence[Node] = (),
        makes: bool = True,
    ) -> Place:
        """Return the place after turns that a client sends: after as many as are known, the others are read again.

        Turns that another owner has (`Node.owner`) are not shared: they are copied, and their memory with them. The
        first ones may be `repeated` from stored turns, with which they are deleted: no others stand for these.
        """
        root = self.root(tenant, instructions, stored=stored)
        keys = [Keys(root.key, root.alias)]
        for turn in turns:
            keys.append(keys[-1].after(turn.query, without_reasoning(turn.answer), turn.thought))
        own, other, count = root, None, 0
        for number in range(len(repeated) or len(turns), 0, -1) if self.store is not None else ():
            node = self.needed_store.newest(tenant.id, keys[number], conversation)
            if repeated and (node is None or node.owner != conversation or node.first != repeated[number - 1].first):
                continue
            if node is not None and (node.owner == conversation or not stored):
                own, count = node, max(count, number)
                break
            if node is not None and other is None:
                other, count = node, number
        if other is None:
            place = self.after_node(tenant, own, stored=stored, makes=makes)
        else:
            said = {each.alias: (turn, each) for turn, each in zip(turns, keys[1:], strict=True)}
            place = self._copied(own, other, said, conversation, makes=makes)
        return self.read(place, turns[count:], conversation, repeated[count:])

    def _copied(
        self, own: Node, other: Node, said: Mapping[str, tuple[Said, Keys]], conversation: str | None, *, makes: bool
    ) -> Place:  # fmt: skip
        """Return the place after copies of what another owner's turn has since `own`, in the words that were `said`."""
        copied = list(takewhile(lambda each: each.alias != own.alias, self.needed_store.path(other)))
        before, read = self.memories.after(other) if makes else (Making(), 0)
        place = Place(own, before, Keys(own.key, own.alias), own.tokens, read, True, makes=makes)
        nodes = [own] if own.kind == "root" else []
        for each in reversed(copied):
            turn, keys = said.get(each.alias, (Said(each.query, each.answer), None))
            node = self._read_node(place, turn, each.ids, keys, conversation)
            nodes.append(node)
            place.node, place.keys, place.tokens = node, keys or place.keys, node.tokens
        if makes:
            same = Making(place.node.id, before, change=lambda memory: memory, wanted=True, read=True)  # type: ignore[arg-type, return-value]
            place.before = self.scheduler.make(same)
        place.unwritten = tuple(nodes)
        return place

    def again(
        self, tenant: Tenant, instructions: str | None, head: Node, turns: Sequence[Said], *, stored: bool,
        conversation: str | None, makes: bool,
    ) -> Place:  # fmt: skip
        """Return the place after other instructions, what was told up to a node, and further turns."""
        told = self.needed_store.told(head)
        said = [Said(each.query, each.answer, each.thought) for each in told]
        return self.after_turns(
            tenant, instructions, [*said, *turns], stored=stored, conversation=conversation, repeated=told, makes=makes
        )

    def read(
        self, place: Place, turns: Sequence[Said], conversation: str | None = None, repeated: Sequence[Node] = (),
        messages: Sequence[Mapping[str, Any]] = (),
    ) -> Place:  # fmt: skip
        """Return the place after further turns, which become memories without being answered; see `write`.

        Of an exchange that is too long for a turn, the pieces are read; the last one has the whole. The first turns may
        be `repeated` from stored ones; `messages` are those of a single turn, see `Node`.
        """
        for turn, origin in zip_longest(turns, repeated):
            *pieces, last = self.lengths.fitting(turn.query, without_reasoning(turn.answer))
            for piece in pieces:
                place = self._read_part(place, Said(*piece), piece, None, conversation)
            keys = place.keys.after(turn.query, without_reasoning(turn.answer), turn.thought)
            place = self._read_part(place, turn, last, keys, conversation, origin, messages)
        return place

    def in_pieces(self, place: Place, text: str, answer: int) -> tuple[Place, str]:
        """Return the place after all of a long text but its last piece, and that, which leaves room for an answer."""
        pieces = self.lengths.pieces(text, self.lengths.room(answer))
        for piece in pieces[:-1]:
            place = self._read_part(place, Said(piece, ""), (piece, ""), None, None)
        return place, pieces[-1]

    def write(
        self, place: Place, conversation: StoredConversation | None = None, before: StoredConversation | None = None
    ) -> Place:
        """Store the turns that were read up to a place, and the conversation that goes on from there.

        Returns the place, after which nothing is left to store. `GoneError` where the conversation was changed.
        """
        self._store(place, place.unwritten, place.before, conversation, before)
        return replace(place, unwritten=())

    def _read_part(
        self, place: Place, said: Said, part: tuple[str, str], keys: Keys | None, conversation: str | None,
        origin: Node | None = None, messages: Sequence[Mapping[str, Any]] = (),
    ) -> Place:  # fmt: skip
        """Return the place after what is read of an exchange."""
        ids = interaction_ids(self.tokenizer, self.model.tokenizer_config, *part)
        node = self._read_node(place, said, ids, keys, conversation)
        node = replace(node, messages=tuple(messages))
        if origin is not None and place.stored:
            node = replace(node, origin=origin.first, messages=origin.messages)
        making = place.before
        if place.makes:
            making = self.scheduler.make(Making(node.id if place.stored else None, making, ids, wanted=True, read=True))
        return replace(
            place, node=node, before=making, keys=keys or place.keys, tokens=node.tokens, read=place.read + len(ids),
            unwritten=(*place.unwritten, node),
        )  # fmt: skip

    def _read_node(
        self, place: Place, said: Said, ids: Sequence[int], keys: Keys | None, conversation: str | None
    ) -> Node:
        """Return a turn that was read; without `keys` it is a piece, which nobody finds and no conversation lists."""
        own = keys or root_keys(new_id("piece"), "", None, None, None)
        name = new_id(READ_PREFIX.removesuffix("_"))
        node = self._node(place, name, said.query, said.answer, said.thought, ids, conversation)
        node = replace(node, key=own.key, alias=own.alias)
        return node if keys is not None else replace(node, conversation=None, within=node.owner, is_piece=True)

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
            if answer.node is None:
                self.scheduler.cache.drop([node.id for node in answer.place.unwritten if node.kind != "root"])

    def keep(
        self,
        answer: Answer,
        finished: Finished,
        shown: dict[str, Any],
        conversation: StoredConversation | None = None,
        before: StoredConversation | None = None,
        messages: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Store a finished turn, and the conversation that it belongs to; `GoneError` where that was changed.

        `messages` are those that its query is made of, see `Node`.
        """
        turn, place = finished.turn, answer.place
        assert turn.writer is not None
        written = turn.writer
        keys = place.keys.after(answer.query, written.answer, written.thought)
        node = self._node(
            place, answer.id, answer.query, written.answer, written.thought, turn.ids,
            None if conversation is None else conversation.id,
        )  # fmt: skip
        answer.node = replace(
            node, key=keys.key, alias=keys.alias, shown=shown, created=answer.created, messages=tuple(messages)
        )
        answer.after = finished.after
        if self.store is not None and place.stored:
            try:
                self._store(place, [*place.unwritten, answer.node], finished.after, conversation, before)
            except LookupError:
                self.scheduler.cache.drop([answer.id, *(each.id for each in place.unwritten if each.kind != "root")])
                raise

    def _store(
        self, place: Place, nodes: Sequence[Node], after: Making, conversation: StoredConversation | None,
        before: StoredConversation | None,
    ) -> None:  # fmt: skip
        """Store nodes, each after the one before it, and the memories after them; that after the last is `after`."""
        *read, last = nodes
        for node in self.needed_store.add(last, conversation, before, read=read):
            made = {last.id: after, place.node.id: place.before}.get(node.id) or self.scheduler.cache.get(node.id)
            if made is not None:
                self.memories.save(node, made, True)

    def num_tokens(self, place: Place, query: str, options: Options) -> int:
        """Return the tokens that an answer to a query at a place reads, with those of the memory before it."""
        prompt = self.scheduler.engine.prepare(self.query_of(query, options)).prompt
        return place.tokens + len(prompt)

    def forget(self, tenant: Tenant, node: Node, first: int, end: int, forgotten: str) -> Node:
        """Return the node after a turn at which the tokens at some positions are forgotten; it is not stored yet."""
        keys = Keys(node.key, node.alias).after_forgetting(first, end)
        return Node(
            id=new_id("resp"), tenant=tenant.id, created=time.time(), kind="forget", parent=node.id, root=node.root,
            depth=node.depth + 1, key=keys.key, alias=keys.alias, tokens=node.tokens, span=(first, end),
            recent=(node.id, *node.recent)[:RECENT], conversation=node.conversation, within=node.within,
            forgotten=forgotten,
        )  # fmt: skip

    def _node(
        self, place: Place, name: str, query: str, answer: str, thought: str | None, ids: Sequence[int],
        conversation: str | None,
    ) -> Node:  # fmt: skip
        parent = place.node
        return Node(
            id=name, tenant=parent.tenant, created=time.time(), kind="turn", parent=parent.id, root=parent.root,
            depth=parent.depth + 1, key="", alias="", query=query, answer=answer, thought=thought, ids=tuple(ids),
            tokens=place.tokens + len(ids), recent=(parent.id, *parent.recent)[:RECENT], conversation=conversation,
            within=None if conversation is not None else parent.owner,
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
