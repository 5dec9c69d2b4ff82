"""What a stored memory holds, and what answers read of it: the figures of the page's inspector."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from rxlm.memory import MemoryState
from rxlm.rxt.memory_view import Said, ends, read_by_answer, said
from rxlm.rxt.sampling import GREEDY
from rxlm.rxt.turn_engine import TurnEngine
from rxlm.serving.memories import Making
from rxlm.serving.service import Service
from rxlm.serving.store.records import Node, Tenant

MOST_READS = 32
"""Kept tokens that are named for a token of an answer."""
LEAST_WEIGHT = 1e-5
SECONDS = 120.0
"""How long a look may wait for the model."""


class NoTokensError(ValueError):
    """A memory that keeps no tokens was asked for them."""


@dataclass(frozen=True)
class Inspector:
    """Looks at stored memories; what is computed for it comes between two steps of the model's thread."""

    service: Service

    @property
    def keeps_tokens(self) -> bool:
        """Whether memories of this model keep tokens."""
        return self.service.model.memory_writer.reads_computed

    def memory(self, tenant: Tenant, node: Node) -> MemoryState:
        """Return the memory after a node."""
        return self._state(self.service.after_node(tenant, node).before)

    def shown(self, tenant: Tenant, node: Node) -> dict[str, Any]:
        """Return what the memory after a node keeps, turn by turn; of slots, how far each turn changed them."""
        making = self.service.after_node(tenant, node).before
        memory, turns = self._state(making), self._turns(node)
        if not self.keeps_tokens:
            changes = self._changes(tenant, turns)
            shown = [{"response_id": each.id, "change": change} for each, change in zip(turns, changes, strict=True)]
            count = len(changes[0]) if changes else 0
            return {"kind": memory.kind, "num_bytes": memory.num_bytes, "slots": count, "turns": shown}
        shares = memory.heads_that_keep() or {}
        root = self.service.needed_store.node(tenant.id, node.root)
        parts, length = self._said(None if root is None else root.instructions, turns), int(memory.length[0])  # type: ignore[attr-defined]
        names = [None, *(each.id for each in turns)]
        pieces = [
            [
                {"text": piece, "position": position, "share": round(shares.get(position, 0.0), 4)}
                for position, piece in enumerate(part.pieces, part.first)
                if position < length
            ]
            for part in parts
        ]
        return {
            "kind": memory.kind, "num_bytes": memory.num_bytes, "limit": memory.num_tokens, "said": length,
            "kept": round(sum(shares.values())), "kept_by_some": len(shares), "update_seconds": making.seconds or None,
            "turns": [{"response_id": name, "pieces": own} for name, own in zip(names, pieces, strict=True) if own],
        }  # fmt: skip

    def reads(self, tenant: Tenant, node: Node) -> list[dict[str, Any]]:
        """Return the tokens of a turn's answer, each with the kept tokens that it read most of."""
        self._need_tokens()
        parent = self.service.needed_store.node(tenant.id, node.parent or "")
        if parent is None or node.kind != "turn":
            return []
        before, ids = self.memory(tenant, parent), node.ids
        form = self.service.model.tokenizer_config
        count = len(ids) - self._length_of_prompt(ids, form.before_answer)
        pieces = said(self.service.model, self.service.tokenizer, None, [ids])[1].pieces
        rows = self._between(lambda: read_by_answer(self.service.model, before, ids, count))
        texts = pieces[len(ids) - count : len(ids)]
        found = []
        for text, row in zip(texts, rows, strict=False):
            most = sorted(row.items(), key=lambda each: -each[1])[:MOST_READS]
            found.append(
                {"text": text, "reads": [[place, round(weight, 6)] for place, weight in most if weight > 1e-5]}
            )
        return found

    def span(self, node: Node, turn: Node) -> tuple[int, int]:
        """Return where a turn's tokens stand in the conversation up to `node`: the first, and after the last."""
        return self.span_in(list(self.service.needed_store.path(node)), turn)

    def span_in(self, path: Sequence[Node], turn: Node) -> tuple[int, int]:
        """Return the same for a path from a node to its root, which need not be stored."""
        self._need_tokens()
        turns = [each for each in path if each.kind == "turn"][::-1]
        names = [each.first for each in turns]
        if turn.first not in names:
            raise ValueError(f"{turn.id} is no turn of the conversation up to {path[0].id}.")
        service, place = self.service, names.index(turn.first)
        places = ends(service.model, service.tokenizer, path[-1].instructions, (each.ids for each in turns))
        first = place
        while first > 0 and turns[first - 1].is_piece:
            first -= 1
        return places[first], places[place + 1]

    def without(self, tenant: Tenant, node: Node, positions: Sequence[int], text: str | None) -> dict[str, str]:
        """Answer a message from the memory before a turn twice: as it is, and without the tokens at some positions."""
        self._need_tokens()
        parent = self.service.needed_store.node(tenant.id, node.parent or "")
        if parent is None or node.kind != "turn":
            raise ValueError(f"{node.id} is no turn.")
        before = self.memory(tenant, parent)
        if max(positions) >= parent.tokens:
            there = f"{parent.tokens} tokens stand before the turn"
            raise ValueError(f"positions must be below {parent.tokens}: {there}; got {max(positions)}.")
        masked = before
        for position in positions:
            masked = masked.forget(position, position + 1)  # type: ignore[attr-defined]
        query = node.query if text is None else text
        self.service.lengths.check(query)
        answers = self._between(lambda: self._greedy(MemoryState.join([before, masked]), query))
        return {"answer": answers[0], "answer_without": answers[1]}

    def difference(self, tenant: Tenant, node: Node, earlier: Node) -> dict[str, Any]:
        """Return what the memory after a node has that another one has not, in words and as a share."""
        now, then = self.memory(tenant, node), self.memory(tenant, earlier)
        return {"lines": now.describe(then), "share": round(float(now.change(then, "mse")[0]), 6)}

    def _greedy(self, memories: MemoryState, query: str) -> list[str]:
        service = self.service
        engine = TurnEngine(
            service.model, 2, max_seq_len=service.lengths.limit, tokenizer=service.tokenizer, streams=True
        )
        asked = service.query_of(query, service.options().with_sampling(GREEDY))
        turns = [engine.prepare(asked) for _ in range(2)]
        engine.begin(turns, memories)
        for _ in engine.run():
            pass
        engine.leave(turns)
        return [turn.writer.answer for turn in turns if turn.writer is not None]

    @torch.no_grad()
    def _changes(self, tenant: Tenant, turns: Sequence[Node]) -> list[list[float]]:
        """Return how far each turn moved each slot: root mean square over layers and dimensions."""
        changes, before = [], None
        for node in turns:
            parent = self.service.needed_store.node(tenant.id, node.parent or "")
            if before is None and parent is not None:
                before = self.memory(tenant, parent)
            now = self.memory(tenant, node)
            moved = next(iter(now.tensors().values())) - next(iter(before.tensors().values()))  # type: ignore[union-attr]
            changes.append([round(float(each), 6) for each in moved[:, 0].float().pow(2).mean((0, 2)).sqrt()])
            before = now
        return changes

    def _turns(self, node: Node) -> list[Node]:
        path = [each for each in self.service.needed_store.path(node) if each.kind == "turn"]
        return path[::-1]

    def _said(self, system: str | None, turns: Sequence[Node]) -> list[Said]:
        return said(self.service.model, self.service.tokenizer, system, [each.ids for each in turns])

    def _length_of_prompt(self, ids: Sequence[int], before_answer: Sequence[int]) -> int:
        """Return how many tokens stand before a turn's answer."""
        width = len(before_answer)
        ends = [
            place + width
            for place in range(len(ids) - width + 1)
            if tuple(ids[place : place + width]) == tuple(before_answer)
        ]
        return ends[0] if ends else len(ids)

    def _need_tokens(self) -> None:
        if not self.keeps_tokens:
            raise NoTokensError("This model's memory has slots and keeps no tokens; this needs a memory of tokens.")

    def _state(self, making: Making) -> MemoryState:
        return self.service.scheduler.need(making, SECONDS)

    def _between(self, work: Any) -> Any:
        return self.service.scheduler.call(work).result(SECONDS)
