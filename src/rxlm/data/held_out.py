"""Which data is kept from training: a hash of a name decides, so neither order nor files change the division."""

import hashlib
from collections.abc import Callable, Sequence

from rxlm.data.records import Dialogue

HELD_OUT_SHARE = 0.1


def is_held_out(name: str, share: float = HELD_OUT_SHARE) -> bool:
    """Return whether what has this name (a dialogue, a book, a meeting) is kept from training, as `share` of all are.

    What a share holds out, a larger share holds out, too.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share!r}")
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64 < share


def hold_out_by_id(
    dialogues: Sequence[Dialogue], share: float = HELD_OUT_SHARE
) -> tuple[list[Dialogue], list[Dialogue]]:
    """Divide dialogues into those for training and those held out, by the "id" in their `details`.

    Dialogues with one id, such as those of one meeting, are on the same side. The words of a dialogue without an id
    take its place.
    """
    return divided(dialogues, lambda dialogue: str(dialogue.details.get("id", "")) or words_of(dialogue), share)


def divided(
    dialogues: Sequence[Dialogue], name_of: Callable[[Dialogue], str], share: float
) -> tuple[list[Dialogue], list[Dialogue]]:
    """Divide dialogues into those for training and those held out (`is_held_out`), each part in its order."""
    parts: tuple[list[Dialogue], list[Dialogue]] = ([], [])
    for dialogue in dialogues:
        parts[is_held_out(name_of(dialogue), share)].append(dialogue)
    return parts


def words_of(dialogue: Dialogue) -> str:
    """Return all queries and answers of a dialogue as one text."""
    return "\n".join(f"{turn.query}\t{turn.answer}" for turn in dialogue.turns)
