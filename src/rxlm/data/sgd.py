"""The Schema-Guided Dialogue dataset (Rastogi et al., 2020) as dialogues between a user and a system.

Files made from this data keep its licence, CC BY-SA 4.0; the `details` of every dialogue name it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rxlm.data.fields import name_in, object_at, texts_in
from rxlm.data.records import Dialogue
from rxlm.data.text_files import PathLike, records_in
from rxlm.data.turns import turns_dialogue

LICENCE = "CC BY-SA 4.0"


def read_sgd(path: PathLike) -> list[Dialogue]:
    """Read the dialogues of a file of records (.jsonl, .jsonl.gz, ...), or of all such files in a folder.

    A record is `{"id", "services", "turns": [["U", text], ["S", text], ...], "final_state": {service: {slot:
    [value]}}}`, and `rxlm.data.turns` says how messages become turns. `RecordError` names the line that does not fit.
    """
    return [service_dialogue(record, place) for place, record in records_in(path)]


def service_dialogue(record: Mapping[str, Any], place: str) -> Dialogue:
    """Return the dialogue of one record.

    Its `details` hold its "id", "services", "licence", and "service_values": the values that the user and the system
    agreed on, as {"Restaurants_1.city": ("Palo Alto",)}.
    """
    dialogue = turns_dialogue(record, place)
    details = {
        "id": name_in(record, "id", "", place),
        "services": texts_in(record, "services", place) if "services" in record else [],
        "service_values": _values(record, place),
        "licence": LICENCE,
    }
    return replace(dialogue, details=details)


def _values(record: Mapping[str, Any], place: str) -> dict[str, tuple[str, ...]]:
    """Return the values of `{service: {slot: [value]}}`, by service and slot."""
    state = object_at(record.get("final_state", {}), f"{place}, final_state")
    found = {}
    for service, slots in state.items():
        where = f"{place}, final_state[{service!r}]"
        for slot in object_at(slots, where):
            found[f"{service}.{slot}"] = tuple(texts_in(slots, slot, where))
    return found
