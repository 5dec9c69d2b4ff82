"""The worth of history: known nats give known shares, all arms see the same tokens, and a planted fault is seen."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rxlm.data.records import Dialogue, Interaction, Question
from rxlm.data.scoring import word_f1
from rxlm.mrq_bench.arms import arms_of, predict_in_arms, references_of
from rxlm.mrq_bench.benchmark_data import BenchmarkData, DialogueSet
from rxlm.mrq_bench.config import BenchmarkConfig
from rxlm.mrq_bench.end_questions import asks_at_the_end
from rxlm.mrq_bench.figures import plots_of
from rxlm.mrq_bench.protocol import Control, SumsLosses, TurnCost
from rxlm.mrq_bench.reports.worth import WORTH_FILE, worth
from rxlm.mrq_bench.results import measure
from rxlm.mrq_bench.rxt_model import RxTRespondent
from rxlm.mrq_bench.scoring import ValueScorer
from rxlm.mrq_bench.statistics import Bootstrap
from rxlm.mrq_bench.tables import RECOVERED, answered_table, summary_table, worth_table
from text_models import tiny_text_model

ALL: tuple[Control, ...] = ("none", "empty", "shuffled", "everything", "newest")
NATS: dict[Control, list[float]] = {
    # One token of an answer after another, over and over: the history matters to every second one.
    "empty": [1.0, 5.0],
    "shuffled": [1.0, 5.5],
    "newest": [0.75, 4.0],
    "none": [0.5, 3.0],
    "everything": [0.5, 1.0],
}


class Knower(SumsLosses):
    """Predicts each letter of an answer with the nats that its control says, and repeats what it was told last.

    Args:
        controls: under which it answers.
        nats: of the letters, by control.
    """

    def __init__(self, controls: tuple[Control, ...] = ALL, nats: dict[Control, list[float]] = NATS) -> None:
        self.controls, self.nats = controls, nats
        self.seen: dict[Control, list[tuple[int, list[str | None], list[str | None]]]] = {}
        self.widest = 0

    def describe(self) -> dict[str, str]:
        return {"kind": "knower"}

    def cuts(self, query: str) -> bool:
        return False

    def reset(self, batch_size: int, control: Control = "none") -> None:
        self.control, self.turn, self.size = control, 0, batch_size
        self.told: list[list[str]] = [[] for _ in range(batch_size)]
        self.widest = max(self.widest, batch_size)

    def respond(self, queries: Sequence[str | None]) -> list[str]:
        known = {"empty": 0, "newest": 1, "none": 2}.get(self.control, 10**9)
        return ["" if q is None else " ".join(self.told[row][::-1][:known]) for row, q in enumerate(queries)]

    def follow(self, queries: Sequence[str | None], answers: Sequence[str | None]) -> None:
        self.turn += 1
        for row, query in enumerate(queries):
            self.told[row] += [query] if query else []

    def token_losses(self, queries: Sequence[str | None], answers: Sequence[str | None]) -> list[Tensor]:
        self.seen.setdefault(self.control, []).append((self.turn, list(queries), list(answers)))
        pattern = self.nats[self.control]
        texts = ["" if query is None else answer or "" for query, answer in zip(queries, answers, strict=True)]
        return [torch.tensor((pattern * len(text))[: len(text)]).double() for text in texts]

    def embed(self, texts: Sequence[str]) -> Tensor:
        raise NotImplementedError

    def measure(self, query: str, num_tokens: int) -> TurnCost:
        raise NotImplementedError


def dialogue(*answers: str, question_at: int | None = None) -> Dialogue:
    asked = Question("thing", ("x",), 1)
    return Dialogue(
        tuple(
            Interaction(f"query {number}", answer, question=asked if number == question_at else None)
            for number, answer in enumerate(answers)
        )
    )


def data_of(*dialogues: Dialogue) -> BenchmarkData:
    return BenchmarkData("natural", (DialogueSet("natural", dialogues),), ValueScorer({"thing": ["x"]}))


def report(respondent: Knower, *dialogues: Dialogue, batch_size: int = 8, file: Path | None = None):
    strata = [[("natural", row) for row in range(len(dialogues))]]
    return worth(data_of(*dialogues), Bootstrap(strata), respondent, batch_size, file=file)


TALK = (
    dialogue("first, never counted", "ab", "abcd", "abcdef"),
    dialogue("first", "abcd"),
    dialogue("first", "ab", "ab"),
)


def test_recovered_shares_are_those_computed_by_hand() -> None:
    found = report(Knower(), *TALK)
    whole = found["all"]

    assert whole["tokens"] == 2 + 4 + 6 + 4 + 2 + 2
    assert whole["answers"] == 6
    assert {arm: cell["value"] for arm, cell in whole["nats"].items()} == {
        "empty": 3.0, "another": 3.25, "newest": 2.375, "memory": 1.75, "everything": 0.75,
    }  # fmt: skip
    assert whole["gain"]["memory"]["value"] == 1.25
    assert whole["own"]["value"] == 1.5
    assert whole["over_newest"]["value"] == 0.625
    recovered = {name: cell["value"] for name, cell in whole["recovered"].items()}
    assert recovered == pytest.approx({"memory": 1.25 / 2.25, "newest": 0.625 / 2.25, "difference": 0.625 / 2.25})


def test_the_history_matters_to_tokens_that_everything_makes_a_nat_likelier() -> None:
    matters = report(Knower(), *TALK)["matters"]

    assert matters["tokens"] == 10, "every second one"
    assert matters["nats"]["empty"]["value"] == 5.0
    assert matters["recovered"]["memory"]["value"] == pytest.approx(0.5)
    assert matters["recovered"]["newest"]["value"] == pytest.approx(0.25)


def test_parts_are_by_turn_question_and_distance() -> None:
    asked = dialogue("first", "ab", "abcd", "abcdef", question_at=2)
    found = report(Knower(), asked, *TALK)

    assert {name: part["tokens"] for name, part in found["by_turn"].items()} == {"2": 2 + 2 + 4 + 2, "3-4": 22}
    assert found["questions"]["tokens"] == 4
    assert {name: part["tokens"] for name, part in found["by_distance"].items()} == {"1-4": 4}


def test_a_model_without_memory_recovers_nothing_and_one_that_keeps_everything_all() -> None:
    for own, share in (("empty", 0.0), ("everything", 1.0)):
        found = report(Knower(nats={**NATS, "none": NATS[own]}), *TALK)["all"]["recovered"]["memory"]
        assert found == {"value": share, "low": share, "high": share, "count": 20}


def test_without_the_arm_everything_there_are_gains_and_no_shares() -> None:
    found = report(Knower(("none", "empty", "shuffled")), *TALK)

    assert set(found["arms"]) == {"empty", "another", "memory"}
    assert found["all"]["gain"]["memory"]["value"] == 1.25
    assert found["all"]["recovered"] is found["matters"] is found["all"]["over_newest"] is None


def test_a_window_of_a_language_model_is_its_memory_and_its_full_history_everything() -> None:
    controls: tuple[Control, ...] = ("none", "empty", "full-history")
    nats = {**NATS, "full-history": NATS["everything"]}
    found = report(Knower(controls, nats), *TALK)

    assert found["arms"] == {"empty": "empty", "memory": "none", "everything": "full-history"}
    assert found["all"]["recovered"]["memory"]["value"] == pytest.approx(1.25 / 2.25)


def test_no_share_is_given_where_the_history_may_be_worth_nothing() -> None:
    """In one of two dialogues everything makes it worse: half of the resamples have no share."""

    class Unsure(Knower):
        def token_losses(self, queries: Sequence[str | None], answers: Sequence[str | None]) -> list[Tensor]:
            found = super().token_losses(queries, answers)
            worse = self.control == "everything"
            return [nats + 5 if worse and answer == "abcd" else nats for nats, answer in zip(found, answers)]  # noqa: B905

    found = report(Unsure(), dialogue("first", "abcd"), dialogue("first", "a" * 40))
    assert found["all"]["gain"]["everything"]["value"] > 0
    assert found["all"]["recovered"] is None


@pytest.mark.parametrize("seed", range(3))
def test_intervals_cover_the_share_of_the_dialogues_that_the_data_are_drawn_from(seed: int) -> None:
    """19 in 20 should, over dialogues of which each has a share of its own; 16 in 20 is far from chance."""
    generator = torch.Generator().manual_seed(seed)
    covered, rounds, count = 0, 60, 40
    for _ in range(rounds):
        worths = 1 + 9 * torch.rand(count, generator=generator)
        shares = torch.rand(count, generator=generator)  # independent of the worths: the share of all is a half
        values = [(row, float(w * s), float(w)) for row, (w, s) in enumerate(zip(worths, shares, strict=True))]
        found = Bootstrap([range(count)], seed, resamples=300).quotient(values, count)
        assert found is not None
        covered += found.low <= 0.5 <= found.high
    assert covered >= 0.85 * rounds


def test_all_arms_see_the_same_tokens_of_the_same_turns() -> None:
    knower = Knower()
    report(knower, *TALK, batch_size=3)

    seen = [knower.seen[control] for control in ALL]
    assert all(calls == seen[0] for calls in seen)
    assert [turn for turn, _, _ in seen[0]] == [1, 2, 3], "one pass a turn, and none of the first"


def test_a_planted_fault_is_named() -> None:
    class Faulty(Knower):
        def token_losses(self, queries: Sequence[str | None], answers: Sequence[str | None]) -> list[Tensor]:
            found = super().token_losses(queries, answers)
            return [nats[:3] for nats in found] if self.control == "everything" else found

    message = r"natural, dialogue 1, turn 3: token_losses must give an answer the same tokens .*'everything': 3"
    with pytest.raises(ValueError, match=message):
        report(Faulty(), *TALK)


def test_batches_are_bounded_and_another_dialogue_needs_two() -> None:
    knower = Knower()
    report(knower, *(TALK * 3), batch_size=4)
    assert knower.widest <= 4

    sets = (DialogueSet("one", TALK[:1]),)
    assert "another" not in arms_of(knower, sets, 8)
    assert predict_in_arms(knower, sets, arms_of(knower, sets, 8), 8)


def test_answers_that_are_no_reference_do_not_count() -> None:
    turns = (Interaction("a", "b"), Interaction("c", "d", is_reference=False), Interaction("e", "fg"))
    assert report(Knower(), Dialogue(turns))["all"]["tokens"] == 2
    tale = Dialogue(turns, details={"references": ((), (), ("fg", "h"))})
    assert [references_of(tale, number) for number in range(3)] == [(), (), ("fg", "h")]
    assert report(Knower(), Dialogue(turns[:2])) is None


def tale(*questions: str) -> Dialogue:
    told = [Interaction(f"{name} came", "Go on.") for name in ("Anna", "Ben", "Carl")]
    asked = [Interaction("Who came?", answer, question=Question("who", (answer,), 3)) for answer in questions]
    return Dialogue((*told, *asked), details={"references": ((), (), (), *((answer,) for answer in questions))})


def test_questions_at_the_end_are_answered_in_each_arm() -> None:
    everything = "Carl came Ben came Anna came"
    tales = [tale(everything, "Nobody"), tale("Carl came")]
    assert all(map(asks_at_the_end, tales))
    assert not asks_at_the_end(dialogue("a", "b", "c", question_at=1))
    assert not asks_at_the_end(dialogue("a", "b"))
    found = report(Knower(), *tales)["answers"]

    assert set(found["all"]) == {"empty", "newest", "memory", "everything"}
    assert found["all"]["everything"]["exact"]["value"] == pytest.approx(1 / 3)
    assert found["all"]["empty"]["f1"]["value"] == 0.0
    known = found["known"]
    assert known["everything"]["exact"]["count"] == 2, "F1 of 1 and of a half; nobody knows Nobody"
    assert known["newest"]["f1"]["value"] == pytest.approx((word_f1("Carl came", everything) + 1) / 2)
    assert report(Knower(), *TALK)["answers"] is None


def test_the_reference_that_an_answer_is_most_like_counts() -> None:
    one = tale("Nobody")
    several = Dialogue(one.turns, details={"references": ((), (), (), ("Nobody", "Carl came", "Ben"))})
    found = report(Knower(), several)["answers"]["all"]["newest"]
    assert found["f1"]["value"] == found["exact"]["value"] == 1.0


def test_f1_counts_words_once_each() -> None:
    assert word_f1("The red dog.", "a RED dog") == pytest.approx(2 / 3)
    assert word_f1("dog dog dog", "dog") == pytest.approx(0.5)
    assert word_f1("", "dog") == word_f1("cat", "dog") == 0.0


def test_every_answer_has_a_line_with_the_nats_of_its_tokens(tmp_path: Path) -> None:
    report(Knower(), *TALK, tale("Carl came"), file=tmp_path / WORTH_FILE)
    lines = [json.loads(line) for line in (tmp_path / WORTH_FILE).read_text(encoding="utf-8").splitlines()]

    assert len(lines) == 7
    assert lines[0]["nats"]["memory"] == [0.5, 3.0]
    assert lines[-1]["answers"]["newest"] == "Carl came"
    assert lines[-1]["f1"]["memory"] == pytest.approx(word_f1("Carl came Ben came", "Carl came"), abs=1e-4)


@pytest.mark.parametrize("controls", [ALL, ("none", "empty")])
def test_a_run_of_this_report_alone_leads_no_dialogue_and_has_tables_and_a_plot(
    controls: tuple[Control, ...], tmp_path: Path
) -> None:
    config = BenchmarkConfig(data="jsonl", source=tmp_path, reports=("worth",), controls=(), batch_size=3)
    results = measure("knower", Knower(controls), data_of(*TALK, tale("Carl came")), config, tmp_path)

    assert (tmp_path / "answers.jsonl").read_bytes() == b""
    assert json.loads((tmp_path / WORTH_FILE).read_text(encoding="utf-8").splitlines()[0])["config"]
    shares = set(RECOVERED.values()) & set(worth_table(results).header)
    assert len(shares) == (3 if "everything" in controls else 0)
    assert len(worth_table(results).rows) >= 3
    assert answered_table(results).rows
    assert any("nats a token" in row[0] for row in summary_table([results]).rows)
    assert [plot.name for plot in plots_of(results)] == ["worth"]


def test_a_reactive_transformer_has_no_gain_from_an_empty_memory_and_the_losses_of_its_own() -> None:
    model = tiny_text_model().double()
    respondent = RxTRespondent(model)
    sets = (DialogueSet("natural", [dialogue("Hello", "You are kind.", "Rex"), dialogue("Rex", "Hello")]),)
    predicted = predict_in_arms(respondent, sets, arms_of(respondent, sets, 8), 8)

    respondent.reset(2)
    respondent.follow(["query 0", "query 0"], ["Hello", "Rex"])
    wanted = respondent.losses(["query 1", "query 1"], ["You are kind.", "Hello"])
    assert [(turn.place[1], turn.number) for turn in predicted] == [(0, 1), (0, 2), (1, 1)]
    for turn, loss in zip((predicted[0], predicted[2]), wanted, strict=True):
        assert float(turn.nats["memory"].sum()) == pytest.approx(loss.nats)
        assert not math.isclose(float(turn.nats["empty"].sum()), loss.nats)
