"""The file of a saved conversation: memories as tensors, transcript and fingerprint beside them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rxlm.files import write_atomically
from rxlm.memory import MemoryState
from rxlm.rxt.fingerprint import differences

CONVERSATION_VERSION = 2


class ConversationError(ValueError):
    """A conversation that cannot do what was asked, or a saved one that cannot be read or belongs elsewhere."""


@dataclass(frozen=True)
class SavedConversation:
    """All that a conversation is.

    `memories` maps a number of turns to the memory after them: the first, the last and the one before it.
    """

    fingerprint: Mapping[str, Any]
    system: str | None
    seed: int | None
    draws: int
    turns: list[dict[str, Any]]
    memories: dict[int, MemoryState]

    def write(self, path: Path) -> None:
        """Write the conversation to a safetensors file; an old file stays whole until the new one is."""
        record = {
            "version": CONVERSATION_VERSION,
            "fingerprint": self.fingerprint,
            "system": self.system,
            "seed": self.seed,
            "draws": self.draws,
            "turns": self.turns,
            "kind": next(iter(self.memories.values())).kind,
        }
        tensors = {
            f"memory.{count}.{name}": tensor.detach().clone()  # states may share what a turn did not change
            for count, memory in self.memories.items()
            for name, tensor in memory.tensors().items()
        }
        metadata = {"conversation": json.dumps(record)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a conversation that `write` wrote; `ConversationError` where it cannot be."""
        if not path.is_file():
            raise ConversationError(f"There is no saved conversation {path}.")
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ConversationError(f"The saved conversation {path} is damaged: {error}.") from error
        if "conversation" not in metadata:
            raise ConversationError(f"{path} is a safetensors file, but not a saved conversation.")
        try:
            return cls._of_record(path, json.loads(metadata["conversation"]), tensors)
        except ConversationError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise ConversationError(f"The saved conversation {path} is damaged: {error}.") from error

    @classmethod
    def _of_record(cls, path: Path, record: dict[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        version = record.pop("version")
        if version not in (1, CONVERSATION_VERSION):
            raise ConversationError(
                f"{path} is in format {version}; this version of rxlm reads 1 and {CONVERSATION_VERSION}."
            )
        kind = record.pop("kind", "slots")  # format 1 knew slots alone, as `memory.COUNT`
        parts: dict[int, dict[str, Tensor]] = {}
        for place, tensor in tensors.items():
            _, count, *name = place.split(".", 2)
            parts.setdefault(int(count), {})[name[0] if name else "memory"] = tensor
        memories = {count: MemoryState.of_kind(kind, own) for count, own in parts.items()}
        if missing := {0, len(record["turns"])} - set(memories):
            raise ConversationError(f"The saved conversation {path} lacks the memory after {min(missing)} turns.")
        return cls(**record, memories=memories)

    def check_belongs_to(self, present: Mapping[str, Any]) -> None:
        """Raise `ConversationError` unless the fingerprint is the one given."""
        found = differences(self.fingerprint, json.loads(json.dumps(present)))
        if found:
            more = f" (and {len(found) - 4} more differences)" if len(found) > 4 else ""
            raise ConversationError(f"This conversation belongs to another model: {'; '.join(found[:4])}{more}.")
