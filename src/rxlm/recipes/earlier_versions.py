"""Recipes that an earlier version wrote, read as if this version had written them.

In version 0.0 a stage was several fields of the recipe: its loop, its settings, its phases. In version 0.1.0 the recipe
`upcycled` was another one, whose slots copied the states of tokens; what only it used is gone.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rxlm.rxt.earlier_versions import translate_configurations, upcycled_before, without_removed

MEMORY_ATTENTION = "memory_attention"


class _Stage(NamedTuple):
    """How a stage of then is called today, and the fields of the recipe that were its own, by their names today."""

    folder: str
    kind: str
    fields: Mapping[str, str]
    more: Mapping[str, Any] = {}


_REACTIVE = {
    "language": _Stage("1-language", "joint", {"settings": "language_settings"}, {"data": "language"}),
    "interactions": _Stage("2-interactions", "joint", {"settings": "interactions_settings"}, {"data": "interactions"}),
    "slots": _Stage("3-memory_attention", "memory_attention", {"settings": "slots_settings"}),
    "dialogues": _Stage("4-dialogues", "memory_aware", {"settings": "dialogues_settings", "phases": "phases"}),
    "streams": _Stage("4b-streams", "memory_aware", {"phases": "stream_phases"}),
    "mrl": _Stage(
        "5-mrl",
        "reinforcement",
        {"settings": "mrl_settings", "phases": "mrl_phases", "rewards": "rewards"},
        {"on_request": True},
    ),
}
_LANGUAGE_MODEL = {
    "language": _Stage("1-language", "causal_text", {}),
    "dialogues": _Stage("4-dialogues", "causal_dialogues", {"phases": "phases"}),
}
_GOING_ON = {"read_encoded_until": 0, "unfreeze_memory_at": 0, "unfreeze_encoder_at": 0}
"""What a later part of stage 4 did not take from the settings it was given."""

_REMOVED = {
    "pretrained": False, "learned_share": 0.0, "answer_share": 1.0, "wording_share": 1.0, "keep": 0.0,
    "keep_share": 1.0, "recall": 0.0, "recall_share": None,
}  # fmt: skip
"""Settings that stage 4 no longer has, and the values with which they changed nothing; None: whatever it is."""

MOVED = {
    then: f"{stage.folder.partition('-')[2]}.{today}"
    for stage in _REACTIVE.values()
    for today, then in stage.fields.items()
}
"""Where fields of then are today."""


def stage_id(name: str) -> str:
    """Return today's id of a stage."""
    return MEMORY_ATTENTION if name == "slots" else name


def stage_folder(folder: str) -> str:
    """Return the name that the folder of a stage had."""
    return "3-slots" if folder == "3-memory_attention" else folder


def translate_recipe(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the plain values of a recipe in today's form; those that have it stay.

    Raises `ConfigError` for the recipe `upcycled` of version 0.1.0.
    """
    if values.get("name") == "upcycled" and "memory_layers" in values:
        raise upcycled_before("This recipe")
    if "stages" not in values and "dialogues" in values:
        values = _with_stages(values)
    stages = values.get("stages")
    if isinstance(stages, Mapping):
        stages = {name: _without_removed(each) if isinstance(each, Mapping) else each for name, each in stages.items()}
        values = {**values, "stages": stages}
    return without_removed(values, "This recipe")


def _with_stages(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the plain values of a recipe of version 0.0 with its stages in an object."""
    known = _LANGUAGE_MODEL if "corpus_fields" in values else _REACTIVE
    own = {*known, *(field for stage in known.values() for field in stage.fields.values())}
    rest = translate_configurations({name: value for name, value in values.items() if name not in own})
    if MEMORY_ATTENTION in rest:
        rest["memory"] = rest.pop(MEMORY_ATTENTION)
    stages = {}
    for name, stage in known.items():
        if values.get(name) is not None:
            fields = {today: values[then] for today, then in stage.fields.items() if then in values}
            if stage.folder.startswith("4b") and stage.kind == "memory_aware":
                fields["settings"] = {**fields.get("settings", values.get("dialogues_settings", {})), **_GOING_ON}
            stages[stage_id(name)] = {
                "kind": stage.kind, "folder": stage.folder, **stage.more, **values[name], **fields,
            }  # fmt: skip
    return {**rest, "stages": stages}


def _without_removed(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out settings that are gone where they changed nothing; others are refused as unknown fields."""
    result = dict(stage)
    if isinstance(optimizer := result.get("optimizer"), Mapping) and optimizer.get("decoder_scale") == 1.0:
        result["optimizer"] = {name: value for name, value in optimizer.items() if name != "decoder_scale"}
    if result.get("kind") == "memory_aware" and isinstance(settings := result.get("settings"), Mapping):
        result["settings"] = {
            name: value
            for name, value in settings.items()
            if name not in _REMOVED or _REMOVED[name] not in (None, value)
        }
    return result
