"""The Schema-Guided Dialogue dataset (Rastogi et al., 2020) as dialogues between a user and a system.

Files made from this data keep its licence, CC BY-SA 4.0; the `details` of every dialogue name it.
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rxlm.data.records import Dialogue, Interaction, RecordError
from rxlm.data.text_files import PathLike

LICENCE = "CC BY-SA 4.0"


def read_sgd(path: PathLike) -> list[Dialogue]:
    """Read the dialogues of a .jsonl or .jsonl.gz file, one per line.

    A line is `{"id", "services", "turns": [["U", text], ["S", text], ...], "final_state": {service: {slot: [value]}}}`.
    `details` of a dialogue holds its "id", "services", "licence", and "service_values": the values that the user and
    the system agreed on, as {"Restaurants_1.city": ("Palo Alto",)}. `RecordError` names the line that does not fit.
    """
    return list(_dialogues(Path(path)))


def _dialogues(path: Path) -> Iterator[Dialogue]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            place = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise RecordError(f"{place}: not a JSON object on one line ({error})") from error
            yield _dialogue(record, place)


def _dialogue(record: Any, place: str) -> Dialogue:
    turns = record.get("turns") if isinstance(record, Mapping) else None
    if not isinstance(turns, list) or not turns or len(turns) % 2:
        raise RecordError(f"{place}: field 'turns' must be a list of user and system turns, in pairs")
    interactions = []
    for number in range(0, len(turns), 2):
        speakers, texts = zip(*turns[number : number + 2], strict=True)
        if speakers != ("U", "S") or not all(isinstance(text, str) and text.strip() for text in texts):
            raise RecordError(
                f"{place}, turns[{number}]: expected ['U', text] and ['S', text], found {turns[number]!r:.80}"
            )
        interactions.append(Interaction(*texts))
    service_values = {
        f"{service}.{slot}": tuple(values)
        for service, state in record.get("final_state", {}).items()
        for slot, values in state.items()
    }
    details = {
        "id": record.get("id", ""),
        "services": record.get("services", []),
        "service_values": service_values,
        "licence": LICENCE,
    }
    return Dialogue(tuple(interactions), place, details)
