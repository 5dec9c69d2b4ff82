"""The store: trees of turns, the memories after them, conversations and feedback.

A turn is written before its response ends; the memory after it may come later or go, for it can be computed again from
the nearest one that is stored and the turns since. Every operation that changes several things changes all or none.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from rxlm.serving.keys import Keys
from rxlm.serving.store import names
from rxlm.serving.store.backend import Backend, Changes
from rxlm.serving.store.records import RECENT, Feedback, Node, StoredConversation

_ALL = 1_000_000


class GoneError(LookupError):
    """Something that another request deleted or changed meanwhile."""


class HasDescendantsError(Exception):
    """A turn that others follow is not deleted alone: their memories hold what it said."""


@dataclass(frozen=True)
class Store:
    """Reads and writes records; threads and processes share one database."""

    backend: Backend

    # --- turns ---------------------------------------------------------------------------------------------------

    def node(self, tenant: str, node: str) -> Node | None:
        """Return a node of the tenant's, None where there is none."""
        found = self.backend.get([names.node(tenant, node)])[0]
        return None if found is None else Node.from_bytes(found)

    def path(self, node: Node) -> Iterator[Node]:
        """Yield a node and those before it, up to the root; `GoneError` where one is gone."""
        while True:
            yield node
            if node.parent is None:
                return
            before = self.node(node.tenant, node.parent)
            if before is None:
                raise GoneError(f"The turn before {node.id} was deleted.")
            node = before

    def told(self, node: Node) -> list[Node]:
        """Return the exchanges up to a node that have not been forgotten since, oldest first."""
        path = list(self.path(node))
        forgotten = {each.forgotten for each in path if each.kind == "forget"}
        turns = (each for each in reversed(path) if each.kind == "turn" and not each.is_piece)
        return [each for each in turns if not {each.id, each.first} & forgotten]

    def before(self, node: Node) -> Node | None:
        """Return the node before a node, not counting pieces; None where there is none."""
        before = None if node.parent is None else self.node(node.tenant, node.parent)
        while before is not None and before.is_piece and before.parent is not None:
            before = self.node(node.tenant, before.parent)
        return before

    def newest(self, tenant: str, keys: Keys, owner: str | None) -> Node | None:
        """Return the newest turn with a key, or else with an alias: one of the owner's where there is one."""
        for by, key in ((names.by_key, keys.key), (names.by_alias, keys.alias)):
            for newest in self.backend.members(by(tenant, key), 1):
                found = self.node(tenant, newest)
                if found is None or found.owner == owner:
                    return found
                own = self.backend.members(by(tenant, key, owner or ""), 1)
                return (self.node(tenant, own[0]) if own else None) or found
        return None

    def add(
        self, node: Node, conversation: StoredConversation | None = None, before: StoredConversation | None = None,
        *, read: Sequence[Node] = (),
    ) -> list[Node]:  # fmt: skip
        """Write a node, and a conversation that it is the head of now; `GoneError` unless that was `before`.

        Where its parent is gone, `GoneError`, too. `read` are those before it that may not be there yet, oldest first.
        What is there already stays as it is. Returns the nodes that were written.
        """
        nodes = [*read, node]
        places = [names.node(each.tenant, each.id) for each in nodes]
        there = self.backend.get(places)
        while True:
            changes, now = Changes(expected=dict(zip(places, there, strict=True))), time.time()
            new = [each for each, value in zip(nodes, there, strict=True) if value is None]
            for each in new:
                self._write(changes, each, now)
            if conversation is not None:
                self._put(changes, conversation, before)
            if self.backend.apply(changes):
                return new
            former, there = there, self.backend.get(places)
            if there == former:
                raise GoneError("The conversation was changed, or what it goes on from deleted, by another request.")

    def _write(self, changes: Changes, node: Node, now: float) -> None:
        """Note a node as written, and expect that the one before it is there."""
        place, value = names.node(node.tenant, node.id), node.to_bytes()
        for before in _followed(node):
            followed = names.node(node.tenant, before)
            if followed not in changes.expected:
                changes.expected[followed] = self._needed(followed, f"The turn {before}")
            changes.members[names.children(node.tenant, before), node.id] = node.created
            changes.members[names.TURNS, names.member(node.tenant, before)] = now
        changes.values[place] = value
        changes.members.update({(name, node.id): node.created for name in names.found_by(node)})
        changes.members[names.TURNS, names.member(node.tenant, node.id)] = now
        changes.count(names.stored(node.tenant), len(value))
        if node.conversation is not None:
            changes.members[names.tree(node.tenant, node.conversation), node.id] = node.created

    def children(self, node: Node) -> list[str]:
        """Return the nodes after a node and those that repeat it, oldest first."""
        return self.backend.members(names.children(node.tenant, node.id), _ALL, newest=False)

    def delete(self, node: Node, *, descendants: bool = False, scrub: bool = True) -> list[str]:
        """Delete a turn, with the turns after it where asked, their memories and feedback; returns their ids.

        `HasDescendantsError` where others follow it or its repetitions after other instructions, unless they go, too;
        the repetitions themselves always do. Nothing of it is left in the database.
        """
        gone: list[str] = []
        if node.origin is not None:
            node = self.node(node.tenant, node.origin) or node
        while True:
            below = self._with_descendants(node)
            if not descendants and any(each.kind != "forget" and each.origin != node.id for each in below[1:]):
                raise HasDescendantsError(node.id)
            changes, parent = Changes(), None if node.parent is None else self.node(node.tenant, node.parent)
            self._move_heads(changes, below, parent)
            for one in below:
                self._forget(changes, one)
            if self.backend.apply(changes):
                break
        gone += [each.id for each in below]
        for one in below:  # what was written since; nothing can be any more
            for remark in self.remarks(one.tenant, one.id):
                self.delete_feedback(remark)
            for late in self.children(one):
                if (found := self.node(node.tenant, late)) is not None:
                    gone += self.delete(found, descendants=True, scrub=False)
        gone += self._delete_unused({name for one in below for name in _followed(one)} - set(gone), node.tenant)
        if scrub:
            self.backend.scrub()
        return gone

    def _delete_unused(self, left: set[str], tenant: str) -> list[str]:
        """Delete those nodes that were only there for what followed them, and those before them; returns their ids."""
        gone: list[str] = []
        while left:
            node = self.node(tenant, left.pop())
            if node is not None and (node.kind == "root" or node.is_read) and not self.children(node):
                self._delete_alone(node)
                gone.append(node.id)
                left.update(_followed(node))
        return gone

    def _delete_alone(self, node: Node) -> None:
        """Delete a node after which nothing comes; it stays where something does since a moment."""
        is_made = False
        while not is_made:
            changes = Changes()
            self._forget(changes, node)
            is_made = self.backend.apply(changes)
        if self.children(node):
            self.add(node)

    def _with_descendants(self, node: Node) -> list[Node]:
        found, waiting = {node.id: node}, [node]
        while waiting:
            below = (self.node(node.tenant, each) for each in self.children(waiting.pop()))
            new = [each for each in below if each is not None and each.id not in found]
            found |= {each.id: each for each in new}
            waiting += new
        return list(found.values())

    def _forget(self, changes: Changes, node: Node) -> None:
        """Note all that is stored of a node as deleted, and expect that it is as it was."""
        tenant, remarks = node.tenant, self.backend.members(names.remarks(node.tenant, node.id), 10_000)
        places = [names.node(tenant, node.id), *(names.feedback(tenant, remark) for remark in remarks)]
        values = self.backend.get(places)
        changes.expected.update(zip(places, values, strict=True))
        changes.deleted.update(places)
        changes.count(names.stored(tenant), -sum(len(value) for value in values if value is not None))
        self.drop_memory(changes, tenant, node.id)
        changes.removed |= {
            *((name, node.id) for name in names.found_by(node)),
            (names.TURNS, names.member(tenant, node.id)),
            *((names.remarks(tenant, node.id), remark) for remark in remarks),
            *((names.feedbacks(tenant), remark) for remark in remarks),
        }
        changes.removed |= {(names.children(tenant, before), node.id) for before in _followed(node)}
        if node.conversation is not None:
            changes.removed.add((names.tree(tenant, node.conversation), node.id))

    def _move_heads(self, changes: Changes, gone: Sequence[Node], parent: Node | None) -> None:
        """Let conversations whose heads go, go on from the turn before."""
        while parent is not None and parent.is_read:  # goes, too
            parent = None if parent.parent is None else self.node(parent.tenant, parent.parent)
        ids, head = {node.id for node in gone}, None if parent is None or parent.kind == "root" else parent.id
        for name in {node.conversation for node in gone if node.conversation is not None}:
            conversation = self.conversation(gone[0].tenant, name)
            if conversation is not None and conversation.head in ids:
                self._put(changes, replace(conversation, head=head), conversation)

    # --- memories ------------------------------------------------------------------------------------------------

    def memory(self, node: Node) -> bytes | None:
        """Return the memory after a node, as it was given, None where it is not stored."""
        found = self.backend.get([names.memory(node.tenant, node.id)])[0]
        if found is not None:
            self.backend.apply(Changes(members={(names.MEMORIES, names.member(node.tenant, node.id)): time.time()}))
        return found

    def put_memory(self, node: Node, data: bytes) -> None:
        """Keep the memory after a node, in place of one that is no longer among the newest; nothing if it is gone."""
        place, size = names.memory(node.tenant, node.id), names.memory_size(node.tenant, node.id)
        former = self.node(node.tenant, node.recent[-1]) if len(node.recent) == RECENT else None
        while True:
            there, old = self.backend.get([names.node(node.tenant, node.id), size])
            if there is None:
                return
            changes = Changes(expected={names.node(node.tenant, node.id): there, size: old})
            changes.values = {place: data, size: str(len(data)).encode()}
            changes.members[names.MEMORIES, names.member(node.tenant, node.id)] = time.time()
            self._count_memory(changes, node.tenant, len(data) - int(old or 0))
            if former is not None and not former.keeps_memory():
                self.drop_memory(changes, former.tenant, former.id)
            if self.backend.apply(changes):
                return

    def drop_memory(self, changes: Changes, tenant: str, node: str) -> None:
        """Note the memory after a node as deleted, where it is stored."""
        size = names.memory_size(tenant, node)
        old = self.backend.get([size])[0]
        changes.expected[size] = old
        if old is not None:
            changes.deleted |= {names.memory(tenant, node), size}
            changes.removed.add((names.MEMORIES, names.member(tenant, node)))
            self._count_memory(changes, tenant, -int(old))

    def _count_memory(self, changes: Changes, tenant: str, more: int) -> None:
        changes.count(names.stored(tenant), more)
        changes.count(names.MEMORY_BYTES, more)

    # --- conversations -------------------------------------------------------------------------------------------

    def conversation(self, tenant: str, name: str) -> StoredConversation | None:
        """Return a conversation of the tenant's, None where there is none."""
        found = self.backend.get([names.conversation(tenant, name)])[0]
        return None if found is None else StoredConversation.from_bytes(found)

    def put_conversation(self, new: StoredConversation, before: StoredConversation | None) -> None:
        """Write a conversation; `GoneError` unless it was `before` (None: unless there was none)."""
        changes = Changes()
        self._put(changes, new, before)
        if not self.backend.apply(changes):
            raise GoneError("The conversation was changed by another request.")

    def _put(self, changes: Changes, new: StoredConversation, before: StoredConversation | None) -> None:
        place, value = names.conversation(new.tenant, new.id), new.to_bytes()
        old = None if before is None else before.to_bytes()
        changes.expected[place], changes.values[place] = old, value
        changes.members[names.conversations(new.tenant), new.id] = new.updated
        changes.members[names.CONVERSATIONS, names.member(new.tenant, new.id)] = new.updated
        changes.count(names.stored(new.tenant), len(value) - len(old or b""))

    def conversations(self, tenant: str, limit: int, after: str | None = None) -> list[StoredConversation]:
        """Return conversations, the last changed first, from the one after `after` on."""
        found = self.backend.members(names.conversations(tenant), limit, after)
        values = self.backend.get([names.conversation(tenant, name) for name in found])
        return [StoredConversation.from_bytes(value) for value in values if value is not None]

    def tree(self, conversation: StoredConversation) -> list[Node]:
        """Return all turns of a conversation, of every branch, oldest first."""
        tenant = conversation.tenant
        found = self.backend.members(names.tree(tenant, conversation.id), _ALL, newest=False)
        values = self.backend.get([names.node(tenant, name) for name in found])
        return [Node.from_bytes(value) for value in values if value is not None]

    def num_turns(self, conversation: StoredConversation) -> int:
        """Return how many turns a conversation has, in all branches."""
        return self.backend.size(names.tree(conversation.tenant, conversation.id))

    def delete_conversation(self, conversation: StoredConversation, *, scrub: bool = True) -> list[str]:
        """Delete a conversation with all of its turns; returns the ids of these."""
        gone: list[str] = []
        for node in self.tree(conversation):
            if self.node(node.tenant, node.id) is not None:
                gone += self.delete(node, descendants=True, scrub=False)
        while (now := self.conversation(conversation.tenant, conversation.id)) is not None:
            changes, place, value = Changes(), names.conversation(now.tenant, now.id), now.to_bytes()
            changes.expected[place] = value
            changes.deleted.add(place)
            changes.removed = {
                (names.conversations(now.tenant), now.id),
                (names.CONVERSATIONS, names.member(now.tenant, now.id)),
            }
            changes.count(names.stored(now.tenant), -len(value))
            self.backend.apply(changes)
        for node in self.tree(conversation):  # written meanwhile
            gone += self.delete(node, descendants=True, scrub=False)
        if scrub:
            self.backend.scrub()
        return gone

    # --- responses without a turn --------------------------------------------------------------------------------

    def put_ended(self, tenant: str, name: str, shown: bytes) -> None:
        """Keep what is shown of a response that ended without a turn."""
        place, old = names.response(tenant, name), self.ended(tenant, name)
        changes = Changes(expected={place: old}, values={place: shown})
        changes.members[names.ENDED, names.member(tenant, name)] = time.time()
        changes.count(names.stored(tenant), len(shown) - len(old or b""))
        self.backend.apply(changes)

    def ended(self, tenant: str, name: str) -> bytes | None:
        """Return it."""
        return self.backend.get([names.response(tenant, name)])[0]

    def delete_ended(self, tenant: str, name: str) -> None:
        """Delete it."""
        place, shown = names.response(tenant, name), self.ended(tenant, name)
        changes = Changes(expected={place: shown}, deleted={place})
        changes.removed.add((names.ENDED, names.member(tenant, name)))
        changes.count(names.stored(tenant), -len(shown or b""))
        self.backend.apply(changes)

    # --- feedback ------------------------------------------------------------------------------------------------

    def add_feedback(self, feedback: Feedback) -> None:
        """Write a remark on a turn; `GoneError` where the turn is gone."""
        place, turn = names.feedback(feedback.tenant, feedback.id), names.node(feedback.tenant, feedback.node)
        changes = Changes(expected={turn: self._needed(turn, f"The turn {feedback.node}")})
        changes.values[place] = feedback.to_bytes()
        changes.members[names.remarks(feedback.tenant, feedback.node), feedback.id] = feedback.created
        changes.members[names.feedbacks(feedback.tenant), feedback.id] = feedback.created
        changes.count(names.stored(feedback.tenant), len(changes.values[place]))
        if not self.backend.apply(changes):
            raise GoneError(f"The turn {feedback.node} was deleted.")

    def delete_feedback(self, feedback: Feedback) -> None:
        """Delete a remark."""
        place, value = names.feedback(feedback.tenant, feedback.id), feedback.to_bytes()
        self.backend.apply(
            Changes(
                expected={place: value},
                deleted={place},
                removed={
                    (names.remarks(feedback.tenant, feedback.node), feedback.id),
                    (names.feedbacks(feedback.tenant), feedback.id),
                },
                counted={names.stored(feedback.tenant): -len(value)},
            )
        )

    def remarks(self, tenant: str, node: str | None = None) -> list[Feedback]:
        """Return the remarks on a turn, or all of the tenant's, oldest first."""
        name = names.feedbacks(tenant) if node is None else names.remarks(tenant, node)
        found = self.backend.members(name, _ALL, newest=False)
        values = self.backend.get([names.feedback(tenant, each) for each in found])
        return [Feedback.from_bytes(value) for value in values if value is not None]

    def memory_bytes(self) -> int:
        """Return the bytes of all memories that are stored."""
        return self.backend.counter(names.MEMORY_BYTES)

    def stored_bytes(self, tenant: str) -> int:
        """Return the bytes that are stored for a tenant: turns, memories, conversations and feedback."""
        return self.backend.counter(names.stored(tenant))

    def _needed(self, place: str, what: str) -> bytes:
        found = self.backend.get([place])[0]
        if found is None:
            raise GoneError(f"{what} was deleted.")
        return found


def _followed(node: Node) -> list[str]:
    """Return what a node follows: the one before it, and the one that it repeats."""
    return [each for each in (node.parent, node.origin) if each is not None]
