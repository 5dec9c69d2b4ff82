"""What a store drops by itself: memories beyond a limit, which can be computed again, and turns that nobody uses."""

import time

from rxlm.serving.store import names
from rxlm.serving.store.backend import Changes
from rxlm.serving.store.store import Store


def evict_memories(store: Store, max_bytes: int) -> int:
    """Drop the memories that were used longest ago, until the others take no more; returns how many went."""
    dropped, backend = 0, store.backend
    while backend.counter(names.MEMORY_BYTES) > max_bytes:
        oldest = backend.numbers(names.MEMORIES, 32)
        if not oldest:
            break
        for member, _ in oldest:
            changes = Changes(removed={(names.MEMORIES, member)})
            store.drop_memory(changes, *member.split("/"))
            dropped += backend.apply(changes) and bool(changes.deleted)
            if backend.counter(names.MEMORY_BYTES) <= max_bytes:
                break
    if dropped:
        backend.scrub()
    return dropped


def age_out(store: Store, max_age: float) -> int:
    """Delete turns that were not used for `max_age` seconds, and that none follows which was; returns how many."""
    deleted, until = 0, time.time() - max_age
    while old := [member for member, used in store.backend.numbers(names.TURNS, 256) if used < until]:
        for member in old:
            deleted += _age_out(store, member)
    if deleted:
        store.backend.scrub()
    return deleted


def _age_out(store: Store, member: str) -> int:
    node = store.node(*member.split("/"))
    if node is None:
        store.backend.apply(Changes(removed={(names.TURNS, member)}))
        return 0
    if below := store.children(node):  # as old as the youngest turn that follows
        ages = [store.backend.number(names.TURNS, names.member(node.tenant, each)) for each in below]
        youngest = max((age for age in ages if age is not None), default=time.time())
        own = store.backend.number(names.TURNS, member) or 0.0
        store.backend.apply(Changes(members={(names.TURNS, member): max(youngest, own + 1.0)}))
        return 0
    store.delete(node, scrub=False)
    if node.conversation is not None:
        conversation = store.conversation(node.tenant, node.conversation)
        if conversation is not None and not store.num_turns(conversation):
            store.delete_conversation(conversation)
    return 1
