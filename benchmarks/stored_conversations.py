"""Many stored conversations in one SQLite file: how long it takes to open, to answer from a cold one, and to clean up.

    python benchmarks/stored_conversations.py MODEL --conversations 100000 --turns 4

Each conversation has turns of its own and the memory after its last turn. Conversations that are asked have their own
memory, all others one of the same size. Then, while questions are answered: memories beyond half of the bytes are
dropped, and conversations that are older than half of them are deleted.
"""

import argparse
import statistics
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import torch

from records import RESULTS, Record, at_least
from rxlm.data.templates import interaction_ids
from rxlm.rxt.turn_engine import write_turns
from rxlm.serving.keys import Keys, new_id
from rxlm.serving.launch import Launch, build
from rxlm.serving.store import names
from rxlm.serving.store.backend import Changes
from rxlm.serving.store.eviction import age_out, evict_memories
from rxlm.serving.store.records import Node, StoredConversation

ASKED = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--conversations", type=at_least(1), default=100_000)
    parser.add_argument("--turns", type=at_least(1), default=4)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    record = Record(given.output / "stored_conversations.json", given)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "store.sqlite"
        context = build(Launch(given.model, store=str(file)))
        begun, per = time.perf_counter(), f"conversations of {given.turns} turns"
        fill(context, given.conversations, given.turns)
        size = sum(each.stat().st_size for each in Path(name).glob("store.sqlite*"))
        print(f"{given.conversations:,} {per} written in {time.perf_counter() - begun:.0f} s")
        print(f"{size / given.conversations:,.0f} bytes each, {memory_bytes(context):,} of them a memory")
        record.add("a conversation", size / given.conversations, "bytes", better="less", kind="ratio")
        context.service.close()

        begun = time.perf_counter()
        context = build(Launch(given.model, store=str(file)))
        whole = time.perf_counter() - begun
        begun = time.perf_counter()
        context.store.backend.get(["nothing"])
        print(f"opened with the model in {whole:.2f} s; first look {1000 * (time.perf_counter() - begun):.2f} ms")
        cold = answer_times(context, 0, ASKED)
        warm = answer_times(context, 0, ASKED)
        print(f"place of the next turn: cold p50 {ms(cold)} ms, max {max(cold) * 1000:.1f} ms; warm p50 {ms(warm)} ms")
        for name, times in {"cold": cold, "warm": warm}.items():
            record.add(f"place of the next turn/{name}", times, "s", better="less")
        for name, times in serve_while_cleaning(context, given.conversations).items():
            record.add(f"place of the next turn/{name}", times, "s", better="less")
        context.service.close()
    record.save()


def memory_bytes(context) -> int:
    return len(context.service.model.init_memory(1, 0).to_bytes())


def ms(times: list[float]) -> str:
    return f"{statistics.median(times) * 1000:.1f}"


@torch.no_grad()
def fill(context, count: int, turns: int) -> None:
    service, store = context.service, context.store
    tenant = context.tenants.named("default")
    root = service.root(tenant, None)
    store.add(root)
    first = service.model.init_memory(1, 0)
    for number in range(count):
        node, keys, now = root, Keys(root.key, root.alias), time.time()
        conversation = StoredConversation(f"conv_{number}", tenant.id, now, now, {"title": f"Conversation {number}"})
        memory, nodes = first, []
        for turn in range(turns):
            query, answer = f"This is message {turn} of conversation {number}.", f"I see: {number}."
            ids = tuple(interaction_ids(service.tokenizer, service.model.tokenizer_config, query, answer))
            keys = keys.after(query, answer, None)
            node = Node(
                new_id("resp"), tenant.id, now, "turn", node.id, root.id, node.depth + 1, *keys, query=query,
                answer=answer, ids=ids, tokens=node.tokens + len(ids), recent=(node.id, *node.recent)[:8],
                conversation=conversation.id,
            )  # fmt: skip
            nodes.append(node)
            if number < ASKED:
                memory = write_turns(service.model, memory, [ids])
        if number <= ASKED:
            data = memory.to_bytes()
        add_all(store, nodes, replace(conversation, head=node.id, root=root.id), data, now)


def add_all(store, nodes: list[Node], conversation: StoredConversation, data: bytes, now: float) -> None:
    """Write a conversation in one change, as it stands after its turns were stored one by one."""
    changes, tenant = Changes(), conversation.tenant
    for node in nodes:
        value = node.to_bytes()
        changes.values[names.node(tenant, node.id)] = value
        changes.members[names.by_key(tenant, node.key), node.id] = now
        changes.members[names.by_alias(tenant, node.alias), node.id] = now
        changes.members[names.children(tenant, str(node.parent)), node.id] = now
        changes.members[names.tree(tenant, conversation.id), node.id] = now
        changes.members[names.TURNS, names.member(tenant, node.id)] = now
        changes.count(names.stored(tenant), len(value))
    value = conversation.to_bytes()
    changes.values[names.conversation(tenant, conversation.id)] = value
    changes.members[names.conversations(tenant), conversation.id] = now
    changes.values[names.memory(tenant, nodes[-1].id)] = data
    changes.values[names.memory_size(tenant, nodes[-1].id)] = str(len(data)).encode()
    changes.members[names.MEMORIES, names.member(tenant, nodes[-1].id)] = now
    changes.count(names.stored(tenant), len(value) + len(data))
    changes.count(names.MEMORY_BYTES, len(data))
    store.backend.apply(changes)


def answer_times(context, first: int, count: int) -> list[float]:
    """Return the seconds until a turn of each of these conversations can begin."""
    tenant, times = context.tenants.named("default"), []
    for number in range(first, first + count):
        begun = time.perf_counter()
        conversation = context.store.conversation(tenant.id, f"conv_{number}")
        node = context.store.node(tenant.id, conversation.head)
        context.service.scheduler.need(context.service.after_node(tenant, node).before, 60)
        times.append(time.perf_counter() - begun)
    return times


def serve_while_cleaning(context, count: int) -> dict[str, list[float]]:
    """Return the seconds until turns could begin, by what was cleaned meanwhile."""
    backend, found = context.store.backend, {}
    half = backend.counter(names.MEMORY_BYTES) // 2
    for name, work in (
        ("dropping half of the memories", lambda: evict_memories(context.store, half)),
        ("deleting the older half", lambda: age_out(context.store, time.time() - middle(backend, count))),
    ):
        ended, times, done = threading.Event(), [], []

        def clean(work=work, done=done, ended=ended) -> None:
            begun = time.perf_counter()
            done.append((work(), time.perf_counter() - begun))
            ended.set()

        thread = threading.Thread(target=clean)
        thread.start()
        number = count - ASKED
        while not ended.is_set():
            times += answer_times(context, number, 1)
            number = number + 1 if number < count - 1 else count - ASKED
            time.sleep(0.05)
        thread.join()
        dropped, seconds = done[0]
        found[name], ordered = times, sorted(times)
        print(
            f"{name}: {dropped:,} in {seconds:.0f} s; meanwhile {len(times)} places found, p50 {ms(times)} ms, "
            f"p99 {ordered[int(len(ordered) * 0.99)] * 1000:.0f} ms"
        )
    return found


def middle(backend, count: int) -> float:
    """Return the time at which the middle one was used last."""
    times = sorted(number for _, number in backend.numbers(names.TURNS, 10**9))
    return times[len(times) // 2]


if __name__ == "__main__":
    main()
