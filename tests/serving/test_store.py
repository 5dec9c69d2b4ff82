"""The store: trees of turns, their memories, and what goes by itself or is deleted."""

import random
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rxlm.serving.keys import root_keys
from rxlm.serving.store import names
from rxlm.serving.store.backend import Changes
from rxlm.serving.store.eviction import age_out, evict_memories
from rxlm.serving.store.records import RECENT, Feedback, Node, StoredConversation
from rxlm.serving.store.sqlite import SQLiteBackend
from rxlm.serving.store.store import GoneError, HasDescendantsError, Store
from rxlm.serving.store.tenants import Tenants

WHO = "ann"


@pytest.fixture
def store() -> Store:
    return Store(SQLiteBackend(":memory:"))


def root_of(store: Store, instructions: str | None = None) -> Node:
    keys = root_keys("model", "salt", instructions, 0, None)
    name = f"root_{keys.key}"
    root = Node(
        name, WHO, time.time(), kind="root", parent=None, root=name, depth=0, key=keys.key, alias=keys.alias,
        query=instructions or "", has_instructions=instructions is not None,
    )  # fmt: skip
    store.add(root)
    return root


def turn_after(store: Store, parent: Node, name: str, *, conversation: str | None = None, kind: str = "resp") -> Node:
    turn = Node(
        f"{kind}_{name}", WHO, time.time(), kind="turn", parent=parent.id, root=parent.root, depth=parent.depth + 1,
        key=f"key {name}", alias=f"alias {name}", query=f"query {name}", answer="answer", ids=(1, 2),
        recent=(parent.id, *parent.recent)[:RECENT], conversation=conversation,
    )  # fmt: skip
    store.add(turn)
    return turn


def chain(store: Store, length: int) -> list[Node]:
    nodes = [root_of(store)]
    for number in range(1, length + 1):
        nodes.append(turn_after(store, nodes[-1], str(number)))
    return nodes


def kept(store: Store, nodes: list[Node]) -> list[int]:
    return [node.depth for node in nodes if store.memory(node) is not None]


def used_at(store: Store, node: Node, when: float) -> None:
    store.backend.apply(Changes(members={(names.TURNS, names.member(WHO, node.id)): when}))


def test_memories_of_the_root_the_newest_8_and_every_16th_turn_are_kept(store: Store):
    nodes = chain(store, 42)
    for node in nodes:
        store.put_memory(node, b"m" * 10)
    assert kept(store, nodes) == [0, 16, 32, *range(35, 43)]
    assert store.memory_bytes() == 10 * len(kept(store, nodes))


def test_memories_that_were_used_longest_ago_are_evicted(store: Store):
    nodes = chain(store, 5)
    for node in nodes:
        store.put_memory(node, b"m" * 100)
    store.memory(nodes[1])
    assert evict_memories(store, 250) == 4
    assert kept(store, nodes) == [1, 5]
    assert all(store.node(WHO, node.id) == node for node in nodes)
    assert evict_memories(store, 250) == 0


def test_a_turn_that_younger_ones_follow_stays_and_old_branches_go(store: Store):
    nodes = chain(store, 3)
    branch = turn_after(store, nodes[1], "branch")
    old = time.time() - 100
    for node in (*nodes[:3], branch):
        used_at(store, node, old)
    assert age_out(store, 50) == 1
    assert store.node(WHO, branch.id) is None
    assert [store.node(WHO, node.id) for node in nodes] == nodes
    for node in nodes:
        used_at(store, node, old)
    assert age_out(store, 50) == 4
    assert (store.stored_bytes(WHO), store.memory_bytes()) == (0, 0)


def test_conversations_without_turns_and_responses_without_one_age_out(store: Store):
    old = time.time() - 100
    empty = StoredConversation("conv_empty", WHO, old, old)
    young = replace(empty, id="conv_young", updated=time.time())
    full = replace(empty, id="conv_full")
    for conversation in (empty, young, full):
        store.put_conversation(conversation, None)
    turn = turn_after(store, root_of(store), "t", conversation=full.id)
    store.put_ended(WHO, "resp_failed", b"{}")
    store.backend.apply(Changes(members={(names.ENDED, names.member(WHO, "resp_failed")): old}))
    age_out(store, 50)
    assert {each.id for each in store.conversations(WHO, 10)} == {young.id, full.id}
    assert (store.ended(WHO, "resp_failed"), store.node(WHO, turn.id)) == (None, turn)
    for node in (turn, root_of(store)):
        used_at(store, node, old)
    store.backend.apply(Changes(members={(names.CONVERSATIONS, names.member(WHO, full.id)): old}))
    age_out(store, 50)
    assert [each.id for each in store.conversations(WHO, 10)] == [young.id]


def test_a_turn_is_deleted_with_those_after_it_or_not_at_all(store: Store):
    nodes = chain(store, 4)
    other = turn_after(store, nodes[1], "other")
    store.put_memory(nodes[3], b"memory")
    store.add_feedback(Feedback("fb_1", WHO, time.time(), nodes[3].id, rating="up"))
    with pytest.raises(HasDescendantsError):
        store.delete(nodes[2])
    assert store.memory(nodes[3]) == b"memory"
    assert set(store.delete(nodes[2], descendants=True)) == {node.id for node in nodes[2:]}
    assert store.remarks(WHO) == []
    assert store.node(WHO, other.id) == other
    assert set(store.delete(nodes[1], descendants=True)) == {nodes[1].id, other.id, nodes[0].id}
    assert store.stored_bytes(WHO) == 0


def test_what_was_only_read_before_a_turn_goes_with_it(store: Store):
    root = root_of(store)
    first = turn_after(store, root, "a", kind="turn")
    second = turn_after(store, first, "b", kind="turn")
    left, right = turn_after(store, second, "c"), turn_after(store, second, "d")
    assert store.delete(left) == [left.id]
    assert store.delete(right) == [right.id, second.id, first.id, root.id]
    assert store.stored_bytes(WHO) == 0


def test_a_long_history_that_was_read_goes_with_its_turn(store: Store):
    node = root_of(store)
    for number in range(1500):
        node = turn_after(store, node, str(number), kind="turn")
    assert len(store.delete(turn_after(store, node, "answered"))) == 1502


def test_the_head_moves_back_when_its_turn_goes(store: Store):
    conversation = StoredConversation("conv_1", WHO, 1.0, 1.0)
    store.put_conversation(conversation, None)
    first = turn_after(store, root_of(store), "a", conversation=conversation.id)
    piece = replace(turn_after(store, first, "p", kind="turn"), is_piece=True)
    second = turn_after(store, piece, "b", conversation=conversation.id)
    store.put_conversation(replace(conversation, head=second.id), conversation)
    assert store.delete(second) == [second.id, piece.id]
    found = store.conversation(WHO, conversation.id)
    assert found is not None
    assert found.head == first.id
    store.delete_conversation(found)
    assert store.stored_bytes(WHO) == 0
    assert store.backend.size(names.CONVERSATIONS) == 0


def test_a_turn_after_one_that_was_deleted_is_refused(store: Store):
    nodes = chain(store, 2)
    store.delete(nodes[2])
    with pytest.raises(GoneError):
        turn_after(store, nodes[2], "late")
    store.put_memory(nodes[2], b"late")
    assert store.memory(nodes[2]) is None


def test_one_of_two_writers_moves_a_head(tmp_path: Path):
    stores = [Store(SQLiteBackend(tmp_path / "s.sqlite")) for _ in range(2)]
    before = StoredConversation("conv_1", WHO, 1.0, 1.0)
    stores[0].put_conversation(before, None)
    root = root_of(stores[0])
    start, won, lost = threading.Barrier(2), [], []

    def write(own: Store, name: str) -> None:
        turn = Node(name, WHO, 1.0, "turn", root.id, root.id, 1, name, name, conversation=before.id)
        start.wait()
        try:
            own.add(turn, replace(before, head=name), before)
        except GoneError:
            lost.append(name)
        else:
            won.append(name)

    threads = [threading.Thread(target=write, args=(own, f"resp_{n}")) for n, own in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = stores[0].conversation(WHO, before.id)
    assert found is not None
    assert ([found.head], len(lost)) == (won, 1)
    assert stores[0].node(WHO, lost[0]) is None
    assert [node.id for node in stores[0].tree(found)] == won
    for own in stores:
        own.backend.close()


class Meanwhile(SQLiteBackend):
    """Does something once, between what a store reads and what it writes."""

    def __init__(self) -> None:
        super().__init__(":memory:")
        self.meanwhile = lambda: None

    def apply(self, changes: Changes) -> bool:
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return super().apply(changes)


def test_what_others_write_during_a_deletion_is_deleted_and_counted_too():
    for late in (
        lambda store, turn: store.put_memory(turn, b"memory"),
        lambda store, turn: store.add_feedback(Feedback("fb_1", WHO, 1.0, turn.id, rating="up")),
        lambda store, turn: turn_after(store, turn, "late"),
        lambda store, turn: store.delete(turn),
    ):
        backend = Meanwhile()
        store = Store(backend)
        turn = chain(store, 1)[1]
        backend.meanwhile = lambda late=late, store=store, turn=turn: late(store, turn)
        store.delete(turn)
        assert (store.stored_bytes(WHO), store.memory_bytes(), store.remarks(WHO)) == (0, 0, [])
        assert backend.size(names.TURNS) == 0


def test_a_root_that_a_conversation_begins_at_meanwhile_stays():
    backend = Meanwhile()
    store = Store(backend)
    root, turn = chain(store, 1)
    new = []

    def begin() -> None:
        backend.meanwhile = lambda: new.append(turn_after(store, root, "new"))

    backend.meanwhile = begin  # not while the turn goes, but while its root does
    store.delete(turn)
    assert store.children(root) == [new[0].id]
    assert store.node(WHO, root.id) == root


def _everything(store: Store) -> tuple[int, int]:
    """Return what is stored for the tenant, and of it memories, by looking at all values."""
    rows = store.backend._database.execute("SELECT key, value FROM items").fetchall()
    sizes = [(key.partition("/")[0], len(value)) for key, value in rows]
    memories = sum(size for kind, size in sizes if kind == "memory")
    return sum(size for kind, size in sizes if kind != "memory size"), memories


@given(seed=st.integers(0, 2**32))
def test_counters_equal_the_sum_of_what_is_stored(seed: int):
    draw, store = random.Random(seed), Store(SQLiteBackend(":memory:"))
    nodes: list[Node] = []
    before = StoredConversation("conv_1", WHO, 1.0, 1.0)
    store.put_conversation(before, None)
    for number in range(60):
        nodes = [node for node in nodes if store.node(WHO, node.id) is not None] or [root_of(store)]
        node, kind = draw.choice(nodes), draw.randrange(9)
        if kind < 3:
            nodes.append(turn_after(store, node, str(number), kind=draw.choice(["resp", "turn"])))
        elif kind < 5:
            store.put_memory(node, b"m" * draw.randrange(500))
        elif kind == 5 and node.kind == "turn":
            store.delete(node, descendants=True)
        elif kind == 6:
            store.add_feedback(Feedback(f"fb_{number}", WHO, float(number), node.id, edit="e" * draw.randrange(50)))
            if draw.random() < 0.5:
                store.delete_feedback(draw.choice(store.remarks(WHO)))
        elif kind == 7:
            evict_memories(store, draw.randrange(2000))
        else:
            name = f"resp_ended_{draw.randrange(3)}"
            draw.choice([store.delete_ended, lambda who, name: store.put_ended(who, name, b"{}")])(WHO, name)
        stored, memories = _everything(store)
        assert (store.stored_bytes(WHO), store.memory_bytes()) == (stored, memories)


def test_tenants_have_names_that_cannot_be_mistaken():
    tenants = Tenants(SQLiteBackend(":memory:"))
    assert tenants.named("ann.example-1").name == "ann.example-1"
    for name in ("ann/root", "", "a" * 101, "ann\n"):
        with pytest.raises(ValueError, match="tenant's name"):
            tenants.named(name)
