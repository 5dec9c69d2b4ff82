"""The Schema-Guided Dialogue dataset (Rastogi et al., 2020) as dialogues between a user and a system.

Files made from this data keep its licence, CC BY-SA 4.0; the `details` of every dialogue name it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rxlm.data.records import Dialogue, RecordError
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
    state = record.get("final_state", {})
    try:
        values = {f"{service}.{slot}": tuple(state[service][slot]) for service in state for slot in state[service]}
    except (TypeError, KeyError, IndexError) as error:
        raise RecordError(
            f"{place}: field 'final_state' is {state!r:.80}; expected {{service: {{slot: [value]}}}}"
        ) from error
    details = {
        "id": record.get("id", ""),
        "services": record.get("services", []),
        "service_values": values,
        "licence": LICENCE,
    }
    return replace(dialogue, details=details)
