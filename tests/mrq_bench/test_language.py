"""Reports on language and cost: known probabilities give known perplexities, gold answers the best score."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from memory_oracles import Oracle, quick
from rxlm.metrics.composite import WEIGHTS
from rxlm.mrq_bench.answers import STAMPS, AnswerLog
from rxlm.mrq_bench.benchmark_data import BenchmarkData, load_data
from rxlm.mrq_bench.bleu import SIGNATURE, corpus_bleu, sentence_bleu
from rxlm.mrq_bench.composite import turn_terms
from rxlm.mrq_bench.protocol import SumsLosses, TurnCost
from rxlm.mrq_bench.reports.cost import cost
from rxlm.mrq_bench.reports.language import language
from rxlm.mrq_bench.reports.recall import Findings
from rxlm.mrq_bench.runner import answer_all

TURNS = (1, 2, 8, 64)
CONFIG = quick(turns=(4, 12), dialogues=6)


class Speaker(SumsLosses, Oracle):
    """An oracle that finds every token of an answer twice as unlikely as the last control, and turns cost seconds."""

    def follow(self, queries: Sequence[str | None], answers: Sequence[str | None]) -> None:
        self.turn += 1

    def token_losses(self, queries: Sequence[str | None], answers: Sequence[str | None]) -> list[Tensor]:
        assert self.turn > 0, "the first turn has nothing to remember"
        surprise = {"none": 2, "shuffled": 4, "empty": 8}[self.control]
        return [torch.full((len(answer or ""),), math.log(surprise)).double() for answer in answers]

    def embed(self, texts: Sequence[str]) -> Tensor:
        rows = [[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]
        return torch.tensor(rows).float()

    def measure(self, query: str, num_tokens: int) -> TurnCost:
        return TurnCost(0.001 * (self.turn + 1), 100.0, None, 1000 * (self.turn + 1))


def findings(folder: Path, data: BenchmarkData, gold: bool = False) -> Findings:
    log = answer_all(Speaker(), data, replace(CONFIG, controls=()), folder)
    if gold:
        answers = list(log)
        log = AnswerLog(folder / "gold.jsonl", dict.fromkeys(STAMPS, ""))
        log.append([replace(a, answer=a.reference, grade=a.grade and "right") for a in answers])
    return Findings.of(log, data, 0)


def report(found: Findings) -> dict[str, Any]:
    speaker = Speaker()
    return language(found, speaker, ("its own", speaker), 4)


def test_perplexity_is_measured_with_the_true_an_empty_and_another_memory(tmp_path: Path) -> None:
    found = report(findings(tmp_path, load_data(CONFIG)))["perplexity"]

    for control, expected in {"none": 2, "shuffled": 4, "empty": 8}.items():
        assert found[control]["perplexity"]["value"] == pytest.approx(expected)
        assert found[control]["perplexity of answers to questions"]["value"] == pytest.approx(expected)
        assert found[control]["bits per character"]["value"] == pytest.approx(math.log2(expected))


def test_gold_answers_get_the_best_of_everything(tmp_path: Path) -> None:
    data = load_data(CONFIG)
    gold, oracle = report(findings(tmp_path, data, gold=True)), report(findings(tmp_path, data))

    assert gold["bleu"]["sentence"]["value"] == pytest.approx(1.0)
    assert gold["bleu"]["corpus"] == pytest.approx(1.0)
    assert gold["cosine"]["value"] == pytest.approx(1.0)
    assert oracle["bleu"]["sentence"]["value"] < 0.6
    composite = gold["composite"]
    assert composite["terms"]["exact"]["value"] == composite["terms"]["length"]["value"] == 1.0
    assert oracle["composite"]["mean"]["value"] < composite["mean"]["value"] <= 10
    assert composite["least"]["value"] <= composite["mean"]["value"] <= composite["greatest"]["value"]


def test_the_composite_score_is_of_one_turn_and_eight_that_follow(tmp_path: Path) -> None:
    found = report(findings(tmp_path, load_data(CONFIG)))

    assert found["set"] == "12 turns"
    assert len(found["composite"]["by_turn"]) == 8
    assert found["composite"]["weights"] == WEIGHTS
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)


def test_terms_are_what_their_names_say() -> None:
    terms = turn_terms(
        ["one", "two", "three"], ["a", "b b", ""], ["a", "b", "c"], [None, True, None],
        bleu=lambda said, wanted: [float(a == b) for a, b in zip(said, wanted, strict=True)],
        embed=Speaker().embed,
    )  # fmt: skip

    assert terms["exact"][0] == 1.0
    assert terms["exact"][1].isnan()
    assert terms["length"].tolist() == [0.5, 0.0]
    assert terms["cosine_reference"].tolist() == pytest.approx([1.0, 0.0])
    assert terms["cosine_previous"][1] == 0.0
    assert set(terms) == set(WEIGHTS)


def test_bleu_is_over_words_and_says_so() -> None:
    assert sentence_bleu(["Your dog is Rex.", "rex", "No", ""], ["your dog is rex.", "Rex", "Yes", "Yes"]) == [
        pytest.approx(1.0),
        pytest.approx(1.0),
        0.0,
        0.0,
    ]
    assert corpus_bleu(["Your dog is called Rex."], ["Your dog is called Rex."]) == pytest.approx(1.0)
    assert "words" in SIGNATURE
    assert sentence_bleu([], []) == []


def test_cost_is_measured_at_turns_1_to_64() -> None:
    found = cost(Speaker(), load_data(CONFIG), 0, TURNS)

    assert found["turns"] == list(TURNS)
    assert [e["value"] for e in found["first_token_ms"]] == pytest.approx([float(turn) for turn in TURNS])
    assert found["session_bytes"] == [1000 * turn for turn in TURNS]
    assert found["update_ms"] == [None] * len(TURNS)
