"""The file of a saved conversation: memories as tensors, and a record, which is transcript and fingerprint, as JSON.

The record is a tensor of bytes: metadata, where formats 1 and 2 had it, may take 100 MB. All of it is read and checked
before anything is made of it.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from rxlm.memory import MemoryState
from rxlm.memory.tensor_file import read_tensors, write_tensors
from rxlm.rxt.fingerprint import differences
from rxlm.rxt.history import ConversationError, Turn

CONVERSATION_VERSION = 3
_RECORD = "conversation"
"""Name of the tensor of format 3, and of the metadata of formats 1 and 2, that holds the record."""


@dataclass(frozen=True)
class SavedConversation:
    """All that a conversation is.

    `memories` maps a number of turns to the memory after them: the first, the last and the one before it.
    """

    fingerprint: Mapping[str, Any]
    system: str | None
    seed: int | None
    draws: int
    turns: tuple[Turn, ...]
    memories: Mapping[int, MemoryState]

    def write(self, path: Path) -> None:
        """Write the conversation to a safetensors file; an old file stays whole until the new one is.

        `ConversationError` for NaN or infinity in a memory.
        """
        record = {
            "fingerprint": self.fingerprint,
            "system": self.system,
            "seed": self.seed,
            "draws": self.draws,
            "turns": [vars(turn) for turn in self.turns],
            "kind": self.memories[0].kind,
        }
        tensors = {
            f"memory.{count}.{name}": tensor
            for count, memory in self.memories.items()
            for name, tensor in memory.tensors().items()
        }
        tensors[_RECORD] = torch.frombuffer(bytearray(json.dumps(record).encode()), dtype=torch.uint8)
        try:
            write_tensors(path, tensors, {_RECORD: json.dumps({"version": CONVERSATION_VERSION})})
        except ValueError as error:
            raise ConversationError(f"The conversation is not saved to {path}: {error}.") from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a conversation that `write` wrote; `ConversationError`, which names the file, where it cannot be."""
        if not path.is_file():
            raise ConversationError(f"There is no saved conversation {path}.")
        try:
            tensors, metadata = read_tensors(path)
        except ValueError as error:
            raise ConversationError(f"The saved conversation {path} is damaged: {error}.") from error
        if _RECORD not in metadata:
            raise ConversationError(f"{path} is a safetensors file, but not a saved conversation.")
        try:
            return cls._of_record(_record(metadata, tensors), tensors)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise ConversationError(f"The saved conversation {path} is damaged: {_said(error)}.") from error

    @classmethod
    def _of_record(cls, record: dict[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        kind = record.pop("kind", "slots")  # format 1 knew slots alone, as `memory.COUNT`
        turns = tuple(_turn(number, turn) for number, turn in enumerate(record.pop("turns"), 1))
        saved = cls(**record, turns=turns, memories=_memories(kind, tensors))
        _require(isinstance(saved.fingerprint, dict), f"its fingerprint is {saved.fingerprint!r:.80}")
        _require(_is_text_or_none(saved.system), f"its system prompt is {saved.system!r:.80}")
        _require(saved.seed is None or _is_count(abs(saved.seed)), f"its seed is {saved.seed!r:.80}")
        _require(_is_count(saved.draws), f"its number of draws is {saved.draws!r:.80}")
        last = len(turns)
        for count in {0, last} - set(saved.memories):
            raise ValueError(f"the memory after {count} turns is missing")
        for count, memory in saved.memories.items():
            _require(count <= last, f"it has a memory after {count} turns, and {last} turns")
            _require(memory.batch_size == 1, f"its memory after {count} turns is of {memory.batch_size} conversations")
            _require(memory.form == saved.memories[0].form, f"its memory after {count} turns has another form")
        return saved

    def check_belongs_to(self, present: Mapping[str, Any]) -> None:
        """Raise `ConversationError` unless the fingerprint is the one given."""
        found = differences(self.fingerprint, json.loads(json.dumps(present)))
        if found:
            more = f" (and {len(found) - 4} more differences)" if len(found) > 4 else ""
            raise ConversationError(f"This conversation belongs to another model: {'; '.join(found[:4])}{more}.")

    def check_fits(self, first: MemoryState, vocab_size: int, max_seq_len: int, memory_tokens: int | None) -> None:
        """Raise `ConversationError` unless a model with these limits could have had this conversation.

        Args:
            first: a memory of the model's.
            vocab_size, max_seq_len: the model's vocabulary, and its longest turn.
            memory_tokens: tokens that the memory is to keep; None: as many as it does.
        """
        for count, memory in self.memories.items():
            if (memory.form, memory.dtype) != (first.form, first.dtype):
                raise ConversationError(
                    f"The saved memory after {count} turns has form {memory.form} of {memory.dtype}; this model's have "
                    f"{first.form} of {first.dtype}."
                )
        for number, turn in enumerate(self.turns, 1):
            if len(turn.ids) > max_seq_len or max(turn.ids) >= vocab_size:
                raise ConversationError(
                    f"Turn {number} of the saved conversation has {len(turn.ids)} tokens, the largest {max(turn.ids)}; "
                    f"this model has {vocab_size}, and turns of at most {max_seq_len}."
                )
        kept = self.memories[len(self.turns)].num_tokens
        if memory_tokens is not None and kept != memory_tokens:
            raise ConversationError(
                f"The saved conversation keeps {kept} tokens, and memory_tokens is {memory_tokens}: leave it out, or "
                f"give {kept}."
            )


def _record(metadata: Mapping[str, str], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return the record of a file, without its version, and take it out of the tensors."""
    record = json.loads(metadata[_RECORD])
    version = record.pop("version")
    if version == CONVERSATION_VERSION:
        return json.loads(tensors.pop(_RECORD).numpy().tobytes())
    if version in (1, 2):
        return record
    raise ValueError(f"it is in format {version!r}, and rxlm reads 1 to {CONVERSATION_VERSION}")


def _memories(kind: str, tensors: Mapping[str, Tensor]) -> dict[int, MemoryState]:
    """Return memories by their number of turns, from tensors `memory.COUNT.NAME`."""
    parts: dict[int, dict[str, Tensor]] = {}
    for place, tensor in tensors.items():
        found = re.fullmatch(r"memory\.(\d{1,9})(?:\.(\w+))?", place)
        if found is None:
            raise ValueError(f"the tensor {place!r} belongs to no memory")
        parts.setdefault(int(found[1]), {})[found[2] or "memory"] = tensor
    memories = {}
    for count, own in parts.items():
        try:
            memories[count] = MemoryState.of_kind(kind, own)
        except ValueError as error:
            raise ValueError(f"of the memory after {count} turns, {error}") from error
    return memories


def _turn(number: int, saved: Mapping[str, Any]) -> Turn:
    values: dict[str, Any] = {**saved, "ids": tuple(saved["ids"])}
    turn = Turn(**values)
    _require(type(turn.query) is str and type(turn.answer) is str, f"query or answer of turn {number} are no text")
    _require(_is_text_or_none(turn.thought), f"the thought of turn {number} is {turn.thought!r:.80}")
    _require(bool(turn.ids) and all(map(_is_count, turn.ids)), f"the ids of turn {number} are no tokens")
    _require(_is_count(turn.cut), f"the cut of turn {number} is {turn.cut!r:.80}")
    return turn


def _is_text_or_none(value: object) -> bool:
    return value is None or type(value) is str


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _said(error: Exception) -> str:
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
