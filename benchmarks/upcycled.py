"""A language model with a memory beside the same language model with its history: what each recalls and costs.

    rxlm train upcycled --model LM --output runs/upcycled
    python benchmarks/upcycled.py runs/upcycled LM ../shared/data

asks both the same questions, in generated dialogues whose values training has not seen: the language model with the
full history, with the last two turns, and with none; the Reactive Transformer from its memory, and from an empty one.
Prints accuracy by distance, what a turn costs at turns 1 to 128, the perplexity of held-out text and of service
dialogues' answers, and both models' answers to twenty single questions. A plot and everything as JSON go to the output
folder.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from plots import plot_recall_and_cost
from rxlm.data.fact_config import FactsConfig
from rxlm.data.fact_kinds import values_by_kind
from rxlm.data.facts import FactGenerator
from rxlm.data.records import Dialogue
from rxlm.data.scoring import Grade, grade
from rxlm.data.sgd import read_sgd
from rxlm.data.stories import read_gutenberg
from rxlm.data.tokenizer import encode_text
from rxlm.mrq_bench.benchmark_data import BenchmarkData, DialogueSet
from rxlm.mrq_bench.loading import ModelOptions, load_respondent
from rxlm.mrq_bench.protocol import Control, LanguageRespondent
from rxlm.mrq_bench.replies import replies_of
from rxlm.mrq_bench.reports.cost import cost
from rxlm.mrq_bench.rxt_model import RxTRespondent
from rxlm.mrq_bench.scoring import ValueScorer
from rxlm.rxt.models import RxTAlpha
from rxlm.upcycling.model import upcycle

RANGES = ((1, 4), (5, 8), (9, 16), (17, 32))
HISTORIES = {"full history": "full", "last 2 turns": "turns:2", "no history": "none"}
PROMPTS = (
    "What is the capital of Italy?",
    "Name three colours.",
    "Write a sentence about the sea.",
    "How many legs does a spider have?",
    "What is 7 plus 5?",
    "Explain what a library is.",
    "Give me a tip for sleeping well.",
    "What do plants need to grow?",
    "Tell me a short story about a fox.",
    "What is the opposite of cold?",
    "Who wrote Romeo and Juliet?",
    "List two kinds of fruit.",
    "What is a noun?",
    "How do I boil an egg?",
    "Translate 'good morning' into French.",
    "Why is the sky blue?",
    "What is the largest ocean?",
    "Write a polite greeting.",
    "What is water made of?",
    "Name a famous scientist.",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to measure.

    Args:
        model: folder of a Reactive Transformer that was made of the language model.
        language_model: the language model: folder, hub id or GGUF file.
        data: folder with `gutenberg-children` and `sgd`.
        turns, dialogues: lengths of the dialogues, and how many of each.
        language_model_dialogues: how many of them the language model is asked: it reads its history again and again.
        cost_turns: turns whose cost is measured.
        text_windows, service_dialogues: for the perplexities.
        answer_tokens: the longest answer.
        output: folder for the plot and the figures.
    """

    model: Annotated[str, tyro.conf.Positional]
    language_model: Annotated[str, tyro.conf.Positional]
    data: Annotated[Path, tyro.conf.Positional]
    turns: tuple[int, ...] = (9, 32)
    dialogues: tuple[int, ...] = (100, 32)
    language_model_dialogues: tuple[int, ...] = (40, 8)
    cost_turns: tuple[int, ...] = (1, 8, 32, 128)
    text_windows: int = 64
    service_dialogues: int = 24
    answer_tokens: int = 48
    output: Path = Path(__file__).parent / "results" / "upcycled"


def main(settings: Settings) -> None:
    console = Console(highlight=False)
    settings.output.mkdir(parents=True, exist_ok=True)
    results = Results(settings.output / "upcycled.json")
    rxt = load_respondent(settings.model, ModelOptions(max_answer_tokens=settings.answer_tokens))
    assert isinstance(rxt, RxTRespondent)
    names = {"RxT": (rxt, "none"), "RxT, empty memory": (rxt, "empty")}
    stateless = {
        f"LM, {name}": load_respondent(
            settings.language_model, ModelOptions(history=history, max_answer_tokens=settings.answer_tokens)
        )
        for name, history in HISTORIES.items()
    }
    for turns, count, few in zip(settings.turns, settings.dialogues, settings.language_model_dialogues, strict=True):
        dialogues = test_dialogues(turns, count)
        for name, (respondent, control) in names.items():
            results.get(f"recall/{turns}/{name}", partial(recall, respondent, dialogues, control))
        for name, respondent in stateless.items():
            results.get(f"recall/{turns}/{name}", partial(recall, respondent, dialogues[:few], "none"))
    data = BenchmarkData("facts", (DialogueSet("long", test_dialogues(32, 8)),), ValueScorer(values_by_kind("full")))
    for name, respondent in {"RxT": rxt, "LM, full history": stateless["LM, full history"]}.items():
        results.get(f"cost/{name}", partial(cost, respondent, data, 0, settings.cost_turns, conversations=2))
    results.get("ability", partial(ability, rxt, settings))
    results.get("prompts", partial(prompts, rxt, stateless["LM, full history"]))
    show(results.values, console)
    plot_recall_and_cost(results.values, settings.output / "upcycled.png")
    console.print(f"Plot and figures: {settings.output}")


class Results:
    """Figures by name, kept in a file: a run that is started again goes on where it was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def get(self, name: str, measure: Any) -> None:
        if name not in self.values:
            self.values[name] = json.loads(json.dumps(measure()))
            self.path.write_text(json.dumps(self.values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            print(name, "measured", flush=True)


def test_dialogues(turns: int, count: int) -> list[Dialogue]:
    """Return dialogues whose values training has not seen; the recipe's own test, from another seed."""
    config = FactsConfig(
        variety="full", values="disjoint", split="test", num_turns=turns, max_facts=8, unknown_share=0.04, seed=7
    )
    return list(FactGenerator(config).dialogues(count))


def recall(respondent: LanguageRespondent, dialogues: Sequence[Dialogue], control: Control) -> Mapping[str, Any]:
    """Return right answers and questions, by range of distance and by whether the fact was corrected before.

    With them come the grades of all answers, and some answers to look at.
    """
    values = values_by_kind("full")
    by_range: dict[str, list[bool]] = defaultdict(list)
    by_telling: dict[str, list[bool]] = defaultdict(list)
    grades: Counter[str] = Counter()
    examples = []
    for start in range(0, len(dialogues), 32):
        for reply in replies_of(respondent, dialogues[start : start + 32], control):
            question = reply.turn.question
            if question is None or question.distance is None:
                continue
            found = grade(reply.answer, question, values[question.kind])
            right = found is Grade.RIGHT
            grades[found] += 1
            by_telling["corrected" if question.stale else "told once"].append(right)
            for low, high in RANGES:
                if low <= question.distance <= high:
                    by_range[f"{low}-{high}"].append(right)
            if len(examples) < 12:
                examples.append([reply.turn.query, reply.answer, question.expected[0], right])
    return {"right": shares(by_range), "tellings": shares(by_telling), "grades": grades, "examples": examples}


def shares(answers: Mapping[str, Sequence[bool]]) -> dict[str, list[int]]:
    """Return right answers and all, by name."""
    return {name: [sum(of), len(of)] for name, of in sorted(answers.items())}


@torch.no_grad()
def ability(rxt: RxTRespondent, settings: Settings) -> Mapping[str, float]:
    """Return perplexities of the language model, and of the RxT with an empty memory and a filled one."""
    model, tokenizer = rxt.model, rxt.tokenizer
    language_model = upcycle(settings.language_model).eval()  # its layers as they were
    books = read_gutenberg(settings.data / "gutenberg-children")
    text = encode_text(tokenizer, " ".join(book[20_000:40_000] for book in list(books.values())[:8]))
    width = min(128, model.max_seq_len)
    windows = torch.tensor([text[n * width : (n + 1) * width] for n in range(settings.text_windows)])
    empty = model.init_memory(len(windows))
    filled = filled_memory(rxt, len(windows))
    everywhere = torch.ones_like(windows).bool()
    readings = {
        "language model": (language_model, None),
        "empty memory": (model, empty),
        "filled memory": (model, filled),
    }
    found = {
        f"text, {name}": token_perplexity(network.decode(windows, memory), windows, everywhere)
        for name, (network, memory) in readings.items()
    }
    found |= {f"services, {name}": value for name, value in service_perplexities(rxt, language_model, settings).items()}
    return found


def service_perplexities(rxt: RxTRespondent, language_model: RxTAlpha, settings: Settings) -> Mapping[str, float]:
    """Return the perplexity of SGD's answers, each turn read alone, and with the memory of the turns before."""
    dialogues = read_sgd(settings.data / "sgd" / "dev.jsonl.gz")[: settings.service_dialogues]
    model, limit = rxt.model, rxt.model.max_seq_len
    losses: dict[str, list[float]] = defaultdict(list)
    for dialogue in dialogues:
        memory = model.init_memory(1)
        for turn in dialogue.turns:
            start = [*rxt.tokens.before_query, *encode_text(rxt.tokenizer, turn.query), *rxt.tokens.before_answer]
            ids = torch.tensor([[*start, *encode_text(rxt.tokenizer, turn.answer), rxt.tokens.eos_token_id][:limit]])
            answered = torch.arange(ids.shape[1])[None] >= len(start)
            readings = {
                "language model": (language_model, None),
                "empty memory": (model, model.init_memory(1)),
                "memory": (model, memory),
            }
            for name, (network, read) in readings.items():
                logs = network.decode(ids, read)[:, :-1].log_softmax(-1)
                found = logs.gather(2, ids[:, 1:, None])[..., 0]
                losses[name] += (-found[answered[:, 1:]]).tolist()
            memory = model.update_memory(memory, ids)
    return {name: math.exp(sum(of) / len(of)) for name, of in losses.items()}


def filled_memory(rxt: RxTRespondent, rows: int) -> Any:
    """Return memories after six turns in which something was told."""
    dialogues = test_dialogues(6, rows)
    rxt.reset(rows)
    for number in range(6):
        turns = [dialogue.turns[number] for dialogue in dialogues]
        rxt.follow([turn.query for turn in turns], [turn.answer for turn in turns])
    return rxt._memory


def token_perplexity(logits: torch.Tensor, ids: torch.Tensor, wanted: torch.Tensor) -> float:
    found = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    return math.exp(-float(found[wanted[:, 1:]].mean()))


def prompts(rxt: RxTRespondent, stateless: LanguageRespondent) -> Sequence[Sequence[str]]:
    """Return both models' answers to single questions; the RxT's also after six turns of another conversation."""
    rxt.reset(len(PROMPTS))
    fresh = rxt.respond(list(PROMPTS))
    filled_memory(rxt, len(PROMPTS))
    filled = rxt.respond(list(PROMPTS))
    stateless.reset(len(PROMPTS))
    own = stateless.respond(list(PROMPTS))
    return [list(row) for row in zip(PROMPTS, own, fresh, filled, strict=True)]


def share(cell: Sequence[int] | None) -> str:
    """Return right answers of all as people read it."""
    return "" if cell is None else f"{cell[0] / cell[1]:.1%} ({cell[1]})"


def show(values: Mapping[str, Any], console: Console) -> None:
    ranges, tellings = [f"{low}-{high}" for low, high in RANGES], ("told once", "corrected")
    wrong = [each for each in Grade if each is not Grade.RIGHT]
    by_distance = Table("dialogues of", "model", *ranges, title="right answers, by distance")
    by_telling = Table("dialogues of", "model", *tellings, *wrong, title="right answers, and what wrong ones are")
    for name, found in values.items():
        if name.startswith("recall/"):
            _, turns, model = name.split("/")
            by_distance.add_row(turns, model, *(share(found["right"].get(each)) for each in ranges))
            mistakes = (str(found["grades"].get(each, 0)) for each in wrong)
            by_telling.add_row(turns, model, *(share(found["tellings"].get(each)) for each in tellings), *mistakes)
    console.print(by_distance)
    console.print(by_telling)
    table = Table("turn", "model", "first token, ms", "tokens a second", "bytes kept", title="cost")
    for name, found in values.items():
        if name.startswith("cost/"):
            for place, turn in enumerate(found["turns"]):
                first, speed = (found[each][place]["value"] for each in ("first_token_ms", "tokens_per_second"))
                table.add_row(str(turn), name[5:], f"{first:.1f}", f"{speed:.1f}", f"{found['session_bytes'][place]:,}")
    console.print(table)
    table = Table("perplexity", "", title="ability")
    for name, value in values["ability"].items():
        table.add_row(name, f"{value:.3f}")
    console.print(table)
    for prompt, own, fresh, filled in values["prompts"]:
        console.print(
            f"\n{prompt}\n  LM:              {own!r}\n  RxT:             {fresh!r}\n  RxT, memory full: {filled!r}"
        )


if __name__ == "__main__":
    main(tyro.cli(Settings))
