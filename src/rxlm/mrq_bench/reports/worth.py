"""Report 7: what the history is worth to the model's own weights, and how much of that its memory keeps."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rxlm.files import write_text
from rxlm.mrq_bench.arms import Arm, ArmProgress, PredictedTurn, arms_of, predict_in_arms
from rxlm.mrq_bench.benchmark_data import BenchmarkData
from rxlm.mrq_bench.end_questions import EndAnswer, answer_at_the_end
from rxlm.mrq_bench.protocol import LanguageRespondent, check_control
from rxlm.mrq_bench.ranges import DISTANCE_RANGES, TURN_RANGES, in_ranges, label
from rxlm.mrq_bench.reports.recall import plain
from rxlm.mrq_bench.statistics import Bootstrap, Estimate

WORTH_FILE = "worth.jsonl"
MATTERS = 1.0
"""The history matters to a token if everything kept makes it more than so many nats likelier than nothing does."""
ANSWERED = 0.5
"""A question is one that the model answers from everything if that answer has at least this F1."""

Nats = Mapping[Arm, Tensor]
Chosen = Callable[[Nats], Tensor]
"""Says which tokens of an answer count: True at them."""


def worth(
    data: BenchmarkData,
    bootstrap: Bootstrap,
    respondent: LanguageRespondent,
    batch_size: int,
    *,
    file: Path | None = None,
    stamp: Mapping[str, Any] | None = None,
    progress: ArmProgress = lambda done, total, arm: None,
) -> dict[str, Any] | None:
    """Predict the reference answers after the first turn in each arm that the model has, and compare.

    A part of the answers (all, those of some turns, questions, the tokens that the history matters to) has its figures
    by arm; see `part_of`. None where no turn after the first has a reference answer.

    Args:
        file: gets a line for each answer, with the nats of its tokens in each arm.
        stamp: stands in every line.
        progress: called before each batch of each arm.
    """
    check_control("empty", respondent)
    arms = arms_of(respondent, data.sets, batch_size)
    predicted = predict_in_arms(respondent, data.sets, arms, batch_size, progress)
    if not predicted:
        return None
    answers = answer_at_the_end(respondent, data.sets, arms, batch_size)
    if file is not None:
        _write(file, stamp or {}, predicted, answers)
    asked = [turn for turn in predicted if turn.turn.question is not None]
    told = [turn for turn in asked if _distance(turn)]
    turns = in_ranges(predicted, TURN_RANGES, lambda turn: turn.number + 1)
    distances = in_ranges(told, DISTANCE_RANGES, _distance)
    sets = {group.name: [turn for turn in predicted if turn.place[0] == group.name] for group in data.sets}
    return {
        "arms": arms,
        "threshold": MATTERS,
        "all": part_of(bootstrap, predicted),
        "matters": part_of(bootstrap, predicted, matters) if "everything" in arms else None,
        "by_turn": {label(bounds): part_of(bootstrap, inside) for bounds, inside in turns.items()},
        "questions": part_of(bootstrap, asked),
        "by_distance": {label(bounds): part_of(bootstrap, inside) for bounds, inside in distances.items()},
        "by_set": {name: part_of(bootstrap, inside) for name, inside in sets.items()} if len(sets) > 1 else {},
        "answers": _answered(bootstrap, answers),
    }


def matters(nats: Nats) -> Tensor:
    """Choose the tokens that the history matters to."""
    return nats["empty"] - nats["everything"] > MATTERS


def part_of(
    bootstrap: Bootstrap, predicted: Sequence[PredictedTurn], chosen: Chosen | None = None
) -> dict[str, Any] | None:
    """Return the figures of a part of the answers; None where it has no tokens.

    nats: a token, by arm. gain: nats a token less than from nothing, by arm. own: nats a token that the memory saves
    over another dialogue's: what of its gain belongs to this conversation. over_newest: nats a token that it saves
    over the newest tokens. recovered: the share (empty - arm) / (empty - everything) of the memory and of the newest
    tokens, and their difference; None where the model has no arm "everything", or where the interval of what the
    history is worth reaches down to 0.
    """
    rows = [(turn.place, _sums(turn.nats, chosen)) for turn in predicted]
    tokens = sum(sums["tokens"] for _, sums in rows)
    if not tokens:
        return None
    arms: list[Arm] = list(predicted[0].nats)

    def saved(worse: str, better: str, over: tuple[str, str] | None = None) -> Estimate | None:
        """Return the nats that one arm saves over another: a token, or as a share of what two arms differ in."""
        values = [
            (place, sums[worse] - sums[better], sums[over[0]] - sums[over[1]] if over else sums["tokens"])
            for place, sums in rows
        ]
        return bootstrap.quotient(values, round(tokens))

    def recovered() -> dict[str, Any] | None:
        worth = "empty", "everything"
        shares = {arm: saved("empty", arm, worth) for arm in ("memory", "newest") if arm in arms}
        if shares["memory"] is None:
            return None
        if "newest" in arms:
            shares["difference"] = saved("newest", "memory", worth)
        return {name: plain(share) for name, share in shares.items()}

    return {
        "answers": sum(sums["tokens"] > 0 for _, sums in rows),
        "tokens": round(tokens),
        "nats": {
            arm: plain(bootstrap.quotient([(place, sums[arm], sums["tokens"]) for place, sums in rows], round(tokens)))
            for arm in arms
        },
        "gain": {arm: plain(saved("empty", arm)) for arm in arms if arm != "empty"},
        "own": plain(saved("another", "memory")) if "another" in arms else None,
        "over_newest": plain(saved("newest", "memory")) if "newest" in arms else None,
        "recovered": recovered() if "everything" in arms else None,
    }


def _sums(nats: Nats, chosen: Chosen | None) -> dict[str, float]:
    """Return the nats of the tokens that count by arm, and their number."""
    counts = torch.ones_like(nats["memory"], dtype=torch.bool) if chosen is None else chosen(nats)
    return {"tokens": float(counts.sum()), **{arm: float(found[counts].sum()) for arm, found in nats.items()}}


def _distance(turn: PredictedTurn) -> int:
    """Return the distance of a turn's question; 0 where it has none."""
    question = turn.turn.question
    return (question.distance or 0) if question is not None else 0


def _answered(bootstrap: Bootstrap, answers: Mapping[Arm, Sequence[EndAnswer]]) -> dict[str, Any] | None:
    """Return F1 and exact answers by arm, of all questions at the end and of those that everything kept answers."""
    if not answers["memory"]:
        return None
    known = {(a.place, a.number) for a in answers.get("everything", ()) if a.f1 >= ANSWERED}

    def scores(counts: Callable[[EndAnswer], bool]) -> dict[str, Any]:
        inside = {arm: [answer for answer in found if counts(answer)] for arm, found in answers.items()}
        return {
            arm: {
                "f1": plain(bootstrap.mean([(answer.place, answer.f1) for answer in found])),
                "exact": plain(bootstrap.mean([(answer.place, float(answer.is_exact)) for answer in found])),
            }
            for arm, found in inside.items()
        }

    return {
        "all": scores(lambda answer: True),
        "known": scores(lambda a: (a.place, a.number) in known) if known else None,
    }


def _write(
    file: Path,
    stamp: Mapping[str, Any],
    predicted: Sequence[PredictedTurn],
    answers: Mapping[Arm, Sequence[EndAnswer]],
) -> None:
    said = {(answer.place, answer.number, arm): answer for arm, found in answers.items() for answer in found}
    lines = []
    for turn in predicted:
        own = {arm: said[turn.place, turn.number, arm] for arm in turn.nats if (turn.place, turn.number, arm) in said}
        values: dict[str, Any] = {
            **stamp,
            "set": turn.place[0],
            "dialogue": turn.place[1],
            "turn": turn.number,
            "source": turn.dialogue.source,
            "query": turn.turn.query,
            "reference": turn.turn.answer,
            "distance": _distance(turn) or None,
            "nats": {arm: [round(nats, 4) for nats in found.tolist()] for arm, found in turn.nats.items()},
        }
        if own:
            values["answers"] = {arm: answer.answer for arm, answer in own.items()}
            values["f1"] = {arm: round(answer.f1, 4) for arm, answer in own.items()}
        lines.append(json.dumps(values, ensure_ascii=False) + "\n")
    write_text(file, "".join(lines))
