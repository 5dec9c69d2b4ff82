"""A pretrained chat model with a retained memory: what it keeps of a conversation, what it recalls, what it costs.

    rxlm train upcycled --model LM --data ../shared/data --output runs/upcycled
    python benchmarks/upcycled.py runs/upcycled LM ../shared/data

Measures on held-out data, each beside its controls with the same weights (nothing, the newest tokens, everything kept)
and beside the language model before training:

- worth: nats a token of reference answers of SGD, self-dialogues, CaSiNo and PersuasionForGood, for several S;
- tales: the same of the answers to questions about fairy tales that were told before;
- recall: generated answers to questions about values that training has not seen, by distance, corrected, never told;
- ability: perplexity of plain text and of service dialogues, each turn alone; twenty single questions; questions
  about the world, alone and in a conversation about something else;
- cost: of a turn at turns 1 to 256.

The language model with its full history is the untrained upcycled model that keeps everything, which is the same to
1e-4 (`whole_history.py`). Figures are kept as they come: a run that is started again goes on.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from plots import plot_upcycled
from records import RESULTS, Record
from rxlm.data.dialogue_forms import open_dialogues
from rxlm.data.fact_config import FactsConfig
from rxlm.data.fact_kinds import values_by_kind
from rxlm.data.facts import FactGenerator
from rxlm.data.held_out import hold_out_by_id
from rxlm.data.records import Dialogue
from rxlm.data.scoring import Grade, grade
from rxlm.data.stories import fairytale_dialogue, read_fairytales
from rxlm.export.names import Engine
from rxlm.mrq_bench.arms import Arm, PredictedTurn, predict_in_arms
from rxlm.mrq_bench.benchmark_data import DialogueSet
from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.replies import replies_of
from rxlm.mrq_bench.reports.worth import matters, part_of
from rxlm.mrq_bench.rxt_model import RxTRespondent
from rxlm.mrq_bench.statistics import Bootstrap
from rxlm.recipes.stories import around_questions
from rxlm.upcycling.loading import open_model
from upcycled_ability import answers_to_prompts, perplexities, world_answers

Part = Literal["worth", "tales", "recall", "ability", "cost"]
RANGES = ((1, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, 256))
CORPORA = {
    "sgd": "sgd/dev.jsonl.gz",
    "self-dialogues": "self-dialogues/dev.jsonl.gz",
    "casino": "casino/train.jsonl.gz",
    "persuasion": "persuasion/train.jsonl.gz",
}
HELD_OUT = ("casino", "persuasion")
"""Of these a tenth of the training file is held out."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Args:
        model: folder of the trained model.
        language_model: what it was made of: folder, hub id or GGUF file.
        data: folder with `sgd`, `self-dialogues`, `casino`, `persuasion`, `fairytaleqa` and `gutenberg-children`.
        parts: what is measured.
        sizes: numbers of tokens S, for worth.
        worth_dialogues: dialogues of each corpus.
        tale_tokens, tales, questions: S, tales, and questions of each.
        turns, dialogues: lengths of the dialogues of recall, and how many of each.
        control_dialogues: how many of each length are asked under the controls, too.
        recall_tokens: S for recall and cost.
        answer_tokens: the longest answer.
        cost_turns: turns whose cost is measured.
        rows: dialogues that are read or answered at once.
        device: where to compute: cpu, cuda. engine: what computes the trained model there, see `rxlm chat`.
        output: folder for the figures.
    """

    model: Annotated[str, tyro.conf.Positional]
    language_model: Annotated[str, tyro.conf.Positional]
    data: Annotated[Path, tyro.conf.Positional]
    parts: tuple[Part, ...] = ("worth", "tales", "recall", "ability", "cost")
    sizes: tuple[int, ...] = (48, 64, 128)
    worth_dialogues: int = 60
    tale_tokens: int = 256
    tales: int = 20
    questions: int = 3
    turns: tuple[int, ...] = (9, 32, 64, 256)
    dialogues: tuple[int, ...] = (300, 100, 60, 20)
    control_dialogues: tuple[int, ...] = (60, 12, 0, 0)
    recall_tokens: int = 128
    answer_tokens: int = 32
    cost_turns: tuple[int, ...] = (1, 8, 32, 64, 128, 256)
    rows: int = 20
    device: str = "cpu"
    engine: Engine | None = None
    output: Path = RESULTS / "upcycled"


def main(settings: Settings) -> None:
    """Measure each part that is asked for, and show what is there."""
    record = Record(settings.output / "upcycled.json", settings, free=("parts",))
    for part in settings.parts:
        PARTS[part](settings, record)
    add_figures(record)
    record.save()
    Shown(record.kept).everything(Console(highlight=False, width=160))
    plot_upcycled(record.kept, settings.output / "upcycled.png")


def add_figures(record: Record) -> None:
    """Add what was measured of worth, recall, ability and cost."""
    for name, found in record.kept.items():
        if name.startswith("worth/"):
            for size, parts in found.items():
                for arm, share in ((parts["all"] or {}).get("recovered") or {}).items():
                    record.add(f"{name}/{size}/recovered/{arm}", share["value"], "", better="more", kind="ratio")
        elif name.startswith("recall/"):
            for distance, (right, count) in found["right"].items():
                record.add(f"{name}/{distance}", right / count, "", better="more", kind="ratio")
        elif name == "ability/perplexity":
            for text, (own, trained) in found.items():
                record.add(f"{name}/{text}", trained / own, "times", better="less", kind="ratio")
        elif name.startswith("cost/"):
            for turn, costs in found.items():
                for figure, value in costs.items():
                    better = "more" if figure == "tokens a second" else "less"
                    record.add(f"{name}/turn {turn}/{figure}", value, "", better=better)


# --- worth of history ------------------------------------------------------------------------------------------------


def measure_worth(settings: Settings, record: Record) -> None:
    """Compare S tokens with nothing and everything, for each corpus, trained and untrained."""
    for name, file in CORPORA.items():
        dialogues = open_dialogues(settings.data / file)
        dialogues = (hold_out_by_id(dialogues)[1] if name in HELD_OUT else dialogues)[: settings.worth_dialogues]
        for weights in ("trained", "untrained"):
            measure = partial(worth, settings, weights, dialogues, settings.sizes)
            record.keep(f"worth/{name}/{weights}", measure)


def measure_tales(settings: Settings, record: Record) -> None:
    """The same for the answers to questions about what was told before."""
    tales = [fairytale_dialogue(t, max_words=40) for t in read_fairytales(settings.data / "fairytaleqa" / "val.jsonl")]
    parts = [part for tale in tales[: settings.tales] for part in around_questions(tale, 24)[: settings.questions]]
    for weights in ("trained", "untrained"):
        record.keep(f"worth/tales/{weights}", partial(worth, settings, weights, parts, (settings.tale_tokens,)))


def worth(
    settings: Settings, weights: str, dialogues: Sequence[Dialogue], sizes: Sequence[int]
) -> Mapping[str, Mapping[str, Any]]:
    """Return the figures of `part_of` for each S: of all tokens, and of those that the history matters to."""
    group, found = (DialogueSet("all", tuple(dialogues)),), {}
    ends: dict[Arm, Control] = {"empty": "empty", "everything": "everything"}
    fixed = predict_in_arms(respondent(settings, weights), group, ends, settings.rows)
    arms: dict[Arm, Control] = {"memory": "none", "newest": "newest"}
    arms = arms if weights == "trained" else {"memory": "none"}
    for size in sizes:
        kept = predict_in_arms(respondent(settings, weights, size), group, arms, settings.rows)
        turns = [
            PredictedTurn(a.place, a.dialogue, a.number, {**a.nats, **b.nats}) for a, b in zip(fixed, kept, strict=True)
        ]
        draw = Bootstrap([[("all", number) for number in range(len(dialogues))]])
        found[str(size)] = {"all": part_of(draw, turns), "matters": part_of(draw, turns, matters)}
    return found


# --- recall ----------------------------------------------------------------------------------------------------------


def measure_recall(settings: Settings, record: Record) -> None:
    """Ask for values that training has not seen."""
    numbers = zip(settings.turns, settings.dialogues, settings.control_dialogues, strict=True)
    controls: dict[str, tuple[str, Control]] = {
        "memory": ("trained", "none"),
        "newest tokens": ("trained", "newest"),
        "empty memory": ("trained", "empty"),
        "everything": ("trained", "everything"),
        "language model, full history": ("untrained", "everything"),
    }
    for turns, count, few in numbers:
        dialogues = test_dialogues(turns, count)
        for name, (weights, control) in controls.items():
            asked = dialogues if name == "memory" else dialogues[:few]
            if asked:
                measure = partial(recall, settings, weights, control, asked)
                record.keep(f"recall/{turns}/{name}", measure)


def test_dialogues(turns: int, count: int) -> list[Dialogue]:
    """Return dialogues whose values training has not seen; the recipe's own test, from another seed."""
    config = FactsConfig(
        variety="full", values="disjoint", split="test", num_turns=turns, max_facts=8, unknown_share=0.06, seed=7
    )
    return list(FactGenerator(config).dialogues(count))


def recall(settings: Settings, weights: str, control: Control, dialogues: Sequence[Dialogue]) -> Mapping[str, Any]:
    """Return right answers and questions by range of distance, corrected and never told; and some answers to read."""
    asked, values = respondent(settings, weights, settings.recall_tokens), values_by_kind("full")
    found: dict[str, list[bool]] = defaultdict(list)
    wrong: dict[str, int] = defaultdict(int)
    examples = []
    for start in range(0, len(dialogues), settings.rows):
        for reply in replies_of(asked, dialogues[start : start + settings.rows], control):
            question = reply.turn.question
            if question is None:
                continue
            graded = grade(reply.answer, question, values[question.kind])
            right = graded is Grade.RIGHT
            found[_range(question.distance)].append(right)
            if question.distance is not None:
                found["corrected" if question.stale else "told once"].append(right)
            if not right:
                wrong[graded] += 1
            if len(examples) < 20 or (not right and len(examples) < 60):
                examples.append([reply.turn.query, reply.answer, list(question.expected), right])
    return {"right": {n: [sum(of), len(of)] for n, of in sorted(found.items())}, "wrong": wrong, "examples": examples}


def _range(distance: int | None) -> str:
    if distance is None:
        return "never told"
    return next(f"{low}-{high}" for low, high in RANGES if low <= distance <= high)


# --- ability and cost ------------------------------------------------------------------------------------------------


def measure_ability(settings: Settings, record: Record) -> None:
    """Compare what the models can do without a history."""
    trained, untrained = respondent(settings, "trained"), respondent(settings, "untrained")
    record.keep("ability/perplexity", partial(perplexities, trained, untrained, settings.data))
    record.keep("ability/prompts", partial(answers_to_prompts, trained, untrained))
    record.keep("ability/world", partial(world_answers, trained, untrained))


def measure_cost(settings: Settings, record: Record) -> None:
    """Measure turns of one conversation: with the memory, and with everything kept, as a language model's cache is."""
    for name, control in {"memory": "none", "everything (a kept cache)": "everything"}.items():
        record.keep(f"cost/{name}", partial(cost, settings, control))


def cost(settings: Settings, control: Control) -> Mapping[str, Any]:
    """Return first token (ms), tokens a second, update (ms) and bytes at each turn; the best of five tries."""
    asked, found = respondent(settings, "trained", settings.recall_tokens), {}
    (dialogue,) = test_dialogues(max(settings.cost_turns), 1)
    asked.reset(1, control)
    for number, turn in enumerate(dialogue.turns, 1):
        if number in settings.cost_turns:
            tries = [asked.measure(dialogue.turns[0].query, 16) for _ in range(5)]
            found[str(number)] = {
                "first token, ms": 1e3 * min(each.first_token for each in tries),
                "tokens a second": max(each.tokens_per_second for each in tries),
                "update, ms": 1e3 * min(each.update or 0.0 for each in tries),
                "bytes": tries[0].session_bytes,
            }
        asked.follow([turn.query], [turn.answer])
    return found


@cache
def _opened(source: str, device: str, engine: Engine | None) -> RxTRespondent:
    return RxTRespondent(open_model(source, device=device, dtype="float32", engine=engine))


def respondent(settings: Settings, weights: str, memory_tokens: int | None = None) -> RxTRespondent:
    """Return a model with a memory of so many tokens; each is opened once."""
    is_trained = weights == "trained"
    source, engine = (settings.model, settings.engine) if is_trained else (settings.language_model, None)
    found = _opened(source, settings.device, engine)
    found.max_answer_tokens = settings.answer_tokens
    if memory_tokens is not None:
        found.model.set_memory_tokens(memory_tokens)
    return found


PARTS = {
    "worth": measure_worth,
    "tales": measure_tales,
    "recall": measure_recall,
    "ability": measure_ability,
    "cost": measure_cost,
}


class Shown:
    """Figures as tables."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def everything(self, console: Console) -> None:
        """Print all that was measured."""
        for table in (self.worth(), self.recall(), self.ability(), self.world(), self.cost()):
            console.print(table)
        for prompt, own, fresh in self.values.get("ability/prompts", ()):
            console.print(f"\n{prompt}\n  language model: {own!r}\n  trained:        {fresh!r}")

    def worth(self) -> Table:
        """Recovered shares, with 95 % intervals, and nats a token."""
        table = Table("", "weights", "S", "nothing", "everything", "tokens", "recovered", "newest recover",
                      "where it matters", "newest there", title="worth of history")  # fmt: skip
        for name, sizes in self._under("worth/"):
            for size, parts in sizes.items():
                found, there = parts["all"], parts["matters"]
                if found is None:
                    continue
                nats = [_value(found["nats"][arm]) for arm in ("empty", "everything")]
                cells = [_share(part, arm) for part in (found, there) for arm in ("memory", "newest")]
                table.add_row(*name.split("/"), size, *nats, str(found["tokens"]), *cells)
        return table

    def recall(self) -> Table:
        """Right answers by distance."""
        columns = [*(f"{low}-{high}" for low, high in RANGES), "told once", "corrected", "never told"]
        table = Table("turns", "from", *columns, title="right answers (questions), unseen values, generated")
        for name, found in self._under("recall/"):
            cells = [found["right"].get(column) for column in columns]
            table.add_row(*name.split("/"), *(f"{c[0] / c[1]:.1%} ({c[1]})" if c else "" for c in cells))
        return table

    def ability(self) -> Table:
        """Perplexities."""
        table = Table("perplexity", "language model", "trained, empty memory", "ratio", title="ability")
        for name, (own, trained) in self.values.get("ability/perplexity", {}).items():
            table.add_row(name, f"{own:.3f}", f"{trained:.3f}", f"{trained / own:.4f}")
        return table

    def world(self) -> Table:
        """Questions about the world."""
        table = Table("model", "asked", "right", "refused", title="questions about the world")
        for model, found in self.values.get("ability/world", {}).items():
            for place, (right, refused, count) in found.items():
                table.add_row(model, place, f"{right} of {count}", f"{refused} of {count}")
        return table

    def cost(self) -> Table:
        """Costs by turn."""
        table = Table("from", "turn", "first token, ms", "tokens a second", "update, ms", "bytes", title="cost")
        for name, turns in self._under("cost/"):
            for turn, found in turns.items():
                table.add_row(
                    name, turn, *(f"{value:,.1f}" if value < 1e5 else f"{value:,}" for value in found.values())
                )
        return table

    def _under(self, prefix: str) -> list[tuple[str, Any]]:
        return [(name.removeprefix(prefix), of) for name, of in self.values.items() if name.startswith(prefix)]


def _value(estimate: Mapping[str, float] | None) -> str:
    return "" if estimate is None else f"{estimate['value']:.3f}"


def _share(part: Mapping[str, Any] | None, arm: str) -> str:
    share = ((part or {}).get("recovered") or {}).get(arm)
    return "" if share is None else f"{share['value']:.0%} ({share['low']:.0%} to {share['high']:.0%})"


if __name__ == "__main__":
    main(tyro.cli(Settings))
