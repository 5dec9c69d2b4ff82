"""What a store drops by itself: memories beyond a limit, which can be computed again, and turns that nobody uses."""

import time

from rxlm.serving.store import names
from rxlm.serving.store.backend import Changes
from rxlm.serving.store.store import HasDescendantsError, Store


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
    """Delete turns that were not used for `max_age` seconds, and that none follows which was; returns how many.

    Conversations without a turn, and responses that ended without one, go likewise.
    """
    deleted, rest, until = 0, 0, time.time() - max_age
    while old := _older(store, names.TURNS, until):
        for member in old:
            deleted += _age_out(store, member)
    while old := _older(store, names.CONVERSATIONS, until):
        rest += sum(_age_out_conversation(store, *member.split("/")) for member in old)
    while old := _older(store, names.ENDED, until):
        for member in old:
            store.delete_ended(*member.split("/"))
            rest += 1
    if deleted or rest:
        store.backend.scrub()
    return deleted


def _older(store: Store, name: str, until: float) -> list[str]:
    return [member for member, used in store.backend.numbers(name, 256) if used < until]


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
    try:
        return len(store.delete(node, scrub=False))
    except HasDescendantsError:  # since a moment, or what it repeats has some: it is looked at again when it is older
        store.backend.apply(Changes(members={(names.TURNS, member): time.time()}))
        return 0


def _age_out_conversation(store: Store, tenant: str, name: str) -> bool:
    """Delete a conversation that has no turns any more; one that has some is as young as now."""
    conversation = store.conversation(tenant, name)
    member = (names.CONVERSATIONS, names.member(tenant, name))
    if conversation is None:
        store.backend.apply(Changes(removed={member}))
        return False
    if store.num_turns(conversation):
        store.backend.apply(Changes(members={member: time.time()}))
        return False
    store.delete_conversation(conversation, scrub=False)
    return True
