"""Records of preferences, in the forms that people have them.

TRL's: `prompt`, `chosen` and `rejected`, or `chosen` and `rejected` with the prompt in both; an answer with its rating,
`prompt`, `completion` and `label`; texts or messages, and answers may begin with the messages of the prompt.
Anthropic-HH's: texts with "Human:" and "Assistant:" in them. Our server's export is TRL's. A list of answers, best
first, is `ranked`. In place of `prompt` a record may have `query`, and the turns before it as `interactions`. What a
table holds as text, a label or a margin, is read.
"""

import re
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

from rxlm.data.fields import RecordError, json_list_in, list_in, name_in, object_at, text_in
from rxlm.data.messages import exchanges_of, is_answer
from rxlm.data.preferences import Feedback, Preference, Rated, Turns, preference_between, ranked
from rxlm.data.records import Interaction, system_of

SHAPES = (
    '{"prompt", "chosen", "rejected"}, {"chosen", "rejected"} with the prompt in both, {"prompt", "completion", '
    '"label"} or {"prompt", "ranked": [best, ..., worst]}; for "prompt" also "query", with or without "interactions"'
)
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}
_SAID_BY = re.compile(rf"(?:^|\n\n)({'|'.join(_SPEAKERS)}): ?")

_ASKED = re.compile(r"\s*\n\nAssistant:\s*$")
_LABELS = {"true": True, "1": True, "false": False, "0": False}
_LARGEST = 1_000_000.0

Message = tuple[Any, str]
"""A message as a record has it, and its place."""


def feedback_of(record: Mapping[str, Any], place: str) -> list[Feedback]:
    """Return what a record in one of SHAPES says; `RecordError` for any other."""
    if "chosen" in record and "rejected" in record:
        return [_pair_of(record, place)]
    if "ranked" in record:
        return [*_ranking_of(record, place)]
    if "completion" in record and "label" in record:
        return [_rated_of(record, place)]
    fields = ", ".join(map(repr, record)) or "none"
    raise RecordError(f"{place}: no preference: expected {SHAPES}; the fields are: {fields}")


def _pair_of(record: Mapping[str, Any], place: str) -> Preference:
    sides = {name: _said(record[name], name, place) for name in ("chosen", "rejected")}
    if _has_prompt(record):
        prompt = _prompt_of(record, place)
        sides = {name: _without(prompt, said) for name, said in sides.items()}
    else:
        prompt, sides = _common_prompt(record, sides, place)
    better, worse = (_turns([*prompt, *said], f"{place}, {name}") for name, said in sides.items())
    differs = name_in(record, "differs", "", place)
    return preference_between((), better, worse, differs=differs, margin=_margin(record, place), source=place)


def _rated_of(record: Mapping[str, Any], place: str) -> Rated:
    label = record["label"]
    if isinstance(label, str):
        label = _LABELS.get(label.strip().lower(), label)
    if label not in (True, False):
        raise RecordError(f"{place}: field 'label' is {label!r:.80}; expected true or false")
    prompt = _prompt_of(record, place)
    said = _without(prompt, _said(record["completion"], "completion", place))
    turns = _turns([*prompt, *said], f"{place}, completion")
    count = len(_turns([({"role": "user", "content": "?"}, place), *said], f"{place}, completion"))
    return Rated(turns[:-count], turns[-count:], bool(label), place)


def _ranking_of(record: Mapping[str, Any], place: str) -> list[Preference]:
    answers = list_in(record, "ranked", place)
    if len(answers) < 2:
        raise RecordError(f"{place}: field 'ranked' has {len(answers)} answers; expected two or more, the best first")
    prompt = _prompt_of(record, place)
    names = [f"ranked[{number}]" for number in range(len(answers))]
    said = [
        _turns([*prompt, *_without(prompt, _said(answer, name, place))], f"{place}, {name}")
        for name, answer in zip(names, answers, strict=True)
    ]
    return ranked((), said, place)


def _has_prompt(record: Mapping[str, Any]) -> bool:
    return record.get("prompt") is not None or record.get("query") is not None


def _prompt_of(record: Mapping[str, Any], place: str) -> list[Message]:
    """Return the messages of the conversation up to the answer."""
    if not _has_prompt(record):
        raise RecordError(f"{place}: field 'prompt' is missing; expected {SHAPES}")
    system = [({"role": "system", "content": text}, f"{place}, system") for text in system_of(record, place)]
    earlier, prompt = [*system, *_earlier(record, place)], record.get("prompt")
    if prompt is None:
        return [*earlier, ({"role": "user", "content": text_in(record, "query", place)}, place)]
    if isinstance(prompt, str) and not _is_json(prompt):
        text = text_in(record, "prompt", place)
        said = _spoken(_ASKED.sub("", text), f"{place}, prompt") or [
            ({"role": "user", "content": text}, f"{place}, prompt")
        ]
    else:
        said = _listed(prompt, "prompt", place)
    if not said or is_answer(*said[-1]):
        raise RecordError(f"{place}: field 'prompt' must end with what is to be answered")
    return [*earlier, *said]


def _without(prompt: list[Message], said: list[Message]) -> list[Message]:
    """Return what was said without the prompt, if it begins with that."""
    first, asked = ([_words(message) for message, _ in each] for each in (said[: len(prompt)], prompt))
    return said[len(prompt) :] if first == asked else said


def _words(message: Any) -> Any:
    return (message.get("role"), message.get("content")) if isinstance(message, Mapping) else message


def _earlier(record: Mapping[str, Any], place: str) -> list[Message]:
    """Return the turns before a query as messages."""
    turns = [] if record.get("interactions") is None else json_list_in(record, "interactions", place)
    found: list[Message] = []
    for number, turn in enumerate(turns):
        where = f"{place}, interactions[{number}]"
        pair = object_at(turn, where)
        for name, role in (("query", "user"), ("answer", "assistant")):
            found.append(({"role": role, "content": text_in(pair, name, where)}, where))
    return found


def _said(value: Any, name: str, place: str) -> list[Message]:
    """Return the messages of an answer, or of a conversation that ends with it."""
    if isinstance(value, str) and not _is_json(value):
        text, where = text_in({name: value}, name, place).strip(), f"{place}, {name}"
        return _spoken(text, where) or [({"role": "assistant", "content": text}, where)]
    return _listed(value, name, place)


def _is_json(text: str) -> bool:
    """Tell whether a text is a list of messages, as tables without lists hold it."""
    return re.match(r"\s*\[\s*\{", text) is not None


def _listed(value: Any, name: str, place: str) -> list[Message]:
    if not isinstance(value, (str, list, Mapping)):
        raise RecordError(f"{place}: field {name!r} is {value!r:.80}; expected a text or a list of messages")
    messages = json_list_in({name: value}, name, place)
    if not messages:
        raise RecordError(f"{place}: field {name!r} is an empty list; expected messages")
    return [(message, f"{place}, {name}[{number}]") for number, message in enumerate(messages)]


def _spoken(text: str, place: str) -> list[Message]:
    """Return the messages of a text in the form of Anthropic-HH; none where nobody speaks in it."""
    first = _SAID_BY.match(text.lstrip("\n"))
    if first is None:
        return []
    _, *parts = _SAID_BY.split(text.lstrip("\n"))
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [
        ({"role": _SPEAKERS[speaker], "content": said.strip()}, f"{place}, part {number}")
        for number, (speaker, said) in enumerate(pairs, 1)
    ]


def _common_prompt(
    record: Mapping[str, Any], sides: dict[str, list[Message]], place: str
) -> tuple[list[Message], dict[str, list[Message]]]:
    """Return the prompt that both sides begin with, and what is left of them; of conversations nothing need be cut."""
    if any(len(said) > 1 for said in sides.values()):
        return [], sides
    texts = [text_in(record, name, place) if isinstance(record[name], str) else "" for name in sides]
    same = "".join(first for first, _ in takewhile(lambda each: each[0] == each[1], zip(*texts, strict=False)))
    prompt = re.sub(r"\S*$", "", same).rstrip()
    rest = {name: text[len(prompt) :].strip() for name, text in zip(sides, texts, strict=True)}
    if not prompt or not all(rest.values()):
        raise RecordError(f"{place}: chosen and rejected have no common prompt: add a field 'prompt'")
    answers = {name: [({"role": "assistant", "content": text}, f"{place}, {name}")] for name, text in rest.items()}
    return [({"role": "user", "content": prompt}, place)], answers  # pyrefly: ignore[bad-return]


def _turns(messages: list[Message], place: str) -> Turns:
    if not is_answer(*messages[-1]):
        raise RecordError(f"{place}: the last message must be an answer of the assistant")
    return tuple(Interaction(**each._asdict()) for each in exchanges_of(messages, place).found)


def _margin(record: Mapping[str, Any], place: str) -> float | None:
    margin = record.get("margin")
    if margin is None or margin == "":
        return None
    try:
        value = -1.0 if isinstance(margin, bool) else float(margin)
    except (TypeError, ValueError, OverflowError):
        value = -1.0
    if not 0 <= value <= _LARGEST:
        raise RecordError(f"{place}: field 'margin' is {margin!r:.80}; expected a number from 0 to {_LARGEST:,.0f}")
    return value
