"""Names of what a store holds in its database: of values, of sets and of counters."""

from functools import partial

from rxlm.serving.store.records import Node

TURNS = "turns"
"""Set of all nodes, by when they were used last; members are `TENANT/NODE`."""
MEMORIES = "memories"
"""Set of all memories, likewise."""
CONVERSATIONS = "all conversations"
"""Set of all conversations, by when they were changed last; members are `TENANT/CONVERSATION`."""
ENDED = "ended"
"""Set of all responses that ended without a turn, by when they did; members are `TENANT/RESPONSE`."""
MEMORY_BYTES = "memory bytes"
"""Counter of what all memories take."""


def _name(kind: str, tenant: str, *rest: str) -> str:
    return "/".join((kind, tenant, *rest))


def member(tenant: str, node: str) -> str:
    """Return the member of the sets of all tenants."""
    return f"{tenant}/{node}"


# Values of a tenant's.
node, memory, conversation, feedback, response = (
    partial(_name, each) for each in ("node", "memory", "conversation", "feedback", "response")
)
memory_size = partial(_name, "memory size")
# Sets of a tenant's: of nodes by their keys (of all, and of those of an owner), after a node, and in a conversation; of
# conversations, of remarks.
by_key, by_alias, children, tree = (partial(_name, each) for each in ("by key", "by alias", "children", "tree"))
conversations, feedbacks, remarks = (partial(_name, each) for each in ("conversations", "all feedback", "remarks"))


def found_by(node: Node) -> list[str]:
    """Return the sets in which a node is found by what was said."""
    owner = node.owner or ""
    return [
        *(by_key(node.tenant, node.key, *each) for each in ((), (owner,))),
        *(by_alias(node.tenant, node.alias, *each) for each in ((), (owner,))),
    ]


# Counter of the bytes that are stored for a tenant.
stored = partial(_name, "bytes")
