"""Does a chat model say again what it has said, and does it know what it was told? Twenty scripted conversations.

    python benchmarks/repetition.py runs/upcycled SmolLM2.gguf

holds the conversations of `conversations.txt`, twelve messages each, all side by side: the upcycled model with its
memory, and the language model that it was made of with its full history and with none (both as the untrained upcycled
model that keeps everything or nothing, which is the same to 1e-4: `whole_history.py`), greedily and with the model's
default sampling. Prints the share of an answer's 4-grams of words that stand in the model's own earlier answers, and
how many questions about what was said before are answered. Transcripts go to the output folder.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from records import RESULTS, Record
from rxlm.mrq_bench.protocol import Control
from rxlm.mrq_bench.rxt_model import RxTRespondent
from rxlm.rxt.sampling import GREEDY, SamplingConfig
from rxlm.upcycling.loading import open_model

SCRIPTS = Path(__file__).parent / "conversations.txt"
GRAM = 4


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is compared.

    Args:
        model: folder of an upcycled model.
        language_model: the language model that it was made of.
        memory_tokens: tokens that the upcycled model keeps.
        answer_tokens: the longest answer.
        scripts: how many of the conversations are held.
        device: where to compute.
        output: folder for figures and transcripts; a run that is started again goes on.
    """

    model: Annotated[str, tyro.conf.Positional]
    language_model: Annotated[str, tyro.conf.Positional]
    memory_tokens: int = 128
    answer_tokens: int = 48
    scripts: int = 20
    device: str = "cpu"
    output: Path = RESULTS / "repetition"


@dataclass(frozen=True)
class Script:
    """A conversation's title, its messages, and what the answer to each must name one of; nothing: no question."""

    title: str
    messages: tuple[str, ...]
    expected: tuple[tuple[str, ...], ...]


def main(settings: Settings) -> None:
    """Converse, and count."""
    record = Record(settings.output / "repetition.json", settings)
    scripts = read_scripts(SCRIPTS)[: settings.scripts]
    table = Table("", "sampling", "4-grams said before", "questions answered", "words an answer")
    arms: tuple[tuple[str, str, Control], ...] = (
        ("memory", settings.model, "none"),
        ("newest tokens, the same weights", settings.model, "newest"),
        ("everything, the same weights", settings.model, "everything"),
        ("language model, full history", settings.language_model, "everything"),
        ("language model, no history", settings.language_model, "empty"),
    )
    for name, source, control in arms:
        for sampled in (False, True):
            label = "default" if sampled else "greedy"
            found = record.keep(f"{name}/{label}", partial(converse, source, control, sampled, scripts, settings))
            answers = found["answers"]
            right = [is_right(answer, expected) for row, script in zip(answers, scripts, strict=True)
                     for answer, expected in zip(row, script.expected, strict=True) if expected]  # fmt: skip
            length = sum(len(words_of(answer)) for row in answers for answer in row) / sum(map(len, answers))
            table.add_row(name, label, f"{repeated(answers):.1%}", f"{sum(right)} of {len(right)}", f"{length:.0f}")
            record.add(f"{name}/{label}/said before", repeated(answers), "", better="less", kind="ratio")
            record.add(f"{name}/{label}/answered", sum(right) / len(right), "", better="more", kind="ratio")
    record.save()
    Console().print(table)
    (settings.output / "transcripts.txt").write_text(transcripts(record.kept, scripts), encoding="utf-8")


def converse(
    source: str, control: Control, sampled: bool, scripts: Sequence[Script], settings: Settings
) -> dict[str, Any]:
    """Return the answers to all messages, a list a conversation."""
    model = open_model(source, memory_tokens=settings.memory_tokens, device=settings.device)
    sampling: SamplingConfig = (model.sampling or GREEDY) if sampled else GREEDY
    respondent = RxTRespondent(model, max_answer_tokens=settings.answer_tokens, sampling=sampling, seed=0)
    respondent.reset(len(scripts), control)
    columns = [respondent.respond(list(messages)) for messages in zip(*(s.messages for s in scripts), strict=True)]
    return {"answers": [list(row) for row in zip(*columns, strict=True)]}


def repeated(answers: Sequence[Sequence[str]]) -> float:
    """Return the share of the 4-grams of all answers but the first ones that stand in an earlier answer."""
    again = total = 0
    for row in answers:
        said: set[tuple[str, ...]] = set()
        for number, answer in enumerate(row):
            found = grams(answer)
            if number:
                total += len(found)
                again += sum(gram in said for gram in found)
            said.update(found)
    return again / max(1, total)


def grams(text: str) -> list[tuple[str, ...]]:
    """Return a text's 4-grams of words."""
    words = words_of(text)
    return [tuple(words[first : first + GRAM]) for first in range(len(words) - GRAM + 1)]


def words_of(text: str) -> list[str]:
    """Return a text's words, in lower case."""
    return re.findall(r"\w+", text.lower())


def is_right(answer: str, expected: Sequence[str]) -> bool:
    """Tell whether an answer names one of what is expected."""
    return any(each.lower() in answer.lower() for each in expected)


def read_scripts(path: Path) -> list[Script]:
    """Return the conversations of a file."""
    scripts = []
    for block in path.read_text(encoding="utf-8").split("\n\n")[1:]:
        title, *lines = block.strip().splitlines()
        parts = [tuple(part.strip() for part in line.split("|")) for line in lines]
        scripts.append(Script(title, tuple(part[0] for part in parts), tuple(part[1:] for part in parts)))
    assert all(len(a.messages) == len(b.messages) for a, b in pairwise(scripts))
    return scripts


def transcripts(values: dict[str, Any], scripts: Sequence[Script]) -> str:
    """Return all conversations as people read them."""
    lines = []
    for name, found in values.items():
        for script, answers in zip(scripts, found["answers"], strict=True):
            lines.append(f"=== {name}: {script.title}")
            for message, answer in zip(script.messages, answers, strict=True):
                lines += [f"you> {message}", answer]
            lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main(tyro.cli(Settings))
