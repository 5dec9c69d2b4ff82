"""The memories after stored turns: those of this process, those of the store, and those that are computed again."""

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore

import torch
from transformers import PreTrainedTokenizerFast

from rxlm.memory import MemoryState
from rxlm.rxt.history import first_memory
from rxlm.rxt.models import RxTAlpha
from rxlm.serving.memories import Making
from rxlm.serving.scheduler import Scheduler
from rxlm.serving.store.backend import StoreError
from rxlm.serving.store.records import Node
from rxlm.serving.store.store import Store

LOG = logging.getLogger("rxlm.serving")
MODEL_SEED = 0
"""Of the first memories: all conversations with the same instructions begin with the same one."""
MOST_UNSAVED = 64
"""Memories that wait to be stored; beyond it they are not: they can be computed again, and this process has them."""


class StoredMemories:
    """Finds and stores memories; arguments as in `Service`."""

    def __init__(
        self, model: RxTAlpha, tokenizer: PreTrainedTokenizerFast, scheduler: Scheduler, store: Store | None
    ) -> None:
        self.model, self.tokenizer, self.scheduler, self.store = model, tokenizer, scheduler, store
        self._saving = ThreadPoolExecutor(1, "saving")
        self._unsaved = Semaphore(MOST_UNSAVED)

    def after(self, node: Node) -> tuple[Making, int]:
        """Return the memory after a node, and how many tokens must be read for it."""
        missing: list[Node] = []
        found: Making | None = None
        path = iter([node]) if self.store is None or node.kind == "root" else self.store.path(node)
        for each in path:
            found = self.scheduler.cache.get(each.id) or self._stored_memory(each)
            if found is not None:
                break
            missing.append(each)
        read = 0
        for each in reversed(missing):
            found = self.scheduler.make(self._making(each, found))
            self.save(each, found, self.store is not None)
            read += each.tokens if each.kind == "root" else len(each.ids)
        assert found is not None
        return found, read

    def _making(self, node: Node, before: Making | None) -> Making:
        if node.kind == "root":
            instructions = node.instructions
            return Making(node.id, change=lambda _: self._first_memory(instructions), wanted=True, read=True)
        if node.span is not None:
            first, end = node.span
            return Making(node.id, before, change=lambda memory: memory.forget(first, end), wanted=True, read=True)  # type: ignore[union-attr]
        return Making(node.id, before, node.ids, wanted=True, read=True)

    @torch.no_grad()
    def _first_memory(self, instructions: str | None) -> MemoryState:
        return first_memory(self.model, self.tokenizer, instructions, MODEL_SEED, None)

    def _stored_memory(self, node: Node) -> Making | None:
        data = None if self.store is None else self.store.memory(node)
        if data is None:
            return None
        try:
            state = MemoryState.from_bytes(data, self.model.device)
        except ValueError:  # it is computed again
            return None
        making = Making.of(state, node.id)
        self.scheduler.cache.put(making)
        return making

    def save(self, node: Node, making: Making, stored: bool) -> None:
        """Let the memory after a node be stored once it is made."""
        store = self.store
        if store is not None and stored:

            def put(made: Making) -> None:
                if self._unsaved.acquire(blocking=False):
                    self._saving.submit(_put, store, node, made).add_done_callback(lambda _: self._unsaved.release())

            making.then(put)

    def close(self) -> None:
        """Store what is still to be stored."""
        self._saving.shutdown()


def _put(store: Store, node: Node, making: Making) -> None:
    if making.state is not None:
        try:
            store.put_memory(node, making.state.to_bytes())
        except StoreError as error:  # it can be computed again
            LOG.error("%s", json.dumps(str(error)))
