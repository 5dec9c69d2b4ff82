"""Report 5: how good the language is, how much the memory helps to predict it, and the composite score."""

import math
from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from rxlm.metrics.composite import WEIGHTS, score
from rxlm.mrq_bench.answers import Answer
from rxlm.mrq_bench.benchmark_data import BenchmarkData, DialogueSet
from rxlm.mrq_bench.bleu import SIGNATURE, corpus_bleu, sentence_bleu
from rxlm.mrq_bench.composite import TURNS_AFTER_THE_FIRST, Embed, Terms, turn_terms
from rxlm.mrq_bench.protocol import Control, LanguageRespondent
from rxlm.mrq_bench.replies import batches_of, texts_of, turns_at
from rxlm.mrq_bench.reports.recall import Findings, dialogue_of, plain

MEMORIES: tuple[Control, ...] = ("none", "empty", "shuffled")
MOST_DIALOGUES = 100


def language(
    findings: Findings,
    respondent: LanguageRespondent,
    embedder: tuple[str, LanguageRespondent],
    batch_size: int,
) -> dict[str, Any]:
    """Return BLEU and cosine of all answers, perplexity by memory, and the composite score.

    Perplexity and the composite score are measured on one set of dialogues: the shortest of at least nine turns, or
    the longest where none is that long. `embedder` is the name and the model whose token embeddings, averaged over a
    text, the cosines are made of.
    """
    group = _set_for_turns(findings.data)
    answers = findings.log.of("none")
    embeddings, embed = embedder[0], embedder[1].embed
    return {
        "bleu": _bleu(findings, answers),
        "cosine": _cosine(findings, answers, embed),
        "embeddings": embeddings,
        "set": group.name,
        "perplexity": {
            control: _perplexity(findings, group, respondent, control, batch_size)
            for control in MEMORIES
            if control in respondent.controls and (control != "shuffled" or len(group.dialogues) > 1)
        },
        "composite": _composite(findings, group, embed),
    }


def _set_for_turns(data: BenchmarkData) -> DialogueSet:
    def shortest(group: DialogueSet) -> int:
        return min(map(len, group.dialogues))

    wanted = TURNS_AFTER_THE_FIRST + 1
    long_enough = [group for group in data.sets if shortest(group) >= wanted]
    return min(long_enough, key=shortest) if long_enough else max(data.sets, key=shortest)


def _bleu(findings: Findings, answers: list[Answer]) -> dict[str, Any]:
    candidates, references = [a.answer for a in answers], [a.reference for a in answers]
    values = zip(map(dialogue_of, answers), sentence_bleu(candidates, references), strict=True)
    return {
        "sentence": plain(findings.bootstrap.mean(list(values))),
        "corpus": corpus_bleu(candidates, references),
        "signature": SIGNATURE,
    }


def _cosine(findings: Findings, answers: list[Answer], embed: Embed) -> dict[str, Any] | None:
    said, wanted = embed([a.answer for a in answers]), embed([a.reference for a in answers])
    values = torch.cosine_similarity(said, wanted, dim=-1).tolist()
    return plain(findings.bootstrap.mean(list(zip(map(dialogue_of, answers), values, strict=True))))


@torch.no_grad()
def _perplexity(
    findings: Findings,
    group: DialogueSet,
    respondent: LanguageRespondent,
    control: Control,
    batch_size: int,
) -> dict[str, Any]:
    """Predict the reference answers after the first turn, from memories that hold the reference dialogue."""
    found: list[tuple[Hashable, float, int, int, bool]] = []  # dialogue, nats, tokens, characters, is a question
    for rows in batches_of(min(len(group.dialogues), MOST_DIALOGUES), batch_size):
        dialogues = [group.dialogues[row] for row in rows]
        respondent.reset(len(dialogues), control)
        for number in range(max(map(len, dialogues))):
            turns = turns_at(dialogues, number)
            queries, answers = texts_of(turns)
            if number:
                losses = respondent.losses(queries, answers)
                for row, turn, loss in zip(rows, turns, losses, strict=True):
                    if turn is not None:
                        place = (group.name, row)
                        found.append((place, loss.nats, loss.tokens, len(turn.answer), turn.question is not None))
            respondent.follow(queries, answers)

    def rate(per_character: bool, questions_only: bool) -> dict[str, Any] | None:
        values = [
            (place, nats, float(characters if per_character else tokens))
            for place, nats, tokens, characters, is_question in found
            if is_question or not questions_only
        ]
        estimate = findings.bootstrap.ratio(values)
        if estimate is None:
            return None
        return plain(estimate.map((lambda nats: nats / math.log(2)) if per_character else math.exp))

    return {
        "perplexity": rate(False, False),
        "perplexity of answers to questions": rate(False, True),
        "bits per character": rate(True, False),
    }


def _composite(findings: Findings, group: DialogueSet, embed: Embed) -> dict[str, Any] | None:
    dialogues: dict[Hashable, list[Answer]] = {}
    for answer in findings.log.of("none"):
        if answer.place.set == group.name and answer.place.turn <= TURNS_AFTER_THE_FIRST:
            dialogues.setdefault(dialogue_of(answer), []).append(answer)
    terms = {
        dialogue: _terms(sorted(answers, key=lambda answer: answer.place.turn), embed)
        for dialogue, answers in list(dialogues.items())[:MOST_DIALOGUES]
        if len(answers) > 1
    }
    if not terms:
        return None
    scores = {dialogue: score(columns).tolist() for dialogue, columns in terms.items()}
    mean = findings.bootstrap.mean
    longest = max(map(len, scores.values()))
    return {
        "mean": plain(mean([(dialogue, value) for dialogue, values in scores.items() for value in values])),
        "least": plain(mean([(dialogue, min(values)) for dialogue, values in scores.items()])),
        "greatest": plain(mean([(dialogue, max(values)) for dialogue, values in scores.items()])),
        "by_turn": [
            plain(mean([(dialogue, values[turn]) for dialogue, values in scores.items() if turn < len(values)]))
            for turn in range(longest)
        ],
        "terms": {
            name: plain(mean([(d, value) for d, columns in terms.items() for value in _applying(columns[name])]))
            for name in WEIGHTS
        },
        "weights": dict(WEIGHTS),
    }


def _terms(answers: Sequence[Answer], embed: Embed) -> Terms:
    return turn_terms(
        [answer.query for answer in answers],
        [answer.answer for answer in answers],
        [answer.reference for answer in answers],
        [None if answer.grade is None else answer.is_right for answer in answers],
        bleu=sentence_bleu,
        embed=embed,
    )


def _applying(term: Tensor) -> list[float]:
    return term[~term.isnan()].tolist()
