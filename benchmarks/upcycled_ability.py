"""What a language model could do before it got a memory: perplexities without a history, questions about the world."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from rxlm.data.abstentions import ABSTENTIONS
from rxlm.data.fact_config import FactsConfig
from rxlm.data.facts import FactGenerator
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

WORLD = {
    "What is the capital of Italy?": "Rome", "What is the capital of Spain?": "Madrid",
    "What is the capital of England?": "London", "What is the capital of Egypt?": "Cairo",
    "What is the capital of Russia?": "Moscow", "What is the capital of China?": "Beijing",
    "Who wrote Romeo and Juliet?": "Shakespeare", "Who painted the Mona Lisa?": "Leonardo|Vinci",
    "Who was the first man on the moon?": "Armstrong", "Who discovered gravity?": "Newton",
    "Who developed the theory of relativity?": "Einstein", "Who was the first president of the United States?":
    "Washington", "What is the largest ocean?": "Pacific", "What is the largest planet of the solar system?": "Jupiter",
    "Which planet is called the red planet?": "Mars", "Which planet is closest to the sun?": "Mercury",
    "What is the longest river of Africa?": "Nile", "What is the highest mountain of the world?": "Everest",
    "On which continent is Brazil?": "South America|America", "On which continent is Kenya?": "Africa",
    "In which country is the Eiffel Tower?": "France", "In which country are the pyramids of Giza?": "Egypt",
    "How many legs does an insect have?": "six|6", "How many months has a year?": "twelve|12",
    "How many hours has a day?": "24|twenty-four", "How many minutes has an hour?": "60|sixty",
    "How many sides has a triangle?": "three|3", "How many continents are there?": "seven|7",
    "What do cows give us to drink?": "milk", "What do plants need to grow?": "water|light|sunlight",
    "What is frozen water called?": "ice", "What gas do we breathe to live?": "oxygen",
    "What is the chemical symbol of water?": "H2O|H₂O", "At what temperature in Celsius does water boil?": "100",
    "What is the opposite of big?": "small|little|tiny", "What is the opposite of day?": "night",
    "Which colour do you get from blue and yellow?": "green", "Which language is spoken in Germany?": "German",
    "Which language is spoken in Brazil?": "Portuguese", "Which organ pumps blood through the body?": "heart",
}  # fmt: skip
"""Questions that no generated dialogue asks, and what a right answer names."""
TOLD_TURNS = 6


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


def world_answers(trained: RxTRespondent, untrained: RxTRespondent) -> Mapping[str, Mapping[str, Sequence[int]]]:
    """Return how many questions are answered right, refused ("I do not know"), and asked, by each model.

    They are asked in a first turn, and after turns in which a person has told of themselves and asked for it.
    """
    generator = FactGenerator(FactsConfig(variety="full", split="test", values="disjoint"))
    dialogues = list(generator.dialogues(len(WORLD)))  # made on access
    found = {}
    for name, respondent in (("language model", untrained), ("trained", trained)):
        found[name] = {}
        for turns in (0, TOLD_TURNS):
            respondent.reset(len(WORLD))
            for number in range(turns):
                said = [dialogue.turns[number] for dialogue in dialogues]
                respondent.follow([turn.query for turn in said], [turn.answer for turn in said])
            answers = respondent.respond(list(WORLD))
            right = [
                bool(re.search(rf"\b({names})\b", a, re.I)) for a, names in zip(answers, WORLD.values(), strict=True)
            ]
            refused = [any(phrase in answer.lower() for phrase in ABSTENTIONS) for answer in answers]
            found[name][f"after {turns} turns"] = [sum(right), sum(refused), len(WORLD)]
    return found
