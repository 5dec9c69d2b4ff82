"""Preferences of files and hub datasets, checked: what cannot be used is refused, or skipped with its place."""

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rxlm.data.dialogue_forms import Source
from rxlm.data.fields import BadRecord, BadRecords, RecordError, bad_record
from rxlm.data.loaders import is_hub_id
from rxlm.data.preference_records import feedback_of
from rxlm.data.preferences import Feedback, Preference, Rated
from rxlm.data.records import Interaction
from rxlm.data.text_files import PathLike, hub_rows, records_in
from rxlm.data.turn_tokenizer import TurnTokenizer


@dataclass(frozen=True)
class Preferences:
    """What was read: pairs of answers, answers that were rated, and for each that was skipped its place and why."""

    pairs: list[Preference]
    rated: list[Rated]
    skipped: list[str]

    @property
    def compared(self) -> list[Preference]:
        """Pairs, those among them that a good and a bad answer to the same query make, after the same turns."""
        return [*self.pairs, *_pairs_of(self.rated)]


def read_preferences(
    sources: Source, turn_tokenizer: TurnTokenizer | None = None, *, bad_records: BadRecords = "stop"
) -> Preferences:
    """Return the preferences of files, folders, glob patterns and hub datasets.

    Args:
        sources: one or several; records of `rxlm.data.preference_records.SHAPES`.
        turn_tokenizer: with it, answers are refused that do not fit a turn: what is cut may be what people judged.
        bad_records: what is done about one that cannot be used: "stop" raises its `RecordError`, "skip" leaves it out.

    FileNotFoundError names a source without files. ValueError if nothing was found, with the first bad record.
    """
    skipped: list[str] = []
    bad = bad_record(bad_records, lambda error: skipped.append(str(error)))
    several = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    found = [
        each
        for source in dict.fromkeys(several)
        for place, record in _records_of(source, bad)
        for each in _read(record, place, turn_tokenizer, bad)
    ]
    if not found:
        first = f": {skipped[0]}" if skipped else ""
        raise ValueError(f"{', '.join(map(str, several))!r:.200} holds no preference{first}")
    rated = [each for each in found if isinstance(each, Rated)]
    pairs = [each for each in found if isinstance(each, Preference)]
    return Preferences(pairs, rated, skipped)


def _records_of(source: PathLike, bad: BadRecord) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return hub_rows(str(source)) if is_hub_id(source) else records_in(source, bad)


def _read(
    record: Mapping[str, Any], place: str, turn_tokenizer: TurnTokenizer | None, bad: BadRecord
) -> list[Feedback]:
    try:
        found = feedback_of(record, place)
        if turn_tokenizer is not None:
            for each in found:
                _check_length(each, turn_tokenizer)
    except RecordError as error:
        bad(error)
        return []
    return found


def _check_length(feedback: Feedback, turn_tokenizer: TurnTokenizer) -> None:
    """Raise `RecordError` where a turn that was judged is longer than the model's longest one."""
    for turn in {turn for said in feedback.answers for turn in said}:
        if (length := turn_tokenizer.length(turn)) > turn_tokenizer.max_tokens:
            raise RecordError(
                f"{feedback.source}: the turn with the answer {turn.answer!r:.60} has {length} tokens; the model's "
                f"longest turn has {turn_tokenizer.max_tokens}"
            )


def _pairs_of(rated: Iterable[Rated]) -> Iterator[Preference]:
    """Yield pairs of a good and a bad answer to the same query, after the same turns.

    Each answer is in one pair, or in so many that those of the other kind are all in one: a greeting that a thousand
    people rated is no million pairs.
    """
    same: dict[tuple[tuple[Interaction, ...], str], tuple[list[Rated], list[Rated]]] = defaultdict(lambda: ([], []))
    for each in rated:
        same[each.before, each.said[0].query][each.is_good].append(each)
    for (before, _), (bad, good) in same.items():
        for place in range(max(len(good), len(bad)) if good and bad else 0):
            better, worse = good[place % len(good)], bad[place % len(bad)]
            if better.said[0].answer.strip() != worse.said[0].answer.strip():
                yield Preference(before, better.said, worse.said, source=f"{better.source} and {worse.source}")
