"""What a language model could do before it got a memory: perplexities without a history, and single questions."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from rxlm.data.held_out import is_held_out
from rxlm.data.sgd import read_sgd
from rxlm.data.stories import read_gutenberg
from rxlm.data.tokenizer import encode_text
from rxlm.mrq_bench.rxt_model import RxTRespondent

WIDTH = 256
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


def perplexities(
    trained: RxTRespondent, untrained: RxTRespondent, data: Path, *, windows: int = 40, dialogues: int = 24
) -> Mapping[str, Sequence[float]]:
    """Return perplexities of the language model and of the trained model, of books and of SGD's answers."""
    return {
        "books, windows of 256 tokens": [text_perplexity(each, data, windows) for each in (untrained, trained)],
        "SGD dev, each turn alone": [service_perplexity(each, data, dialogues) for each in (untrained, trained)],
    }


@torch.no_grad()
def text_perplexity(respondent: RxTRespondent, data: Path, count: int) -> float:
    """Return the perplexity of plain text of books that training has not seen."""
    books = {name: text for name, text in read_gutenberg(data / "gutenberg-children").items() if is_held_out(name)}
    ids = encode_text(respondent.tokenizer, " ".join(book[20_000:60_000] for book in books.values()))
    windows = torch.tensor(ids[: count * WIDTH], device=respondent.model.device).view(-1, WIDTH)
    nats = [
        F.cross_entropy(respondent.model.decode(part, None)[:, :-1].flatten(0, 1), part[:, 1:].flatten())
        for part in windows.split(1)
    ]
    return math.exp(float(torch.stack(nats).mean()))


def service_perplexity(respondent: RxTRespondent, data: Path, count: int) -> float:
    """Return the perplexity of answers of service dialogues, each turn with an empty memory."""
    turns = [turn for dialogue in read_sgd(data / "sgd" / "dev.jsonl.gz")[:count] for turn in dialogue.turns]
    losses = []
    for first in range(0, len(turns), 16):
        part = turns[first : first + 16]
        respondent.reset(len(part), "empty")
        losses += respondent.losses([turn.query for turn in part], [turn.answer for turn in part])
    return math.exp(sum(loss.nats for loss in losses) / sum(loss.tokens for loss in losses))


def answers_to_prompts(trained: RxTRespondent, untrained: RxTRespondent) -> Sequence[Sequence[str]]:
    """Return each question with the language model's and the trained model's first answers."""
    answers = []
    for respondent in (untrained, trained):
        respondent.reset(len(PROMPTS))
        answers.append(respondent.respond(list(PROMPTS)))
    return [list(row) for row in zip(PROMPTS, *answers, strict=True)]
